"""What the pipeline, the janitor and the mover work with, in memory: failing, late and deleting as the test asks."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from processing.render import Rejected, Rendered, RenderedFile, RenderRequest
from processing.workers import WorkerDied
from storage.errors import NotFound
from storage.jobs import LEASE
from storage.model import LEASED, TRIES, Dream, Image, Job, State, Variant, move, next_pause

EPOCH = datetime(2026, 11, 28, tzinfo=UTC)


def now() -> datetime:
    return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


def an_image(number: int = 1, **fields: Any) -> Image:
    """Queued, as it is after the 201."""
    defaults: dict[str, Any] = dict.fromkeys(Image.__dataclass_fields__)
    defaults |= {"id": number, "position": 0, "state": State.QUEUED, "attempt": 1, "tries_left": TRIES}
    defaults |= {"staged": f"upload-{number}", "sha256": f"{number:064x}", "bytes": 9, "format": "JPEG"}
    return Image(**(defaults | {"variants": {}, "animated": False} | fields))


def a_dream(name: str, owner: str = "ada", *images: Image, **fields: Any) -> Dream:
    defaults: dict[str, Any] = {"title": "", "content": "", "mood": None, "lucidity": None, "tags": (), "revision": 1}
    times = dict.fromkeys(("dreamed_at", "created_at", "updated_at"), EPOCH)
    return Dream(
        id=name, owner=owner, images=images, **(defaults | times | {"deleted": False, "sweep": False} | fields)
    )


class Failing:
    """Each call of a method may be made to fail, and to take its time."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.errors: dict[str, list[Exception]] = {}  # method -> what its next calls raise
        self.seconds: dict[str, float] = {}  # method -> how long a call takes

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        await asyncio.sleep(self.seconds.get(name, 0.0))
        if self.errors.get(name):
            raise self.errors[name].pop(0)


