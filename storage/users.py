"""Accounts, and the sessions in which their owners are signed in.

It must not know how passwords are hashed, or how tokens are signed.

The document of a session is a family of refresh tokens, of which only the newest is valid:
  user         the account that is signed in
  number       of the newest refresh token; the first has 1
  expires_at   when MongoDB removes the document
  revoked_at   the time of the sign-out; null before
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
            raise Conflict("This username is taken.", code="name_taken") from error
        return _user(document)

    async def find(self, username: str) -> tuple[User, str] | None:
        """The account and its password's hash; every spelling of the name finds it."""
        with translate_errors():
            document = await self._users.find_one({"name": same_name(username)})
        return (_user(document), document["password_hash"]) if document else None

    async def get(self, user: str) -> User | None:
        with translate_errors():
            document = await self._users.find_one({"_id": ObjectId(user)}, {"password_hash": False})
        return _user(document) if document else None

    async def rehash(self, user: str, old: str, new: str) -> None:
        """Replace the hash `old` by `new`, unless the password has changed since `old` was read."""
        with translate_errors():
            await self._users.update_one(
                {"_id": ObjectId(user), "password_hash": old}, {"$set": {"password_hash": new}}
            )

    async def delete(self, user: str) -> None:
        """Delete the account but not its sessions: `revoke_all` ends them, and `recently_revoked` must find them."""
        with translate_errors():
            await self._users.delete_one({"_id": ObjectId(user)})

    # ---- sessions

    async def begin_session(self, user: str, expires_at: datetime) -> str:
        """Begin a session, whose newest refresh token is number 1, and return its id."""
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
        """If `number` is the newest, the next number becomes it, and the session lasts until `expires_at`.

        Otherwise the token was used before, so there is a copy of it, and the server cannot tell the owner from the
        thief: it revokes the session (RFC 9700, 4.14.2) and returns False. One update does either, so of two requests
        with the same token, one finds it used.
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
        """End every session of the account, and return the ids of all that it had."""
        await self._revoke({"user": ObjectId(user)})
        return await self._ids({"user": ObjectId(user)})

    async def recently_revoked(self, since: datetime) -> list[str]:
        """The ids of sessions revoked since `since`: their access tokens may still be valid by their own time."""
        return await self._ids({"revoked_at": {"$gte": since}})

    # ---- inside

    async def _revoke(self, match: Document) -> None:
        with translate_errors():
            await self._sessions.update_many({**match, "revoked_at": None}, {"$set": {"revoked_at": self._now()}})

    async def _ids(self, match: Document) -> list[str]:
        with translate_errors():
            return [str(each["_id"]) async for each in self._sessions.find(match, {"_id": True})]

    def _now(self) -> datetime:
        """The time in whole milliseconds, as MongoDB keeps it."""
        now = self._clock()
        return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _user(document: Document) -> User:
    return User(id=str(document["_id"]), username=document["username"], created_at=document["created_at"])
