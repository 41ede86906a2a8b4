"""Checks for everything that a server needs: each part does real work, and a finding reports the result.

It must not know how the findings are shown.
"""

import asyncio
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

from config import Config, Images
from processing.render import Rendered
from processing.workers import WorkerDied, Workers, render_request
from storage.data_folder import CannotStart, DataFolder
from storage.errors import Error, NotFound, Refused, Unavailable
from storage.files import MARKS, StoredFiles
from storage.local import LocalFiles
from storage.migrations import pending_schema
from storage.mongod import MongodFailed, MongodMissing
from storage.resources import open_database, open_files

SIDE = 64  # pixels of the test image
FETCH_TIMEOUT = 10.0  # seconds for an image's URL to answer


class CheckFailed(Exception):
    """A part does not work; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one part."""

    part: str
    good: bool
    detail: str  # one line for people


async def run_checks(settings: Config, data_folder: DataFolder) -> AsyncIterator[Finding]:
    """One finding for each part, in the order in which a server starts them. Raises nothing for a part that fails."""
    stores = ["local", "oss"] if settings.storage.has_oss else ["local"]
    yield await _finding("database", partial(_database, settings, data_folder))
    yield await _finding("workers", partial(_workers, settings.images))
    for name in stores:
        yield await _finding(f"storage, {name}", partial(_storage, settings, data_folder, name))


async def _finding(part: str, check: Callable[[], Awaitable[str]]) -> Finding:
    began = time.monotonic()
    try:
        return Finding(part, True, f"{await check()}, in {time.monotonic() - began:.2f} s")
    except (CheckFailed, CannotStart, Error, MongodFailed, MongodMissing, WorkerDied, OSError) as error:
        return Finding(part, False, str(error) or type(error).__name__)


async def _database(settings: Config, data_folder: DataFolder) -> str:
    async with open_database(settings, data_folder) as mongo:
        version = await mongo.try_out()
        pending = await pending_schema(mongo.database)
    embedded = "embedded in the running server" if data_folder.running_stores else "embedded"
    where = "at mongodb.uri" if settings.mongodb.uri else embedded
    migration = "the next start of the server migrates the schema from {} to {}; ".format(*pending) if pending else ""
    return f"{migration}wrote, read and removed a document in MongoDB {version} ({where})"


async def _workers(settings: Images) -> str:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source.bmp")
        source.write_bytes(_picture())
        async with Workers(1, settings.worker_memory) as workers:
            result = await workers.render(render_request(settings, source, Path(folder)))
    if not isinstance(result, Rendered):
        raise CheckFailed(f"The renderer cannot make {settings.format} of an image: {result.detail}")
    return f"a process rendered an image as {settings.format}"


async def _storage(settings: Config, data_folder: DataFolder, name: str) -> str:
    async with open_files(settings, data_folder) as files:
        try:
            await files.stores[name].check()
        except Refused:
            raise
        except Unavailable as error:
            place = "endpoint" if name == "oss" else "data"
            raise CheckFailed(f"{error} Check the network and the setting {place}.") from error
        key = f"{files.new_folder(name)}/check.bmp"
        with tempfile.NamedTemporaryFile() as file:
            file.write(_picture())
            file.flush()
            await files.put(key, Path(file.name), "image/bmp")
        try:
            url = await _read_back(settings, files, name, key)
        finally:
            await files.delete([key])
        if await _exists(files, key):
            raise CheckFailed("A deleted file is still there.")
    used = "" if name == settings.storage.backend else "; new images go to the other storage"
    return f"stored, read, listed and deleted an image and {url}{used}"


async def _read_back(settings: Config, files: StoredFiles, name: str, key: str) -> str:
    """Read and list the image under `key`, and check its URL; returns the check in words."""
    if b"".join([piece async for piece in files.open(key)]) != _picture():
        raise CheckFailed("The storage returns other bytes than were stored.")
    store, inside = files.stores[name], key.removeprefix(MARKS[name])
    async for _ in store.scan():  # one is enough: there may be a million
        break
    else:
        raise CheckFailed("The storage lists no file, although one was stored.")
    url = files.url(key)
    if isinstance(store, LocalFiles):
        query = parse_qs(urlsplit(url).query)
        if not store.allows(inside, query["e"][0], query["s"][0]):
            raise CheckFailed("A new URL is not valid: check the clock.")
        return "checked its URL"
    await _fetch(url, settings)
    return "fetched it from its URL"


async def _fetch(url: str, settings: Config) -> None:
    """Fetch the image as a browser does, and make sure that a signature is needed where URLs are signed."""
    host = urlsplit(url).netloc
    try:
        status, content = await asyncio.to_thread(_get, url)
    except OSError as error:  # URLError is one
        reason = error.reason if isinstance(error, URLError) else error
        raise CheckFailed(f"{host}, the host of image URLs, does not answer: {reason}. See public_url.") from error
    if status != 200 or content != _picture():
        what = f"answers {status}" if status != 200 else "answers with something else"
        raise CheckFailed(f"The URL of an image at {host} {what}: see storage.public_url and storage.addresses.")
    if settings.storage.addresses == "signed":
        status, _ = await asyncio.to_thread(_get, url.partition("?")[0])
        if status == 200:
            raise CheckFailed(f"Everyone can read images at {host} without a signature: make the bucket private.")


def _get(url: str) -> tuple[int, bytes]:
    try:
        with urlopen(Request(url), timeout=FETCH_TIMEOUT) as response:
            return response.status, response.read()
    except HTTPError as error:
        with error:
            return error.code, b""


async def _exists(files: StoredFiles, key: str) -> bool:
    try:
        return bool([piece async for piece in files.open(key)])
    except NotFound:
        return False


def _picture() -> bytes:
    """A black BMP, made without a library."""
    pixels = bytes(3 * SIDE * SIDE)
    head = struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 24, 0, len(pixels), 2835, 2835, 0, 0) + pixels
