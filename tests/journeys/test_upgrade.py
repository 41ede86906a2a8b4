"""This version opens the data of earlier versions, and no command touches data of a later one."""

import json
import shutil
from pathlib import Path
from typing import Any

import bson
import pytest
from motor.motor_asyncio import AsyncIOMotorDatabase

from tests.client import ROOT, Api, Server, until
from tests.journeys.test_stop import output_of

DATA = ROOT / "tests" / "data"
VERSIONS = sorted(folder.name for folder in DATA.iterdir() if (folder / "dreams.bson").exists())

Database = AsyncIOMotorDatabase[dict[str, Any]]


@pytest.mark.gen_test
@pytest.mark.parametrize("version", VERSIONS)
async def test_data_of_an_earlier_version_opens(version: str, data: Path, database: Database, mongodb_uri: str) -> None:
    """The account signs in, every dream is readable, the interrupted picture is finished, and files are served."""
    shutil.copytree(DATA / version, data)
    account = json.loads((data / "account.json").read_text())
    for file in data.glob("*.bson"):
        await database[file.stem].insert_many(bson.decode_all(file.read_bytes()))
    async with (
        Server(data, mongodb__uri=mongodb_uri, mongodb__database=database.name) as server,
        Api(server.url) as api,
    ):
        api.access = (await api.json("POST", "/api/auth/login", account))["access"]

        async def finished() -> list[dict[str, Any]]:
            items: list[dict[str, Any]] = (await api.json("GET", "/api/dreams"))["items"]
            return items if all(dream["status"] != "processing" for dream in items) else []

        dreams = {dream["title"]: dream for dream in await until(finished, "every picture is finished")}
        assert set(dreams) == {"By the sea", "梦见了海", "Nothing to see", "", "In the middle of its work"}
        assert dreams["By the sea"]["dreamed_at"] == "2026-11-22T06:10:00.000+08:00"
        assert (dreams["By the sea"]["mood"], dreams["By the sea"]["lucidity"]) == ("calm", 3)
        assert dreams["Nothing to see"]["images"][0]["error"]["code"] == "corrupt"
        for title in ("By the sea", "梦见了海", "In the middle of its work"):
            [image] = dreams[title]["images"]
            for variant in image["variants"].values():
                assert len(await api.bytes(variant["url"])) == variant["bytes"]
            original = await api.call("GET", f"/api/dreams/{dreams[title]['id']}/images/1/original")
            assert original.code == 200
        edited = await api.json("PATCH", f"/api/dreams/{dreams['By the sea']['id']}", {"mood": "bright"})
        assert edited["revision"] > dreams["By the sea"]["revision"]


@pytest.mark.gen_test
async def test_no_command_works_on_data_of_a_newer_version(data: Path, database: Database, mongodb_uri: str) -> None:
    """Each command exits with 1 and the same sentence."""
    await database["meta"].insert_one({"_id": "schema", "version": 1001, "min_reader": 1000})
    settings = {"DREAMLOG_MONGODB__URI": mongodb_uri, "DREAMLOG_MONGODB__DATABASE": database.name}
    for command in (["run", "--port", "0"], ["check"], ["orphans"], ["move-media", "--to", "local"]):
        code, said = await output_of(*command, "--data", str(data), **settings)
        assert code == 1, said
        assert "A newer version of Dreamlog wrote this data" in said
        assert "Traceback" not in said


@pytest.mark.gen_test
async def test_commands_wait_for_a_migration_that_only_a_server_makes(
    data: Path, database: Database, mongodb_uri: str
) -> None:
    """`orphans` refuses to run until a server has migrated the data to a schema that it knows."""
    await database["dreams"].insert_one({})
    settings = {"DREAMLOG_MONGODB__URI": mongodb_uri, "DREAMLOG_MONGODB__DATABASE": database.name}
    code, said = await output_of("orphans", "--data", str(data), **settings)
    assert code == 1
    assert "Start the server once" in said
