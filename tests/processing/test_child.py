"""The worker process: its limits, its place behind the server, its end."""

import ctypes
import multiprocessing
import os
import platform
import resource
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

import linux
from processing import child
from processing.render import Rejected, Rendered, RenderRequest
from tests import photos
from tests.pace import seconds

MEMORY = 1_610_612_736


def request(folder: Path, content: bytes, time_limit: float = 100.0) -> RenderRequest:
    folder.mkdir(exist_ok=True)
    source, out = folder / "upload", folder / "out"
    source.write_bytes(content)
    out.mkdir()
    return RenderRequest(str(source), str(out), "jpeg", 0, 0, 100_000_000, 600, time_limit)


def worker(memory: int = MEMORY) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("forkserver"), child.start, (memory,))


def test_a_picture_that_needs_too_much_memory_is_rejected_and_the_worker_lives_on(tmp_path: Path) -> None:
    """The address space of a worker is bounded; the same process renders the next picture."""
    with worker(memory=700_000_000) as pool:
        pid = pool.submit(child.ready).result()
        heavy = pool.submit(child.render, request(tmp_path / "a", photos.slow_png())).result()
        assert isinstance(heavy, Rejected)
        assert heavy.code == "out_of_memory", heavy
        assert isinstance(pool.submit(child.render, request(tmp_path / "b", photos.small_jpeg(1))).result(), Rendered)
        assert pool.submit(child.ready).result() == pid


def test_a_picture_that_takes_too_long_ends_its_process(tmp_path: Path) -> None:
    """The timer's default action kills it, which no C code can hold up."""
    with worker() as pool:
        pid = pool.submit(child.ready).result()
        process = next(each for each in multiprocessing.active_children() if each.pid == pid)
        with pytest.raises(BrokenProcessPool):
            pool.submit(child.render, request(tmp_path, photos.slow_png(), time_limit=0.1)).result()
        pool.shutdown()
        assert process.exitcode == -signal.SIGALRM


def test_the_limits_of_one_picture_end_with_it(tmp_path: Path) -> None:
    """After a picture no timer runs, and the process may use as much CPU time as before."""
    with worker() as pool:
        before = pool.submit(resource.getrlimit, resource.RLIMIT_CPU).result()
        pool.submit(child.render, request(tmp_path, photos.corrupt_jpeg(), time_limit=50.0)).result()
        assert pool.submit(resource.getrlimit, resource.RLIMIT_CPU).result() == before
        assert pool.submit(signal.getitimer, signal.ITIMER_REAL).result() == (0.0, 0.0)


def test_a_worker_gives_way_and_gains_no_privileges() -> None:
    """A worker is nicer than the server, takes long turns where the kernel knows them, and can never become root."""
    with worker() as pool:
        pid = pool.submit(child.ready).result()
        assert os.getpriority(os.PRIO_PROCESS, pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + child.NICENESS, 19)
        if sys.platform == "linux":
            for thread in Path(f"/proc/{pid}/task").iterdir():
                assert "NoNewPrivs:\t1" in (thread / "status").read_text()
        if sys.platform == "linux" and tuple(map(int, platform.release().split(".")[:2])) >= (6, 12):
            assert turn(pid) == child.TURN > turn(0)


def turn(pid: int) -> int:
    """Nanoseconds, by sched_getattr(2)."""
    attributes = ctypes.create_string_buffer(48)
    number = {"x86_64": 315, "aarch64": 275}[platform.machine()]
    assert ctypes.CDLL(None, use_errno=True).syscall(number, pid, attributes, 48, 0) == 0, ctypes.get_errno()
    return int(struct.unpack("=IIQiIQQQ", attributes.raw)[5])


def start_without_rest(memory: int) -> None:
    child.REST = 0.1
    child.start(memory)


def memory_of(pid: int, name: str) -> int:
    """Bytes, by proc_pid_status(5): `VmRSS` now, `VmHWM` at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@pytest.mark.skipif(linux._malloc_trim is None, reason="not glibc")
def test_a_worker_without_images_returns_its_memory(tmp_path: Path) -> None:
    """It keeps the buffers of an image for the next one, but not for longer than `REST`."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver"), start_without_rest, (MEMORY,)) as pool:
        pid = pool.submit(child.ready).result()
        before = memory_of(pid, "VmRSS")
        rendered = pool.submit(child.render, request(tmp_path, photos.saved(photos.scene(4000, 3000), "PNG"))).result()
        assert isinstance(rendered, Rendered)
        assert memory_of(pid, "VmHWM") > before + 40_000_000
        deadline = time.monotonic() + seconds(30)
        while memory_of(pid, "VmRSS") > before + 20_000_000:
            assert time.monotonic() < deadline
            time.sleep(0.05)


SERVER = """
import multiprocessing, sys, time
from concurrent.futures import ProcessPoolExecutor
from processing import child
pool = ProcessPoolExecutor(1, multiprocessing.get_context("forkserver"), child.start, (1_610_612_736,))
print(pool.submit(child.ready).result(), flush=True)
time.sleep(600)
"""


def test_a_worker_ends_when_its_server_is_killed() -> None:
    """A killed server says nothing to its workers; they notice."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        server.kill()
    deadline = time.monotonic() + seconds(30)
    while Path(f"/proc/{pid}").exists() if sys.platform == "linux" else _alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
