"""The connection to MongoDB, and its errors as errors of the storage layer.

It must not know what the collections hold.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase
from pymongo import WriteConcern
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from storage.disk import NO_ROOM
from storage.errors import NoSpace, Unavailable

Document = dict[str, Any]
Database = AsyncIOMotorDatabase[Document]

# With w=1 and no journal, `kill -9` of mongod lost hundreds of acknowledged writes; with both, none.
DURABLE = WriteConcern("majority", j=True, wtimeout=10_000)
SELECTION_TIMEOUT = 3_000  # ms to wait for a database that is down: longer than the embedded one takes to restart
GLANCE = 0.25  # seconds to wait for a database that is known to be down
REFUSED = (13, 18)  # Unauthorized, AuthenticationFailed
OUT_OF_DISK_SPACE = 14031  # error code of mongod

log = logging.getLogger("dreamlog.mongo")


@contextmanager
def translate_errors() -> Iterator[None]:
    """Around calls of the driver: a database that is down raises `Unavailable`, a full disk `NoSpace`."""
    try:
        yield
    except (ConnectionFailure, NotPrimaryError, WTimeoutError) as error:
        log.warning("the database does not answer: %s", type(error).__name__)
        sentence = "The database does not answer just now. Try again in a moment."
        raise Unavailable(sentence, code="database_unavailable") from error
    except OperationFailure as error:
        if error.code == OUT_OF_DISK_SPACE:
            raise NoSpace(NO_ROOM) from error
        if error.code in REFUSED:
            # Without the cause, because it names the user.
            sentence = "The database rejects the username or the password in mongodb.uri."
            raise Unavailable(sentence, code="database_unavailable") from None
        raise


class Mongo:
    """A context manager with a client and its database."""

    def __init__(self, uri: str, database: str) -> None:
        self._uri = uri
        self._name = database

    async def __aenter__(self) -> Self:
        try:
            self._client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
                self._uri,
                tz_aware=True,
                appname="dreamlog",
                serverSelectionTimeoutMS=SELECTION_TIMEOUT,
                connectTimeoutMS=SELECTION_TIMEOUT,
                socketTimeoutMS=30_000,
                maxPoolSize=32,
            )
        except (ConfigurationError, ValueError) as error:
            # Without the driver's message, also as the cause: it quotes parts of the URI, perhaps of its password.
            raise Unavailable(f"mongodb.uri is not a valid URI of MongoDB ({type(error).__name__}).") from None
        self.database: Database = self._client.get_database(self._name, write_concern=DURABLE)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.close()

    async def try_out(self) -> str:
        """Write, read and remove a document durably, and return MongoDB's version. Raises `Unavailable`, `NoSpace`."""
        collection = self.database["checks"]
        with translate_errors():
            written = await collection.insert_one({})
            if await collection.find_one({"_id": written.inserted_id}) is None:
                raise Unavailable("The database does not return the document that it has just acknowledged.")
            await collection.delete_one({"_id": written.inserted_id})
            return str((await self.database.command("buildInfo"))["version"])

    async def answers(self) -> bool:
        """Does the database accept writes now? If it is known to be down, wait only `GLANCE` for it."""
        known = self._client.delegate.topology_description.has_writable_server()
        try:
            async with asyncio.timeout(None if known else GLANCE):
                hello = await self.database.command("hello", maxTimeMS=1000)
        except (PyMongoError, TimeoutError):
            return False
        return bool(hello.get("isWritablePrimary"))
