"""Where pictures are kept once they are rendered: one small interface, and what stands behind it.

It must not know dreams: whoever puts a file keeps its key, and the key says in which storage the file is.
"""

import re
import secrets
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Protocol

CHUNK = 256 * 1024  # bytes of a file that are read at once
KEY = re.compile(r"[a-z0-9][a-z0-9_-]*(/[a-z0-9_-]+)*(\.[a-z0-9]+)?")
NO_FILE = "There is no such file."

# What the keys of each storage begin with. Those on disk have no mark: they were there first.
MARKS = {"local": "", "oss": "oss/"}


class Files(Protocol):
    """Files under keys. A key is unguessable, made of [a-z0-9/._-], and never begins with a slash.

    A file whose name begins with `original` is nobody's to see but its owner's: no address of it is given out.
    A storage that does not answer raises `storage.errors.Unavailable`; a full one, `storage.errors.NoSpace`.
    """

    async def put(self, key: str, path: Path, content_type: str) -> None:
        """Store the file at `path`, which nobody may write to any more. When this returns it is durable; before,
        nobody sees a part of it.

        Putting the same key again replaces it in one step. `path` may be removed afterwards.
        """

    def url(self, key: str) -> str:
        """An address that reads the file for a while (a day at least, unless set otherwise); without scheme and host
        when this server serves it.

        The same for a while, so that browsers cache the picture.
        """

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove the files, and what puts that were cut short left of them; a key that is not there is as good as
        removed."""

    def open(self, key: str) -> AsyncIterator[bytes]:
        """The file's bytes, in pieces; raises `storage.errors.NotFound` at the first when there is none."""

    async def check(self) -> None:
        """Can it take and give files now? Raises what `put` would."""

    def scan(self) -> AsyncIterator[tuple[str, float]]:
        """Every key with the time (Unix s) at which it was put, also of puts that were cut short; in no order."""


class StoredFiles:
    """The files of every storage that is set up, as one. New ones go to the storage of the settings."""

    def __init__(self, stores: dict[str, Files], *, new: str, life: float = 0.0, origins: tuple[str, ...] = ()) -> None:
        """`life`: seconds for which an address may be in use; `origins`: hosts other than ours in addresses."""
        self.stores = stores
        self.life = life
        self.origins = origins
        self._new = new

    def new_folder(self, store: str = "") -> str:
        """What the keys of one image's files begin with: unguessable, and never given twice."""
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
        """Of the storage for new files: the others' being away keeps nobody from uploading."""
        await self.stores[self._new].check()

    async def scan(self) -> AsyncIterator[tuple[str, float]]:
        for name, store in self.stores.items():
            async for inside, at in store.scan():
                yield MARKS[name] + inside, at

    def _at(self, key: str) -> tuple[Files, str]:
        name = self.store_of(key)
        return self.stores[name], key.removeprefix(MARKS[name])
