"""The storage layer for a command, which runs outside the server.

It must not know the commands.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from config import Config
from storage.data_folder import DataFolder
from storage.files import StoredFiles
from storage.jobs import Jobs
from storage.locks import KeyedLock
from storage.resources import open_database, open_files


@dataclass(frozen=True, slots=True)
class Offline:
    data_folder: DataFolder
    jobs: Jobs
    files: StoredFiles


@asynccontextmanager
async def offline(settings: Config) -> AsyncIterator[Offline]:
    """Open database and files, whether or not a server runs on the same data folder.

    A running server does not notice what a command changes, and its listeners get no update. Raises what opening the
    data folder, the database or a storage raises.
    """
    with DataFolder(settings, allow_running=True) as data_folder:
        async with open_database(settings, data_folder) as mongo, open_files(settings, data_folder) as files:
            jobs = Jobs(mongo.database, changed=lambda *_: None, turns=KeyedLock())
            await jobs.indexes()
            yield Offline(data_folder, jobs, files)
