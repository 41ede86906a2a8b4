"""The processes that render: supervised slots, each with a ProcessPoolExecutor of one process.

An executor breaks as a whole when one of its processes dies. With an executor for each slot, a death costs exactly one
image, the server knows which, and the others go on. It must not know dreams, the database or the storage.
"""

import asyncio
import logging
import multiprocessing
import os
import select
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

from config import Images
from processing import child
from processing.render import Rejected, Rendered, RenderRequest
from storage.data_folder import CannotStart

RECYCLE = 500  # images after which a process is replaced, because libraries leak memory
GRACE = 10.0  # seconds after an image's time limit, by which its timer should have killed the process
START_TIMEOUT = 60.0  # seconds for a process to be ready
PAUSES = (0.1, 0.5, 2.0, 5.0)  # seconds before the next attempt to start a process; the last one repeats
# The fork server loads these before it forks, so that all processes share their memory and start sooner.
PRELOADED = ["processing.child", "concurrent.futures.process"]

log = logging.getLogger("dreamlog.workers")


def render_request(settings: Images, source: Path, folder: Path) -> RenderRequest:
    """What the settings ask of the picture at `source`, with its variants in `folder`."""
    return RenderRequest(
        source=str(source),
        folder=str(folder),
        format=settings.format,
        quality=settings.quality,
        effort=settings.effort,
        max_pixels=settings.max_pixels,
        max_frames=settings.max_frames,
        time_limit=settings.time_limit,
    )


class WorkerDied(Exception):
    """The process ended before it was done; `code` is `timed_out` or `crashed`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Slot:
    """The place of one process, which can be replaced."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._context = multiprocessing.get_context("forkserver")
        self._executor: ProcessPoolExecutor | None = None
        self._process: BaseProcess | None = None
        # When the fork server dies, multiprocessing takes its processes for dead. The kernel knows better. None where
        # the kernel has no such descriptors: on macOS.
        self._pidfd: int | None = None
        self.images = 0

    @property
    def pid(self) -> int | None:
        """The id of the process, while it lives."""
        if self._process is None:
            return None
        if self._pidfd is None:
            return self._process.pid if self._process.is_alive() else None
        exits = select.poll()
        exits.register(self._pidfd, select.POLLIN)
        return None if exits.poll(0) else self._process.pid

    async def start(self) -> None:
        self.images = 0
        self._executor = ProcessPoolExecutor(1, self._context, child.start, (self._memory,))
        with _main_hidden():
            future = self._executor.submit(child.ready)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                pid = await asyncio.wrap_future(future)
        except BrokenProcessPool:
            raise WorkerDied("crashed", "its process ended before it was ready") from None
        except TimeoutError:
            raise WorkerDied("timed_out", f"its process was not ready within {START_TIMEOUT:.0f} s") from None
        self._process = next((each for each in multiprocessing.active_children() if each.pid == pid), None)
        try:
            self._pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        except ProcessLookupError:
            self._process = None
        if self._process is None:
            raise WorkerDied("crashed", "its process ended as soon as it was ready")

    async def render(self, request: RenderRequest) -> Rendered | Rejected:
        """Raises `WorkerDied`. The slot must be stopped then, and when the call is cancelled."""
        assert self._executor is not None
        self.images += 1
        try:
            async with asyncio.timeout(request.time_limit + GRACE):
                return await asyncio.wrap_future(self._executor.submit(child.render, request))
        except TimeoutError:
            raise WorkerDied("timed_out", f"no answer within {request.time_limit + GRACE:.0f} s") from None
        except BrokenProcessPool:
            raise self._reason(await self.stop()) from None

    async def stop(self) -> int | None:
        """Kill the process, wait for its end, and return its exit code."""
        process, pidfd, executor = self._process, self._pidfd, self._executor
        self._process = self._pidfd = self._executor = None
        with suppress(ProcessLookupError):
            if pidfd is not None:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            elif process is not None and process.is_alive():
                process.kill()
        if pidfd is not None:
            os.close(pidfd)
        if executor is not None:
            await asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True)
        return process.exitcode if process is not None else None

    @staticmethod
    def _reason(exit_code: int | None) -> WorkerDied:
        if exit_code in (-signal.SIGALRM, -signal.SIGXCPU):
            return WorkerDied("timed_out", f"ended by {signal.Signals(-exit_code).name}")
        return WorkerDied("crashed", f"exit code {exit_code}")


