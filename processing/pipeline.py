"""From the queue to the notice: claim an image, render it, store its files, record the end. Both sides bounded.

The queue is the database; what is in memory here are hints. It must not know HTTP, nor who is told.
"""

import asyncio
import logging
import random
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Self, TypeVar

from config import Images
from processing import formats
from processing.render import RENDER_VERSION, SIZES, Rejected, Rendered, RenderRequest
from processing.workers import WorkerDied, Workers
from storage.errors import Error, NoSpace, Unavailable
from storage.files import StoredFiles
from storage.jobs import LEASE, Jobs
from storage.model import Image, Job, Variant, next_pause
from storage.references import References
from storage.staging import Staging

T = TypeVar("T")

RESCAN = 15.0  # seconds between looks for work that no hint told of: leases that ran out, pauses that ended
STORING = 4  # images of each worker on their way to the storage, as it renders 3 while a slow one takes 0.2 s for each
PAUSE = 1.0  # seconds before a database or storage that is away is asked again
ANY = ""  # a dream of the owner's, and nobody knows which
LONGEST_PAUSE = 15.0  # to which that grows for a storage

log = logging.getLogger("dreamlog.image")


class TakenAway(Exception):
    """The job is not ours any more: its image or dream was deleted."""


class Pipeline:
    """Works for as long as it is entered. Leaving it drains: see `__aexit__`."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        references: References,
        workers: Workers,
        files: StoredFiles,
        staging: Staging,
        settings: Images,
        server: str,
        folder: Path,
        drain_left: Callable[[], float],
    ) -> None:
        """`server` names this installation in leases; `folder` is for half-done work, and emptied at the start."""
        self._jobs = jobs
        self._references = references
        self._workers = workers
        self._files = files
        self._staging = staging
        self._settings = settings
        self._server = server
        self._folder = folder
        self._drain_left = drain_left
        # Variants of equal uploads are equal when all of this is.
        made = f"{RENDER_VERSION} {settings.format} {settings.quality} {settings.effort}"
        self._render_settings = f"{made} {max(SIZES)} {settings.keep_originals}"
        # Owners, the next to be served first, and which of their dreams may have an image in line.
        self._waiting: dict[str, set[str]] = {}
        self._woken = asyncio.Event()
        self._rendering = asyncio.Semaphore(workers.count)
        self._storing = asyncio.Semaphore(max(8, STORING * workers.count))
        self._in_hand: dict[asyncio.Task[None], Job] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def wake(self, owner: str, dream_id: str = ANY) -> None:
        """There may be an image of this dream in line."""
        self._waiting.setdefault(owner, set()).add(dream_id)
        self._woken.set()

    async def __aenter__(self) -> Self:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True)
        for job in await self._jobs.expired(self._server):
            await self._failed(job, "crashed")
        for owner in await self._jobs.owners_waiting():
            self.wake(owner)
        self._tasks = [
            asyncio.create_task(_forever(step), name=name)
            for name, step in (("dispatch", self._dispatch), ("rescan", self._rescan), ("renew leases", self._renew))
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        """No new work; what is in hand may end within `drain_left` seconds, then it is handed back."""
        await _cancelled(self._tasks[:1])
        if self._in_hand:
            log.info("stopping: %d images in hand", len(self._in_hand))
            await asyncio.wait(list(self._in_hand), timeout=self._drain_left())
        await _cancelled(list(self._in_hand))
        await _cancelled(self._tasks)

    # ---- the three loops

    async def _dispatch(self) -> None:
        await self._rendering.acquire()
        try:
            job = await self._next_job()
        except BaseException:
            self._rendering.release()
            raise
        task = asyncio.create_task(self._process(job), name=f"image {job.image.id} of {job.dream.id}")
        self._in_hand[task] = job
        task.add_done_callback(self._in_hand.pop)

    async def _rescan(self) -> None:
        await asyncio.sleep(RESCAN)
        # After a laptop's sleep every lease has run out; what we still have in hand is not abandoned, only late.
        held = {(job.dream.id, job.image.lease_owner) for job in self._in_hand.values()}
        for job in await self._jobs.expired():
            if (job.dream.id, job.image.lease_owner) in held:
                continue
            log.warning("dream=%s image=%d: its lease ran out", job.dream.id, job.image.id)
            await self._failed(job, "crashed")
        for owner in await self._jobs.owners_waiting():
            self.wake(owner)

    async def _renew(self) -> None:
        await asyncio.sleep(LEASE.total_seconds() / 4)
        for job in list(self._in_hand.values()):
            await self._jobs.renew(job)

    async def _next_job(self) -> Job:
        """The next owner's next image: owners take turns, so that 500 photos of one do not hold up one of another."""
        while True:
            while self._waiting:
                owner = next(iter(self._waiting))
                dreams = self._waiting.pop(owner)
                oldest = min(dreams)  # the ids of dreams ascend, and ANY comes before them
                job = await self._claim(owner, oldest)
                if job is None and oldest == ANY:
                    continue  # that was a look at all of the owner's dreams
                if job is None:
                    dreams.discard(oldest)
                elif not job.dream.waiting:
                    dreams.discard(job.dream.id)
                for dream_id in dreams:
                    self.wake(owner, dream_id)
                if job is not None:
                    return job
            self._woken.clear()
            await self._woken.wait()

    async def _claim(self, owner: str, dream_id: str) -> Job | None:
        claim = asyncio.ensure_future(self._jobs.claim(owner, self._server, dream_id))
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            # Cut off in the middle, a claim could have its effect and nobody would know of the lease.
            if (job := await claim) is not None:
                await self._jobs.release(job)
            raise
        except Error:
            self.wake(owner)
            raise

    # ---- one image

    async def _process(self, job: Job) -> None:
        """Has one room for rendering, until the image's files are about to be stored."""
        keys = self._files.new_folder()
        folder = self._folder / keys.rpartition("/")[2]
        started = time.monotonic()
        with ExitStack() as room:
            room.callback(self._rendering.release)
            try:
                folder.mkdir(mode=0o700)
                image = await self._made(job, folder, keys)
                if isinstance(image, str):
                    await self._failed(job, image)
                    return
                rendered = time.monotonic()
                async with self._storing:
                    room.close()
                    if await self._store(job, image, folder if image.folder == keys else None):
                        log.info(
                            "dream=%s image=%d attempt=%d %s %sx%s %d bytes: rendered in %.3f s, stored in %.3f s",
                            *(job.dream.id, job.image.id, job.image.attempt, image.format, image.width, image.height),
                            *(job.image.bytes, rendered - started, time.monotonic() - rendered),
                        )
            except asyncio.CancelledError:
                with suppress(Error):  # a database that is away: the next start takes the image back
                    await self._jobs.release(self._current(job))
                raise
            except Exception:  # whatever it is, one image may not end the pipeline, nor be left in no state
                log.exception("dream=%s image=%d: unexpected", job.dream.id, job.image.id)
                await self._failed(self._current(job), "crashed")
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    async def _made(self, job: Job, folder: Path, keys: str) -> Image | str:
        """The image with its variants named below `keys`, or the code of what went wrong."""
        image = job.image
        assert image.staged is not None, "an image keeps its upload until it is completed"
        equal = await _persistently(lambda: self._references.equal_image(job.dream.owner, image, self._render_settings))
        if equal is not None:
            return replace(equal, id=image.id, format=image.format)
        source = self._staging.path(image.staged)
        if not source.exists():
            return "upload_lost"
        request = RenderRequest(
            source=str(source),
            folder=str(folder),
            format=self._settings.format,
            quality=self._settings.quality,
            effort=self._settings.effort,
            max_pixels=self._settings.max_pixels,
            max_frames=self._settings.max_frames,
            time_limit=self._settings.time_limit,
        )
        try:
            result = await self._workers.render(request)
        except WorkerDied as death:
            log.warning("dream=%s image=%d: the worker died: %s", job.dream.id, image.id, death)
            return death.code
        if isinstance(result, Rejected):
            log.info("dream=%s image=%d: rejected: %s", job.dream.id, image.id, result.detail)
            return result.code
        return self._named(image, result, keys)

    def _named(self, image: Image, rendered: Rendered, folder: str) -> Image:
        variants = {
            name: Variant(f"{folder}/{variant.file}", variant.type, variant.width, variant.height, variant.bytes)
            for name, variant in rendered.variants.items()
        }
        # Whoever has a picture's address must not be able to guess that of its original.
        name = f"{folder}/original-{secrets.token_hex(16)}.{formats.EXTENSIONS[image.format]}"
        return replace(
            image,
            recipe=self._render_settings,
            folder=folder,
            variants=variants,
            original=name if self._settings.keep_originals else None,
            width=rendered.width,
            height=rendered.height,
            animated=rendered.animated,
            placeholder=rendered.placeholder,
        )

    async def _store(self, job: Job, image: Image, folder: Path | None) -> bool:
        """Name the files in the dream, store them (None: an equal image has), say so.

        A job that was taken away meanwhile leaves nothing.
        """
        named = await _persistently(lambda: self._jobs.store(job, image))
        if named is None:
            return False
        self._update(named)
        completed = None
        if folder is not None:
            try:
                await self._put(named, folder)
                completed = await _persistently(lambda: self._jobs.complete(named))
            except TakenAway:
                log.info("dream=%s image=%d: deleted while it was stored", job.dream.id, job.image.id)
            except (Unavailable, NoSpace) as error:
                log.warning("dream=%s image=%d: not stored: %s", job.dream.id, job.image.id, error)
                await self._failed(named, "storage_unavailable")
                return False
            if completed is None:
                await _persistently(lambda: self._files.delete(named.image.keys))
        elif await _persistently(lambda: self._still_there(job, image)):
            completed = await _persistently(lambda: self._jobs.complete(named))
        else:
            await _persistently(lambda: self._jobs.release(named))
        if completed is None:
            return False
        if job.image.staged is not None:
            self._staging.remove(job.image.staged)
        return True

    async def _still_there(self, job: Job, image: Image) -> bool:
        """An equal image may have been deleted before we named its files; from then on they are kept for us."""
        equal = await self._references.equal_image(job.dream.owner, image, self._render_settings)
        return equal is not None and equal.folder == image.folder

    async def _put(self, job: Job, folder: Path) -> None:
        image = job.image
        types = {variant.key: variant.type for variant in image.variants.values()}
        puts = [self._put_file(job, key, folder / key.rpartition("/")[2], kind) for key, kind in types.items()]
        if image.original is not None and image.staged is not None:
            path = self._staging.path(image.staged)
            puts.append(self._put_file(job, image.original, path, formats.MEDIA_TYPES[image.format]))
        # All must have ended before the first failure is acted on: what comes later would be nobody's file.
        for error in await asyncio.gather(*puts, return_exceptions=True):
            if error is not None:
                raise error

    async def _put_file(self, job: Job, key: str, path: Path, kind: str) -> None:
        """Waits for a storage that is away, however long: what is rendered is not rendered again for that."""
        for tried in count():
            try:
                return await self._files.put(key, path, kind)
            except Unavailable as error:
                if not path.exists():
                    raise
                if not tried:
                    log.warning("dream=%s image=%d: waits: %s", job.dream.id, job.image.id, error)
            await asyncio.sleep(min(PAUSE * 2 ** min(tried, 10), LONGEST_PAUSE) * random.uniform(0.75, 1.25))
            if not await _persistently(lambda: self._jobs.renew(job)):
                raise TakenAway

    async def _failed(self, job: Job, code: str) -> None:
        await _persistently(lambda: self._jobs.fail(job, code))
        pause = next_pause(job.image, code)
        again = f"again in {pause.total_seconds():.0f} s" if pause is not None else "for good"
        log.info("dream=%s image=%d attempt=%d %s: %s", job.dream.id, job.image.id, job.image.attempt, code, again)
        if pause is not None:
            # A little later than the pause, so that the claim finds it over.
            late = pause.total_seconds() + 0.05
            asyncio.get_running_loop().call_later(late, self.wake, job.dream.owner, job.dream.id)

    # ---- what is in hand

    def _update(self, job: Job) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._in_hand[task] = job

    def _current(self, job: Job) -> Job:
        task = asyncio.current_task()
        assert task is not None
        return self._in_hand.get(task, job)


async def _forever(step: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await step()
        except Error as error:
            log.warning("%s", error)
            await asyncio.sleep(PAUSE)
        except Exception:  # a loop that ended would leave every image waiting
            log.exception("unexpected")
            await asyncio.sleep(PAUSE)


async def _persistently(step: Callable[[], Awaitable[T]]) -> T:
    """What must be recorded is tried until the database takes it."""
    while True:
        try:
            return await step()
        except (Unavailable, NoSpace):
            await asyncio.sleep(PAUSE)


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