class Jobs(Failing):
    """The dreams in a dictionary, and the moves of their images by compare-and-set."""

    def __init__(self) -> None:
        super().__init__()
        self.dreams: dict[str, Dream] = {}
        self.not_before: dict[tuple[str, int], datetime] = {}
        self.states: list[tuple[str, int, State]] = []  # every move, in order
        self.unreferenced: list[str] = []  # keys that a failed try or a release named
        self.wake: Callable[[str, str], None] = lambda owner, dream_id: (
            None
        )  # what the server does when a dream with a queued image changes
        self._leases = count()

    def add(self, dream: Dream) -> Dream:
        self.dreams[dream.id] = dream
        return dream

    def image(self, dream_id: str, number: int = 1) -> Image:
        image = self.dreams[dream_id].image(number)
        assert image is not None
        return image

    async def owners_waiting(self) -> list[str]:
        await self._call("owners_waiting")
        return list(dict.fromkeys(dream.owner for dream in self.dreams.values() if dream.waiting))

    async def claim(self, owner: str, server: str, dream_id: str = "") -> Job | None:
        await self._call("claim")
        for dream in self.dreams.values():
            if dream_id not in ("", dream.id):
                continue
            for image in dream.images:
                due = self.not_before.get((dream.id, image.id), EPOCH) <= now()
                if dream.owner == owner and image.state is State.QUEUED and due:
                    lease: dict[str, Any] = {
                        "lease_owner": f"{server}/{next(self._leases)}",
                        "lease_until": now() + LEASE,
                    }
                    return self._write(dream, replace(image, state=move("claim", image.state), **lease))
        return None

    async def store(self, job: Job, image: Image) -> Job | None:
        fields = ("recipe", "folder", "original", "variants", "width", "height", "animated", "placeholder")
        return await self._move("store", job, **{name: getattr(image, name) for name in fields})

    async def renew(self, job: Job) -> bool:
        await self._call("renew")
        image = self._held(job)
        if image is not None:
            dream = self.dreams[job.dream.id]
            self.dreams[dream.id] = self._with(dream, replace(image, lease_until=now() + LEASE))
        return image is not None

    async def complete(self, job: Job) -> Job | None:
        return await self._move("complete", job, staged=None, lease_until=None)

    async def fail(self, job: Job, code: str) -> Job | None:
        pause = next_pause(job.image, code)
        if pause is None:
            return await self._move("fail", job, error=code, tries_left=0, lease_until=None, **self._unreferenced(job))
        self.not_before[job.dream.id, job.image.id] = now() + pause
        tries = {"attempt": job.image.attempt + 1, "tries_left": job.image.tries_left - 1}
        return await self._move("release", job, call="fail", lease_owner=None, **tries, **self._unreferenced(job))

    async def release(self, job: Job) -> Job | None:
        return await self._move("release", job, lease_owner=None, **self._unreferenced(job))

    async def expired(self, server: str | None = None) -> list[Job]:
        await self._call("expired")
        return [
            Job(dream, image)
            for dream in self.dreams.values()
            for image in dream.images
            if image.state in LEASED and image.lease_until is not None and image.lease_owner is not None
            if image.lease_until < now() or (server is not None and image.lease_owner.startswith(f"{server}/"))
        ]

    async def equal_image(self, owner: str, image: Image, recipe: str) -> Image | None:
        await self._call("equal_image")
        equal = (image.sha256, recipe, State.COMPLETED)
        images = [each for dream in self.dreams.values() if dream.owner == owner for each in dream.images]
        return next((each for each in images if (each.sha256, each.recipe, each.state) == equal), None)

    def _held(self, job: Job) -> Image | None:
        dream = self.dreams.get(job.dream.id)
        image = dream.image(job.image.id) if dream is not None else None
        names = ("state", "attempt", "lease_owner")
        same = image is not None and all(getattr(image, name) == getattr(job.image, name) for name in names)
        return image if same else None

    def _unreferenced(self, job: Job) -> dict[str, Any]:
        self.unreferenced += job.image.keys
        return {"variants": {}, "folder": None, "original": None, "recipe": None}

    async def _move(self, verb: str, job: Job, call: str = "", **fields: Any) -> Job | None:
        target = move(verb, job.image.state)
        await self._call(call or verb)
        image = self._held(job)
        return self._write(self.dreams[job.dream.id], replace(image, state=target, **fields)) if image else None

    def _write(self, dream: Dream, image: Image) -> Job:
        dream = self.dreams[dream.id] = self._with(dream, image)
        self.states.append((dream.id, image.id, image.state))
        if dream.waiting:
            self.wake(dream.owner, dream.id)
        return Job(dream, image)

    @staticmethod
    def _with(dream: Dream, image: Image) -> Dream:
        images = tuple(image if each.id == image.id else each for each in dream.images)
        return replace(dream, revision=dream.revision + 1, images=images)


class Workers:
    """Each picture takes its time and becomes two files for three variants, unless the test says otherwise."""

    def __init__(self, number: int) -> None:
        self.count = number
        self.seconds = 1.0
        self.results: list[Exception | Rejected] = []  # of the next pictures
        self.rendered: list[str] = []  # their uploads
        self.running = 0
        self.most_running = 0

    async def render(self, request: RenderRequest) -> Rendered | Rejected:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running -= 1
        if self.results:
            result = self.results.pop(0)
            if isinstance(result, Exception):
                raise result
            return result
        self.rendered.append(Path(request.source).name)
        for name in ("320", "2048"):
            Path(request.folder, f"{name}.jpg").write_text(name)
        small, large = (RenderedFile(f"{name}.jpg", "image/jpeg", 4, 3, 9) for name in ("320", "2048"))
        variants = {"320": small, "1024": large, "2048": large}
        return Rendered(variants, 4000, 3000, False, "data:", ("exif",), False)


def died(code: str = "crashed") -> WorkerDied:
    return WorkerDied(code, "exit code -9")


