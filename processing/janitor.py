"""Removes the files that dreams have let go of, and uploads that never became a dream; finds those that nobody named.

It must not know why they were let go.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Self

from storage.errors import Error
from storage.files import Files, StoredFiles
from storage.model import Dream, Image
from storage.references import References
from storage.staging import Staging

EVERY = 3600.0  # seconds between rounds without a wake
UPLOAD_LIFE = 86_400.0  # seconds after which an upload that belongs to no dream is no longer on its way
BATCH = 500  # folders that the database is asked about at once
PAUSE = 5.0  # seconds before a database or storage that is away is asked again
LONGEST_PAUSE = 60.0  # to which that grows

log = logging.getLogger("dreamlog.janitor")


class Janitor:
    """Works for as long as it is entered."""

    def __init__(self, *, references: References, files: Files, staging: Staging) -> None:
        self._references = references
        self._files = files
        self._staging = staging
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def __aenter__(self) -> Self:
        # No upload can be on its way yet: whatever belongs to no dream is from a run that was cut short.
        removed = await self._staging.sweep(await self._references.staged_names(), older_than=0)
        if removed:
            log.info("removed %d unfinished uploads of an earlier run", removed)
        self._woken.set()
        self._task = asyncio.create_task(self._run(), name="janitor")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause = PAUSE
        while True:
            try:
                async with asyncio.timeout(EVERY):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            try:
                await self._round()
                pause = PAUSE
            except Error as error:
                log.warning("files are left to remove: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                self._woken.set()
            except Exception:  # a janitor that ended would let the disk fill up
                log.exception("unexpected")
                await asyncio.sleep(PAUSE)

    async def _round(self) -> None:
        async for dream, images in self._references.pending_deletes():
            for image in images:
                await self._remove(dream, image)
            await self._references.confirm_deletes(dream, images)
        await self._staging.sweep(await self._references.staged_names(), older_than=UPLOAD_LIFE)

    async def _remove(self, dream: Dream, image: Image) -> None:
        if image.staged is not None:
            self._staging.remove(image.staged)
        if image.keys and not await self._references.is_shared(dream.owner, image):
            await self._files.delete(image.keys)


async def orphans(references: References, files: StoredFiles, *, older_than: float) -> AsyncIterator[list[str]]:
    """Keys that no dream names, some at a time; of files put `older_than` seconds ago or more.

    Younger ones may be on their way: a file that is moved to another storage is there before its dream says so.
    """
    folders: dict[str, list[str]] = {}
    async for key, at in files.scan():
        if at <= time.time() - older_than:
            folders.setdefault(key.rpartition("/")[0], []).append(key)
        if len(folders) == BATCH:
            yield await _unnamed(references, folders)
            folders = {}
    yield await _unnamed(references, folders)


async def _unnamed(references: References, folders: dict[str, list[str]]) -> list[str]:
    # A folder that nobody names any more is never named again, so what is found stays true.
    named = await references.named_folders(folders)
    return [key for folder, keys in folders.items() if folder not in named for key in keys]
