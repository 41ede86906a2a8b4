"""The data folder, taken by one server at a time, and what it keeps for it: the secret, and this installation's name.

It must not know what is signed with the secret.
"""

import fcntl
import hashlib
import hmac
import os
import secrets
from typing import IO, Self

from config import Config


class CannotStart(Exception):
    """The message says what is in the way, and what to do."""


class Keys:
    """The data folder, locked for as long as this is entered.

    A server writes into the lock which storages it `opens`. A command that works beside one (`beside`) takes the lock
    when it is free, so that no server starts meanwhile; else `running` names the storages that the server has open.
    """

    def __init__(self, settings: Config, *, opens: tuple[str, ...] = (), beside: bool = False) -> None:
        self._data = settings.data
        self._configured = settings.auth.secret.value
        self._opens = opens
        self._beside = beside
        self._lock: IO[bytes] | None = None
        self.running: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        try:
            self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self._data / "lock").open("a+b")
            self._take(self._lock)
        except BlockingIOError as error:
            self.__exit__()
            raise CannotStart(f"Another Dreamlog is running on {self._data}.") from error
        except OSError as error:
            self.__exit__()
            raise CannotStart(f"The data folder {self._data} cannot be used: {error.strerror}.") from error
        self.secret = (self._configured or self._kept("secret")).encode()
        self.server = self._kept("server")[:16]
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def derived(self, purpose: str) -> bytes:
        """A key of its own for each purpose, so that no signature serves twice."""
        return hmac.digest(self.secret, purpose.encode(), hashlib.sha256)

    def _take(self, lock: IO[bytes]) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            self.running = tuple(lock.read().decode().split())
            if not self._beside or not self.running:
                raise
            return
        lock.truncate(0)
        lock.write(" ".join(self._opens).encode())
        lock.flush()

    def _kept(self, name: str) -> str:
        """The text in the file, made at the first start; a half-written one is never seen."""
        path = self._data / name
        if not path.exists():
            beside = path.with_suffix(".part")
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
            beside.rename(path)
        return path.read_text().strip()
