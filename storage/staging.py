"""Uploads on disk, from their first byte until their variants are stored.

It must not know what an image is, or who uploads it.
"""

import asyncio
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from io import BufferedReader, BytesIO, FileIO
from os import fsync
from pathlib import Path
from typing import BinaryIO, TypeVar

import aiofiles

from storage.disk import ABSENT, NO_ROOM, sync, to_storage_error
from storage.errors import NoSpace, NotFound
from storage.files import CHUNK

T = TypeVar("T")

RESERVE = 64 * 1024 * 1024  # bytes of disk that uploads leave to the database and to the variants
NO_UPLOAD = "The uploaded file is no longer on the server."
WRITE_SIZE = 1024 * 1024  # bytes gathered before a write, because each write is a hop to a thread


class Part:
    """One upload while it arrives. It is durable once `finish` has returned."""

    def __init__(self, path: Path, received: Callable[[int], None]) -> None:
        """`received` is called with the size of each chunk, in bytes."""
        self.name = path.name
        self.size = 0
        self._path = path
        self._received = received
        self._waiting = bytearray()
        self._hash = hashlib.sha256()
        self._file: FileIO | None = None

    @property
    def sha256(self) -> str:
        """The digest (hex) of all bytes, after `finish`."""
        return self._hash.hexdigest()

    async def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self._received(len(chunk))
        self._waiting += chunk
        if len(self._waiting) >= WRITE_SIZE:
            await _in_thread(self._flush)

    async def finish(self, look: Callable[[BinaryIO], T]) -> T:
        """Make the upload durable after its last byte, and return what `look` found in the file.

        `look` runs in the thread that syncs the file. Raises `NoSpace`, and what `look` raises.
        """
        return await _in_thread(lambda: self._finish(look))

    def discard(self) -> None:
        """Remove the file. Must not run during `write` or `finish`."""
        if self._file is not None:
            self._file.close()
        self._path.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._file is None:
            self._file = FileIO(self._path, "x+", opener=_private)
        waiting, self._waiting = self._waiting, bytearray()
        self._hash.update(waiting)
        remaining = memoryview(waiting)
        while remaining:
            remaining = remaining[self._file.write(remaining) :]

    def _finish(self, look: Callable[[BinaryIO], T]) -> T:
        # A small upload is still in memory: each system call avoided is one chance less to lose the GIL.
        whole = BytesIO(self._waiting) if self._file is None else None
        self._flush()
        assert self._file is not None
        with BufferedReader(self._file) as file:
            fsync(self._file.fileno())
            found = look(whole or file)
        sync(self._path.parent)  # the name must be durable too
        return found


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Staging:
    """The folder of uploads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.received = 0  # bytes of uploads since the server started, kept or not
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def part(self) -> Part:
        return Part(self._folder / secrets.token_hex(16), self._count)

    def _count(self, size: int) -> None:
        self.received += size

    def path(self, name: str) -> Path:
        return self._folder / name

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """The bytes of an upload, in pieces. Raises `NotFound` when its file is no longer there."""
        try:
            async with aiofiles.open(self.path(name), "rb") as file:
                while piece := await file.read(CHUNK):
                    yield piece
        except OSError as error:
            if error.errno in ABSENT:
                raise NotFound(NO_UPLOAD, code="no_upload") from error
            raise to_storage_error(error) from error

    def check_room(self, size: int) -> None:
        """Raises `NoSpace` when `size` more bytes would eat into the reserve."""
        if shutil.disk_usage(self._folder).free < size + RESERVE:
            raise NoSpace(NO_ROOM)

    def remove(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    async def collect(self, needed: set[str], *, older_than: float) -> int:
        """Remove the files that are not `needed` and at least `older_than` seconds old, and return their number."""

        def collect() -> int:
            before, removed = time.time() - older_than, 0
            for path in self._folder.iterdir():
                with suppress(FileNotFoundError):  # an upload was discarded meanwhile
                    if path.name not in needed and path.stat().st_mtime <= before:
                        path.unlink()
                        removed += 1
            return removed

        return await asyncio.to_thread(collect)


async def _in_thread(step: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(step)
    except OSError as error:
        raise to_storage_error(error) from error
