"""Every change that people make to their dreams. Each write is one atomic update, through `storage/writes.py`.

It must not know the listeners of a dream.

The document of a dream is the only state there is (see `storage/model.py`). Besides the fields of `Dream` it has
  next_image   the id of the next image; ids are never used again
  keys         [{key, at}]: the Idempotency-Keys of the calls that wrote into it
  trash        pending deletions: images as they were when their files were unreferenced (`storage/references.py`)
  sweep        true while files of it wait to be removed
  last         what the latest write was (`storage/writes.py`)
A deleted dream whose files are gone keeps only its owner and its keys, until `expires_at`.
"""

import base64
import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from bson import ObjectId
from bson.errors import InvalidId
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError

from storage.coalescer import Coalescer
from storage.errors import Conflict, NotFound, Unavailable
from storage.model import EPOCH, TRIES, Draft, Dream, StagedUpload, State, milliseconds
from storage.mongo import Database, Document, translate_errors
from storage.writes import BUSY, NO_DREAM, ROUNDS, Change, Writes, living

T = TypeVar("T")

KEY_LIFE = timedelta(days=1)  # of an Idempotency-Key
MAX_KEYS = 200  # kept for a dream, so that adding images all day does not let its document grow without end


class InvalidCursor(ValueError):
    """The cursor is not one that `find` returned."""


