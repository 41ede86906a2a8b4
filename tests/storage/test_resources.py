"""The database and the storages of the settings, opened for a server and for a command."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from motor.motor_asyncio import AsyncIOMotorDatabase

import config
from config import Config
from storage.data_folder import DataFolder
from storage.errors import Incompatible, Refused
from storage.local import DAY
from storage.migrations import MIGRATIONS, migrate
from storage.resources import local_files, open_database, open_files
from tests.oss_server import OssServer

Database = AsyncIOMotorDatabase[dict[str, Any]]


def settings(data: Path, **more: object) -> Config:
    return config.load(None, {}, data=str(data), **more)


@pytest.mark.gen_test
async def test_the_database_of_the_settings_is_opened(data: Path, mongodb_uri: str, database: Database) -> None:
    """No embedded one is started next to it."""
    await database["dreams"].insert_one({"_id": 1})
    ours = settings(data, mongodb__uri=mongodb_uri, mongodb__database=database.name)
    with DataFolder(ours) as folder:
        async with open_database(ours, folder) as mongo:
            assert await mongo.database["dreams"].find_one() == {"_id": 1}
    assert not (data / "mongodb").exists()


@pytest.mark.gen_test
async def test_without_one_in_the_settings_the_embedded_database_is_opened(data: Path) -> None:
    """A command uses the one that the running server has started; it ends with the server."""
    ours = settings(data)
    with DataFolder(ours, stores=("local",)) as server:
        async with open_database(ours, server) as mongo:
            await mongo.database["dreams"].insert_one({"_id": 1})
            with DataFolder(ours, allow_running=True) as command:
                async with open_database(ours, command) as same:
                    assert await same.database["dreams"].find_one() == {"_id": 1}
            assert await mongo.answers(), "the command has not stopped it"


@pytest.mark.gen_test
async def test_data_of_a_newer_version_is_refused(data: Path, mongodb_uri: str, database: Database) -> None:
    """Before anything reads or writes it."""
    await migrate(database, None)
    newer = MIGRATIONS[-1].number + 1
    await database["meta"].update_one({}, {"$set": {"version": newer, "min_reader": newer}})
    ours = settings(data, mongodb__uri=mongodb_uri, mongodb__database=database.name)
    with DataFolder(ours) as folder, pytest.raises(Incompatible):
        async with open_database(ours, folder):
            pytest.fail("opened")


@pytest.mark.gen_test
async def test_files_lie_on_disk_unless_oss_is_set_up(data: Path) -> None:
    """The local storage is always there, because older pictures may lie in it."""
    with OssServer() as oss, DataFolder(settings(data)) as folder:
        async with open_files(settings(data), folder) as files:
            assert (set(files.stores), files.origins, files.life) == ({"local"}, (), 2 * DAY)
        both = settings(data, **oss.settings(backend="local"))
        async with open_files(both, folder) as files:
            assert set(files.stores) == {"local", "oss"}
            assert files.origins != ()


@pytest.mark.gen_test
async def test_a_file_is_kept_for_as_long_as_a_url_of_it_lives(data: Path) -> None:
    """At least two days, because the local storage's URLs live so long."""
    with OssServer() as oss, DataFolder(settings(data)) as folder:
        for life, kept in ((3600, 2 * DAY), (5 * DAY, 5 * DAY)):
            async with open_files(settings(data, **oss.settings(address_life=life)), folder) as files:
                assert files.life == kept


@pytest.mark.gen_test
async def test_credentials_that_are_nowhere_stop_the_start(data: Path) -> None:
    """The host hears so now, and not at the first upload."""
    with OssServer() as oss, DataFolder(settings(data)) as folder:
        nowhere = {"storage__credentials": "environment", "storage__access_key_id": ""}
        with pytest.raises(Refused, match=r"storage\.credentials"):
            async with open_files(settings(data, **oss.settings() | nowhere), folder):
                pytest.fail("opened")


def test_urls_of_local_files_stay_valid_over_a_restart(data: Path) -> None:
    """They are signed with a key that the data folder keeps."""
    with DataFolder(settings(data)) as folder:
        url = urlsplit(local_files(settings(data), folder).url("0a/320.jpg"))
    asked = parse_qs(url.query)
    with DataFolder(settings(data)) as folder:
        assert local_files(settings(data), folder).allows("0a/320.jpg", asked["e"][0], asked["s"][0])
