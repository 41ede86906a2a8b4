"""Accounts, and the sessions in which their owners are signed in.

It must not know how passwords are hashed or tokens are signed.

The document of a session is a family of refresh tokens, of which only the newest is good:
  user         whose it is
  number       of the newest refresh token; the first has 1
  expires_at   when MongoDB removes the document
  revoked_at   since when it is signed out; null while it is not
"""

from collections.abc import Callable
from datetime import UTC, datetime

from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ASCENDING, ReturnDocument
from pymongo.errors import DuplicateKeyError

from storage.errors import Conflict
from storage.model import User, same_name
from storage.mongo import Database, Document, translate_errors


class Users:
    """The accounts and sessions of everyone."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._users: AsyncIOMotorCollection[Document] = database["users"]
        self._sessions: AsyncIOMotorCollection[Document] = database["sessions"]
        self._clock = clock

    async def indexes(self) -> None:
        with translate_errors():
            await self._users.create_index([("name", ASCENDING)], unique=True)
            await self._sessions.create_index([("user", ASCENDING)])
            await self._sessions.create_index([("revoked_at", ASCENDING)])
            await self._sessions.create_index([("expires_at", ASCENDING)], expireAfterSeconds=0)

    # ---- accounts

    async def create(self, username: str, password_hash: str) -> User:
        document: Document = {
            "_id": ObjectId(),
            "username": username,
            "name": same_name(username),
            "password_hash": password_hash,
            "created_at": self._now(),
        }
        try:
            with translate_errors():
                await self._users.insert_one(document)
        except DuplicateKeyError as error:
            raise Conflict("This user name is taken.", code="name_taken") from error
        return _user(document)

    async def find(self, username: str) -> tuple[User, str] | None:
        """The account of that name, however it is written, and its password's hash."""
        with translate_errors():
            document = await self._users.find_one({"name": same_name(username)})
        return (_user(document), document["password_hash"]) if document else None

    async def get(self, user: str) -> User | None:
        with translate_errors():
            document = await self._users.find_one({"_id": ObjectId(user)}, {"password_hash": False})
        return _user(document) if document else None

    async def rehash(self, user: str, old: str, new: str) -> None:
        """`new` replaces `old`, unless the password has changed since `old` was read."""
        with translate_errors():
            await self._users.update_one(
                {"_id": ObjectId(user), "password_hash": old}, {"$set": {"password_hash": new}}
            )

    async def delete(self, user: str) -> None:
        """Only the account: `revoke_all` ends its sessions, and `recently_revoked` must still find them."""
        with translate_errors():
            await self._users.delete_one({"_id": ObjectId(user)})

    # ---- sessions

    async def begin_session(self, user: str, expires_at: datetime) -> str:
        """A new session, whose newest refresh token is number 1."""
        document: Document = {
            "_id": ObjectId(),
            "user": ObjectId(user),
            "number": 1,
            "expires_at": expires_at,
            "revoked_at": None,
        }
        with translate_errors():
            await self._sessions.insert_one(document)
        return str(document["_id"])

    async def rotate(self, session: str, number: int, expires_at: datetime) -> bool:
        """The next number becomes the newest, and the session lasts until `expires_at`: if `number` is the newest.

        If it is not, someone has a copy of a token that was used already, and nobody can tell the owner from the
        thief: the session is revoked (RFC 9700, 4.14.2). One update does either, so that of two who come with the same
        token one finds it used.
        """
        newest = {"$eq": ["$number", number]}
        move = {
            "number": {"$cond": [newest, number + 1, "$number"]},
            "expires_at": {"$cond": [newest, expires_at, "$expires_at"]},
            "revoked_at": {"$cond": [newest, None, self._now()]},
        }
        with translate_errors():
            before = await self._sessions.find_one_and_update(
                {"_id": ObjectId(session), "revoked_at": None},
                [{"$set": move}],
                return_document=ReturnDocument.BEFORE,
            )
        return before is not None and bool(before["number"] == number)

    async def revoke(self, session: str) -> None:
        await self._revoke({"_id": ObjectId(session)})

    async def revoke_all(self, user: str) -> list[str]:
        """Ends every session of `user`, and tells which they are."""
        await self._revoke({"user": ObjectId(user)})
        return await self._ids({"user": ObjectId(user)})

    async def recently_revoked(self, since: datetime) -> list[str]:
        """Sessions that were revoked after `since`: their access tokens may not have run out yet."""
        return await self._ids({"revoked_at": {"$gte": since}})

    # ---- inside

    async def _revoke(self, match: Document) -> None:
        with translate_errors():
            await self._sessions.update_many({**match, "revoked_at": None}, {"$set": {"revoked_at": self._now()}})

    async def _ids(self, match: Document) -> list[str]:
        with translate_errors():
            return [str(each["_id"]) async for each in self._sessions.find(match, {"_id": True})]

    def _now(self) -> datetime:
        """The time as MongoDB keeps it, in whole milliseconds: what is returned equals what is read later."""
        now = self._clock()
        return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _user(document: Document) -> User:
    return User(id=str(document["_id"]), username=document["username"], created_at=document["created_at"])
