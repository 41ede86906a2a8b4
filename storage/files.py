"""Where pictures are kept once they are rendered: one small interface, and the choice of what stands behind it.

It must not know dreams: whoever puts a file keeps its key.
"""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """Files under keys. A key is unguessable, made of [a-z0-9/._-], and never begins with a slash.

    A storage that does not answer raises `storage.errors.Unavailable`; a full one, `storage.errors.NoSpace`.
    """

    async def put(self, key: str, path: Path, content_type: str) -> None:
        """Store the file at `path`, which nobody may write to any more. When this returns it is durable; before,
        nobody sees a part of it.

        Putting the same key again replaces it in one step. `path` may be removed afterwards.
        """

    def url(self, key: str) -> str:
        """An address that reads the file for a day at least; without scheme and host when this server serves it.

        The same on the same day, so that browsers cache the picture.
        """

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove the files; a key that is not there is as good as removed."""

    def open(self, key: str) -> AsyncIterator[bytes]:
        """The file's bytes, in pieces; raises `storage.errors.NotFound` at the first when there is none."""

    async def check(self) -> None:
        """Can it take and give files now? Raises what `put` would."""
