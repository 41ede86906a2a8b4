"""The embedded MongoDB, tested with a real `mongod` and real kills.

It must not know how `mongod` is configured, only what is promised: access, durability, and what a stop leaves behind.
"""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pymongo
import pytest
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import WriteConcern
from pymongo.errors import PyMongoError

from storage import mongod
from storage.mongod import Mongod, MongodFailed, MongodMissing, find_mongod
from tests.client import until
from tests.pace import seconds

ROOT = Path(mongod.__file__).parents[1]
WITHIN = seconds(30)  # most conditions hold within the first of them
Dreams = AsyncIOMotorCollection[dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "mongodb"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def socket_of(server: Mongod) -> Path:
    return Path(unquote(urlsplit(server.uri).netloc))


def dreams_in(server: Mongod) -> Dreams:
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(server.uri, serverSelectionTimeoutMS=5000)
    return client.get_database("dreamlog").get_collection("dreams", write_concern=WriteConcern("majority", j=True))


async def write(server: Mongod, number: int) -> None:
    dreams = dreams_in(server)
    with closing(dreams.database.client):
        await dreams.insert_one({"_id": number})


def refuses(client: pymongo.MongoClient[dict[str, Any]]) -> bool:
    try:
        client["dreamlog"]["dreams"].insert_one({})
    except PyMongoError:
        return True
    return False


async def read(server: Mongod) -> set[int]:
    dreams = dreams_in(server)
    with closing(dreams.database.client):
        return {dream["_id"] async for dream in dreams.find()}


def a_script(path: Path, text: str) -> Path:
    """Write an executable script, and replace an older one atomically: Linux refuses writes to a running file."""
    fresh = path.with_suffix(".new")
    fresh.write_text(f"#!/bin/sh\n{text}\n")
    fresh.chmod(0o755)
    return fresh.replace(path)


def test_it_takes_a_write_as_soon_as_it_is_entered(folder: Path) -> None:
    """`async with Mongod` returns when writes succeed; callers neither wait nor set anything up."""

    async def main() -> None:
        async with Mongod(folder) as server:
            await write(server, 1)
            assert await read(server) == {1}

    asyncio.run(main())


def test_it_is_a_replica_set_so_that_changes_can_be_watched(folder: Path) -> None:
    """Change streams work, which need a replica set."""

    async def main() -> None:
        async with Mongod(folder) as server:
            dreams = dreams_in(server)
            async with dreams.watch() as changes:
                await dreams.insert_one({"_id": 7})
                assert (await changes.next())["documentKey"] == {"_id": 7}
            dreams.database.client.close()

    asyncio.run(main())


def test_it_stops_when_left_and_leaving_twice_is_harmless(folder: Path) -> None:
    """A clean stop leaves no process, socket or lock."""

    async def main() -> None:
        server = Mongod(folder)
        async with server:
            pid = server.pid
            assert pid and alive(pid)
        assert server.pid is None and not alive(pid)
        assert not socket_of(server).exists()
        assert (folder / "mongod.lock").read_text() == ""
        await server.__aexit__(None, None, None)

    asyncio.run(main())


def test_it_listens_on_one_unix_socket_and_on_no_tcp_port(folder: Path) -> None:
    """All sockets of the process that the kernel lists are at this one path."""

    async def main() -> None:
        async with Mongod(folder) as server:
            inodes = set()
            for fd in Path(f"/proc/{server.pid}/fd").iterdir():
                with suppress(FileNotFoundError):
                    inodes.add(os.readlink(fd).removeprefix("socket:[").rstrip("]"))
            for table in ("tcp", "tcp6", "udp", "udp6"):
                rows = Path(f"/proc/{server.pid}/net/{table}").read_text().splitlines()[1:]
                assert not inodes & {row.split()[9] for row in rows}
            fields = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()[1:]]
            paths = {row[7] for row in fields if row[6] in inodes and len(row) > 7}
            assert paths == {str(socket_of(server))}

    asyncio.run(main())


def test_only_its_user_can_reach_the_socket(folder: Path) -> None:
    """The socket's folder has mode 0700, even if it existed before with a wider one."""
    folder.mkdir(parents=True)
    folder.chmod(0o777)

    async def main() -> None:
        async with Mongod(folder) as server:
            assert socket_of(server).parent.stat().st_mode & 0o777 == 0o700
            assert socket_of(server).stat().st_mode & 0o077 == 0

    asyncio.run(main())


