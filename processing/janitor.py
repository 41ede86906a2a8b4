"""The janitor removes files whose deletion is pending, and uploads that never became a dream.

`orphans` finds files that no dream names. It must not know why a deletion is pending.
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

EVERY = 3600.0  # seconds after which a round begins without a wake
UPLOAD_LIFE = 86_400.0  # seconds that an upload has to become a dream
BATCH = 500  # folders in one question to the database
PAUSE = 5.0  # seconds before the janitor asks a database or storage again that did not answer
MAX_PAUSE = 60.0  # seconds to which that pause grows

log = logging.getLogger("dreamlog.janitor")


class Janitor:
    """Works for as long as it is entered."""

    def __init__(self, *, references: References, files: Files, staging: Staging) -> None:
        self._references = references
        self._files = files
        self._staging = staging
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There may be files to remove."""
        self._woken.set()

    async def __aenter__(self) -> Self:
        # No upload can be in progress yet: one that belongs to no dream is left from a run that was cut short.
        removed = await self._staging.collect(await self._references.staged_names(), older_than=0)
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
                log.warning("files remain to be removed: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE)
                self._woken.set()
            except Exception:  # a janitor that ended would let the disk fill up
                log.exception("unexpected")
                await asyncio.sleep(PAUSE)

    async def _round(self) -> None:
        async for dream, images in self._references.pending_deletes():
            for image in images:
                await self._remove(dream, image)
            await self._references.confirm_deletes(dream, images)
        await self._staging.collect(await self._references.staged_names(), older_than=UPLOAD_LIFE)

    async def _remove(self, dream: Dream, image: Image) -> None:
        if image.staged is not None:
            self._staging.remove(image.staged)
        if image.keys and not await self._references.is_shared(dream.owner, image):
            await self._files.delete(image.keys)


async def orphans(references: References, files: StoredFiles, *, older_than: float) -> AsyncIterator[list[str]]:
    """Keys that no dream names, in batches, of files that were put at least `older_than` seconds ago.

    Younger files may be in progress: a copy in another storage exists before a dream names it. Files whose deletion is
    pending are no orphans.
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
    # A folder that no dream names any more is never named again, so the answer stays true.
    named = await references.named_folders(folders)
    return [key for folder, keys in folders.items() if folder not in named for key in keys]
