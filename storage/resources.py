"""The resources that the settings name, opened: the database, and every storage of files.

The server and the commands use them, with or without a running server. It must not know what for.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from config import Config
from storage.data_folder import DataFolder
from storage.errors import Unavailable
from storage.files import StoredFiles
from storage.local import DAY, LocalFiles
from storage.migrations import refuse_newer
from storage.mongo import Mongo
from storage.mongod import Mongod


@asynccontextmanager
async def open_database(settings: Config, data_folder: DataFolder) -> AsyncIterator[Mongo]:
    """The database of the settings, else the embedded one; a running server has the latter open already.

    Entering raises Incompatible for data of a newer version, and what entering `Mongod` and `Mongo` raises.
    """
    async with AsyncExitStack() as stack:
        uri = settings.mongodb.uri.value
        if not uri:
            mongod = Mongod(settings.data / "mongodb")
            uri = mongod.uri
            if not data_folder.running_stores:
                await stack.enter_async_context(mongod)
        mongo = await stack.enter_async_context(Mongo(uri, settings.mongodb.database))
        try:
            await refuse_newer(mongo.database)
        except Unavailable as error:
            if settings.mongodb.uri:
                raise Unavailable(f"{error} Check the setting mongodb.uri.") from error
            raise
        yield mongo


def local_files(settings: Config, data_folder: DataFolder) -> LocalFiles:
    """The storage on local disk, which is always set up."""
    return LocalFiles(settings.data / "media", secret=data_folder.derive_key("media addresses"))


@asynccontextmanager
async def open_files(settings: Config, data_folder: DataFolder) -> AsyncIterator[StoredFiles]:
    """Every storage that is set up, as one. Entering raises what entering `OssFiles` raises."""
    storage, local = settings.storage, local_files(settings, data_folder)
    if not storage.has_oss:
        yield StoredFiles({"local": local}, new="local", life=2 * DAY)
        return
    # Imported late: oss2 takes half a second and 20 MB, which a server without OSS need not spend.
    from storage.oss import OssFiles

    async with OssFiles(storage) as oss:
        life = max(2 * DAY, storage.address_life)
        yield StoredFiles({"local": local, "oss": oss}, new=storage.backend, life=life, origins=oss.origins)