def test_ctrl_c_in_the_terminal_does_not_reach_it(folder: Path) -> None:
    """mongod has its own session, because the server still needs the database while it releases its jobs."""

    async def main() -> None:
        async with Mongod(folder) as server:
            assert os.getsid(server.pid or 0) == server.pid

    asyncio.run(main())


def test_mongod_does_not_see_our_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mongod does not inherit settings from the server's environment."""
    monkeypatch.setenv("DREAMLOG_AUTH__SECRET", "moonlight")

    async def main() -> None:
        async with Mongod(folder) as server:
            assert b"moonlight" not in Path(f"/proc/{server.pid}/environ").read_bytes()

    asyncio.run(main())


def test_a_crowd_is_refused_and_does_not_bring_it_down(folder: Path) -> None:
    """mongod limits its connections: without a free slot for each operation, it would abort."""

    async def main() -> None:
        async with Mongod(folder) as server:
            pid = server.pid
            # Each client opens one connection for work and two for monitoring: 360, more than mongod accepts.
            crowd = [pymongo.MongoClient[dict[str, Any]](server.uri, serverSelectionTimeoutMS=1000) for _ in range(120)]
            with ThreadPoolExecutor(len(crowd)) as threads, ExitStack() as closed:
                for client in crowd:
                    closed.enter_context(closing(client))
                refused = sum(threads.map(refuses, crowd))
            assert 0 < refused < len(crowd)
            await write(server, 1)
            assert server.pid == pid

    asyncio.run(main())


def test_data_survive_a_clean_restart(folder: Path) -> None:
    """A second run reads what the first one wrote."""

    async def main() -> None:
        for number in range(3):
            async with Mongod(folder) as server:
                assert await read(server) == set(range(number))
                await write(server, number)

    asyncio.run(main())


def test_killed_it_comes_back_with_all_that_was_acknowledged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After kill -9 during writes, a new process with the same URI has every acknowledged write."""
    caplog.set_level(logging.INFO, "dreamlog.mongod")

    async def main() -> None:
        async with Mongod(folder) as server:
            uri, first = server.uri, server.pid
            assert first
            dreams = dreams_in(server)
            acknowledged: set[int] = set()

            async def keep_writing() -> None:
                for number in range(1_000_000):
                    with suppress(PyMongoError):
                        await dreams.insert_one({"_id": number})
                        acknowledged.add(number)

            writer = asyncio.create_task(keep_writing())
            await until(lambda: len(acknowledged) >= 50)
            os.kill(first, signal.SIGKILL)
            await until(lambda: server.pid not in (first, None))
            back = len(acknowledged)
            await until(lambda: len(acknowledged) > back + 10)
            writer.cancel()
            await asyncio.wait([writer])
            dreams.database.client.close()
            assert acknowledged <= await read(server)
            assert server.uri == uri
        # Each restart logs two plain lines: mongod was killed, mongod accepts writes again.
        assert [record.message.partition(",")[0].partition(";")[0] for record in caplog.records] == [
            "mongod was killed by signal 9",
            "mongod accepts writes again",
        ]

    asyncio.run(main())


def test_while_it_cannot_come_back_it_is_tried_again_with_growing_pauses(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The supervisor retries until the cause is gone (a full disk, an upgrade), without a restart of the server."""
    binary = a_script(tmp_path / "mongod", f'exec {find_mongod()} "$@"')

    async def main() -> None:
        async with Mongod(folder, binary=binary) as server:
            await write(server, 1)
            a_script(binary, "echo No space left on device >&2; exit 1")
            os.kill(server.pid or 0, signal.SIGKILL)
            await until(lambda: len(failures()) == 3)
            assert [line.partition(" s:")[0] for line in failures()] == [
                f"mongod does not start, trying again in {pause}" for pause in (0.2, 0.4, 0.8)
            ]
            assert "The disk is full" in failures()[0]
            a_script(binary, f'exec {find_mongod()} "$@"')
            await until(lambda: server.pid)
            assert await read(server) == {1}

    def failures() -> list[str]:
        return [record.message for record in caplog.records if record.levelno == logging.ERROR]

    asyncio.run(main())


