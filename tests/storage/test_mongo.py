"""The connection to MongoDB: the translation of its errors, and the time that it waits for a missing server."""

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
    """The error is a sentence for users without the URI; the log keeps the cause."""
    with pytest.raises(Unavailable) as caught, translate_errors():
        raise failure
    assert str(caught.value) == "The database does not answer just now. Try again in a moment."
    assert caught.value.__cause__ is failure


@pytest.mark.parametrize("code", [13, 18])
def test_rejected_credentials_have_a_plain_sentence(code: int) -> None:
    """The error has no cause, because the driver's message names the user."""
    with pytest.raises(Unavailable, match="rejects the username or the password") as caught, translate_errors():
        raise driver.OperationFailure("Authentication failed for ada", code)
    assert caught.value.__cause__ is None


def test_a_full_disk_is_no_space() -> None:
    """mongod's error for a full disk becomes `NoSpace`."""
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
    """Errors that callers handle and programming errors pass unchanged."""
    with pytest.raises(type(failure)) as caught, translate_errors():
        raise failure
    assert caught.value is failure


def test_what_succeeds_is_left_alone() -> None:
    """A block that succeeds raises nothing."""
    with translate_errors():
        pass


@pytest.mark.gen_test
async def test_an_absent_database_is_given_up_in_time() -> None:
    """The timeout is long enough for our own mongod to restart, and short enough for a waiting user."""
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
    """The probe succeeds, and so do the writes after it."""
    async with Mongo(mongodb_uri, "test_answers") as present:
        assert await present.answers()
        with translate_errors():
            await present.database["dreams"].insert_one({"_id": 1})
            assert await present.database["dreams"].find_one() == {"_id": 1}
            await present.database.client.drop_database("test_answers")


@pytest.mark.gen_test
async def test_acknowledged_writes_are_durable(database: Database) -> None:
    """A write is acknowledged by a majority and in the journal, whatever the URI says."""
    assert database.write_concern.document == {"w": "majority", "j": True, "wtimeout": 10_000}
    assert database["dreams"].write_concern == database.write_concern


@pytest.mark.gen_test
async def test_the_address_cannot_make_writes_less_durable(mongodb_uri: str) -> None:
    """Options in the URI apply to the connection only."""
    async with Mongo(f"{mongodb_uri}&w=1&journal=false", "x") as found:
        assert found.database.write_concern.document == {"w": "majority", "j": True, "wtimeout": 10_000}


@pytest.mark.gen_test
async def test_times_are_read_in_utc(database: Database) -> None:
    """Times are timezone-aware, so comparing them with ours does not fail."""
    options = database.codec_options
    assert options.tz_aware


@pytest.mark.gen_test
async def test_a_closed_connection_answers_no(mongodb_uri: str) -> None:
    """`answers` returns False after the connection is closed, and a second close does nothing."""
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
    """The start fails with one sentence, although drivers quote parts of an invalid URI."""
    with pytest.raises(Unavailable, match=r"mongodb\.uri is not a valid URI of MongoDB") as caught:
        await Mongo(uri, "x").__aenter__()
    shown = "".join(traceback.format_exception_only(caught.value))
    assert "moon" not in shown
    assert caught.value.__suppress_context__
