"""Dreams and jobs on a database of the test's own, with a clock that the test sets and a record of what was told."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorDatabase
from tornado.ioloop import IOLoop

from storage.dreams import Dreams
from storage.jobs import Jobs
from storage.model import Draft, Dream, Image, Upload
from storage.turns import Turns

Database = AsyncIOMotorDatabase[dict[str, Any]]
Told = list[tuple[Dream, Image | None]]

ADA, BOB = str(ObjectId()), str(ObjectId())
DAY = timedelta(days=1)

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
def told() -> Told:
    """What `changed` was called with, in order."""
    return []


@pytest.fixture
def turns() -> Turns:
    """One for both, as in the server."""
    return Turns()


@pytest.fixture
def jobs(database: Database, clock: Clock, told: Told, turns: Turns, io_loop: IOLoop) -> Jobs:
    jobs = Jobs(database, turns=turns, changed=lambda dream, image: told.append((dream, image)), clock=clock)
    io_loop.run_sync(jobs.indexes)
    return jobs


@pytest.fixture
def dreams(database: Database, clock: Clock, told: Told, turns: Turns, io_loop: IOLoop) -> Dreams:
    dreams = Dreams(database, turns=turns, changed=lambda dream, image: told.append((dream, image)), clock=clock)
    io_loop.run_sync(dreams.indexes)
    return dreams


def upload(position: int = 0, sha256: str = "") -> Upload:
    """One of its own each time."""
    number = next(_numbers)
    return Upload(f"staged-{number}", sha256 or f"{number:064x}", 15_000_000, "jpeg", position)


def uploads(number: int) -> list[Upload]:
    return [upload() for _ in range(number)]


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


__all__ = ["ADA", "BOB", "DAY", "Clock", "Database", "Draft", "Told", "document", "profiled", "upload", "uploads"]
