"""What is read one by one, at the same time, is read together: after a restart everyone's devices come back at once.

It must not know what is read.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Batches(Generic[Key, Value]):
    """One read is under way at a time; who asks meanwhile waits for the next, which is for all of them.

    So nobody is given what was read before they asked, and who asks alone does not wait.
    """

    def __init__(self, read: Callable[[set[Key]], Awaitable[dict[Key, Value]]]) -> None:
        self._read = read
        self._keys: set[Key] = set()
        self._next: asyncio.Task[dict[Key, Value]] | None = None  # has not begun to read
        self._turn = asyncio.Lock()

    async def get(self, key: Key) -> Value | None:
        """What was read under `key`, if anything; raises as `read` does."""
        if self._next is None:
            self._keys = set()
            self._next = asyncio.create_task(self._run(), name="batched read")
        self._keys.add(key)
        # One who gives up must not cancel it for the others.
        return (await asyncio.shield(self._next)).get(key)

    async def _run(self) -> dict[Key, Value]:
        async with self._turn:
            keys, self._next = self._keys, None
            return await self._read(keys)
