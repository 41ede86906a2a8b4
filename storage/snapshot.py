"""Every document of the database, written to BSON files of one moment.

The files have the layout of `mongodump`, so that `mongorestore` reads them. It must not know what a document means.
"""

import asyncio
import os
import shutil
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClientSession, AsyncIOMotorCollection

from storage.disk import sync, to_storage_error
from storage.errors import NoSpace
from storage.mongo import Database, translate_errors

BATCH = 500  # documents in one write; MongoDB's own batches have 16 MB at most
SPARE = 1 << 20  # bytes of free disk beyond the data: folders, and what the database itself writes meanwhile
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


async def write_snapshot(database: Database, folder: Path) -> int:
    """Write each collection to `folder/<name>.bson`, durably; `folder` appears only when it is whole.

    Returns the number of documents. Raises NoSpace, which says how many megabytes are missing, and Unavailable.
    """
    with translate_errors():
        needed = int((await database.command("dbStats"))["dataSize"]) + SPARE
        names = sorted(name for name in await database.list_collection_names() if not name.startswith("system."))
    part = folder.with_name(f"{folder.name}.part")
    try:
        await asyncio.to_thread(_make_empty, part)
        free = shutil.disk_usage(part).free
        if free < needed:
            missing = -(-(needed - free) // 1_000_000)
            raise NoSpace(f"A copy of the texts needs {missing} MB more than the disk of {folder.parent} has free.")
        async with AsyncExitStack() as stack:
            session = await _snapshot_session(database, stack)
            written = sum([await _write_collection(database, name, session, part / f"{name}.bson") for name in names])
        await asyncio.to_thread(_publish, part, folder)
    except OSError as error:
        raise to_storage_error(error) from error
    finally:
        await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)
    return written


async def _snapshot_session(database: Database, stack: AsyncExitStack) -> AsyncIOMotorClientSession | None:
    """A session in which every read sees one moment; None on a standalone mongod, which has no such reads."""
    with translate_errors():
        if "setName" not in await database.command("hello"):
            return None
        return await stack.enter_async_context(await database.client.start_session(snapshot=True))


async def _write_collection(
    database: Database, name: str, session: AsyncIOMotorClientSession | None, path: Path
) -> int:
    written = 0
    with translate_errors(), path.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        collection = cast("AsyncIOMotorCollection[RawBSONDocument]", database.get_collection(name, codec_options=RAW))
        cursor = collection.find({}, session=session)
        while batch := await cursor.to_list(BATCH):
            await asyncio.to_thread(file.write, b"".join(document.raw for document in batch))
            written += len(batch)
        await asyncio.to_thread(file.flush)
        await asyncio.to_thread(os.fsync, file.fileno())
    return written


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)


def _publish(part: Path, folder: Path) -> None:
    sync(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    sync(folder.parent)
