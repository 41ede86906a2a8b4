"""Dreams and jobs on the test's own database, with a clock that the test sets and a record of what they publish."""

import os
import resource
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorDatabase
from tornado.ioloop import IOLoop

from storage.dreams import Dreams
from storage.files import Files
from storage.jobs import Jobs
from storage.model import Draft, Dream, Image, Job, StagedUpload, Variant
from storage.references import References
from storage.writes import Writes

Database = AsyncIOMotorDatabase[dict[str, Any]]
Published = list[tuple[Dream, Image | None]]

ADA, BOB = str(ObjectId()), str(ObjectId())
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
HERE, THERE = "server-a", "server-b"
RECIPE = "1 jpeg"  # the settings that images are rendered with
SECRET = b"a secret of more than 32 bytes, for tests"  # of signed addresses
KEY = "0123456789abcdef/2048.jpg"

_numbers = count()


class Clock:
    """Stands still until it is set. Far ahead of MongoDB's own clock, by which that removes what has expired."""

    def __init__(self) -> None:
        self.now = datetime(2046, 11, 22, 6, 10, 0, 123_456, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def published() -> Published:
    """What `changed` was called with, in order."""
    return []


@pytest.fixture
def writes(database: Database, clock: Clock, published: Published) -> Writes:
    """One for all, as in the server."""
    return Writes(database, changed=lambda dream, image: published.append((dream, image)), clock=clock)


@pytest.fixture
def jobs(database: Database, writes: Writes, io_loop: IOLoop) -> Jobs:
    jobs = Jobs(database, writes=writes)
    io_loop.run_sync(jobs.indexes)
    return jobs


@pytest.fixture
def references(database: Database, writes: Writes, io_loop: IOLoop) -> References:
    references = References(database, writes=writes)
    io_loop.run_sync(references.indexes)
    return references


@pytest.fixture
def dreams(database: Database, writes: Writes, io_loop: IOLoop) -> Dreams:
    dreams = Dreams(database, writes=writes)
    io_loop.run_sync(dreams.indexes)
    return dreams


def upload(position: int = 0, sha256: str = "") -> StagedUpload:
    """One of its own each time."""
    number = next(_numbers)
    return StagedUpload(f"staged-{number}", sha256 or f"{number:064x}", 15_000_000, "jpeg", position)


def uploads(number: int) -> list[StagedUpload]:
    return [upload() for _ in range(number)]


async def made(dreams: Dreams, images: int = 1, owner: str = ADA) -> Dream:
    return await dreams.create(owner, Draft(content="x"), uploads(images))


async def claimed(jobs: Jobs, owner: str = ADA, server: str = HERE) -> Job:
    job = await jobs.claim(owner, server)
    assert job is not None
    return job


def rendered(job: Job, folder: str = "", **fields: Any) -> Image:
    """What rendering makes of a job's image."""
    folder = folder or f"folder{job.image.id}-{job.image.attempt}"
    variants = {name: Variant(f"{folder}/{name}.jpg", "image/jpeg", 4, 3, 9) for name in ("320", "2048")}
    known: dict[str, Any] = {
        "recipe": RECIPE,
        "folder": folder,
        "variants": variants,
        "original": f"{folder}/original.jpg",
        "width": 4032,
        "height": 3024,
        "animated": True,
        "placeholder": "data:,",
    }
    return replace(job.image, **known | fields)


async def stored(jobs: Jobs, job: Job, folder: str = "") -> Job:
    named = await jobs.store(job, rendered(job, folder))
    assert named is not None
    return named


async def completed(jobs: Jobs, owner: str = ADA, folder: str = "") -> Job:
    done = await jobs.complete(await stored(jobs, await claimed(jobs, owner), folder))
    assert done is not None
    return done


async def failed(jobs: Jobs) -> Job:
    done = await jobs.fail(await claimed(jobs), "corrupt")
    assert done is not None
    return done


async def pending(references: References) -> list[tuple[Dream, list[Image]]]:
    return [(dream, images) async for dream, images in references.pending_deletes()]


async def a_round(references: References) -> None:
    """What the janitor does, without files."""
    for dream, images in await pending(references):
        await references.confirm_deletes(dream, images)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return a_file(tmp_path / "picture", b"a picture")


def a_file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


async def content(files: Files, key: str) -> bytes:
    """What lies under it."""
    return b"".join([piece async for piece in files.open(key)])


def read(path: Path) -> bytes:
    return path.read_bytes()


def mode(path: Path) -> int:
    """Who may do what with it."""
    return path.stat().st_mode & 0o777


class SmallDisk:
    """A disk of one megabyte, mounted; where we may not mount, a folder in which the kernel lets no file be larger."""

    SIZE = 1 << 20

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.too_large = folder.with_suffix(".source")  # next to it, a file that does not fit
        with self.too_large.open("wb") as file:
            os.truncate(file.fileno(), self.SIZE + 1)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={self.SIZE}", "tmpfs", str(folder)]
        self._mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
        self._limit(self.SIZE)

    def fill(self) -> None:
        """Not a byte more."""
        self._limit(0)
        if self._mounted:
            with suppress(OSError), (self.folder / "fill").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))

    def empty(self) -> None:
        self._limit(self.SIZE)
        (self.folder / "fill").unlink(missing_ok=True)

    def remove(self) -> None:
        self._limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        if self._mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def _limit(self, size: int) -> None:
        if not self._mounted:
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.remove()


async def document(database: Database, dream: Dream) -> dict[str, Any]:
    """As it lies in MongoDB."""
    found = await database["dreams"].find_one({"_id": ObjectId(dream.id)})
    assert found is not None
    return found


async def profiled(database: Database, command: str, call: Callable[[], Awaitable[object]]) -> dict[str, Any]:
    """What MongoDB's profiler wrote of the one `command` that `call` sends."""
    await database.command("profile", 2)
    await call()
    await database.command("profile", 0)
    records = await database["system.profile"].find({f"command.{command}": {"$exists": True}}).to_list(None)
    await database["system.profile"].drop()
    [record] = records
    found: dict[str, Any] = record
    return found
