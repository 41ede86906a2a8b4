"""The one place that changes a dream in a way that a client can see: take its lock, update it, publish the result.

It must not know who listens, or why a dream changes. Every write here sets three fields of the document:
  revision     one more than before; an update for listeners that is older than what they have is dropped
  updated_at   the time of the write
  last         '<owner> <edition> <change> <n>', a text that differs each time: a reader of the database's change
               stream learns from it, without a read, whose dream has changed and how. Clients never see it.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from bson import ObjectId
from bson.errors import InvalidId
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ReturnDocument

from storage.errors import NotFound, Unavailable
from storage.locks import KeyedLock
from storage.model import Dream, Image, milliseconds
from storage.mongo import Database, Document, translate_errors

Changed = Callable[[Dream, Image | None], None]
Update = Any  # of MongoDB: a document of operators, or a list of pipeline stages

ROUNDS = 20  # of a write that reads first, while other servers and commands write between the read and the write
EDITION = 0  # documents have one so far
NO_DREAM = "There is no such dream."
BUSY = "Other requests keep changing this just now. Try again in a moment."


class Change(StrEnum):
    """What a write changed."""

    CREATED = "created"
    EDITED = "edited"
    IMAGES = "images"  # a picture was added, removed or tried again, or has ended
    DELETED = "deleted"
    WORK = "work"  # claims, stores, releases: of no interest to other servers


class Writes:
    """Writes dreams, those of each dream one after the other, and calls `changed` in the order of their revisions."""

    def __init__(
        self,
        database: Database,
        *,
        changed: Changed,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`changed` gets the dream as the write left it, and the image that the write was about, if it was one."""
        self._dreams: AsyncIOMotorCollection[Document] = database["dreams"]
        self._changed = changed
        self._clock = clock
        self._locks = KeyedLock()

    def now(self) -> datetime:
        """The time in whole milliseconds, as MongoDB keeps it."""
        return milliseconds(self._clock())

    async def insert(self, document: Document) -> Dream:
        """A new dream, of revision 1. Raises pymongo's `DuplicateKeyError`."""
        now = self.now()
        document = document | {"revision": 1, "created_at": now, "updated_at": now}
        document["last"] = _last(str(document["owner"]), Change.CREATED)
        # A worker may claim an image of it before the database's answer is here.
        async with self._locks.of(str(document["_id"])):
            with translate_errors():
                await self._dreams.insert_one(document)
            return self._publish(document, None)

    async def update(
        self,
        owner: str,
        dream_id: str,
        match: Document,
        update: Update,
        change: Change,
        *,
        image: Callable[[Dream], Image | None] | None = None,
        earlier: Document | None = None,
    ) -> Dream | None:
        """One atomic update of the living dream that also fits `match`; None when none does.

        `image` finds the image that the update is about. `earlier` is what the dream fits if the same update had its
        effect before and the connection lost the answer; it is then published as if it had come now.
        """
        this = living(owner, dream_id)
        async with self._locks.of(str(this["_id"])):
            document = await self._write(owner, this | match, update, change)
            if document is None and earlier is not None:
                with translate_errors():
                    document = await self._dreams.find_one(this | earlier)
            return self._publish(document, image) if document is not None else None

    async def revise(
        self, owner: str, dream_id: str, plan: Callable[[Document], Update | None], change: Change
    ) -> Dream:
        """Read the living dream and update it as `plan` tells, again if another write came in between.

        `plan` may be called several times, and may raise. If it returns None, the dream is returned as it was read.
        Raises `NotFound`, and `Unavailable` after `ROUNDS` attempts.
        """
        this = living(owner, dream_id)
        async with self._locks.of(str(this["_id"])):
            for _ in range(ROUNDS):
                with translate_errors():
                    found = await self._dreams.find_one(this)
                if found is None:
                    raise NotFound(NO_DREAM, code="no_dream")
                update = plan(found)
                if update is None:
                    return Dream.from_document(found)
                document = await self._write(owner, this | {"revision": found.get("revision")}, update, change)
                if document is not None:
                    return self._publish(document, None)
        raise Unavailable(BUSY, code="busy")

    async def update_quietly(self, owner: str, match: Document, update: Update) -> bool:
        """Update fields that no client sees: nothing is published. False when no document fits `match`."""
        with translate_errors():
            result = await self._dreams.update_one(match, _with(update, {"last": _last(owner, Change.WORK)}))
        return result.matched_count == 1

    async def _write(self, owner: str, match: Document, update: Update, change: Change) -> Document | None:
        fields = {"updated_at": self.now(), "last": _last(owner, change)}
        with translate_errors():
            return await self._dreams.find_one_and_update(
                match, _with(update, fields, revision=True), return_document=ReturnDocument.AFTER
            )

    def _publish(self, document: Document, image: Callable[[Dream], Image | None] | None) -> Dream:
        dream = Dream.from_document(document)
        self._changed(dream, image(dream) if image is not None else None)
        return dream


def living(owner: str, dream_id: str) -> Document:
    """The filter of an owner's dream that is not deleted. Raises `NotFound` when the id is no id."""
    try:
        return {"_id": ObjectId(dream_id), "owner": ObjectId(owner), "deleted": {"$ne": True}}
    except InvalidId:
        raise NotFound(NO_DREAM, code="no_dream") from None


def _last(owner: str, change: Change) -> str:
    return f"{owner} {EDITION} {change} {ObjectId()}"


def _with(update: Update, fields: Document, *, revision: bool = False) -> Update:
    """`update`, which also sets `fields`, and raises the revision."""
    if isinstance(update, list):
        raised = {"revision": {"$add": [{"$ifNull": ["$revision", 0]}, 1]}} if revision else {}
        return [*update, {"$set": fields | raised}]
    merged = update | {"$set": update.get("$set", {}) | fields}
    return merged | {"$inc": update.get("$inc", {}) | {"revision": 1}} if revision else merged
