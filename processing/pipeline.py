"""The way of an image from the queue to completion: claim it, render it, store its files, record the end.

The queue is the database. The pipeline keeps in memory only which owners may have queued images. It must not know
HTTP or the listeners of changes.
"""

import asyncio
import logging
import random
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Self, TypeVar

from config import Images
from meters import PipelineMeters
from processing import formats
from processing.render import RENDER_VERSION, SIZES, Rejected, Rendered
from processing.workers import WorkerDied, Workers, render_request
from storage.errors import Error, NoSpace, Unavailable
from storage.files import StoredFiles
from storage.jobs import LEASE, Jobs
from storage.model import Image, Job, Variant, next_pause
from storage.references import References
from storage.staging import Staging

T = TypeVar("T")

RESCAN = 15.0  # seconds between looks for work without a hint: leases that expired, pauses that ended
STORING = 4  # images for each worker on their way to the storage: a worker renders 3 while a slow one takes 0.2 s each
PAUSE = 1.0  # seconds before the pipeline asks a database or storage again that did not answer
MAX_PAUSE = 15.0  # seconds to which that pause grows for a storage
ANY = ""  # in place of a dream's id: some dream of the owner

log = logging.getLogger("dreamlog.image")


class TakenAway(Exception):
    """The job is no longer ours: its image or dream was deleted, or the image went back to the queue."""


