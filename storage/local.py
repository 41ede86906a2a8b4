"""Files on local disk, at signed URLs.

No other module knows the path of a key. This one must not know dreams or HTTP.
"""

import asyncio
import base64
import errno
import hashlib
import hmac
import os
import secrets
import shutil
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import aiofiles

from storage.coalescer import Coalescer
from storage.disk import ABSENT, sync, to_storage_error
from storage.errors import NotFound
from storage.files import CHUNK, KEY, NO_FILE

DAY = 86_400


class LocalFiles:
    """`storage.files.Files` below one folder.

    A URL carries its expiry time, and an HMAC-SHA256 of that time and the key. The expiry is a whole day (UTC), one to
    two days ahead, so that all URLs made for a file on one day are equal and browsers cache the file.
    """

    def __init__(self, folder: Path, *, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._secret = secret
        self._clock = clock
        self._puts: Coalescer[tuple[Path, Path], OSError | None] = Coalescer(
            lambda files: asyncio.to_thread(self._put_all, files)
        )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def put(self, key: str, path: Path, content_type: str) -> None:
        if (error := await self._puts.get((self.path(key), path))) is not None:
            raise to_storage_error(error) from error

    def url(self, key: str) -> str:
        expires = str((int(self._clock()) // DAY + 2) * DAY)
        return f"/media/{quote(key)}?e={expires}&s={self._signature(key, expires)}"

    async def delete(self, keys: Iterable[str]) -> None:
        paths = [self._folder / key for key in keys if KEY.fullmatch(key) is not None]
        try:
            await asyncio.to_thread(self._delete, paths)
        except OSError as error:
            raise to_storage_error(error) from error

    async def open(self, key: str) -> AsyncIterator[bytes]:
        async for chunk in self.read(key, 0, None):
            yield chunk

    async def read(self, key: str, start: int, length: int | None) -> AsyncIterator[bytes]:
        """`length` bytes (None: all) from byte `start`, in pieces. The first step raises `NotFound`."""
        try:
            async with aiofiles.open(self.path(key), "rb") as file:
                await file.seek(start)
                while chunk := await file.read(CHUNK if length is None else min(CHUNK, length)):
                    yield chunk
                    length = None if length is None else length - len(chunk)
        except OSError as error:
            raise NotFound(NO_FILE) if error.errno in ABSENT else to_storage_error(error) from error

    async def check(self) -> None:
        """Write, read and remove a few bytes."""
        try:
            await asyncio.to_thread(self._check)
        except OSError as error:
            raise to_storage_error(error) from error

    async def scan(self) -> AsyncIterator[tuple[str, float]]:
        try:
            for folder in await asyncio.to_thread(self._folders):
                for found in await asyncio.to_thread(self._found, folder):
                    yield found
        except OSError as error:
            raise to_storage_error(error) from error

    # ---- for the handler that serves the URLs

    def allows(self, key: str, expires: str, signature: str) -> bool:
        """Is this the signature of `url` for the key, and is it still valid?"""
        if KEY.fullmatch(key) is None or not (expires.isascii() and expires.isdecimal() and len(expires) < 12):
            return False
        genuine = signature.isascii() and hmac.compare_digest(signature, self._signature(key, expires))
        return genuine and int(expires) > self._clock()

    async def size(self, key: str) -> int:
        try:
            found = await asyncio.to_thread(self.path(key).stat)
        except OSError as error:
            raise NotFound(NO_FILE) if error.errno in ABSENT else to_storage_error(error) from error
        if not stat.S_ISREG(found.st_mode):
            raise NotFound(NO_FILE)
        return found.st_size

    # ---- inside

    def path(self, key: str) -> Path:
        if KEY.fullmatch(key) is None:
            raise NotFound(NO_FILE)
        return self._folder / key

    def _signature(self, key: str, expires: str) -> str:
        digest = hmac.digest(self._secret, f"{expires}\n{key}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:18]).decode()  # 144 bits

    def _put_all(self, files: Iterable[tuple[Path, Path]]) -> dict[tuple[Path, Path], OSError | None]:
        """Put (target, source) pairs; one that fails does not stop the others. Each folder is synced once."""
        results: dict[tuple[Path, Path], OSError | None] = {}
        folders: set[Path] = set()
        for target, source in files:
            try:
                if target.parent not in folders:
                    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._put(target, source)
                results[target, source] = None
                # All parents: another thread may have made one just now and not synced it yet.
                folders.update(folder for folder in target.parents if folder.is_relative_to(self._folder))
            except OSError as error:
                results[target, source] = error
        try:
            for folder in sorted(folders, reverse=True):
                sync(folder)
        except OSError as error:
            results = {file: failed or error for file, failed in results.items()}
        return results

    def _put(self, target: Path, source: Path) -> None:
        with suppress(OSError):
            # On the same disk a hard link is enough.
            sync(source)
            os.link(source, target)
            return
        # No key begins with a dot, so no request finds the file before it is complete.
        part = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        try:
            shutil.copyfile(source, part)
            sync(part)
            os.rename(part, target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def _delete(self, paths: list[Path]) -> None:
        for path in paths:
            try:
                path.unlink()
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
            with suppress(FileNotFoundError, NotADirectoryError):  # the folder was removed with its last file
                for name in os.listdir(path.parent):
                    if name.startswith(f".{path.name}."):  # left by a put that a crash interrupted
                        path.with_name(name).unlink(missing_ok=True)
        for folder in {path.parent for path in paths}:
            # A deleted picture must not come back after a power cut.
            with suppress(FileNotFoundError, NotADirectoryError):
                sync(folder)
            if folder != self._folder:
                with suppress(OSError):  # not empty, or removed already
                    folder.rmdir()

    def _folders(self) -> list[Path]:
        """The folder and all folders below it."""

        def failed(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):  # the folder was removed with its last file
                raise error

        return [Path(name) for name, _, _ in os.walk(self._folder, onerror=failed)]

    def _found(self, folder: Path) -> Iterable[tuple[str, float]]:
        """The keys in one folder, with the times of their puts. A partial file of a crash counts under its key."""
        found = []
        with suppress(FileNotFoundError):  # the folder was removed with its last file
            for path in folder.iterdir():
                name = path.name[1:].rpartition(".")[0] if path.name.startswith(".") else path.name
                with suppress(FileNotFoundError):
                    if path.is_file():
                        key = str((folder / name).relative_to(self._folder))
                        found.append((key, path.stat().st_mtime))
        return found

    def _check(self) -> None:
        probe = self._folder / f".check.{secrets.token_hex(8)}"
        try:
            probe.write_bytes(b"dream")
            if probe.read_bytes() != b"dream":
                raise OSError(errno.EIO, "the disk returns other bytes than were written")
        finally:
            probe.unlink(missing_ok=True)
