"""Worker slots: a process that dies costs only the image that it renders."""

import asyncio
import multiprocessing
import os
import signal
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from processing import workers as module
from processing.render import Rejected, Rendered, RenderRequest
from processing.workers import WorkerDied, Workers
from storage.data_folder import CannotStart
from tests import photos
from tests.client import until

MEMORY = 1_610_612_736
children = multiprocessing.active_children


def request(folder: Path, name: str, content: bytes, **more: Any) -> RenderRequest:
    source, out = folder / name, folder / f"{name}-out"
    source.write_bytes(content)
    out.mkdir()
    limits: dict[str, Any] = {"max_pixels": 100_000_000, "max_frames": 600, "time_limit": 60.0}
    return RenderRequest(source=str(source), folder=str(out), format="jpeg", quality=0, effort=0, **(limits | more))


def fork_server_pid() -> int:
    server: Any = forkserver
    pid: int = server._forkserver._forkserver_pid
    return pid


@pytest.mark.gen_test
async def test_pictures_are_rendered_side_by_side(tmp_path: Path) -> None:
    """More pictures than slots wait for a free one; all are rendered, by the same processes."""
    async with Workers(2, MEMORY) as workers:
        pids = workers.pids
        assert len(set(pids)) == 2
        assert await workers.answers()
        requests = [request(tmp_path, str(n), photos.small_jpeg(n)) for n in range(10)]
        results = await asyncio.gather(*map(workers.render, requests))
        assert all(isinstance(result, Rendered) for result in results)
        refusal = await workers.render(request(tmp_path, "bad", photos.corrupt_jpeg()))
        assert isinstance(refusal, Rejected)
        assert workers.pids == pids
    assert not await workers.answers()


@pytest.mark.gen_test
async def test_a_killed_process_costs_one_image(tmp_path: Path) -> None:
    """The other slot completes its image, and a new process replaces the dead one."""
    async with Workers(2, MEMORY) as workers:
        pids = workers.pids
        slow = [asyncio.create_task(workers.render(request(tmp_path, f"slow{n}", photos.slow_png()))) for n in range(2)]
        await until(lambda: all((tmp_path / f"slow{n}-out").exists() for n in range(2)), "both have begun")
        await asyncio.wait(slow, timeout=0.1)
        os.kill(pids[0], signal.SIGKILL)
        results = await asyncio.gather(*slow, return_exceptions=True)
        died = [result for result in results if isinstance(result, WorkerDied)]
        assert [death.code for death in died] == ["crashed"]
        assert sum(isinstance(result, Rendered) for result in results) == 1
        await until(lambda: len(workers.pids) == 2, "a new process stands in")
        assert len(set(workers.pids) & set(pids)) == 1
        assert isinstance(await workers.render(request(tmp_path, "next", photos.small_jpeg(1))), Rendered)


@pytest.mark.gen_test
async def test_a_late_or_cancelled_image_frees_its_slot(tmp_path: Path) -> None:
    """The slot ends that process and starts another."""
    async with Workers(1, MEMORY) as workers:
        with pytest.raises(WorkerDied) as death:
            await workers.render(request(tmp_path, "late", photos.slow_png(), time_limit=0.1))
        assert death.value.code == "timed_out"
        cancelled = asyncio.create_task(workers.render(request(tmp_path, "cancelled", photos.slow_png())))
        await asyncio.wait([cancelled], timeout=0.2)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        assert isinstance(await workers.render(request(tmp_path, "next", photos.small_jpeg(1))), Rendered)


@pytest.mark.gen_test
async def test_a_process_that_does_not_answer_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process cannot even end itself when its time is over."""
    monkeypatch.setattr(module, "GRACE", 0.2)
    async with Workers(1, MEMORY) as workers:
        os.kill(workers.pids[0], signal.SIGSTOP)
        with pytest.raises(WorkerDied, match="no answer within 0") as death:
            await workers.render(request(tmp_path, "stopped", photos.small_jpeg(1), time_limit=0.1))
        assert death.value.code == "timed_out"
        monkeypatch.undo()
        assert isinstance(await workers.render(request(tmp_path, "next", photos.small_jpeg(1))), Rendered)
        assert workers.replaced == {"timed_out": 1}


@pytest.mark.gen_test
async def test_a_process_is_replaced_after_many_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a decoder leaks ends with its process."""
    monkeypatch.setattr(module, "RECYCLE", 2)
    async with Workers(1, MEMORY) as workers:
        before = workers.pids
        for number in range(2):
            assert workers.pids == before
            await workers.render(request(tmp_path, str(number), photos.small_jpeg(number)))
        await until(lambda: workers.pids and workers.pids != before, "another process stands in")
        assert isinstance(await workers.render(request(tmp_path, "next", photos.small_jpeg(3))), Rendered)
        assert workers.replaced == {"recycled": 1}


