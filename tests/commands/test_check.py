"""`check`: a line for each part, and an exit code for scripts."""

from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorDatabase
from tornado.ioloop import IOLoop

import config
from commands.check import check_command
from storage.data_folder import DataFolder
from storage.migrations import MIGRATIONS, migrate
from tests.commands.conftest import Command
from tests.oss_server import OssServer


def test_every_part_has_a_line(invoke: Command, oss: OssServer, data: Path) -> None:
    """In the order in which a server starts them; nothing is left in the data folder or on OSS."""
    result = invoke(check_command, **oss.settings())
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line[:22].strip() for line in lines] == [
        "ok    settings",
        "ok    database",
        "ok    workers",
        "ok    storage, local",
        "ok    storage, oss",
    ]
    assert lines[0].endswith(f"and the environment; the data folder is {data}")
    assert oss.names() == set()
    assert not [path for path in (data / "media").rglob("*") if path.is_file()]


def test_a_part_that_fails_is_marked_and_the_rest_is_tried(invoke: Command, oss: OssServer) -> None:
    """The exit code is 1 also when a later part is good."""
    database = {"mongodb__uri": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"}
    result = invoke(check_command, **oss.settings(), **database)
    assert result.exit_code == 1
    assert [line[:6].strip() for line in result.output.splitlines()] == ["ok", "FAIL", "ok", "ok", "ok"]


def test_a_migration_that_the_next_start_makes_is_announced(
    invoke: Command, database: AsyncIOMotorDatabase[dict[str, Any]], io_loop: IOLoop
) -> None:
    """The administrator learns of it before the upgrade, and the check itself migrates nothing."""
    announced = f"the next start of the server migrates the schema from 0 to {MIGRATIONS[-1].number}; "
    assert announced not in invoke(check_command).output

    async def write() -> None:
        await database["users"].insert_one({"name": "ada"})

    io_loop.run_sync(write)
    for _ in range(2):
        result = invoke(check_command)
        assert (result.exit_code, announced in result.output) == (0, True)
    io_loop.run_sync(lambda: migrate(database, None))
    assert announced not in invoke(check_command).output


def test_mistakes_in_the_settings_end_it(invoke: Command) -> None:
    """Nothing else is tried, because nobody knows with what."""
    result = invoke(check_command, server__port=70_000)
    assert result.exit_code == 1
    assert result.output.startswith("Error: The settings have mistakes:\n  DREAMLOG_SERVER__PORT: ")


@pytest.mark.parametrize(("stores", "exit_code"), [(("local",), 0), ((), 1)])
def test_a_server_may_hold_the_data_folder_and_a_command_may_not(
    invoke: Command, data: Path, stores: tuple[str, ...], exit_code: int
) -> None:
    """A running server names its stores in the lock; a command does not, and has the database to itself."""
    with DataFolder(config.load(None, {}, data=data), stores=stores):
        result = invoke(check_command)
    assert result.exit_code == exit_code, result.output
    assert ("Another Dreamlog is running" in result.output) is (exit_code == 1)
