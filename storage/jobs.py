"""The work on images: every move between the states of `storage/model.py` is one method here.

It must not know the workers. Each move is one atomic update, a compare-and-set on state, attempt and lease.
"""

import re
from datetime import datetime, timedelta

from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ASCENDING

from storage.errors import Unavailable
from storage.model import LEASED, TRIES, Dream, Image, Job, State, move, next_pause
from storage.mongo import Database, Document, translate_errors
from storage.references import file_fields, pending_delete
from storage.writes import BUSY, ROUNDS, Change, Writes, living

LEASE = timedelta(minutes=5)  # renewed while a worker has the job, so it need not cover the longest one
# After a clock jumped back, a pause would seem to last for hours: no pause of ours ends later than this.
MAX_PAUSE = timedelta(minutes=10)


class Jobs:
    """The images of everyone's dreams, as work."""

    def __init__(self, database: Database, *, writes: Writes) -> None:
        self._dreams: AsyncIOMotorCollection[Document] = database["dreams"]
        self._writes = writes

    async def indexes(self) -> None:
        with translate_errors():
            # The trailing _id finds an owner's oldest dream without a sort.
            await self._dreams.create_index([("images.state", ASCENDING), ("owner", ASCENDING), ("_id", ASCENDING)])

    async def owners_waiting(self) -> list[str]:
        """The owners of queued images."""
        with translate_errors():
            return [str(owner) for owner in await self._dreams.distinct("owner", {"images.state": State.QUEUED})]

    async def queue(self) -> tuple[int, datetime | None]:
        """The number of queued images, and since when the one has been queued that waits longest."""
        queued: Document = {"images.state": State.QUEUED}
        alive: Document = {"deleted": {"$ne": True}}
        stages: list[Document] = [
            {"$match": alive | queued},
            {"$project": {"created_at": True, "images.state": True, "images.queued_at": True}},
            {"$unwind": "$images"},
            {"$match": queued},
            # Images of the first edition do not say since when; their dream is older than they are.
            {
                "$group": {
                    "_id": None,
                    "number": {"$sum": 1},
                    "oldest": {"$min": {"$ifNull": ["$images.queued_at", "$created_at"]}},
                }
            },
        ]
        with translate_errors():
            found = await self._dreams.aggregate(stages).to_list(1)
        return (found[0]["number"], found[0]["oldest"]) if found else (0, None)

    async def claim(self, owner: str, server: str, dream_id: str = "") -> Job | None:
        """Lease a queued image to `server`: the first of `dream_id`, else of the owner's oldest dream that has one.

        None when no image is due. Without `dream_id`, one indexed read finds the dream, whose lock the claim needs.
        """
        if dream_id:
            return await self._claim(owner, server, dream_id)
        match = {"owner": ObjectId(owner), "deleted": {"$ne": True}, "images": {"$elemMatch": self._due()}}
        for _ in range(ROUNDS):
            with translate_errors():
                found = await self._dreams.find_one(match, {"_id": True}, sort=[("_id", ASCENDING)])
            if found is None:
                return None
            if (job := await self._claim(owner, server, str(found["_id"]))) is not None:
                return job
        raise Unavailable(BUSY, code="busy")  # other servers were faster each time

    async def store(self, job: Job, image: Image) -> Job | None:
        """Name the files of `image`, rendered from `job`'s upload, before the first of them is stored.

        None, here and below: the job was taken away meanwhile (deleted, or taken back), and nothing has changed.
        """
        fields = {
            "recipe": image.recipe,
            **file_fields(image),
            "width": image.width,
            "height": image.height,
            "animated": image.animated,
            "placeholder": image.placeholder,
            "lease_until": self._writes.now() + LEASE,
        }
        return await self._move("store", job, fields)

    async def renew(self, job: Job) -> bool:
        """Prolong the lease while the storage is slow. Clients do not see leases, so nothing is published."""
        update = {"$set": {"images.$.lease_until": self._writes.now() + LEASE}}
        return await self._writes.update_quietly(
            job.dream.owner, living(job.dream.owner, job.dream.id) | _held(job), update
        )

    async def complete(self, job: Job) -> Job | None:
        """Every file is stored; the upload in staging is not needed any more."""
        return await self._move("complete", job, {"lease_until": None, "staged": None}, Change.IMAGES)

    async def fail(self, job: Job, code: str) -> Job | None:
        """A try failed: queue the image again after a pause if another try can help, else it failed with `code`."""
        image = job.image
        pause = next_pause(image, code)
        if pause is None:
            fields = {"lease_until": None, "error": code, "tries_left": 0}
            return await self._move("fail", job, fields, Change.IMAGES, unreference=True)
        fields = {"attempt": image.attempt + 1, "tries_left": image.tries_left - 1}
        return await self._release(job, fields | {"not_before": self._writes.now() + pause})

    async def release(self, job: Job) -> Job | None:
        """Queue the image again at once, without counting the try: the server stops, and the image is not to blame."""
        return await self._release(job, {"not_before": None})

    async def retry(self, dream: Dream, image: Image) -> Dream | None:
        """Queue a failed image again, with as many tries as a new one; None when it is not failed any more."""
        fields = {
            "attempt": image.attempt + 1,
            "tries_left": TRIES,
            "error": None,
            "not_before": None,
            "queued_at": self._writes.now(),
            **_NO_LEASE,
        }
        job = await self._move("retry", Job(dream, image), fields, Change.IMAGES)
        return job.dream if job is not None else None

    async def expired(self, server: str | None = None) -> list[Job]:
        """Jobs whose lease has expired; with `server`, also every job that an earlier run of that server left."""
        now, leased = self._writes.now(), {"state": {"$in": sorted(LEASED)}}
        either: list[Document] = [leased | {"lease_until": None}, leased | {"lease_until": {"$lt": now}}]
        if server:
            either.append(leased | {"lease_owner": {"$regex": f"^{re.escape(server)}/"}})
        match = {"$or": [{"images": {"$elemMatch": each}} for each in either], "deleted": {"$ne": True}}
        with translate_errors():
            documents = await self._dreams.find(match).to_list(None)
        return [
            Job(dream, image)
            for dream in map(Dream.from_document, documents)
            for image in dream.images
            if image.state in LEASED
            and (
                image.lease_until is None
                or image.lease_until < now
                or (server is not None and (image.lease_owner or "").startswith(f"{server}/"))
            )
        ]

    # ---- inside

    def _due(self) -> Document:
        now = self._writes.now()
        due = [{"not_before": None}, {"not_before": {"$lte": now}}, {"not_before": {"$gt": now + MAX_PAUSE}}]
        return {"state": State.QUEUED, "$or": due}

    async def _claim(self, owner: str, server: str, dream_id: str) -> Job | None:
        lease = f"{server}/{ObjectId()}"
        fields = {
            "state": move("claim", State.QUEUED),
            "lease_owner": lease,
            "lease_until": self._writes.now() + LEASE,
        }

        def claimed(dream: Dream) -> Image:
            return next(image for image in dream.images if image.lease_owner == lease)

        due, update = {"images": {"$elemMatch": self._due()}}, {"$set": _in_image(fields)}
        dream = await self._writes.update(owner, dream_id, due, update, Change.WORK, image=claimed)
        return Job(dream, claimed(dream)) if dream is not None else None

    async def _release(self, job: Job, fields: Document) -> Job | None:
        return await self._move("release", job, _NO_LEASE | fields, unreference=True)

    async def _move(
        self, verb: str, job: Job, fields: Document, change: Change = Change.WORK, *, unreference: bool = False
    ) -> Job | None:
        """One move of the table. With `unreference`, the files that the image names become pending deletions."""
        target = move(verb, job.image.state)
        setters = {"state": target, **fields}
        update: Document = {}
        if unreference and job.image.variants:
            setters |= {"variants": {}, "folder": None, "original": None, "recipe": None}
            update = {"$push": {"trash": pending_delete(job.image)}}
        update["$set"] = _in_image(setters) | ({"sweep": True} if "$push" in update else {})

        def moved(dream: Dream) -> Image:
            image = dream.image(job.image.id)
            assert image is not None, "the update matched this image"
            return image

        dream = await self._writes.update(
            job.dream.owner,
            job.dream.id,
            _held(job),
            update,
            change,
            image=moved,
            # These three end a step of the pipeline, which repeats them until the database has answered.
            earlier=_held(job, target) if verb in ("store", "complete", "fail") else None,
        )
        return Job(dream, moved(dream)) if dream is not None else None


_NO_LEASE: Document = {"lease_owner": None, "lease_until": None}


def _in_image(fields: Document) -> Document:
    """Setters of the image that the filter matched."""
    return {f"images.$.{name}": value for name, value in fields.items()}


def _held(job: Job, state: State | None = None) -> Document:
    """The filter of the dream in which the job is still what it was, but for the state."""
    image = job.image
    same = {"id": image.id, "state": state or image.state, "lease_owner": image.lease_owner}
    # A document of an older server may lack the attempt, which is then the first.
    attempt = {"attempt": {"$in": [1, None]} if image.attempt == 1 else image.attempt}
    return {"images": {"$elemMatch": same | attempt}}
