"""The mover moves the files of completed images to another storage, while a server runs or not.

It copies the files of an image into a new folder, reads them back and compares. Then one update of the dream names the
copies and makes the old files pending deletions, which are due once every URL of them has expired. A kill at any moment
does no harm: the dream names files that exist, and the next run continues. It must not know how a storage works.
"""

import asyncio
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from processing import formats
from storage.data_folder import CannotStart
from storage.errors import Error, NotFound
from storage.files import MARKS, StoredFiles
from storage.model import Image
from storage.references import References

AT_ONCE = 4  # images that are moved concurrently

ELSEWHERE = {"oss": "^[^/]+$", "local": f"^{MARKS['oss']}"}  # storage -> the folders that are not in it


class Damaged(Exception):
    """A file differs from the one that was stored; the message says how."""


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[Path]:
    """Hold the empty folder `folder` exclusively, and remove it afterwards. Raises `CannotStart` while it is held.

    Removing orphans takes this lock too, because copies that no dream names yet look like orphans.
    """
    lock = _locked(folder)
    try:
        for left in folder.iterdir():  # copies of a move that was killed
            left.unlink()
        yield folder
        shutil.rmtree(folder)
    finally:
        os.close(lock)


def _locked(folder: Path) -> int:
    """A descriptor of `folder`, which is created where it is missing and locked. Raises `CannotStart`."""
    while True:
        with ExitStack() as stack, suppress(FileNotFoundError):
            folder.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CannotStart("Another command is already moving images or removing orphans.") from None
            # The command that held the lock may have removed this folder before it released the lock.
            if os.path.samestat(os.fstat(lock), folder.stat()):
                stack.pop_all()
                return lock


@dataclass(frozen=True, slots=True)
class Copied:
    """A file to copy."""

    key: str
    type: str
    size: int
    sha256: str | None  # of originals


class Mover:
    """Moves sets of files to one storage, and counts them."""

    def __init__(self, *, references: References, files: StoredFiles, to: str, folder: Path) -> None:
        """`folder` is for copies in progress; the caller holds it with `exclusive_lock`."""
        self._references = references
        self._files = files
        self._to = to
        self._folder = folder
        self.images = 0  # moved
        self.problems: list[str] = []  # a line for each set of files that stays where it is

    async def waiting(self) -> list[tuple[str, Image]]:
        """Owner and image of each set of files in another storage."""
        return [each async for each in self._references.stored_sets(ELSEWHERE[self._to])]

    async def move(self, sets: Iterable[tuple[str, Image]], done: Callable[[], None]) -> None:
        """Move each set, and call `done` after each. Raises `Unavailable` when a storage or the database stays away."""
        todo = iter(sets)

        async def work() -> None:
            for owner, image in todo:
                try:
                    await self._move(owner, image)
                except (Damaged, NotFound) as error:
                    if await self._references.is_shared(owner, image):  # otherwise it was deleted meanwhile
                        self.problems.append(f"{image.folder}: {error}")
                done()

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    async def _move(self, owner: str, image: Image) -> None:
        there = image.in_folder(self._files.new_folder(self._to))
        try:
            for old, new in zip(_files_of(image), _files_of(there), strict=True):
                await self._copy(old, new.key)
        except BaseException:
            with suppress(Error):  # the copies are orphans then, and `orphans` finds them
                await self._files.delete(there.keys)
            raise
        until = datetime.now(UTC) + timedelta(seconds=self._files.life)
        # If this raises, the update may have happened all the same, so the copies stay.
        moved = await self._references.relocate(owner, image, str(there.folder), until)
        if not moved:
            await self._files.delete(there.keys)
        self.images += moved

    async def _copy(self, old: Copied, target: str) -> None:
        path = self._folder / secrets.token_hex(16)
        name = old.key.rpartition("/")[2]
        try:
            digest = hashlib.sha256()
            with path.open("xb") as file:
                async for piece in self._files.open(old.key):
                    digest.update(piece)
                    await asyncio.to_thread(file.write, piece)
                found = file.tell()
            if found != old.size or old.sha256 not in (None, digest.hexdigest()):
                raise Damaged(f"{name} is not what was stored ({found} of {old.size} bytes).")
            await self._files.put(target, path, old.type)
            if await _digest(self._files.open(target)) != digest.digest():
                raise Damaged(f"The new storage returns something else than {name}.")
        finally:
            path.unlink(missing_ok=True)


def _files_of(image: Image) -> list[Copied]:
    """Each file once, in an order that does not depend on the folder."""
    found = {v.key: Copied(v.key, v.type, v.bytes, None) for v in image.variants.values()}
    files = list(found.values())
    if image.original is not None:
        files.append(Copied(image.original, formats.MEDIA_TYPES[image.format], image.bytes, image.sha256))
    return files


async def _digest(pieces: AsyncIterator[bytes]) -> bytes:
    digest = hashlib.sha256()
    async for piece in pieces:
        digest.update(piece)
    return digest.digest()