@pytest.mark.gen_test
async def test_workers_that_cannot_start_say_so() -> None:
    """Too little memory for a process to come up stops the start, and leaves no process."""
    with pytest.raises(CannotStart, match=r"does not start: .*images\.worker_memory"):
        async with Workers(2, 1_000_000):
            pass


@pytest.mark.gen_test
async def test_a_process_that_dies_as_soon_as_it_is_ready_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The slot was lost once, because the restart did not expect the error of this case."""
    async with Workers(1, MEMORY) as workers:

        def none_once() -> list[BaseProcess]:
            monkeypatch.setattr(multiprocessing, "active_children", children)
            return []

        monkeypatch.setattr(multiprocessing, "active_children", none_once)
        with pytest.raises(WorkerDied):
            await workers.render(request(tmp_path, "late", photos.slow_png(), time_limit=0.1))
        assert isinstance(await workers.render(request(tmp_path, "next", photos.small_jpeg(1))), Rendered)
    assert "a worker does not start: its process ended as soon as it was ready" in caplog.messages


@pytest.mark.gen_test
async def test_a_fork_server_that_dies_while_a_worker_starts_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The slot was lost once, because the restart did not expect the EOFError of this case."""
    connect, read = forkserver.connect_to_new_process, forkserver.read_signed
    killed = []

    def stop_and_connect(fds: list[int]) -> Any:
        killed.append(fork_server_pid())
        os.kill(killed[0], signal.SIGSTOP)  # so that it cannot answer before it dies
        os.waitpid(killed[0], os.WUNTRACED)
        monkeypatch.setattr(forkserver, "connect_to_new_process", connect)
        monkeypatch.setattr(forkserver, "read_signed", kill_and_read)
        return connect(fds)

    def kill_and_read(fd: int) -> Any:
        os.kill(killed[0], signal.SIGKILL)
        monkeypatch.setattr(forkserver, "read_signed", read)
        return read(fd)

    async with Workers(1, MEMORY) as workers:
        monkeypatch.setattr(forkserver, "connect_to_new_process", stop_and_connect)
        with pytest.raises(WorkerDied):
            await workers.render(request(tmp_path, "late", photos.slow_png(), time_limit=0.1))
        assert isinstance(await workers.render(request(tmp_path, "next", photos.small_jpeg(1))), Rendered)
        assert fork_server_pid() not in killed
    assert "a worker does not start: unexpected EOF" in caplog.messages


@pytest.mark.gen_test
async def test_a_fork_server_that_dies_takes_no_image_with_it(tmp_path: Path) -> None:
    """Its idle workers end, and others take their places before the next image."""
    async with Workers(2, MEMORY) as workers:
        before = workers.pids
        os.kill(fork_server_pid(), signal.SIGKILL)
        await until(lambda: not workers.pids, "multiprocessing ends the workers of a dead fork server")
        assert isinstance(await workers.render(request(tmp_path, "next", photos.small_jpeg(1))), Rendered)
        await until(lambda: len(workers.pids) == 2, "both slots have processes")
        assert not set(workers.pids) & set(before)


@pytest.mark.gen_test
@pytest.mark.parametrize("system", ["linux", "macos"])
async def test_an_idle_process_that_dies_costs_no_image(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image goes to a living process, and a new process replaces the dead one; also where there is no pidfd."""
    if system == "macos":
        monkeypatch.delattr(os, "pidfd_open")
    async with Workers(2, MEMORY) as workers:
        dead, living = workers.pids
        os.kill(dead, signal.SIGKILL)
        await until(lambda: workers.pids == [living], "one process has ended")
        assert isinstance(await workers.render(request(tmp_path, "next", photos.small_jpeg(1))), Rendered)
        await until(lambda: len(workers.pids) == 2, "a new process replaces the dead one")
        assert dead not in workers.pids
        assert workers.replaced == {"crashed": 1}


@pytest.mark.gen_test
async def test_workers_answer_while_a_process_lives_or_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead processes are no answer when others do not start; the question alone makes the server replace them."""
    async with Workers(2, MEMORY) as workers:
        before = workers.pids
        monkeypatch.setattr(module, "START_TIMEOUT", 0.0)
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: len(workers.pids) == 1, "one process has ended")
        assert await workers.answers()
        os.kill(before[1], signal.SIGKILL)
        await until(lambda: not workers.pids, "the other one has ended")

        async def silent() -> bool:
            return not await workers.answers()

        await until(silent, "no process starts")
        monkeypatch.undo()
        await until(lambda: len(workers.pids) == 2, "new processes replace both")
        assert await workers.answers()
        assert workers.replaced == {"crashed": 2}
