"""The database and the files as the settings say, for the server and for commands that work without or beside one.

It must not know what is done with them.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from config import Config
from storage.files import StoredFiles, open_files
from storage.keys import Keys
from storage.local import LocalFiles
from storage.mongo import Mongo
from storage.mongod import Mongod


@asynccontextmanager
async def opened_database(settings: Config, keys: Keys) -> AsyncIterator[Mongo]:
    """The one of the settings, or our own: that of the running server, where there is one."""
    async with AsyncExitStack() as stack:
        uri = settings.mongodb.uri.value
        if not uri:
            mongod = Mongod(settings.data / "mongodb")
            uri = mongod.uri
            if not keys.running:
                await stack.enter_async_context(mongod)
        yield await stack.enter_async_context(Mongo(uri, settings.mongodb.database))


def local_files(settings: Config, keys: Keys) -> LocalFiles:
    return LocalFiles(settings.data / "media", secret=keys.derived("media addresses"))


@asynccontextmanager
async def opened_files(settings: Config, keys: Keys) -> AsyncIterator[StoredFiles]:
    """Every storage that is set up."""
    async with open_files(settings.storage, local_files(settings, keys)) as files:
        yield files