class Failed(Exception):
    """This try of the image failed with `code`, a key of `storage.model.FAILURES`; the message is for the log."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(eq=False, slots=True)
class Work:
    """One image in hand."""

    job: Job  # as the database has it now
    keys: str  # what the keys of this image's own files begin with
    folder: Path  # where its variants lie until they are stored
    rendered: bool = False  # it is being stored

    @property
    def owns_files(self) -> bool:
        """Does the dream name files of this image's own, and not those of an equal image?"""
        return self.job.image.folder == self.keys

    @property
    def upload(self) -> str:
        """The name of the upload in staging."""
        assert self.job.image.staged is not None, "an image keeps its upload until it is completed"
        return self.job.image.staged


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
        """`server` names this installation in leases. `folder` is for half-done work; entering empties it.

        `drain_left` returns the seconds that a stop may still take.
        """
        self._jobs = jobs
        self._references = references
        self._workers = workers
        self._files = files
        self._staging = staging
        self._settings = settings
        self._server = server
        self._folder = folder
        self._drain_left = drain_left
        # Equal uploads have equal variants if all of this is equal.
        made = f"{RENDER_VERSION} {settings.format} {settings.quality} {settings.effort}"
        self._render_settings = f"{made} {max(SIZES)} {settings.keep_originals}"
        # Owners, the next to be served first, and which of their dreams may have a queued image.
        self._queued: dict[str, set[str]] = {}
        self._woken = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._render_permits = asyncio.Semaphore(workers.count)
        self._in_hand: set[Work] = set()
        self._lanes: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.meters = PipelineMeters()

    def wake(self, owner: str, dream_id: str = ANY) -> None:
        """This dream may have a queued image."""
        self._queued.setdefault(owner, set()).add(dream_id)
        self._woken.set()

    async def __aenter__(self) -> Self:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True)
        for job in await self._jobs.expired(self._server):
            await self._fail(job, "crashed", "an earlier run of the server left it")
        for owner in await self._jobs.owners_waiting():
            self.wake(owner)
        # Each lane has one image in hand at most: that bounds what is rendered and stored at once.
        lanes = self._workers.count + max(8, STORING * self._workers.count)
        self._lanes = [asyncio.create_task(self._lane(), name=f"images {number}") for number in range(lanes)]
        steps = {"rescan": self._rescan, "renew leases": self._renew}
        self._tasks = [asyncio.create_task(_forever(step), name=name) for name, step in steps.items()]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Claim no more. Images in hand may end within `drain_left` seconds; the others go back to the queue."""
        self._stopping = True
        self._woken.set()
        if self._in_hand:
            log.info("stopping: %d images in hand", len(self._in_hand))
        await asyncio.wait(self._lanes, timeout=self._drain_left())
        await _cancelled(self._lanes)
        await _cancelled(self._tasks)

    def in_progress(self) -> tuple[int, int]:
        """How many images are being rendered, and how many are being stored."""
        storing = sum(work.rendered for work in self._in_hand)
        return len(self._in_hand) - storing, storing

    # ---- what runs as long as the pipeline

    async def _lane(self) -> None:
        while not self._stopping:
            await _guarded(self._process_next)

    async def _rescan(self) -> None:
        await asyncio.sleep(RESCAN)
        # After a laptop's sleep every lease has expired. The pipeline still works on what it has in hand.
        held = {(work.job.dream.id, work.job.image.lease_owner) for work in self._in_hand}
        for job in await self._jobs.expired():
            if (job.dream.id, job.image.lease_owner) not in held:
                await self._fail(job, "crashed", "its lease expired")
        for owner in await self._jobs.owners_waiting():
            self.wake(owner)

    async def _renew(self) -> None:
        await asyncio.sleep(LEASE.total_seconds() / 4)
        for work in list(self._in_hand):
            await self._jobs.renew(work.job)

    # ---- claiming

    async def _next_job(self) -> Job | None:
        """The next owner's next image, once there is one; None when the pipeline stops.

        Owners are served round-robin, so that one person's 500 photos cannot starve another's single one.
        """
        async with self._claiming:
            while not self._stopping:
                if not self._queued:
                    self._woken.clear()
                    await self._woken.wait()
                    continue
                owner = next(iter(self._queued))
                dreams = self._queued.pop(owner)
                oldest = min(dreams)  # ids of dreams ascend, and ANY comes before them
                job = await self._claim(owner, oldest)
                if job is None:
                    dreams = set() if oldest == ANY else dreams - {oldest}  # ANY stood for all of them
                elif not job.dream.waiting:
                    dreams.discard(job.dream.id)
                for dream_id in dreams:
                    self.wake(owner, dream_id)
                if job is not None:
                    return job
        return None

    async def _claim(self, owner: str, dream_id: str) -> Job | None:
        claim = asyncio.ensure_future(self._jobs.claim(owner, self._server, dream_id))
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            # The database may still carry out the claim. Its answer tells whether there is a lease to release.
            with suppress(Exception):
                if (job := await claim) is not None:
                    await self._jobs.release(job)
            raise
        except Error as error:
            log.warning("%s", error)
            self.wake(owner)
            await asyncio.sleep(PAUSE)
            return None

    # ---- one image

    async def _process_next(self) -> None:
        """Claim an image under a render permit, which goes back however this ends, and process it."""
        async with AsyncExitStack() as permit:
            await permit.enter_async_context(self._render_permits)
            job = await self._next_job()
            if job is None:
                return
            keys = self._files.new_folder()
            work = Work(job, keys, self._folder / keys.rpartition("/")[2])
            self._in_hand.add(work)
            try:
                await self._process(work, permit)
            except asyncio.CancelledError:
                with suppress(Error):  # without a database, the next start takes the image back
                    await self._jobs.release(work.job)
                raise
            finally:
                self._in_hand.discard(work)
                shutil.rmtree(work.folder, ignore_errors=True)

    async def _process(self, work: Work, permit: AsyncExitStack) -> None:
        """Claimed, rendered, named, stored, completed: each step takes the job as the step before left it."""
        started, upload = time.monotonic(), work.upload
        try:
            image = await self._render(work)
            rendered = time.monotonic()
            await permit.aclose()  # another lane may render while this one stores
            work.rendered = True
            if image.folder == work.keys:
                self.meters.render.observe(rendered - started)
            # The dream names the files before the first of them is stored, so that none is ever an orphan.
            work.job = _still_ours(await _persistently(lambda: self._jobs.store(work.job, image)))
            await self._store(work)
            work.job = _still_ours(await _persistently(lambda: self._jobs.complete(work.job)))
        except TakenAway as reason:
            log.info("dream=%s image=%d: %s", work.job.dream.id, work.job.image.id, reason)
            if work.owns_files:
                await _persistently(lambda: self._files.delete(work.job.image.keys))
        except Failed as failure:
            await self._fail(work.job, failure.code, str(failure))
        except Exception as error:  # whatever it is, one image may neither end its lane nor stay in no state
            log.exception("dream=%s image=%d: unexpected", work.job.dream.id, work.job.image.id)
            await self._fail(work.job, "crashed", type(error).__name__)
        else:
            self._staging.remove(upload)
            self.meters.completed += 1
            self.meters.store.observe(time.monotonic() - rendered)
            image = work.job.image
            log.info(
                "dream=%s image=%d attempt=%d %s %sx%s %d bytes: rendered in %.3f s, stored in %.3f s",
                *(work.job.dream.id, image.id, image.attempt, image.format, image.width, image.height, image.bytes),
                *(rendered - started, time.monotonic() - rendered),
            )

    async def _render(self, work: Work) -> Image:
        """The image with variants made from its upload, or with those of an equal image. Raises `Failed`."""
        image = work.job.image
        equal = await _persistently(lambda: self._equal_image(work.job))
        if equal is not None:
            return replace(equal, id=image.id, format=image.format)
        source = self._staging.path(work.upload)
        if not source.exists():
            raise Failed("upload_lost", "the upload is gone from staging")
        work.folder.mkdir(mode=0o700)
        try:
            result = await self._workers.render(render_request(self._settings, source, work.folder))
        except WorkerDied as death:
            raise Failed(death.code, f"its worker died: {death}") from death
        if isinstance(result, Rejected):
            raise Failed(result.code, result.detail)
        return self._named(image, result, work.keys)

    def _named(self, image: Image, rendered: Rendered, keys: str) -> Image:
        """The image with its files named below `keys`."""
        variants = {
            name: Variant(f"{keys}/{variant.file}", variant.type, variant.width, variant.height, variant.bytes)
            for name, variant in rendered.variants.items()
        }
        # Nobody must be able to guess the original's key from a variant's URL.
        original = f"{keys}/original-{secrets.token_hex(16)}.{formats.EXTENSIONS[image.format]}"
        return replace(
            image,
            recipe=self._render_settings,
            folder=keys,
            variants=variants,
            original=original if self._settings.keep_originals else None,
            width=rendered.width,
            height=rendered.height,
            animated=rendered.animated,
            placeholder=rendered.placeholder,
        )

    async def _store(self, work: Work) -> None:
        """Put the files that the dream names; those of an equal image only have to be there still.

        Raises `Failed` and `TakenAway`.
        """
        if not work.owns_files:
            # The equal image may have been deleted before our dream named its files. From now on they are kept for us.
            equal = await _persistently(lambda: self._equal_image(work.job))
            if equal is None or equal.folder != work.job.image.folder:
                await _persistently(lambda: self._jobs.release(work.job))
                raise TakenAway("the equal image is gone, so it was queued again")
            return
        image = work.job.image
        types = {variant.key: variant.type for variant in image.variants.values()}
        puts = [self._put(work, key, work.folder / key.rpartition("/")[2], kind) for key, kind in types.items()]
        if image.original is not None:
            upload = self._staging.path(work.upload)
            puts.append(self._put(work, image.original, upload, formats.MEDIA_TYPES[image.format]))
        # Wait for all puts before the first failure counts: a file that arrived later would be an orphan.
        for error in await asyncio.gather(*puts, return_exceptions=True):
            if isinstance(error, Unavailable | NoSpace):
                raise Failed("storage_unavailable", str(error)) from error
            if error is not None:
                raise error

    async def _put(self, work: Work, key: str, path: Path, kind: str) -> None:
        """Waits for a storage that does not answer, however long: rendering again would help nobody.

        Raises `TakenAway`, and `Unavailable` when meanwhile the file at `path` is gone.
        """
        for tried in count():
            try:
                return await self._files.put(key, path, kind)
            except Unavailable as error:
                if not path.exists():
                    raise
                if not tried:
                    log.warning("dream=%s image=%d: waits: %s", work.job.dream.id, work.job.image.id, error)
            await asyncio.sleep(min(PAUSE * 2 ** min(tried, 10), MAX_PAUSE) * random.uniform(0.75, 1.25))
            if not await _persistently(lambda: self._jobs.renew(work.job)):
                raise TakenAway("it was deleted while it waited for the storage")

    async def _equal_image(self, job: Job) -> Image | None:
        return await self._references.equal_image(job.dream.owner, job.image, self._render_settings)

    async def _fail(self, job: Job, code: str, detail: str) -> None:
        """Record the failed try. If another can help, the image is queued again after a pause."""
        failed = await _persistently(lambda: self._jobs.fail(job, code))
        pause = next_pause(job.image, code)
        if failed is not None:
            (self.meters.failed if pause is None else self.meters.retried)[code] += 1
        again = f"again in {pause.total_seconds():.0f} s" if pause is not None else "for good"
        level = logging.INFO if pause is None else logging.WARNING
        about = job.dream.id, job.image.id, job.image.attempt
        log.log(level, "dream=%s image=%d attempt=%d failed %s: %s (%s)", *about, again, code, detail)
        if pause is not None:
            # A little later than the pause, so that the claim finds it over.
            late = pause.total_seconds() + 0.05
            asyncio.get_running_loop().call_later(late, self.wake, job.dream.owner, job.dream.id)


def _still_ours(job: Job | None) -> Job:
    if job is None:
        raise TakenAway("it was deleted while it was processed")
    return job


async def _forever(step: Callable[[], Awaitable[None]]) -> None:
    while True:
        await _guarded(step)


async def _guarded(step: Callable[[], Awaitable[None]]) -> None:
    """`step`, once; what it raises is logged, because a loop that ended would leave every image waiting."""
    try:
        return await step()
    except Error as error:
        log.warning("%s", error)
    except Exception:
        log.exception("unexpected")
    await asyncio.sleep(PAUSE)


async def _persistently(step: Callable[[], Awaitable[T]]) -> T:
    """Repeat a step that must be recorded until the database takes it."""
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
