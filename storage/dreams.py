"""What people do with their dreams. Each write is one atomic update.

It must not know who listens: a write that succeeds calls `changed` with what the update returned, and that is all.

The document of a dream is the only state there is (see `storage/model.py`). Beside the fields of `Dream` it has
  next_image   the id of the next image; ids are never used again
  keys         [{key, at}]: the Idempotency-Keys that wrote into it
  trash        images that were let go of, as they were: their files are still to be removed
  sweep        true while there is something for the janitor
Of a dream that is deleted and swept, only owner and keys are left, until `expires_at`.
"""

import base64
import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from bson import ObjectId
from bson.errors import InvalidId
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.errors import DuplicateKeyError

from storage.coalescer import Coalescer
from storage.errors import Conflict, NotFound
from storage.locks import KeyedLock
from storage.model import TRIES, Draft, Dream, Image, StagedUpload, State, milliseconds
from storage.mongo import Database, Document, translate_errors

T = TypeVar("T")
Changed = Callable[[Dream, Image | None], None]

KEY_LIFE = timedelta(days=1)  # of an Idempotency-Key
MOST_KEYS = 200  # kept for a dream, so that adding images all day does not let its document grow without end
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NO_DREAM = "There is no such dream."


class InvalidCursor(ValueError):
    """Not a cursor that `find` gave."""


