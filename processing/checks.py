"""Is everything there that a server needs? Each part is tried for real, and what was found is told in a line.

It must not know how the lines are shown.
"""

import asyncio
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from config import Config, Images
from processing.render import Rendered
from processing.workers import WorkerDied, Workers, render_request
from storage.data_folder import DataFolder
from storage.errors import Error, Refused, Unavailable
from storage.files import MARKS, Files, StoredFiles
from storage.local import LocalFiles
from storage.mongod import MongodFailed, MongodMissing
from storage.resources import open_database, open_files

SIDE = 64  # pixels of the picture that is tried
FETCH_TIMEOUT = 10.0  # seconds for a picture's address to answer


class Wrong(Exception):
    """The sentence says what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    part: str
    good: bool
    said: str


async def run_checks(settings: Config, data_folder: DataFolder) -> AsyncIterator[Finding]:
    """One of each part, in the order in which a server starts them."""
    stores = ["local", "oss"] if settings.storage.has_oss else ["local"]
    yield await _finding("database", lambda: _database(settings, data_folder))
    yield await _finding("workers", lambda: _workers(settings.images))
    for name in stores:
        yield await _finding(f"storage, {name}", lambda name=name: _storage(settings, data_folder, name))  # type: ignore[misc]


async def _finding(part: str, trial: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(part, True, await trial())
    except (Wrong, Error, MongodFailed, MongodMissing, WorkerDied, OSError, TimeoutError) as error:
        return Finding(part, False, str(error) or type(error).__name__)


async def _database(settings: Config, data_folder: DataFolder) -> str:
    began = time.monotonic()
    async with open_database(settings, data_folder) as mongo:
        version = await mongo.try_out()
    whose = (
        "at mongodb.uri"
        if settings.mongodb.uri
        else "of the running server"
        if data_folder.running_stores
        else "of our own"
    )
    return f"MongoDB {version} {whose} wrote, read and removed a document{_took(began)}"


async def _workers(settings: Images) -> str:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source.bmp")
        source.write_bytes(_picture())
        began = time.monotonic()
        async with Workers(1, settings.worker_memory) as workers:
            result = await workers.render(render_request(settings, source, Path(folder)))
    if not isinstance(result, Rendered):
        raise Wrong(f"A picture could not be made into {settings.format}: {result.detail}")
    return f"a process rendered a picture into {settings.format}{_took(began)}"


async def _storage(settings: Config, data_folder: DataFolder, name: str) -> str:
    """Put, get, its address fetched, list, delete."""
    async with open_files(settings, data_folder) as files:
        try:
            await files.stores[name].check()
        except Refused:
            raise
        except Unavailable as error:
            raise Wrong(f"{error} Look at the network, and at {'endpoint' if name == 'oss' else 'data'}.") from error
        with tempfile.NamedTemporaryFile() as file:
            file.write(_picture())
            file.flush()
            key = f"{files.new_folder(name)}/check.bmp"
            began = time.monotonic()
            await files.put(key, Path(file.name), "image/bmp")
        try:
            said = await _tried(settings, files, name, key)
        finally:
            await files.delete([key])
        if [piece async for piece in _all(files, key)]:
            raise Wrong("What was deleted is still there.")
    used = "" if name == settings.storage.backend else ", though not for new pictures"
    return f"put, got, {said}, listed and deleted a picture{used}{_took(began)}"


async def _tried(settings: Config, files: StoredFiles, name: str, key: str) -> str:
    if b"".join([piece async for piece in files.open(key)]) != _picture():
        raise Wrong("What is read is not what was put.")
    async for _ in files.stores[name].scan():
        break
    else:
        raise Wrong("What was put is not listed.")
    store: Files = files.stores[name]
    url = files.url(key)
    if isinstance(store, LocalFiles):
        query = dict(part.partition("=")[::2] for part in urlsplit(url).query.split("&"))
        if not store.allows(key.removeprefix(MARKS[name]), query["e"], query["s"]):
            raise Wrong("An address that was just made is not allowed: look at the clock.")
        return "checked the address of"
    await _fetch(url, settings)
    return "fetched from its address"


async def _fetch(url: str, settings: Config) -> None:
    """As a browser would, with the address and, where it is signed, without its signature."""
    host = urlsplit(url).netloc
    try:
        status, content = await asyncio.to_thread(_get, url)
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise Wrong(
            f"Picture addresses begin with {host}, which cannot be reached: {reason}. See public_url."
        ) from error
    if status != 200 or content != _picture():
        what = f"answers {status}" if status != 200 else "answers with something else"
        raise Wrong(f"The address of a picture at {host} {what}: see storage.public_url and storage.addresses.")
    if settings.storage.addresses == "signed":
        status, _ = await asyncio.to_thread(_get, url.partition("?")[0])
        if status == 200:
            raise Wrong(f"Everybody can read pictures at {host} without a signature: make the bucket private.")


def _get(url: str) -> tuple[int, bytes]:
    try:
        with urlopen(Request(url), timeout=FETCH_TIMEOUT) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, b""


async def _all(files: StoredFiles, key: str) -> AsyncIterator[bytes]:
    try:
        async for piece in files.open(key):
            yield piece
    except Error:
        return


def _picture() -> bytes:
    """A black BMP, which no library is needed to make."""
    pixels = bytes(3 * SIDE * SIDE)
    head = struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 24, 0, len(pixels), 2835, 2835, 0, 0) + pixels


def _took(began: float) -> str:
    return f", in {time.monotonic() - began:.2f} s"
