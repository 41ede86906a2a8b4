"""The schema of the database: who may open it, and each step, also when a crash cuts it short."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import ObjectId
from bson.codec_options import CodecOptions
from motor.motor_asyncio import AsyncIOMotorDatabase

from storage.errors import Incompatible, NoSpace, Unavailable
from storage.migrations import MIGRATIONS, Migration, migrate, read_schema, refuse_newer, refuse_older
from tests.storage.conftest import SmallDisk

Database = AsyncIOMotorDatabase[dict[str, Any]]

DATA = Path(__file__).parents[1] / "data"
NEWEST = MIGRATIONS[-1].number


def step(number: int, *, min_reader: int = 0, fails: Sequence[bool] = ()) -> Migration:
    """Adds `number` to each dream that lacks it; each True of `fails` cuts one run short after one dream."""
    runs = iter(fails)

    async def apply(database: Database) -> None:
        lacking = {"steps": {"$ne": number}}
        if next(runs, False):
            await database["dreams"].update_one(lacking, {"$push": {"steps": number}})
            raise Unavailable("The database does not answer.")
        await database["dreams"].update_many(lacking, {"$push": {"steps": number}})

    return Migration(number, f"step {number}", min_reader, apply)


async def first_edition(database: Database) -> None:
    """What the first edition wrote, in a database without a version."""
    for file in (DATA / "first-edition").glob("*.bson"):
        await database[file.stem].insert_many(bson.decode_all(file.read_bytes()))


async def steps(database: Database) -> list[list[int]]:
    return [document.get("steps", []) async for document in database["dreams"].find()]


def copied(folder: Path) -> list[dict[str, Any]]:
    return bson.decode_all((folder / "dreams.bson").read_bytes(), CodecOptions(tz_aware=True))


@pytest.mark.gen_test
async def test_a_new_database_has_the_newest_schema(database: Database, tmp_path: Path) -> None:
    """There is nothing to migrate and nothing to copy."""
    assert await migrate(database, tmp_path / "backups") == []
    assert (await read_schema(database)).version == NEWEST
    assert not (tmp_path / "backups").exists()
    await refuse_older(database)
    await refuse_newer(database)


@pytest.mark.gen_test
async def test_the_first_edition_is_migrated_after_a_copy(database: Database, tmp_path: Path) -> None:
    """Each dream gets its mark, its revision stays, and the copy has the dreams as they were."""
    await first_edition(database)
    before = await database["dreams"].find().sort("_id").to_list(None)
    with pytest.raises(Incompatible, match="Start the server once"):
        await refuse_older(database)
    assert await migrate(database, tmp_path / "backups") == [migration.number for migration in MIGRATIONS]
    after = await database["dreams"].find().sort("_id").to_list(None)
    assert [document.pop("last").split(" ")[0] for document in after] == [str(each["owner"]) for each in before]
    assert after == before
    assert copied(tmp_path / "backups" / f"before-schema-{NEWEST}") == before
    assert (await read_schema(database)).snapshot is None
    assert await migrate(database, tmp_path / "backups") == []


@pytest.mark.gen_test
async def test_a_dream_without_a_mark_is_marked_whatever_came_before(database: Database) -> None:
    """A server of the first edition may write during the migration, which takes more than one batch."""
    await database["dreams"].insert_many([{"owner": ObjectId(), "n": n} for n in range(2500)])
    await database["dreams"].insert_one({"owner": ObjectId(), "last": "kept"})
    await migrate(database, None)
    marks = await database["dreams"].distinct("last")
    assert len(marks) == 2501
    assert "kept" in marks


@pytest.mark.gen_test
async def test_a_newer_min_reader_is_refused_in_a_sentence(database: Database) -> None:
    """It names both schemas, what to do, and nothing has changed."""
    await database["meta"].insert_one({"_id": "schema", "version": NEWEST + 2, "min_reader": NEWEST + 1})
    with pytest.raises(Incompatible, match=rf"knows schema {NEWEST + 1}.* knows schema {NEWEST}\. Install the newer"):
        await refuse_newer(database)
    with pytest.raises(Incompatible):
        await migrate(database, None)
    assert (await read_schema(database)).version == NEWEST + 2


@pytest.mark.gen_test
async def test_a_newer_schema_that_this_version_may_read_is_left_as_it_is(database: Database) -> None:
    """After a step back to an earlier version, the newer one finds its own schema again."""
    await database["meta"].insert_one({"_id": "schema", "version": NEWEST + 2, "min_reader": NEWEST})
    await refuse_newer(database)
    assert await migrate(database, None) == []
    assert (await read_schema(database)).version == NEWEST + 2


@pytest.mark.gen_test
async def test_migrations_run_in_order_and_each_is_recorded(database: Database) -> None:
    """The lowest reader never sinks."""
    await database["dreams"].insert_one({})
    await migrate(database, None, [step(1, min_reader=1)])
    assert (await read_schema(database)).min_reader == 1
    assert await migrate(database, None, [step(1, min_reader=1), step(2), step(3)]) == [2, 3]
    assert await steps(database) == [[1, 2, 3]]
    schema = await read_schema(database)
    assert (schema.version, schema.min_reader) == (3, 1)


@pytest.mark.gen_test
async def test_an_interrupted_migration_goes_on_and_keeps_its_copy(database: Database, tmp_path: Path) -> None:
    """A second copy would have the half-migrated dreams."""
    await database["dreams"].insert_many([{"_id": number} for number in range(3)])
    migrations = [step(1), step(2, fails=[True, True])]
    for _ in range(2):
        with pytest.raises(Unavailable):
            await migrate(database, tmp_path, migrations)
    assert await migrate(database, tmp_path, migrations) == [2]
    assert await steps(database) == [[1, 2]] * 3
    assert copied(tmp_path / "before-schema-2") == [{"_id": number} for number in range(3)]


@pytest.mark.gen_test
async def test_a_copy_of_another_database_does_not_count(database: Database, tmp_path: Path) -> None:
    """It lies where the copy of this one goes, from an earlier life of the data folder."""
    await database["dreams"].insert_one({"_id": 1})
    await migrate(database, tmp_path, [step(1)])
    await database["meta"].delete_many({})
    await database["dreams"].update_one({"_id": 1}, {"$set": {"content": "new"}, "$unset": {"steps": True}})
    await migrate(database, tmp_path, [step(1)])
    assert copied(tmp_path / "before-schema-1") == [{"_id": 1, "content": "new"}]


@pytest.mark.gen_test
async def test_the_copy_of_an_earlier_migration_goes(database: Database, tmp_path: Path) -> None:
    """It is kept until the next one is whole."""
    await database["dreams"].insert_one({"_id": 1})
    await migrate(database, tmp_path, [step(1)])
    await migrate(database, tmp_path, [step(1), step(2)])
    assert [folder.name for folder in tmp_path.iterdir()] == ["before-schema-2"]


@pytest.mark.gen_test
async def test_without_room_for_the_copy_nothing_is_migrated(database: Database, small_disk: SmallDisk) -> None:
    """The sentence says how much is missing; without a copy it goes on."""
    await database["dreams"].insert_many([{"content": "x" * 1_000_000} for _ in range(3)])
    with pytest.raises(NoSpace):
        await migrate(database, small_disk.folder / "backups", [step(1)])
    assert await steps(database) == [[]] * 3
    assert (await read_schema(database)).version == 0
    await migrate(database, None, [step(1)])
    assert await steps(database) == [[1]] * 3


def test_migrations_are_numbered_without_a_gap() -> None:
    """Their numbers are the versions of the schema, and a reader needs none that does not exist yet."""
    assert [migration.number for migration in MIGRATIONS] == list(range(1, NEWEST + 1))
    assert all(migration.min_reader <= migration.number for migration in MIGRATIONS)