class Files(Failing):
    """A storage in a dictionary; `names` is what exists."""

    def __init__(self) -> None:
        super().__init__()
        self.contents: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.at: dict[str, float] = {}  # key -> Unix seconds at which it was put
        self.life = 2 * 86_400.0
        self.putting = 0
        self.most_putting = 0
        self.before_put: Callable[[str], None] = lambda key: None
        self._folders = count(1)

    def new_folder(self, store: str = "") -> str:
        mark = "oss/" if store == "oss" else ""
        return f"{mark}folder{next(self._folders)}"

    async def put(self, key: str, path: Path, content_type: str) -> None:
        self.before_put(key)
        self.putting += 1
        self.most_putting = max(self.most_putting, self.putting)
        try:
            await self._call("put")
        finally:
            self.putting -= 1
        self.contents[key] = path.read_bytes()
        self.types[key] = content_type

    async def delete(self, keys: Iterable[str]) -> None:
        await self._call("delete")
        for key in keys:
            self.contents.pop(key, None)

    async def open(self, key: str) -> AsyncIterator[bytes]:
        await self._call("open")
        if key not in self.contents:
            raise NotFound("There is no such file.")
        for byte in self.contents[key]:
            yield bytes([byte])

    async def scan(self) -> AsyncIterator[tuple[str, float]]:
        await self._call("scan")
        for key in list(self.contents):
            yield key, self.at.get(key, 0.0)


class References(Failing):
    """Who names which files, as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[tuple[Dream, list[Image]]] = []
        self.confirmed: list[tuple[str, list[int]]] = []
        self.shared: set[str] = set()  # folders that another living image uses
        self.named: set[str] = set()  # folders that a dream names, or whose deletion is pending
        self.staged: set[str] = set()
        self.sets: list[tuple[str, Image]] = []
        self.relocated: dict[str, tuple[str, datetime]] = {}  # folder -> the new one, and how long the old one stays
        self.batches: list[int] = []  # how many folders were asked about at once

    async def pending_deletes(self) -> AsyncIterator[tuple[Dream, list[Image]]]:
        await self._call("pending_deletes")
        for each in list(self.pending):
            yield each

    async def confirm_deletes(self, dream: Dream, images: list[Image]) -> None:
        await self._call("confirm_deletes")
        self.pending = [each for each in self.pending if each[0] is not dream]
        self.confirmed.append((dream.id, [image.id for image in images]))

    async def is_shared(self, owner: str, image: Image) -> bool:
        await self._call("is_shared")
        return image.folder in self.shared

    async def staged_names(self) -> set[str]:
        await self._call("staged_names")
        return self.staged

    async def named_folders(self, folders: Iterable[str]) -> set[str]:
        folders = set(folders)
        self.batches.append(len(folders))
        return self.named & folders

    async def stored_sets(self, pattern: str) -> AsyncIterator[tuple[str, Image]]:
        for owner, image in self.sets:
            if re.match(pattern, image.folder or ""):
                yield owner, image

    async def relocate(self, owner: str, image: Image, folder: str, until: datetime) -> int:
        await self._call("relocate")
        assert image.folder is not None
        self.relocated[image.folder] = folder, until
        return 1 if image.folder in self.shared else 0


class Staging:
    """What lies in staging, with its age in seconds."""

    def __init__(self) -> None:
        self.uploads: dict[str, float] = {}

    def remove(self, name: str) -> None:
        self.uploads.pop(name, None)

    async def collect(self, needed: set[str], *, older_than: float) -> int:
        gone = [name for name, age in self.uploads.items() if name not in needed and age >= older_than]
        for name in gone:
            del self.uploads[name]
        return len(gone)


def stored_image(folder: str, number: int = 1, **fields: Any) -> Image:
    """Completed, with two variants that share a file, and its original."""
    small, large = (Variant(f"{folder}/{name}.jpg", "image/jpeg", 4, 3, len(name)) for name in ("320", "2048"))
    defaults: dict[str, Any] = {"state": State.COMPLETED, "staged": None, "folder": folder}
    defaults |= {"variants": {"320": small, "1024": large, "2048": large}, "original": f"{folder}/original-x.jpg"}
    defaults |= {"sha256": hashlib.sha256(b"an upload").hexdigest(), "bytes": 9}
    return an_image(number, **(defaults | fields))


def put_files_of(files: Files, image: Image) -> None:
    for key in image.keys:
        name = key.rpartition("/")[2]
        files.contents[key] = b"an upload" if name.startswith("original") else name.removesuffix(".jpg").encode()
