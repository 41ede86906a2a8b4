"""Accounts and sessions, in a real database."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase
from tornado.ioloop import IOLoop

from storage.errors import Conflict, Unavailable
from storage.users import Users

Database = AsyncIOMotorDatabase[dict[str, Any]]

NOW = datetime(2026, 11, 22, 6, 10, 0, 123_456, tzinfo=UTC)
LATER = NOW + timedelta(days=300_000)  # far beyond the real clock, by which MongoDB removes sessions


class Clock:
    """A clock that a test sets."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def users(database: Database, clock: Clock, io_loop: IOLoop) -> Users:
    users = Users(database, clock=clock)
    io_loop.run_sync(users.indexes)
    return users


@pytest.mark.gen_test
async def test_account_is_found_as_it_was_made(users: Users) -> None:
    """A new account is found by its id and by its name, the same to the millisecond."""
    user = await users.create("Ann", "hash")
    assert await users.get(user.id) == user
    assert await users.find("Ann") == (user, "hash")
    assert user.created_at == NOW.replace(microsecond=123_000)


@pytest.mark.gen_test
@pytest.mark.parametrize("other", ["ANN-STRASSE", "ann-straße", "\uff21nn-Straße", "Ann-Stra\u017f\u017fe"])
async def test_spellings_of_one_name_are_one_name(users: Users, other: str) -> None:
    """Case, width and composition make no other name: it is taken, and it signs in."""
    user = await users.create("Ann-Straße", "hash")
    with pytest.raises(Conflict, match="taken"):
        await users.create(other, "other hash")
    assert await users.find(other) == (user, "hash")


@pytest.mark.gen_test
async def test_of_many_at_once_one_gets_the_name(users: Users) -> None:
    """A name that ten want in the same moment goes to exactly one."""
    results = await asyncio.gather(*(users.create("ann", str(n)) for n in range(10)), return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 9


@pytest.mark.gen_test
async def test_nobody_is_found_as_nobody(users: Users) -> None:
    """An unknown name and a deleted account are None."""
    user = await users.create("ann", "hash")
    await users.delete(user.id)
    assert await users.find("ann") is None
    assert await users.get(user.id) is None
    assert await users.create("ann", "hash") != user


@pytest.mark.gen_test
async def test_rehash_does_not_undo_a_change(users: Users) -> None:
    """A better hash replaces the one it was made from, and no other."""
    user = await users.create("ann", "old")
    await users.rehash(user.id, "old", "better")
    await users.rehash(user.id, "old", "late")
    assert await users.find("ann") == (user, "better")


@pytest.mark.gen_test
async def test_session_rotates_number_by_number(users: Users) -> None:
    """Each newest number is good once."""
    session = await users.begin_session((await users.create("ann", "hash")).id, LATER)
    assert [await users.rotate(session, number, LATER) for number in (1, 2, 3)] == [True, True, True]


@pytest.mark.gen_test
async def test_of_two_with_one_number_exactly_one_wins(users: Users) -> None:
    """Of many who rotate the same number at once one succeeds, and the session is over for all."""
    session = await users.begin_session((await users.create("ann", "hash")).id, LATER)
    results = await asyncio.gather(*(users.rotate(session, 1, LATER) for _ in range(10)))
    assert sorted(results) == [False] * 9 + [True]
    assert not await users.rotate(session, 2, LATER)


@pytest.mark.gen_test
async def test_used_number_revokes_the_family(users: Users, clock: Clock) -> None:
    """A number that was used before ends its session, and only that one."""
    user = await users.create("ann", "hash")
    session, other = await users.begin_session(user.id, LATER), await users.begin_session(user.id, LATER)
    await users.rotate(session, 1, LATER)
    assert not await users.rotate(session, 1, LATER)
    assert not await users.rotate(session, 2, LATER)
    assert await users.recently_revoked(clock.now - timedelta(seconds=1)) == [session]
    assert await users.rotate(other, 1, LATER)


@pytest.mark.gen_test
async def test_rotation_prolongs_the_session(users: Users, database: Database) -> None:
    """A session lasts as long as its newest token; one that is revoked no longer than it would have."""
    session = await users.begin_session((await users.create("ann", "hash")).id, LATER)
    await users.rotate(session, 1, LATER + timedelta(days=1))
    await users.rotate(session, 1, LATER + timedelta(days=2))
    document = await database["sessions"].find_one()
    assert document is not None
    assert document["expires_at"] == (LATER + timedelta(days=1)).replace(microsecond=123_000)


@pytest.mark.gen_test
async def test_revoked_session_rotates_no_more(users: Users) -> None:
    """Who has signed out gets no new tokens."""
    session = await users.begin_session((await users.create("ann", "hash")).id, LATER)
    await users.revoke(session)
    assert not await users.rotate(session, 1, LATER)


@pytest.mark.gen_test
async def test_unknown_session_does_not_rotate(users: Users) -> None:
    """A session that MongoDB has removed is just gone."""
    assert not await users.rotate("665f0c000000000000000000", 1, LATER)


@pytest.mark.gen_test
async def test_revoke_all_names_every_session(users: Users) -> None:
    """All sessions of one user end and are named; others' go on."""
    ann, bob = await users.create("ann", "hash"), await users.create("bob", "hash")
    hers = {await users.begin_session(ann.id, LATER) for _ in range(3)}
    his = await users.begin_session(bob.id, LATER)
    assert set(await users.revoke_all(ann.id)) == hers
    assert not any([await users.rotate(session, 1, LATER) for session in hers])
    assert await users.rotate(his, 1, LATER)


@pytest.mark.gen_test
async def test_recently_revoked_outlives_the_account(users: Users, clock: Clock) -> None:
    """After a restart the revoked sessions are known again, also of a deleted account; older ones need not be."""
    user = await users.create("ann", "hash")
    old, new = await users.begin_session(user.id, LATER), await users.begin_session(user.id, LATER)
    await users.revoke(old)
    clock.now += timedelta(hours=1)
    await users.revoke_all(user.id)
    await users.delete(user.id)
    assert await users.recently_revoked(clock.now - timedelta(minutes=16)) == [new]


@pytest.mark.gen_test
async def test_sessions_are_removed_by_their_expiry(users: Users, database: Database) -> None:
    """MongoDB removes a session when it expires, and names are unique; making the indexes again changes nothing."""
    await users.indexes()
    sessions = await database["sessions"].index_information()
    assert sessions["expires_at_1"]["expireAfterSeconds"] == 0
    assert (await database["users"].index_information())["name_1"]["unique"]


@pytest.mark.gen_test
async def test_absent_database_is_unavailable() -> None:
    """A database that is away is reported as such, in words for people."""
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient("127.0.0.1", 1, serverSelectionTimeoutMS=50)
    users = Users(client["nowhere"])
    with pytest.raises(Unavailable, match="does not answer"):
        await users.create("ann", "hash")
    with pytest.raises(Unavailable):
        await users.recently_revoked(NOW)
    client.close()
