"""The data folder: its lock, which one server holds at a time, its secret, and the name of this installation.

It must not know the uses of the secret.
"""

import fcntl
import hashlib
import hmac
import os
import secrets
from typing import IO, Self

from config import Config


class CannotStart(Exception):
    """The server cannot start; the message says why, and what to do."""


class DataFolder:
    """A context manager that locks the data folder. Entering raises `CannotStart`.

    A server writes the names of its open storages (`stores`) into the lock file. A command that works with or without
    a running server (`allow_running`) takes the lock if it is free, so that no server starts meanwhile; otherwise
    `running_stores` has the storages that the running server has open. It is empty while no server runs.
    """

    def __init__(self, settings: Config, *, stores: tuple[str, ...] = (), allow_running: bool = False) -> None:
        self._path = settings.data
        self._configured_secret = settings.auth.secret.value
        self._stores = stores
        self._allow_running = allow_running
        self._lock: IO[bytes] | None = None
        self.running_stores: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self._path / "lock").open("a+b")
            self._acquire(self._lock)
        except BlockingIOError as error:
            self.__exit__()
            raise CannotStart(
                f"Another Dreamlog is running in the data folder {self._path}. Stop it, or choose another with --data."
            ) from error
        except OSError as error:
            self.__exit__()
            raise CannotStart(f"The data folder {self._path} cannot be used: {error.strerror}.") from error
        self.secret = (self._configured_secret or self._persistent("secret")).encode()
        self.server = self._persistent("server")[:16]
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def derive_key(self, purpose: str) -> bytes:
        """A key (32 bytes) for one purpose, so that a signature made for one purpose is not valid for another."""
        return hmac.digest(self.secret, purpose.encode(), hashlib.sha256)

    def _acquire(self, lock: IO[bytes]) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            self.running_stores = tuple(lock.read().decode().split())
            # A holder without stores is a command, which may have opened the embedded database.
            if not self._allow_running or not self.running_stores:
                raise
            return
        lock.truncate(0)
        lock.write(" ".join(self._stores).encode())
        lock.flush()

    def _persistent(self, name: str) -> str:
        """The random text in the file `name`, written durably at the first start; never read half-written."""
        path = self._path / name
        if not path.exists():
            part = path.with_suffix(".part")
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
        return path.read_text().strip()