class Dreams:
    """Everyone's dreams. Every method takes the owner, for whom the dreams of others do not exist."""

    def __init__(self, database: Database, *, writes: Writes) -> None:
        self._dreams: AsyncIOMotorCollection[Document] = database["dreams"]
        self._writes = writes
        self._reads: Coalescer[ObjectId, Dream] = Coalescer(self._read)

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
        """A new dream, with its images queued. The same `key` within a day returns the dream of its first use.

        Raises `NotFound` when that dream has been deleted since.
        """
        now = self._writes.now()
        length = len(draft.content)
        images = [self._image_document(number, upload, length, now) for number, upload in enumerate(uploads, 1)]
        document: Document = {
            "_id": ObjectId(),
            "owner": ObjectId(owner),
            **_draft_document(draft, now),
            "images": images,
            "next_image": len(images) + 1,
        }
        if key is not None:
            document["keys"] = [{"key": _scoped("", key), "at": now}]
        for _ in range(ROUNDS):
            try:
                return await self._writes.insert(document)
            except DuplicateKeyError:
                if (first := await self.first_result(owner, None, str(key))) is not None:
                    return first
                # The key was older than a day, and is free now.
        raise Unavailable(BUSY, code="busy")

    async def first_result(self, owner: str, dream_id: str | None, key: str) -> Dream | None:
        """The dream that `key` created (`dream_id` None) or added images to, within a day; frees an older key.

        Raises `NotFound` when the dream has been deleted since.
        """
        scoped = _scoped(dream_id or "", key)
        with translate_errors():
            document = await self._dreams.find_one({"owner": ObjectId(owner), "keys.key": scoped})
        if document is None:
            return None
        if (first := self._result_of(document, scoped)) is None:
            # Only this use of the key: another request may have freed and taken it meanwhile.
            used = next(each for each in document["keys"] if each["key"] == scoped)
            await self._writes.update_quietly(owner, {"_id": document["_id"]}, {"$pull": {"keys": used}})
        return first

    async def get(self, owner: str, dream_id: str) -> Dream:
        """The dream. Raises `NotFound`."""
        dream = await self._reads.get(living(owner, dream_id)["_id"])
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
        """At most `limit` dreams, the newest night first, and the cursor of the next page; None after the last.

        Each of `words` must occur in title, content or tags, also inside a word: Chinese is written without spaces,
        and MongoDB's text index would find none of it. A plain date for `since` or `until` means that night by the
        dreamer's own clock, inclusive. Raises `InvalidCursor`.
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
        """Change the named fields of `Draft`, and move images: `positions` has image ids and their new positions.

        An image that would lie behind the end of a shorter content moves to its end. Raises `NotFound`, and
        `Conflict` for a position behind the end.
        """
        positions = positions or {}
        values = _draft_document(Draft(**changes), self._writes.now())
        written = {name: value for name, value in values.items() if _FIELDS_OF.get(name, name) in changes}
        if "content" not in changes and not positions:
            dream = await self._writes.update(owner, dream_id, {}, {"$set": written}, Change.EDITED)
            return _found(dream)

        def plan(found: Document) -> Document:
            length = len({**found, **changes}.get("content", ""))
            return {"$set": written | _moved(found, positions, length)}

        return await self._writes.revise(owner, dream_id, plan, Change.EDITED)

    async def delete(self, owner: str, dream_id: str) -> None:
        """Gone for every reader at once; the janitor removes its files, then the document. Raises `NotFound`."""
        changes = {"$set": {"deleted": True, "sweep": True}}
        _found(await self._writes.update(owner, dream_id, {}, changes, Change.DELETED))

    async def delete_all(self, owner: str) -> None:
        """Delete every dream of the owner."""
        with translate_errors():
            cursor = self._dreams.find({"owner": ObjectId(owner), "deleted": {"$ne": True}}, {"_id": True})
            ids = [str(document["_id"]) async for document in cursor]
        for dream_id in ids:
            try:
                await self.delete(owner, dream_id)
            except NotFound:  # deleted from another device meanwhile
                continue

    async def add_images(
        self, owner: str, dream_id: str, uploads: list[StagedUpload], *, max_images: int, key: str | None = None
    ) -> Dream:
        """Queue more images. A position behind the end means the end; a repeated `key` within a day adds nothing.

        Raises `NotFound`, and `Conflict` when the dream would have more than `max_images` images.
        """
        now = self._writes.now()
        scoped = _scoped(dream_id, key) if key is not None else ""

        def plan(found: Document) -> Document | None:
            # Before the count: the first request with this key may have filled the dream.
            if scoped and self._result_of(found, scoped) is not None:
                return None
            count = len(found.get("images") or ())
            if count + len(uploads) > max_images:
                sentence = f"A dream may have at most {max_images} images; this one has {count}."
                raise Conflict(sentence, code="dream_full", most=max_images, images=count)
            number, length = found["next_image"], len(found.get("content", ""))
            images = [self._image_document(number + i, upload, length, now) for i, upload in enumerate(uploads)]
            update: Document = {"$push": {"images": {"$each": images}}, "$inc": {"next_image": len(images)}}
            if scoped:
                others = [each for each in found.get("keys") or () if each["key"] != scoped]
                update["$set"] = {"keys": [*others, {"key": scoped, "at": now}][-MAX_KEYS:]}
            return update

        return await self._writes.revise(owner, dream_id, plan, Change.IMAGES)

    async def remove_image(self, owner: str, dream_id: str, image_id: int) -> Dream:
        """The image is gone at once, and its files become pending deletions. Raises `NotFound`."""
        changes = {
            "trash": {"$concatArrays": [{"$ifNull": ["$trash", []]}, _images("$eq", image_id)]},
            "images": _images("$ne", image_id),
            "sweep": True,
        }
        dream = await self._writes.update(owner, dream_id, {"images.id": image_id}, [{"$set": changes}], Change.IMAGES)
        return _found(dream, "There is no such image in this dream.", code="no_image")

    # ---- inside

    def _result_of(self, document: Document, scoped: str) -> Dream | None:
        """The dream, if the key was used on it within a day. Raises `NotFound` when it has been deleted since."""
        used = next((each for each in document.get("keys") or () if each["key"] == scoped), None)
        if used is None or self._writes.now() - used["at"] >= KEY_LIFE:
            return None
        if document.get("deleted"):
            sentence = "The dream that this Idempotency-Key made has been deleted."
            raise NotFound(sentence, code="dream_of_key_deleted")
        return Dream.from_document(document)

    async def _read(self, ids: set[ObjectId]) -> dict[ObjectId, Dream]:
        match: Document = {"_id": {"$in": list(ids)}, "deleted": {"$ne": True}}
        with translate_errors():
            documents = await self._dreams.find(match).to_list(len(ids))
        return {document["_id"]: Dream.from_document(document) for document in documents}

    @staticmethod
    def _image_document(number: int, upload: StagedUpload, length: int, now: datetime) -> Document:
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
            "queued_at": now,
        }


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


def _moved(found: Document, positions: dict[int, int], length: int) -> Document:
    """Setters of the images that move: to their new positions, or to the end of the content at `length`."""
    images: list[Document] = found.get("images") or []
    known = {each.get("id") for each in images}
    for image_id, position in positions.items():
        if image_id not in known:
            raise NotFound(f"There is no image {image_id} in this dream.", code="no_image")
        if position > length:
            sentence = f"Position {position} lies behind the end of the content, {length} characters."
            raise Conflict(sentence, code="beyond_content", position=position, length=length)
    places = [positions.get(each.get("id", 0), min(each.get("position", 0), length)) for each in images]
    return {f"images.{number}.position": place for number, place in enumerate(places)}


def _found(found: T | None, otherwise: str = NO_DREAM, code: str = "no_dream") -> T:
    if found is None:
        raise NotFound(otherwise, code=code)
    return found


def _scoped(dream_id: str, key: str) -> str:
    """A key counts for one call: creating a dream, or adding images to one dream."""
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
