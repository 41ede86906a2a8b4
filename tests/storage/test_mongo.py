"""The connection to MongoDB: what its failures become, and how long an absent one is waited for."""

import asyncio
import time
import traceback
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorDatabase
from pymongo import errors as driver

from storage import mongo
from storage.errors import NoSpace, Unavailable
from storage.mongo import Mongo, translate_errors
from tests.pace import seconds

Database = AsyncIOMotorDatabase[dict[str, Any]]

ABSENT = "mongodb://127.0.0.1:1"


@pytest.mark.parametrize(
    "failure",
    [
        driver.ServerSelectionTimeoutError("secret.example:27017"),
        driver.AutoReconnect("secret.example:27017"),
        driver.NetworkTimeout("secret.example:27017"),
        driver.NotPrimaryError("secret.example:27017"),
        driver.ConnectionFailure("secret.example:27017"),
        driver.WaitQueueTimeoutError("secret.example:27017"),
        driver.WTimeoutError("secret.example:27017", 64, {}),
    ],
)
def test_a_database_that_does_not_answer_is_unavailable(failure: Exception) -> None:
    """In a sentence for people, without its address; the cause is kept for the log."""
    with pytest.raises(Unavailable) as caught, translate_errors():
        raise failure
    assert str(caught.value) == "The database does not answer just now. Try again in a moment."
    assert caught.value.__cause__ is failure


@pytest.mark.parametrize("code", [13, 18])
def test_rejected_credentials_have_a_plain_sentence(code: int) -> None:
    """Without the cause, in which the driver names the user."""
    with pytest.raises(Unavailable, match="rejects the username or the password") as caught, translate_errors():
        raise driver.OperationFailure("Authentication failed for ada", code)
    assert caught.value.__cause__ is None


def test_a_full_disk_is_no_space() -> None:
    """As mongod calls it."""
    with pytest.raises(NoSpace, match="no room left"), translate_errors():
        raise driver.OperationFailure("available disk space is less than required", 14031)


@pytest.mark.parametrize(
    "failure",
    [
        driver.OperationFailure("bad", 2),
        driver.DuplicateKeyError("taken", 11000),
        driver.InvalidOperation("closed"),
        KeyError("ours"),
        asyncio.CancelledError(),
    ],
)
def test_other_failures_are_left_alone(failure: BaseException) -> None:
    """They are somebody's to handle, or mistakes of ours."""
    with pytest.raises(type(failure)) as caught, translate_errors():
        raise failure
    assert caught.value is failure


def test_what_succeeds_is_left_alone() -> None:
    """Nothing to turn into anything."""
    with translate_errors():
        pass


@pytest.mark.gen_test
async def test_an_absent_database_is_given_up_in_time() -> None:
    """Long enough for our own mongod to come back, short enough for somebody who waits."""
    async with Mongo(ABSENT, "absent") as absent:
        started = time.monotonic()

        async def ask() -> None:
            with translate_errors():
                await absent.database["dreams"].find_one({})

        async def write() -> None:
            with translate_errors():
                await absent.database["dreams"].insert_one({})

        results = await asyncio.gather(ask(), write(), absent.answers(), return_exceptions=True)
        took = time.monotonic() - started
    assert [type(result) for result in results] == [Unavailable, Unavailable, bool]
    assert results[2] is False
    assert took + 0.1 >= mongo.SELECTION_TIMEOUT / 1000
    assert took < mongo.SELECTION_TIMEOUT / 1000 + seconds(5)


@pytest.mark.gen_test
async def test_a_database_that_is_there_answers(mongodb_uri: str) -> None:
    """That it can take writes, which it then does."""
    async with Mongo(mongodb_uri, "test_answers") as present:
        assert await present.answers()
        with translate_errors():
            await present.database["dreams"].insert_one({"_id": 1})
            assert await present.database["dreams"].find_one() == {"_id": 1}
            await present.database.client.drop_database("test_answers")


@pytest.mark.gen_test
async def test_acknowledged_writes_are_durable(database: Database) -> None:
    """By a majority and with the journal, whatever the address says."""
    assert database.write_concern.document == {"w": "majority", "j": True, "wtimeout": 10_000}
    assert database["dreams"].write_concern == database.write_concern


@pytest.mark.gen_test
async def test_the_address_cannot_make_writes_less_durable(mongodb_uri: str) -> None:
    """Its options are for the connection."""
    async with Mongo(f"{mongodb_uri}&w=1&journal=false", "x") as found:
        assert found.database.write_concern.document == {"w": "majority", "j": True, "wtimeout": 10_000}


@pytest.mark.gen_test
async def test_times_are_read_in_utc(database: Database) -> None:
    """Aware ones: comparing them with ours must not fail."""
    options = database.codec_options
    assert options.tz_aware


@pytest.mark.gen_test
async def test_a_closed_connection_answers_no(mongodb_uri: str) -> None:
    """And closing twice is harmless."""
    async with Mongo(mongodb_uri, "x") as closed:
        pass
    assert not await closed.answers()
    await closed.__aexit__()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://",
        "mongodb://ada:moon/light@db.example.org",
        "mongodb://ada:moonlight@db.example.org:moonlight",
        "mongodb://ada:moon%light@db.example.org",
        "mongodb://db.example.org:99999",
        "mongodb://[::1",
    ],
)
async def test_an_invalid_uri_is_reported_without_its_password(uri: str) -> None:
    """In one sentence, at the start; drivers like to quote pieces of what they cannot read."""
    with pytest.raises(Unavailable, match=r"mongodb\.uri is not a valid URI of MongoDB") as caught:
        await Mongo(uri, "x").__aenter__()
    shown = "".join(traceback.format_exception_only(caught.value))
    assert "moon" not in shown
    assert caught.value.__suppress_context__
