"""The storage layer outside the server, on a data folder that a server may have locked."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorDatabase

import config
from commands.offline import offline
from config import Config
from storage.data_folder import CannotStart, DataFolder


@pytest.fixture
def settings(data: Path, mongodb_uri: str, database: AsyncIOMotorDatabase[dict[str, Any]]) -> Config:
    return config.load(None, {}, data=str(data), mongodb__uri=mongodb_uri, mongodb__database=database.name)


def test_without_a_server_the_command_holds_the_lock(settings: Config) -> None:
    """No server can start on the same data folder before the command has ended."""

    async def use() -> None:
        async with offline(settings) as parts:
            assert parts.data_folder.running_stores == ()
            assert set(parts.files.stores) == {"local"}
            with pytest.raises(CannotStart, match="Another Dreamlog is running"):
                DataFolder(settings, stores=("local",)).__enter__()

    asyncio.run(use())
    with DataFolder(settings, stores=("local",)):
        pass  # the lock is free again


def test_a_command_learns_which_stores_a_running_server_has_open(settings: Config) -> None:
    """It must not move images to where the server cannot read them."""

    async def use() -> tuple[str, ...]:
        async with offline(settings) as parts:
            return parts.data_folder.running_stores

    with DataFolder(settings, stores=("local",)):
        assert asyncio.run(use()) == ("local",)
