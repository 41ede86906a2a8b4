"""Commands in this process, on the session's mongod, with dreams and files as a server would have left them."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from bson import ObjectId
from click.testing import CliRunner, Result
from motor.motor_asyncio import AsyncIOMotorDatabase
from tornado.ioloop import IOLoop

from storage.migrations import migrate
from tests.oss_server import OssServer

Command = Callable[..., Result]


@pytest.fixture
def oss() -> Iterator[OssServer]:
    with OssServer() as oss:
        yield oss


@pytest.fixture
def invoke(data: Path, mongodb_uri: str, database: AsyncIOMotorDatabase[dict[str, Any]]) -> Command:
    """Call `invoke(command, *arguments, **settings)`, as `python server.py COMMAND ...` does."""

    def call(command: click.Command, *arguments: str, **settings: object) -> Result:
        settings = {"mongodb__uri": mongodb_uri, "mongodb__database": database.name} | settings
        environment = {f"DREAMLOG_{name.upper()}": str(value) for name, value in settings.items()}
        return CliRunner().invoke(command, [*arguments, "--data", str(data)], env=environment)

    return call


class Library:
    """Completed images: their documents in the database, and their files on disk."""

    def __init__(self, data: Path, database: AsyncIOMotorDatabase[dict[str, Any]], io_loop: IOLoop) -> None:
        self._media = data / "media"
        self._dreams = database["dreams"]
        self._io_loop = io_loop
        io_loop.run_sync(lambda: migrate(database, None))  # a server has run before

    def add(self, folder: str, *, pending_delete: bool = False) -> None:
        """A dream with one image, whose files lie in `folder`; or one whose image is gone, and its files not yet."""
        content = folder.encode()
        files = {f"{folder}/320.jpg": content, f"{folder}/original-{folder}": content}
        (self._media / folder).mkdir(parents=True)
        for name, written in files.items():
            (self._media / name).write_bytes(written)
        variant, original = files
        now = datetime.now(UTC)
        image = {
            "id": 1,
            "position": 0,
            "state": "completed",
            "attempt": 1,
            "tries_left": 3,
            "staged": None,
            "original": original,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "format": "JPEG",
            "folder": folder,
            "variants": {
                "320": {"key": variant, "type": "image/jpeg", "width": 320, "height": 240, "bytes": len(content)}
            },
        }
        dream = {
            "owner": ObjectId(),
            "title": "a dream",
            "content": "",
            "dreamed_at": now,
            "utc_offset": 0,
            "mood": None,
            "lucidity": None,
            "tags": [],
            "revision": 1,
            "created_at": now,
            "updated_at": now,
            "images": [] if pending_delete else [image],
            "trash": [image | {"until": now + timedelta(days=1)}] if pending_delete else [],
            "sweep": pending_delete,
        }
        self._io_loop.run_sync(lambda: self._dreams.insert_one(dream))

    def files(self) -> set[str]:
        return {str(path.relative_to(self._media)) for path in self._media.rglob("*") if path.is_file()}

    def folders(self) -> set[str]:
        """The folders that dreams name."""

        async def find() -> list[str]:
            found: list[str] = await self._dreams.distinct("images.folder")
            return found

        return set(self._io_loop.run_sync(find))


@pytest.fixture
def library(data: Path, database: AsyncIOMotorDatabase[dict[str, Any]], io_loop: IOLoop) -> Library:
    return Library(data, database, io_loop)