class Workers:
    """`count` slots (0: one for each CPU), each with a warm process for as long as this is entered.

    `memory` limits the address space of each process, in bytes. Entering raises `CannotStart`.
    """

    def __init__(self, count: int, memory: int) -> None:
        self.count = count or os.cpu_count() or 1
        self._slots = [Slot(memory) for _ in range(self.count)]
        self._free: asyncio.Queue[Slot] = asyncio.Queue()
        self._restarts: dict[Slot, asyncio.Task[None]] = {}
        self._failing: set[Slot] = set()  # whose last attempt to start a process failed
        # Processes since the server started, by reason: `crashed`, `timed_out`, `cancelled`, `recycled`.
        self.replaced: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
        try:
            await asyncio.gather(*(slot.start() for slot in self._slots))
        except WorkerDied as death:
            await self.__aexit__()
            raise CannotStart(f"A worker does not start: {death}. Check images.worker_memory.") from death
        except BaseException:
            await self.__aexit__()
            raise
        for slot in self._slots:
            self._free.put_nowait(slot)
        return self

    async def __aexit__(self, *_: object) -> None:
        restarts = list(self._restarts.values())
        for task in restarts:
            task.cancel()
        await asyncio.gather(*restarts, return_exceptions=True)
        self._restarts.clear()
        self._free = asyncio.Queue()
        await asyncio.gather(*(slot.stop() for slot in self._slots))

    @property
    def pids(self) -> list[int]:
        """The ids of the processes that live and are ready."""
        return [pid for slot in self._slots if (pid := slot.pid) is not None]

    async def answers(self) -> bool:
        """Does a process live, or is one starting whose last attempt did not fail?

        The call also replaces idle processes that died.
        """
        for _ in range(self._free.qsize()):  # once around the queue
            slot = self._free.get_nowait()
            if slot.pid is None:
                self._replace(slot, "crashed")
            else:
                self._free.put_nowait(slot)
        return bool(self.pids or self._restarts.keys() - self._failing)

    async def render(self, request: RenderRequest) -> Rendered | Rejected:
        """Render in the next free slot. Raises `WorkerDied` when the process ends before the image is done."""
        while (slot := await self._free.get()).pid is None:  # died idle, which must not cost this image a try
            self._replace(slot, "crashed")
        try:
            result = await slot.render(request)
        except BaseException as error:
            # The process still works on a cancelled or late image, and would delay the next one.
            self._replace(slot, error.code if isinstance(error, WorkerDied) else "cancelled")
            raise
        if slot.images >= RECYCLE:
            self._replace(slot, "recycled")
        else:
            self._free.put_nowait(slot)
        return result

    def _replace(self, slot: Slot, reason: str) -> None:
        self.replaced[reason] += 1
        self._restarts[slot] = asyncio.create_task(self._restart(slot), name="restart a worker")

    async def _restart(self, slot: Slot) -> None:
        """Try until a process is ready, whatever goes wrong: otherwise the slot would be lost.

        Each attempt also replaces the fork server if that died.
        """
        for attempt in range(sys.maxsize):
            try:
                await slot.stop()
                await slot.start()
            except Exception as error:
                self._failing.add(slot)
                log.error("a worker does not start: %s", str(error) or type(error).__name__)
                await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
            else:
                self._failing.discard(slot)
                del self._restarts[slot]
                self._free.put_nowait(slot)
                return


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep multiprocessing from importing `server.py`, and with it Tornado and motor, in every worker."""
    main = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    main.__file__, main.__spec__ = None, None
    try:
        yield
    finally:
        main.__file__, main.__spec__ = file, spec
