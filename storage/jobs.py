"""The work on images: every move between the states of `storage/model.py`, and what the janitor asks.

It must not know who works. Each move is one atomic update, compare-and-set on state, attempt and lease; one that
succeeds calls `changed` with what it returned.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta

from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ASCENDING, ReturnDocument

from storage.dreams import KEY_LIFE, Changed
from storage.locks import KeyedLock
from storage.model import LEASED, TRIES, Dream, Image, Job, State, milliseconds, move, next_pause
from storage.mongo import Database, Document, translate_errors

LEASE = timedelta(minutes=5)  # renewed while a job is in hand, so it need not cover the longest one
# A clock that jumped back must not leave an image waiting for hours: a pause this far ahead is no pause of ours.
MAX_PAUSE = timedelta(minutes=10)


class Jobs:
    """The images of everyone's dreams, as work."""

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

    async def indexes(self) -> None:
        with translate_errors():
            # The trailing _id lets claim() take an owner's oldest dream without sorting.
            await self._dreams.create_index([("images.state", ASCENDING), ("owner", ASCENDING), ("_id", ASCENDING)])
            await self._dreams.create_index([("owner", ASCENDING), ("images.sha256", ASCENDING)])
            await self._dreams.create_index([("sweep", ASCENDING)], sparse=True)
            await self._dreams.create_index([("images.folder", ASCENDING)], sparse=True)
            await self._dreams.create_index([("trash.folder", ASCENDING)], sparse=True)

    async def owners_waiting(self) -> list[str]:
        """Whose images are queued."""
        with translate_errors():
            return [str(owner) for owner in await self._dreams.distinct("owner", {"images.state": State.QUEUED})]

    async def claim(self, owner: str, server: str) -> Job | None:
        """Take the owner's longest waiting image under a lease of `server`; None when none is due."""
        now, lease = self._now(), f"{server}/{ObjectId()}"
        due = {
            "state": State.QUEUED,
            "$or": [{"not_before": None}, {"not_before": {"$lte": now}}, {"not_before": {"$gt": now + MAX_PAUSE}}],
        }
        with translate_errors():
            document = await self._dreams.find_one_and_update(
                {"owner": ObjectId(owner), "deleted": {"$ne": True}, "images": {"$elemMatch": due}},
                {
                    "$set": {
                        "images.$.state": move("claim", State.QUEUED),
                        "images.$.lease_owner": lease,
                        "images.$.lease_until": now + LEASE,
                        "updated_at": now,
                    },
                    "$inc": {"revision": 1},
                },
                sort=[("_id", ASCENDING)],
                return_document=ReturnDocument.AFTER,
            )
        if document is None:
            return None
        claimed = next(each["id"] for each in document["images"] if each.get("lease_owner") == lease)
        return self._tell_job(document, claimed)

    async def store(self, job: Job, image: Image) -> Job | None:
        """Name the files of `image`, rendered from `job`'s upload, before the first of them is stored.

        None, here and below: the job was taken away meanwhile (deleted, or taken back), and nothing has changed.
        """
        fields = {
            "recipe": image.recipe,
            **_places(image),
            "width": image.width,
            "height": image.height,
            "animated": image.animated,
            "placeholder": image.placeholder,
            "lease_until": self._now() + LEASE,
        }
        return await self._move("store", job, fields)

    async def renew(self, job: Job) -> bool:
        """Keep the lease while the storage is slow; not a change of the dream."""
        with translate_errors():
            result = await self._dreams.update_one(_held(job), {"$set": {"images.$.lease_until": self._now() + LEASE}})
        return result.matched_count == 1

    async def complete(self, job: Job) -> Job | None:
        return await self._move("complete", job, {"lease_until": None, "staged": None})

    async def fail(self, job: Job, code: str) -> Job | None:
        """After a failed try: back in line after a pause when trying again can help, else failed with `code`."""
        image = job.image
        pause = next_pause(image, code)
        if pause is None:
            return await self._move("fail", job, {"lease_until": None, "error": code, "tries_left": 0}, lets_go=True)
        fields = {"attempt": image.attempt + 1, "tries_left": image.tries_left - 1}
        return await self._move("release", job, _NO_LEASE | fields | {"not_before": self._now() + pause}, lets_go=True)

    async def release(self, job: Job) -> Job | None:
        """Back in line at once, the try not counted: we stop, and nothing was wrong with the image."""
        return await self._move("release", job, _NO_LEASE | {"not_before": None}, lets_go=True)

    async def expired(self, server: str | None = None) -> list[Job]:
        """Jobs under a lease that has run out; with `server`, also every job that an earlier run of it left."""
        now = self._now()
        over: Document = {"state": {"$in": sorted(LEASED)}, "lease_until": {"$lt": now}}
        left: Document = {"state": {"$in": sorted(LEASED)}, "lease_owner": {"$regex": f"^{re.escape(server or '')}/"}}
        either = [over, left] if server else [over]
        match = {"$or": [{"images": {"$elemMatch": each}} for each in either], "deleted": {"$ne": True}}
        with translate_errors():
            documents = await self._dreams.find(match).to_list(None)
        return [
            Job(dream, image)
            for dream in map(Dream.from_document, documents)
            for image in dream.images
            if image.state in LEASED
            and image.lease_until is not None
            and image.lease_owner is not None
            and (image.lease_until < now or (server is not None and image.lease_owner.startswith(f"{server}/")))
        ]

    async def equal_image(self, owner: str, image: Image, recipe: str) -> Image | None:
        """A completed image of the same bytes, by the same owner and recipe."""
        equal = {"sha256": image.sha256, "state": State.COMPLETED, "recipe": recipe}
        match = {"owner": ObjectId(owner), "deleted": {"$ne": True}, "images": {"$elemMatch": equal}}
        with translate_errors():
            document = await self._dreams.find_one(match, {"images": True})
        for each in document["images"] if document else ():
            if all(each.get(name) == value for name, value in equal.items()):
                return Image.from_document(each)
        return None

    async def is_shared(self, owner: str, image: Image) -> bool:
        """Does another, living image use the files in `image`'s folder?"""
        match: Document = {
            "owner": ObjectId(owner),
            "deleted": {"$ne": True},
            "images": {"$elemMatch": {"sha256": image.sha256, "folder": image.folder}},
        }
        with translate_errors():
            return await self._dreams.find_one(match, {"_id": True}) is not None

    async def retry(self, dream: Dream, image: Image) -> Dream | None:
        """A failed image goes back in line, with as many tries as a new one; None when it is not failed any more."""
        fields = {"attempt": image.attempt + 1, "tries_left": TRIES, "error": None, "not_before": None, **_NO_LEASE}
        job = await self._move("retry", Job(dream, image), fields)
        return job.dream if job is not None else None

    async def has_folder(self, beginning: str) -> bool:
        """Does any image have its files where the keys begin so, or had, with the files still to be removed?"""
        there = {"$regex": f"^{re.escape(beginning)}"}
        either = [{"images.folder": there}, {"trash.folder": there}]
        with translate_errors():
            return await self._dreams.find_one({"$or": either}, {"_id": True}) is not None

    async def named(self, folders: Iterable[str]) -> set[str]:
        """Those of the folders that any image has its files in, or had, with the files still to be removed."""
        wanted = {"$in": list(folders)}
        with translate_errors():
            living = await self._dreams.find({"images.folder": wanted}, {"images.folder": True}).to_list(None)
            let_go = await self._dreams.find({"trash.folder": wanted}, {"trash.folder": True}).to_list(None)
        found = [image for document in living for image in document["images"]]
        found += [image for document in let_go for image in document["trash"]]
        return {image["folder"] for image in found if image.get("folder")} & set(wanted["$in"])

    # ---- for moving files to another storage

    async def stored(self, pattern: str) -> AsyncIterator[tuple[str, Image]]:
        """Owner and image of each set of files whose folder matches the regular expression; equal images once."""
        match: Document = {"state": State.COMPLETED, "folder": {"$regex": pattern}}
        stages: list[Document] = [
            {"$match": {"deleted": {"$ne": True}, "images": {"$elemMatch": match}}},
            {"$unwind": "$images"},
            {"$match": {f"images.{name}": value for name, value in match.items()}},
            {"$group": {"_id": {"owner": "$owner", "folder": "$images.folder"}, "image": {"$first": "$images"}}},
        ]
        with translate_errors():
            async for each in self._dreams.aggregate(stages, allowDiskUse=True):
                yield str(each["_id"]["owner"]), Image.from_document(each["image"])

    async def moved(self, owner: str, image: Image, folder: str, until: datetime) -> int:
        """The files of `image`, and of equal ones, are in `folder` now too, under the same names; how many images.

        The old ones are let go of in the same update of each dream, to be removed after `until`. Nobody is told: this
        is called beside the server, and the addresses that listeners have stay good.
        """
        count = 0
        match = {
            "owner": ObjectId(owner),
            "deleted": {"$ne": True},
            "images": {"$elemMatch": _complete_in(image.folder)},
        }
        while True:
            with translate_errors():
                document = await self._dreams.find_one(match)
                if document is None:
                    return count
                setters: Document = {"sweep": True, "updated_at": self._now()}
                trash = []
                for place, each in enumerate(document["images"]):
                    if _complete_in(image.folder).items() <= each.items():
                        there = Image.from_document(each).in_folder(folder)
                        setters |= {f"images.{place}.{name}": value for name, value in _places(there).items()}
                        trash.append(_trashed(Image.from_document(each)) | {"until": milliseconds(until)})
                # Nothing else may have changed: the images are named by their place.
                changed = await self._dreams.update_one(
                    {"_id": document["_id"], "revision": document["revision"]},
                    {"$set": setters, "$push": {"trash": {"$each": trash}}, "$inc": {"revision": 1}},
                )
            count += len(trash) if changed.modified_count else 0

    # ---- for the janitor

    async def to_sweep(self) -> AsyncIterator[tuple[Dream, list[Image]]]:
        """Dreams with something to remove, and the images that were let go of (all of a deleted dream's).

        Files that were moved elsewhere wait until nobody uses their old addresses any more, or their image is deleted.
        """
        now = self._now()
        due: Document = {"$elemMatch": {"$or": [{"until": None}, {"until": {"$lte": now}}]}}
        either: list[Document] = [{"deleted": True}, {"trash": due}, {"trash": {"$in": [None, []]}}]
        with translate_errors():
            documents = await self._dreams.find({"sweep": True, "$or": either}).to_list(None)
        for document in documents:
            dream = Dream.from_document(document)
            kept = {image.id for image in dream.images} if not dream.deleted else set()
            trash = [
                Image.from_document(each)
                for each in document.get("trash", [])
                if each.get("until") is None or each["until"] <= now or each["id"] not in kept
            ]
            yield dream, trash + (list(dream.images) if dream.deleted else [])

    async def swept(self, dream: Dream, images: list[Image]) -> None:
        """The files of `images` are gone. Of a deleted dream its Idempotency-Keys stay for their day, nothing else."""
        this = {"_id": ObjectId(dream.id)}
        with translate_errors():
            if dream.deleted:
                result = await self._dreams.delete_one(this | {"keys": {"$in": [None, []]}})
                if result.deleted_count == 0:
                    left = {"owner": "$owner", "keys": "$keys", "deleted": True, "expires_at": self._now() + KEY_LIFE}
                    await self._dreams.update_one(this, [{"$replaceWith": {"_id": "$_id", **left}}])
                return
            if images:
                # By folder too: an image that was handed back may let go of another one in the same attempt.
                gone = [{"id": each.id, "attempt": each.attempt, "folder": each.folder} for each in images]
                await self._dreams.update_one(this, {"$pull": {"trash": {"$or": gone}}})
            await self._dreams.update_one(
                this | {"trash": {"$in": [None, []]}, "deleted": {"$ne": True}},
                {"$unset": {"sweep": True, "trash": True}},
            )

    async def staged(self) -> set[str]:
        """Every upload in staging that an image still needs."""
        with translate_errors():
            return {name for name in await self._dreams.distinct("images.staged") if name is not None}

    # ---- inside

    def _now(self) -> datetime:
        return milliseconds(self._clock())

    async def _move(self, verb: str, job: Job, fields: Document, *, lets_go: bool = False) -> Job | None:
        """The one way an image changes state: compare-and-set on state, attempt and lease.

        `lets_go`: the files that the image names, if any, go to the trash in the same update.
        """
        target = move(verb, job.image.state)
        setters = {"state": target, **fields}
        update: Document = {"$inc": {"revision": 1}}
        if lets_go and job.image.variants:
            update["$push"] = {"trash": _trashed(job.image)}
            setters |= {"variants": {}, "folder": None, "original": None, "recipe": None}
        update["$set"] = {f"images.$.{name}": value for name, value in setters.items()} | {"updated_at": self._now()}
        if "$push" in update:
            update["$set"]["sweep"] = True
        async with self._turns.of(job.dream.id):
            with translate_errors():
                document = await self._dreams.find_one_and_update(
                    _held(job), update, return_document=ReturnDocument.AFTER
                )
                if document is None and verb in ("store", "complete", "fail"):
                    # The answer to an earlier try may have been lost with the connection, after it had its effect.
                    document = await self._dreams.find_one(_held(job, target))
            return self._tell_job(document, job.image.id) if document is not None else None

    def _tell_job(self, document: Document, image_id: int) -> Job:
        dream = Dream.from_document(document)
        image = dream.image(image_id)
        assert image is not None, "the update matched this image"
        self._changed(dream, image)
        return Job(dream, image)


def _complete_in(folder: str | None) -> Document:
    return {"state": State.COMPLETED, "folder": folder}


def _places(image: Image) -> Document:
    """The fields that say where its files are."""
    return {
        "folder": image.folder,
        "original": image.original,
        "variants": {name: variant.document() for name, variant in image.variants.items()},
    }


_NO_LEASE: Document = {"lease_owner": None, "lease_until": None}


def _trashed(image: Image) -> Document:
    """What the janitor needs of an image that lives on: its files of this attempt, not its upload."""
    return {
        "id": image.id,
        "position": image.position,
        "state": image.state,
        "attempt": image.attempt,
        "tries_left": image.tries_left,
        "staged": None,
        "sha256": image.sha256,
        "bytes": image.bytes,
        "format": image.format,
        **_places(image),
    }


def _held(job: Job, state: State | None = None) -> Document:
    image = job.image
    same = {"id": image.id, "state": state or image.state, "attempt": image.attempt, "lease_owner": image.lease_owner}
    return {"_id": ObjectId(job.dream.id), "deleted": {"$ne": True}, "images": {"$elemMatch": same}}
