"""One mongod for the session, a fresh database for each test."""

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorDatabase
from tornado.ioloop import IOLoop

from storage.mongo import Mongo
from storage.mongod import Mongod


@pytest.fixture(scope="session")
def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real mongod that all tests share."""
    with asyncio.Runner() as runner:
        mongod = Mongod(tmp_path_factory.mktemp("mongodb"))
        runner.run(mongod.__aenter__())
        yield mongod.uri
        runner.run(mongod.__aexit__(None, None, None))


@pytest.fixture(scope="session", autouse=True)
def _first(mongodb_uri: str) -> None:
    """Before any test's own loop: a Runner that starts later would make its loop the current one."""


@pytest.fixture
def database(mongodb_uri: str, io_loop: IOLoop) -> Iterator[AsyncIOMotorDatabase[dict[str, Any]]]:
    """A database of this test's own; gone afterwards. Await on it inside `io_loop`."""
    mongo = Mongo(mongodb_uri, f"test_{secrets.token_hex(6)}")
    io_loop.run_sync(mongo.__aenter__)

    async def drop() -> None:
        await mongo.database.client.drop_database(mongo.database.name)
        await mongo.__aexit__()

    yield mongo.database
    io_loop.run_sync(drop)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"