def test_killed_with_its_server_it_is_gone_and_the_next_start_recovers(folder: Path) -> None:
    """kill -9 of the server also ends mongod; the stale socket and lock do not stop the next start."""
    program = (
        "import asyncio, pathlib, sys\n"
        "from storage.mongod import Mongod\n"
        "async def main():\n"
        "    async with Mongod(pathlib.Path(sys.argv[1])) as server:\n"
        "        print(server.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )

    async def main() -> None:
        with subprocess.Popen(
            [sys.executable, "-c", program, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as parent:
            assert parent.stdout
            pid = int(await asyncio.to_thread(parent.stdout.readline))
            server = Mongod(folder)
            await write(server, 1)
            parent.kill()
        await until(lambda: not alive(pid))
        assert socket_of(server).exists() and (folder / "mongod.lock").read_text()
        async with server:
            assert await read(server) == {1}

    asyncio.run(main())


def test_a_start_that_is_cancelled_leaves_no_process(folder: Path) -> None:
    """A cancelled start leaves no process, and the next start succeeds."""

    async def main() -> None:
        server = Mongod(folder)
        entering = asyncio.create_task(server.__aenter__())
        await until(lambda: server.pid)
        pid = server.pid or 0
        entering.cancel()
        await asyncio.wait([entering])
        assert entering.cancelled() and server.pid is None and not alive(pid)
        async with server:
            await write(server, 1)

    asyncio.run(main())


def test_the_data_folder_can_be_moved(folder: Path, tmp_path: Path) -> None:
    """The replica set's configuration has the path of the old socket, which a start replaces."""
    elsewhere = tmp_path / "elsewhere"

    async def main() -> None:
        async with Mongod(folder) as server:
            await write(server, 1)
        shutil.move(folder, elsewhere)
        for known in ({1}, {1, 2}):
            async with Mongod(elsewhere) as server:
                assert await read(server) == known
                await write(server, len(known) + 1)

    asyncio.run(main())


@pytest.mark.parametrize("name", ["x" * 100, "a, b", "梦"])
def test_where_a_socket_cannot_be_its_folder_is_a_private_temporary_one(tmp_path: Path, name: str) -> None:
    """If the path is too long or has unsuitable characters, the socket is in a temporary folder with a stable name."""
    folder = tmp_path / name / "mongodb"

    async def main() -> None:
        addresses = set()
        for number in (1, 2):
            async with Mongod(folder) as server:
                await write(server, number)
                addresses.add(server.uri)
                room = socket_of(server).parent
                assert room.parent == Path(tempfile.gettempdir())
                assert room.stat().st_mode & 0o777 == 0o700
            assert not room.exists()
        assert len(addresses) == 1

    asyncio.run(main())


def test_a_link_in_place_of_the_temporary_folder_is_refused(tmp_path: Path) -> None:
    """Any user can create a link there, which would lead our clients to that user's database."""
    server = Mongod(tmp_path / ("x" * 100))
    room = socket_of(server).parent
    room.symlink_to(tmp_path)
    try:
        with pytest.raises(MongodFailed, match="not a folder that only this user may enter"):
            asyncio.run(server.__aenter__())
    finally:
        room.unlink()


def test_a_temporary_folder_with_too_long_a_path_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error asks for a shorter TMPDIR, because no folder is left for the socket."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("y" * 100)))
    with pytest.raises(MongodFailed, match="Set TMPDIR"):
        asyncio.run(Mongod(tmp_path / ("x" * 100)).__aenter__())


def test_it_is_killed_if_it_does_not_stop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop of mongod that exceeds its time limit ends with SIGKILL, and the next start recovers."""
    monkeypatch.setattr(mongod, "STOP_TIMEOUT", 0.2)

    async def main() -> None:
        async with Mongod(folder) as server:
            await write(server, 1)
            pid = server.pid or 0
            os.kill(pid, signal.SIGSTOP)
        assert not alive(pid)
        async with Mongod(folder) as server:
            assert await read(server) == {1}

    asyncio.run(main())


def test_a_second_server_on_the_same_folder_is_refused_and_harms_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second server stops before it starts a mongod, which would take over the socket of the first."""
    monkeypatch.setattr(mongod, "LOCK_TIMEOUT", 0.1)

    async def main() -> None:
        async with Mongod(folder) as first:
            second = Mongod(folder)
            with pytest.raises(MongodFailed, match="Another server is using"):
                await second.__aenter__()
            assert second.pid is None
            await write(first, 1)

    asyncio.run(main())


def test_its_log_stays_within_bounds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one log for this run and one for the previous run; a log that grows too large is truncated."""
    monkeypatch.setattr(mongod, "LOG_INTERVAL", 0.01)

    async def main() -> None:
        for _ in range(3):
            async with Mongod(folder) as server:
                pass
        assert sorted(path.name for path in folder.glob("*.log*")) == ["mongod.log", "mongod.log.1"]
        written = (folder / "mongod.log").stat().st_size
        monkeypatch.setattr(mongod, "LOG_LIMIT", written // 4)
        async with Mongod(folder) as server:
            await until(lambda: (folder / "mongod.log").stat().st_size <= written // 4)
            await write(server, 1)
        assert b"\0" not in (folder / "mongod.log").read_bytes()

    asyncio.run(main())


def test_damaged_data_is_explained(folder: Path) -> None:
    """The error has the relevant lines of mongod's log and a remedy, and no process or lock is left."""

    async def main() -> None:
        server = Mongod(folder)
        async with server:
            await write(server, 1)
        turtle = folder / "WiredTiger.turtle"
        good = turtle.read_bytes()
        turtle.write_bytes(b"\xff" * 1000)
        with pytest.raises(MongodFailed) as failure:
            await server.__aenter__()
        assert "fatal turtle file read error" in str(failure.value)
        assert "restore a backup" in str(failure.value)
        assert str(folder) in str(failure.value)
        assert len(str(failure.value)) < 2000
        assert server.pid is None
        turtle.write_bytes(good)
        async with server:
            assert await read(server) == {1}

    asyncio.run(main())


def test_a_binary_that_cannot_run_is_explained(folder: Path, tmp_path: Path) -> None:
    """The binary is for another processor, lacks its libraries, or is no program."""
    for binary, sentence in (
        (a_script(tmp_path / "old-processor", "kill -4 $$"), "lacks AVX"),
        (a_script(tmp_path / "bare-system", "echo error while loading shared libraries >&2; exit 127"), "libssl3"),
        (tmp_path / "nothing", "No such file"),
    ):
        with pytest.raises(MongodFailed, match=sentence):
            asyncio.run(Mongod(folder, binary=binary).__aenter__())


def test_a_disk_too_full_for_the_log_is_explained(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mongod could not write the error to its log, so the server looks at the disk."""
    monkeypatch.setattr(mongod, "NEARLY_FULL", 1 << 62)
    with pytest.raises(MongodFailed, match=r"The disk is full\."):
        asyncio.run(Mongod(folder, binary=a_script(tmp_path / "silent", "kill -6 $$")).__aenter__())


def test_a_folder_that_cannot_be_created_is_explained(tmp_path: Path) -> None:
    """The error is clear when a file has the name of the folder."""
    (tmp_path / "data").write_text("")
    with pytest.raises(MongodFailed, match="cannot run in"):
        asyncio.run(Mongod(tmp_path / "data" / "mongodb").__aenter__())


def test_mongod_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has installed a mongod wants that one."""
    binary = a_script(tmp_path / "mongod", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_mongod() == binary


def test_without_any_mongod_the_message_names_the_remedies(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mongod is neither on PATH nor in a Python package."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MongodMissing) as missing:
        asyncio.run(Mongod(folder).__aenter__())
    for word in ("PATH", mongod.WHEEL, "mongodb.uri", "DREAMLOG_MONGODB__URI"):
        assert word in str(missing.value)


def test_a_missing_run_bit_of_the_package_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some installers drop the execute permission."""
    (tmp_path / "fiftyone/db/bin").mkdir(parents=True)
    binary = a_script(tmp_path / "fiftyone/db/bin/mongod", "exit 0")
    binary.chmod(0o644)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert find_mongod() == binary
    assert os.access(binary, os.X_OK)


def test_a_binary_that_cannot_be_made_executable_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package may belong to another user; here an immutable file, which not even root can change, stands for it."""
    binary = tmp_path / "fiftyone/db/bin/mongod"
    binary.parent.mkdir(parents=True)
    binary.symlink_to("/proc/self/status")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MongodMissing, match="chmod"):
        find_mongod()


def test_it_starts_in_a_few_seconds(folder: Path) -> None:
    """A first start usually takes 0.5 s; if it takes ten, something is wrong."""

    async def main() -> None:
        started = time.monotonic()
        async with Mongod(folder):
            assert time.monotonic() - started < seconds(10)

    asyncio.run(main())
