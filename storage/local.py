"""Files on local disk, under signed addresses.

The one module that knows where on the disk a key lies; it must not know dreams or HTTP.
"""

import asyncio
import base64
import errno
import hashlib
import hmac
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import aiofiles

from storage.errors import NoSpace, NotFound, Unavailable

DAY = 86_400
CHUNK = 256 * 1024
KEY = re.compile(r"[a-z0-9][a-z0-9_-]*(/[a-z0-9_-]+)*(\.[a-z0-9]+)?")
TEMPORARY = ".part"
FULL = (errno.ENOSPC, errno.EDQUOT)


class LocalFiles:
    """`storage.files.Files` below one folder.

    An address carries when it ends and an HMAC-SHA256 over that and the key. The end is rounded up to a whole day
    and lies one to two days ahead: every address given out on one day is the same.
    """

    def __init__(self, folder: Path, *, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._secret = secret
        self._clock = clock
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def put(self, key: str, path: Path, content_type: str) -> None:
        try:
            await asyncio.to_thread(self._put, self.path(key), path)
        except OSError as error:
            raise _translated(error) from error

    def url(self, key: str) -> str:
        ends = (int(self._clock()) // DAY + 2) * DAY
        return f"/media/{quote(key)}?e={ends}&s={self._signature(key, ends)}"

    async def delete(self, keys: Iterable[str]) -> None:
        try:
            await asyncio.to_thread(self._delete, [self.path(key) for key in keys])
        except OSError as error:
            raise _translated(error) from error

    async def open(self, key: str) -> AsyncIterator[bytes]:
        async for chunk in self.read(key, 0, None):
            yield chunk

    async def read(self, key: str, start: int, length: int | None) -> AsyncIterator[bytes]:
        """`length` bytes (None: all) from `start`, in pieces."""
        try:
            async with aiofiles.open(self.path(key), "rb") as file:
                await file.seek(start)
                while chunk := await file.read(CHUNK if length is None else min(CHUNK, length)):
                    yield chunk
                    length = None if length is None else length - len(chunk)
        except FileNotFoundError as error:
            raise NotFound("There is no such file.") from error

    async def check(self) -> None:
        """Writes, reads back and removes a few bytes."""
        probe = self._folder / f"check{TEMPORARY}"
        try:
            async with aiofiles.open(probe, "wb") as file:
                await file.write(b"dream")
            await asyncio.to_thread(probe.unlink)
        except OSError as error:
            raise _translated(error) from error

    # ---- for the handler that serves the addresses

    def allows(self, key: str, ends: str, signature: str) -> bool:
        """Is this the signature that `url` gave for this key, and has it not ended?"""
        if KEY.fullmatch(key) is None or not (ends.isascii() and ends.isdecimal() and len(ends) < 12):
            return False
        genuine = hmac.compare_digest(signature.encode(), self._signature(key, int(ends)).encode())
        return genuine and int(ends) > self._clock()

    async def size(self, key: str) -> int:
        try:
            return (await asyncio.to_thread(self.path(key).stat)).st_size
        except OSError as error:
            raise NotFound("There is no such file.") from error

    # ---- inside

    def path(self, key: str) -> Path:
        if KEY.fullmatch(key) is None:
            raise NotFound("There is no such file.")
        return self._folder / key

    def _signature(self, key: str, ends: int) -> str:
        digest = hmac.digest(self._secret, f"{ends}\n{key}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:18]).decode()  # 144 bits

    def _put(self, target: Path, source: Path) -> None:
        made = self._make_folders(target.parent)
        beside = target.with_name(target.name + TEMPORARY)
        beside.unlink(missing_ok=True)
        try:
            os.link(source, beside)  # the bytes are there already, when staging is on the same disk
        except OSError:
            shutil.copyfile(source, beside)
        sync(beside)
        os.rename(beside, target)
        for folder in (target.parent, *made):
            sync(folder)

    def _make_folders(self, folder: Path) -> list[Path]:
        """Make `folder` and what is missing above it; the folders that then have a new entry."""
        above, changed = folder, []
        while above != self._folder and not above.exists():
            above = above.parent
            changed.append(above)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return changed

    def _delete(self, paths: list[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in paths} - {self._folder}:
            with suppress(OSError):  # not empty, or gone already
                folder.rmdir()


def sync(path: Path) -> None:
    """fsync of a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(error: OSError) -> Exception:
    if error.errno in FULL:
        return NoSpace("There is no room left on the server's disk.")
    return Unavailable(f"The folder of the pictures cannot be used: {error.strerror}.")
