"""The schema of the database: its version, the servers that may read it, and the steps from one version to the next.

The document `{_id: "schema"}` of the collection `meta` says
  version      the schema of the documents; a database without that document is of the first edition, version 0
  min_reader   the lowest schema version that a server must know to run on this database
  snapshot     while a migration is under way: the name of the copy that was made before it, as that copy has it too

A migration is one numbered function. Each can be interrupted at any moment and run again, and says whether a server of
an older version may still run on its result. No migration touches a picture. It must not know its callers.
"""

import asyncio
import logging
import secrets
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import Incompatible
from storage.mongo import Database, Document, translate_errors
from storage.snapshot import write_snapshot

BATCH = 1000  # documents in one update: each stays far below the driver's time limit for one command

log = logging.getLogger("dreamlog.migrations")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step, to schema version `number` from the one before."""

    number: int
    effect: str  # for the log: what the documents are or have afterwards
    min_reader: int  # the lowest schema version that a server must know to run on the result
    apply: Callable[[Database], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Schema:
    """The document of `meta`."""

    version: int
    min_reader: int
    snapshot: str | None


async def _mark_last_write(database: Database) -> None:
    """Give each dream the `last` that every write sets since 1.0.0 (`storage/writes.py`)."""
    dreams = database["dreams"]
    missing: Document = {"last": {"$exists": False}}
    last = {"$concat": [{"$toString": "$owner"}, " 0 work ", {"$toString": "$_id"}]}
    cursor = dreams.find(missing, {"_id": True})
    while batch := await cursor.to_list(BATCH):
        ids = [document["_id"] for document in batch]
        await dreams.update_many(missing | {"_id": {"$in": ids}}, [{"$set": {"last": last}}])


MIGRATIONS: Sequence[Migration] = (
    Migration(1, "each dream has a mark of its last write", min_reader=0, apply=_mark_last_write),
)


async def read_schema(database: Database) -> Schema:
    """The schema that the database has. Raises Unavailable."""
    with translate_errors():
        found: dict[str, Any] = await database["meta"].find_one({"_id": "schema"}) or {}
    return Schema(found.get("version", 0), found.get("min_reader", 0), found.get("snapshot"))


async def pending_schema(database: Database, migrations: Sequence[Migration] = MIGRATIONS) -> tuple[int, int] | None:
    """The schema of the data, and the one to which the next start migrates it. None: the data waits for no migration.

    A database without data waits for none. Raises Unavailable.
    """
    schema, known = await read_schema(database), migrations[-1].number
    return (schema.version, known) if schema.version < known and not await _is_new(database) else None


async def refuse_newer(database: Database, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Raise Incompatible if a newer version has changed the data in a way that this version does not know."""
    schema, known = await read_schema(database), migrations[-1].number
    if schema.min_reader > known:
        raise Incompatible(
            f"A newer version of Dreamlog wrote this data: its schema is {schema.version}, which takes a version that "
            f"knows schema {schema.min_reader}. This one knows schema {known}. Install the newer version again."
        )


async def refuse_older(database: Database, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Raise Incompatible if the data waits for a migration. Raises Unavailable."""
    if pending := await pending_schema(database, migrations):
        raise Incompatible(
            f"An earlier version of Dreamlog wrote this data: its schema is {pending[0]}, and this version needs "
            f"schema {pending[1]}. Start the server once, which migrates the data."
        )


async def migrate(database: Database, backups: Path | None, migrations: Sequence[Migration] = MIGRATIONS) -> list[int]:
    """Bring the database to the newest schema; the numbers of the migrations that ran.

    Before the first of them, a copy of every collection goes into `backups/before-schema-<number>`, unless `backups` is
    None; the copy of an earlier migration is then removed. Raises NoSpace, Unavailable and Incompatible.
    """
    await refuse_newer(database, migrations)
    schema = await read_schema(database)
    pending = [migration for migration in migrations if migration.number > schema.version]
    if not pending:
        return []
    if await _is_new(database):
        newest = max(migration.min_reader for migration in migrations)
        await _record(database, {"version": pending[-1].number, "min_reader": newest})
        return []
    if backups is not None:
        await _copy_before(database, backups / f"before-schema-{pending[-1].number}", schema)
    for migration in pending:
        log.info("migrating the database to schema %d: %s", migration.number, migration.effect)
        with translate_errors():
            await migration.apply(database)
        schema = await read_schema(database)
        min_reader = max(schema.min_reader, migration.min_reader)
        await _record(database, {"version": migration.number, "min_reader": min_reader})
    with translate_errors():
        await database["meta"].update_one({"_id": "schema"}, {"$unset": {"snapshot": True}})
    return [migration.number for migration in pending]


async def _is_new(database: Database) -> bool:
    with translate_errors():
        return not [name for name in ("users", "dreams") if await database[name].find_one({}, {"_id": True})]


async def _copy_before(database: Database, folder: Path, schema: Schema) -> None:
    """Copy the database, unless an interrupted migration left its copy: now the data may be half migrated."""
    if schema.snapshot is not None and await asyncio.to_thread(_holds, folder, schema.snapshot):
        return
    await _record(database, {"snapshot": secrets.token_hex(8)})
    documents = await write_snapshot(database, folder)
    log.info("copied %d documents to %s before migrating", documents, folder)
    if schema.snapshot is None:
        for earlier in folder.parent.glob("before-schema-*"):
            if earlier != folder:
                shutil.rmtree(earlier, ignore_errors=True)


def _holds(folder: Path, name: str) -> bool:
    """Is it the copy of that name?"""
    meta = folder / "meta.bson"
    return meta.exists() and name.encode() in meta.read_bytes()


async def _record(database: Database, fields: Document) -> None:
    with translate_errors():
        await database["meta"].update_one({"_id": "schema"}, {"$set": fields}, upsert=True)
