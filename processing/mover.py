"""Moves the files of completed images to another storage, beside a running server or without one.

A copy goes into a new folder, is read back and compared; then one update of the dream names it and lets go of the old
one, which stays until the addresses that were given out have ended. So every moment is a good one to be killed in: the
dream names files that are there, and running it again goes on. It must not know how a storage works.
"""

import asyncio
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from processing import formats
from storage.data_folder import CannotStart
from storage.errors import Error, NotFound
from storage.files import MARKS, StoredFiles
from storage.model import Image
from storage.references import References

AT_ONCE = 4  # images

ELSEWHERE = {"oss": "^[^/]+$", "local": f"^{MARKS['oss']}"}  # storage -> the folders that are not in it


class Damaged(Exception):
    """A file is not what it should be; the sentence says how."""


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[Path]:
    """An empty folder, for one at a time, or `CannotStart`; gone afterwards.

    Who removes orphans holds it too: copies of a move that nobody names yet look just like them.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in folder.iterdir():  # by a move that was killed
            left.unlink()
        yield folder
        shutil.rmtree(folder)
    except BlockingIOError:
        raise CannotStart("Pictures are being moved, or orphans removed, already.") from None
    finally:
        os.close(lock)


@dataclass(frozen=True, slots=True)
class Copied:
    key: str
    type: str
    size: int
    sha256: str | None  # of originals


class Mover:
    """Moves to one storage, and counts."""

    def __init__(self, *, references: References, files: StoredFiles, to: str, folder: Path) -> None:
        """`folder` is for copies on their way, and is held by `exclusive_lock`."""
        self._references = references
        self._files = files
        self._to = to
        self._folder = folder
        self.images = 0  # moved
        self.problems: list[str] = []  # a line for each set of files that stays where it is

    async def waiting(self) -> list[tuple[str, Image]]:
        """Owner and image of each set of files that is elsewhere."""
        return [each async for each in self._references.stored_sets(ELSEWHERE[self._to])]

    async def move(self, sets: Iterable[tuple[str, Image]], done: Callable[[], None]) -> None:
        """Calls `done` after each; raises `Unavailable` when a storage or the database is away for long."""
        todo = iter(sets)

        async def work() -> None:
            for owner, image in todo:
                try:
                    await self._move(owner, image)
                except (Damaged, NotFound) as error:
                    if await self._references.is_shared(owner, image):  # else it was deleted meanwhile
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
            with suppress(Error):  # then they are orphans, and found as such
                await self._files.delete(there.keys)
            raise
        until = datetime.now(UTC) + timedelta(seconds=self._files.life)
        # If this raises, it may have had its effect: then the copies are what the dream names.
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
                raise Damaged(f"{name} is not what was stored once ({found} of {old.size} bytes).")
            await self._files.put(target, path, old.type)
            if await _digest(self._files.open(target)) != digest.digest():
                raise Damaged(f"{name} is read otherwise than it was written.")
        finally:
            path.unlink(missing_ok=True)


def _files_of(image: Image) -> list[Copied]:
    """Each file once, in an order that is the same for the same image in another folder."""
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