class Dreams:
    """Everyone's dreams. A reader's methods take the owner: what is not theirs is not found."""

    def __init__(
        self,
        database: Database,
        *,
        changed: Changed,
        turns: KeyedLock,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._dreams: AsyncIOMotorCollection[Document] = database["dreams"]
        self._changed = changed
        self._turns = turns
        self._clock = clock
        self._batches: Coalescer[ObjectId, Dream] = Coalescer(self._read)

    async def indexes(self) -> None:
        with translate_errors():
            await self._dreams.create_index([("owner", ASCENDING), ("dreamed_at", DESCENDING), ("_id", DESCENDING)])
            await self._dreams.create_index(
                [("owner", ASCENDING), ("keys.key", ASCENDING)],
                unique=True,
                partialFilterExpression={"keys.key": {"$exists": True}},
            )
            await self._dreams.create_index([("expires_at", ASCENDING)], expireAfterSeconds=0)

    # ---- what people do

    async def create(self, owner: str, draft: Draft, uploads: Iterable[StagedUpload], key: str | None = None) -> Dream:
        """A new dream, with its images queued. The same `key` within a day returns the first one's dream."""
        now = self._now()
        length = len(draft.content)
        images = [self._image_document(number, upload, length) for number, upload in enumerate(uploads, 1)]
        document: Document = {
            "_id": ObjectId(),
            "owner": ObjectId(owner),
            **_draft_document(draft, now),
            "revision": 1,
            "created_at": now,
            "updated_at": now,
            "images": images,
            "next_image": len(images) + 1,
        }
        if key is not None:
            document["keys"] = [{"key": _scoped("", key), "at": now}]
        while True:
            try:
                with translate_errors():
                    await self._dreams.insert_one(document)
            except DuplicateKeyError:
                if (first := await self.first_result(owner, None, str(key))) is not None:
                    return first
                continue  # the key was older than a day, and is free now
            return self._tell(document)

    async def first_result(self, owner: str, dream_id: str | None, key: str) -> Dream | None:
        """The dream that `key` made (`dream_id` None) or added images to, within a day; frees an older key."""
        scoped = _scoped(dream_id or "", key)
        with translate_errors():
            document = await self._dreams.find_one({"owner": ObjectId(owner), "keys.key": scoped})
            if document is None:
                return None
            used = next(each for each in document["keys"] if each["key"] == scoped)
            if self._now() - used["at"] < KEY_LIFE:
                if document.get("deleted"):
                    sentence = "The dream that this Idempotency-Key made has been deleted."
                    raise NotFound(sentence, code="dream_of_key_deleted")
                return Dream.from_document(document)
            # Only this use of it: another request may have freed and taken it meanwhile.
            await self._dreams.update_one({"_id": document["_id"]}, {"$pull": {"keys": used}})
            return None

    async def get(self, owner: str, dream_id: str) -> Dream:
        theirs = _theirs(owner, dream_id)
        dream = await self._batches.get(theirs["_id"])
        return _found(dream if dream is not None and dream.owner == owner else None)

    async def find(
        self,
        owner: str,
        *,
        limit: int,
        cursor: str | None = None,
        words: str = "",
        tag: str | None = None,
        since: date | datetime | None = None,
        until: date | datetime | None = None,
    ) -> tuple[list[Dream], str | None]:
        """Newest night first, `limit` at most, and the cursor of the next page.

        `words` must all occur in title, content or tags: as parts of words, because Chinese is written without
        spaces and MongoDB's own text index would find none of it. A plain date for `since` or `until` means that
        night by the dreamer's own clock, inclusive.
        """
        match: Document = {"owner": ObjectId(owner), "deleted": {"$ne": True}}
        conditions: list[Document] = []
        for word in words.split():
            # MongoDB refuses a NUL in a pattern; its escape finds it.
            pattern = {"$regex": re.escape(word).replace("\0", r"\x00"), "$options": "i"}
            conditions.append({"$or": [{"title": pattern}, {"content": pattern}, {"tags": pattern}]})
        if tag is not None:
            match["tags"] = tag
        if since is not None:
            conditions.append(_bound("$gte", since))
        if until is not None:
            conditions.append(_bound("$lte", until))
        if cursor is not None:
            moment, dream_id = _read_cursor(cursor)
            older = [{"dreamed_at": {"$lt": moment}}, {"dreamed_at": moment, "_id": {"$lt": dream_id}}]
            conditions.append({"$or": older})
        if conditions:
            match["$and"] = conditions
        newest_first = [("dreamed_at", DESCENDING), ("_id", DESCENDING)]
        with translate_errors():
            documents = await self._dreams.find(match).sort(newest_first).limit(limit + 1).to_list(limit + 1)
        page = [Dream.from_document(document) for document in documents[:limit]]
        return page, _cursor(page[-1]) if len(documents) > limit else None

    async def update(
        self, owner: str, dream_id: str, changes: dict[str, Any], positions: dict[int, int] | None = None
    ) -> Dream:
        """Change the named fields of `Draft`, and move images.

        An image that would lie behind the end of a shorter content moves to its end.
        """
        now, positions = self._now(), positions or {}
        values = _draft_document(Draft(**changes), now)
        written = {name: value for name, value in values.items() if _FIELDS_OF.get(name, name) in changes}
        there = {"images.id": {"$all": list(positions)}} if positions else {}
        if "content" not in changes and not positions:
            update = {"$set": written | {"updated_at": now}, "$inc": {"revision": 1}}
            return _found(await self._write(_theirs(owner, dream_id), update))
        while True:
            dream = await self.get(owner, dream_id)
            length = len(changes.get("content", dream.content))
            self._check_moves(dream, positions, length)
            setters: Document = {f"images.$[m{image}].position": position for image, position in positions.items()}
            filters: list[Document] = [{f"m{image}.id": image} for image in positions]
            setters["images.$[behind].position"] = length
            filters.append({"behind.id": {"$nin": list(positions)}, "behind.position": {"$gt": length}})
            changed = await self._write(
                # The content and the images that the positions were checked against must still be there.
                _theirs(owner, dream_id) | {"content": dream.content} | there,
                {"$set": written | setters | {"updated_at": now}, "$inc": {"revision": 1}},
                array_filters=filters,
            )
            if changed is not None:
                return changed

    async def delete(self, owner: str, dream_id: str) -> None:
        """Gone for every reader at once; the janitor removes its files, then the document."""
        changes = {"deleted": True, "sweep": True, "updated_at": self._now()}
        _found(await self._write(_theirs(owner, dream_id), {"$set": changes, "$inc": {"revision": 1}}))

    async def delete_all(self, owner: str) -> None:
        with translate_errors():
            cursor = self._dreams.find({"owner": ObjectId(owner), "deleted": {"$ne": True}}, {"_id": True})
            ids = [str(document["_id"]) async for document in cursor]
        for dream_id in ids:
            try:
                await self.delete(owner, dream_id)
            except NotFound:  # deleted from another device meanwhile
                continue

    async def add_images(
        self, owner: str, dream_id: str, uploads: list[StagedUpload], *, most: int, key: str | None = None
    ) -> Dream:
        """Queue more images; `most` is how many a dream may have. A position behind the end means the end."""
        now = self._now()
        scoped = _scoped(dream_id, key) if key is not None else ""
        while True:
            with translate_errors():
                found = _found(await self._dreams.find_one(_theirs(owner, dream_id)))
            # Before the count: the first request with this key may have filled the dream.
            if any(each["key"] == scoped for each in found.get("keys", [])):
                if (first := await self.first_result(owner, dream_id, str(key))) is not None:
                    return first
                continue  # the key was older than a day, and is free now
            if len(found["images"]) + len(uploads) > most:
                count = len(found["images"])
                sentence = f"A dream may have at most {most} images; this one has {count}."
                raise Conflict(sentence, code="dream_full", most=most, images=count)
            number, length = found["next_image"], len(found["content"])
            images = [self._image_document(number + i, upload, length) for i, upload in enumerate(uploads)]
            update: Document = {
                "$push": {"images": {"$each": images}},
                "$inc": {"revision": 1, "next_image": len(images)},
                "$set": {"updated_at": now},
            }
            if scoped:
                update["$push"]["keys"] = {"$each": [{"key": scoped, "at": now}], "$slice": -MOST_KEYS}
            # Changed meanwhile: count and number again.
            changed = await self._write(_theirs(owner, dream_id) | {"revision": found["revision"]}, update)
            if changed is not None:
                return changed

    async def remove_image(self, owner: str, dream_id: str, image_id: int) -> Dream:
        changes = {
            "trash": {"$concatArrays": [{"$ifNull": ["$trash", []]}, _images("$eq", image_id)]},
            "images": _images("$ne", image_id),
            "revision": {"$add": ["$revision", 1]},
            "updated_at": self._now(),
            "sweep": True,
        }
        dream = await self._write(_theirs(owner, dream_id) | {"images.id": image_id}, [{"$set": changes}])
        return _found(dream, "There is no such image in this dream.", code="no_image")

    # ---- inside

    def _now(self) -> datetime:
        return milliseconds(self._clock())

    async def _read(self, ids: set[ObjectId]) -> dict[ObjectId, Dream]:
        match: Document = {"_id": {"$in": list(ids)}, "deleted": {"$ne": True}}
        with translate_errors():
            documents = await self._dreams.find(match).to_list(len(ids))
        return {document["_id"]: Dream.from_document(document) for document in documents}

    async def _write(self, match: Document, update: Any, **options: Any) -> Dream | None:
        """One atomic update and its notice; None when nothing matched."""
        async with self._turns.of(str(match["_id"])):
            with translate_errors():
                document = await self._dreams.find_one_and_update(
                    match, update, return_document=ReturnDocument.AFTER, **options
                )
            return self._tell(document) if document is not None else None

    def _tell(self, document: Document) -> Dream:
        dream = Dream.from_document(document)
        self._changed(dream, None)
        return dream

    @staticmethod
    def _image_document(number: int, upload: StagedUpload, length: int) -> Document:
        return {
            "id": number,
            "position": min(upload.position, length),
            "state": State.QUEUED,
            "attempt": 1,
            "tries_left": TRIES,
            "staged": upload.staged,
            "sha256": upload.sha256,
            "bytes": upload.bytes,
            "format": upload.format,
            "width": upload.width,
            "height": upload.height,
            "lease_owner": None,
        }

    @staticmethod
    def _check_moves(dream: Dream, positions: dict[int, int], length: int) -> None:
        for image_id, position in positions.items():
            if dream.image(image_id) is None:
                raise NotFound(f"There is no image {image_id} in this dream.", code="no_image")
            if position > length:
                sentence = f"Position {position} lies behind the end of the content, {length} characters."
                raise Conflict(sentence, code="beyond_content", position=position, length=length)


# field of the document -> the field of a Draft that it is written from, where the names differ
_FIELDS_OF = {"utc_offset": "dreamed_at", "night": "dreamed_at"}


def _draft_document(draft: Draft, now: datetime) -> Document:
    moment = milliseconds(draft.dreamed_at or now)
    offset = moment.utcoffset() or timedelta()
    return {
        "title": draft.title,
        "content": draft.content,
        "dreamed_at": moment,
        "utc_offset": int(offset.total_seconds() // 60),
        "night": moment.date().isoformat(),
        "mood": draft.mood,
        "lucidity": draft.lucidity,
        "tags": list(draft.tags),
    }


def _images(comparison: str, image_id: int) -> Document:
    return {"$filter": {"input": "$images", "cond": {comparison: ["$$this.id", image_id]}}}


def _theirs(owner: str, dream_id: str) -> Document:
    try:
        return {"_id": ObjectId(dream_id), "owner": ObjectId(owner), "deleted": {"$ne": True}}
    except InvalidId:
        raise NotFound(NO_DREAM, code="no_dream") from None


def _found(found: T | None, otherwise: str = NO_DREAM, code: str = "no_dream") -> T:
    if found is None:
        raise NotFound(otherwise, code=code)
    return found


def _scoped(dream_id: str, key: str) -> str:
    """A key counts for one call: making a dream, or adding images to one dream."""
    return f"{dream_id}:{key}"


def _bound(comparison: str, value: date | datetime) -> Document:
    if isinstance(value, datetime):
        return {"dreamed_at": {comparison: value}}
    return {"night": {comparison: value.isoformat()}}


def _cursor(dream: Dream) -> str:
    # Whole numbers all the way: floats are off by a millisecond in far years.
    since_epoch = (dream.dreamed_at - EPOCH) // timedelta(milliseconds=1)
    return base64.urlsafe_b64encode(f"{since_epoch}:{dream.id}".encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, ObjectId]:
    try:
        since_epoch, _, dream_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition(":")
        return EPOCH + timedelta(milliseconds=int(since_epoch)), ObjectId(dream_id)
    except (ValueError, OverflowError, InvalidId) as error:
        raise InvalidCursor from error
