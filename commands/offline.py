"""The storage layer for a command, which runs outside the server.

It must not know the commands.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from config import Config
from storage.data_folder import DataFolder
from storage.files import StoredFiles
from storage.migrations import refuse_older
from storage.references import References
from storage.resources import open_database, open_files
from storage.writes import Writes


@dataclass(frozen=True, slots=True)
class Offline:
    data_folder: DataFolder
    references: References
    files: StoredFiles


@asynccontextmanager
async def offline(settings: Config) -> AsyncIterator[Offline]:
    """Open database and files, whether or not a server runs on the same data folder.

    A running server does not notice what a command changes, and its listeners get no update. Raises Incompatible for
    data that waits for a migration, and what opening the data folder, the database or a storage raises.
    """
    with DataFolder(settings, allow_running=True) as data_folder:
        async with open_database(settings, data_folder) as mongo, open_files(settings, data_folder) as files:
            await refuse_older(mongo.database)
            references = References(mongo.database, writes=Writes(mongo.database, changed=lambda *_: None))
            await references.indexes()
            yield Offline(data_folder, references, files)
