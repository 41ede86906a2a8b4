"""A copy of the database: whole, of one moment, and never half there."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import bson
import pytest
from motor.motor_asyncio import AsyncIOMotorDatabase

from storage.errors import NoSpace
from storage.snapshot import write_snapshot
from tests.storage.conftest import SmallDisk, mode

Database = AsyncIOMotorDatabase[dict[str, Any]]


def documents(file: Path) -> list[dict[str, Any]]:
    return bson.decode_all(file.read_bytes())


@pytest.mark.gen_test
async def test_a_copy_has_every_document_of_every_collection(database: Database, tmp_path: Path) -> None:
    """Each field comes back as it was, in files that only the owner can read."""
    dreams = [{"_id": number, "content": "梦🐋" * 500, "tags": ["sea"], "more": {"x": 1.5}} for number in range(1203)]
    await database["dreams"].insert_many(dreams)
    await database["users"].insert_one({"_id": 1, "username": "ada"})
    folder = tmp_path / "backups" / "before-schema-1"
    assert await write_snapshot(database, folder) == 1204
    assert documents(folder / "dreams.bson") == dreams
    assert documents(folder / "users.bson") == [{"_id": 1, "username": "ada"}]
    assert {mode(folder), mode(folder / "dreams.bson")} == {0o700, 0o600}


@pytest.mark.gen_test
async def test_a_copy_shows_one_moment(database: Database, tmp_path: Path) -> None:
    """Two collections that are written together agree in the copy, however long it takes."""
    moved = 0

    async def move() -> None:
        nonlocal moved
        while True:
            async with await database.client.start_session() as session, session.start_transaction():
                await database["dreams"].insert_one({"_id": moved}, session=session)
                await database["users"].insert_one({"_id": moved}, session=session)
            moved += 1

    await database["dreams"].insert_one({"_id": -1})
    await database["users"].insert_one({"_id": -1})
    mover = asyncio.create_task(move())
    for number in range(20):
        folder = tmp_path / str(number)
        await write_snapshot(database, folder)
        assert len(documents(folder / "dreams.bson")) == len(documents(folder / "users.bson"))
    mover.cancel()
    with suppress(asyncio.CancelledError):
        await mover
    assert moved


@pytest.mark.gen_test
async def test_a_copy_replaces_the_one_before(database: Database, tmp_path: Path) -> None:
    """Nothing of an older copy, and nothing of one that was cut short, is left in it."""
    folder, part = tmp_path / "copy", tmp_path / "copy.part"
    for earlier in (folder, part):
        earlier.mkdir()
        (earlier / "other.bson").write_bytes(b"")
    await database["dreams"].insert_one({"_id": 1})
    await write_snapshot(database, folder)
    assert sorted(file.name for file in folder.iterdir()) == ["dreams.bson"]
    assert not part.exists()


@pytest.mark.gen_test
async def test_a_copy_without_room_names_the_missing_megabytes(database: Database, small_disk: SmallDisk) -> None:
    """And leaves nothing on the full disk."""
    await database["dreams"].insert_many([{"_id": number, "content": "x" * 1_000_000} for number in range(3)])
    with pytest.raises(NoSpace, match=r"needs \d+ MB more|no room left"):
        await write_snapshot(database, small_disk.folder / "copy")
    assert list(small_disk.folder.iterdir()) == []
