"""Argon2id hashes of passwords, made and verified in threads of their own.

It must not know to which account a password belongs.
"""

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from storage.errors import Unavailable

T = TypeVar("T")


class Passwords:
    """Hashes passwords while it is entered as a context manager.

    The parameters are the leanest in memory that OWASP's Password Storage Cheat Sheet recommends for Argon2id:
    19 MiB, 2 passes, 1 lane. So `threads` threads take at most 19 MiB each, however many people sign in.
    """

    MAX_WAITING = 200  # at about 40 a second and thread, people would not wait for more

    def __init__(self, *, threads: int = 2, memory: int = 19 * 1024, passes: int = 2) -> None:
        """`memory` in KiB for each hash."""
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory, parallelism=1)  # argon2id is its default
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._waiting = 0
        # Verified where there is no account, so that an unknown name takes as long as a wrong password.
        self._nobodys = self._hasher.hash(secrets.token_hex())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    async def hash(self, password: str) -> str:
        """Raises `Unavailable` when too many wait."""
        return await self._run(self._hasher.hash, _composed(password))

    async def verify(self, hash: str | None, password: str) -> tuple[bool, str | None]:
        """Whether `password` is right, and a new hash to keep if `hash` was made with other parameters.

        `hash` None stands for an account that does not exist: never right, and as slow. Raises `Unavailable` when too
        many wait.
        """
        return await self._run(self._verify, hash, _composed(password))

    def _verify(self, hash: str | None, password: str) -> tuple[bool, str | None]:
        try:
            self._hasher.verify(hash or self._nobodys, password)
        except VerifyMismatchError:
            return False, None
        if hash is None:
            return False, None
        return True, self._hasher.hash(password) if self._hasher.check_needs_rehash(hash) else None

    async def _run(self, work: Callable[..., T], *args: Any) -> T:
        if self._waiting >= self.MAX_WAITING:
            sentence = "Too many people are signing in just now. Try again in a moment."
            raise Unavailable(sentence, code="too_many_sign_ins")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)
        finally:
            self._waiting -= 1


def _composed(password: str) -> str:
    """In NFKC, as NIST SP 800-63B, 5.1.1.2 says: keyboards differ in how they put an accent on a letter."""
    return unicodedata.normalize("NFKC", password)
