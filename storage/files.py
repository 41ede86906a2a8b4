"""The interface of a file storage, and all storages behind it as one.

It must not know dreams. A caller keeps the key of each file that it puts; the key tells in which storage the file is.
"""

import re
import secrets
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Protocol

CHUNK = 256 * 1024  # bytes of a file that are read at once
KEY = re.compile(r"[a-z0-9][a-z0-9_-]*(/[a-z0-9_-]+)*(\.[a-z0-9]+)?")
NO_FILE = "There is no such file."

# The prefix of each storage's keys. Keys on local disk have none, because they were there first.
MARKS = {"local": "", "oss": "oss/"}


class Files(Protocol):
    """Files under keys. A key is unguessable, made of [a-z0-9/._-], and never begins with a slash.

    A file whose name begins with `original` is private: its owner alone may read it, and it has no URL.
    A storage that does not answer raises `storage.errors.Unavailable`; a full one raises `storage.errors.NoSpace`.
    """

    async def put(self, key: str, path: Path, content_type: str) -> None:
        """Store the file at `path`, which must not change any more. It is durable when this returns.

        Readers see the whole file or none. A second put of the same key replaces the file in one step. The caller may
        remove `path` afterwards.
        """

    def url(self, key: str) -> str:
        """A URL of the file that is valid for a day at least, unless the settings say otherwise.

        It has no scheme and host when this server serves the file. It stays the same for a while, so that browsers
        cache the file.
        """

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove the files, and the partial files of interrupted puts. A key without a file is no error."""

    def open(self, key: str) -> AsyncIterator[bytes]:
        """The file's bytes, in pieces. The first step raises `storage.errors.NotFound` when there is no file."""

    async def check(self) -> None:
        """Write and read a few bytes. Raises what `put` would."""

    def scan(self) -> AsyncIterator[tuple[str, float]]:
        """Every key with the time (Unix s) of its put, in no order; interrupted puts included."""


class StoredFiles:
    """The files of every storage that is set up, as one. New files go to the storage of the settings."""

    def __init__(self, stores: dict[str, Files], *, new: str, life: float = 0.0, origins: tuple[str, ...] = ()) -> None:
        """`life`: the longest time (s) that a URL is valid. `origins`: origins of URLs, other than this server's."""
        self.stores = stores
        self.life = life
        self.origins = origins
        self._new = new

    def new_folder(self, store: str = "") -> str:
        """A new prefix for the keys of one image's files: unguessable, and never returned twice."""
        return MARKS[store or self._new] + secrets.token_hex(16)

    def store_of(self, key: str) -> str:
        return "oss" if key.startswith(MARKS["oss"]) else "local"

    async def put(self, key: str, path: Path, content_type: str) -> None:
        store, inside = self._at(key)
        await store.put(inside, path, content_type)

    def url(self, key: str) -> str:
        store, inside = self._at(key)
        return store.url(inside)

    async def delete(self, keys: Iterable[str]) -> None:
        mine: dict[str, list[str]] = {}
        for key in keys:
            name = self.store_of(key)
            mine.setdefault(name, []).append(key.removeprefix(MARKS[name]))
        for name, inside in mine.items():
            await self.stores[name].delete(inside)

    def open(self, key: str) -> AsyncIterator[bytes]:
        store, inside = self._at(key)
        return store.open(inside)

    async def check(self) -> None:
        """Check the storage for new files; uploads do not need the others."""
        await self.stores[self._new].check()

    async def scan(self) -> AsyncIterator[tuple[str, float]]:
        for name, store in self.stores.items():
            async for inside, at in store.scan():
                yield MARKS[name] + inside, at

    def _at(self, key: str) -> tuple[Files, str]:
        name = self.store_of(key)
        return self.stores[name], key.removeprefix(MARKS[name])
