"""Coalesces calls that are made one by one at the same time into one call for all of them, as DataLoader does.

After a restart all clients reconnect at once, and the files of one image are stored together.
It must not know what the calls do.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Coalescer(Generic[Key, Value]):
    """Runs one batch at a time; calls that arrive meanwhile share the next batch.

    So no caller gets a value that was read before its call, and a single caller does not wait.
    """

    def __init__(self, work: Callable[[set[Key]], Awaitable[dict[Key, Value]]]) -> None:
        """`work` handles a set of keys and returns the value of each; it may leave keys out."""
        self._work = work
        self._keys: set[Key] = set()
        self._next: asyncio.Task[dict[Key, Value]] | None = None  # a batch that has not begun
        self._running = asyncio.Lock()

    async def get(self, key: Key) -> Value | None:
        """The value of `key`, None when `work` left it out; raises what `work` raises."""
        if self._next is None:
            self._keys = set()
            self._next = asyncio.create_task(self._run(), name="batch")
        self._keys.add(key)
        # Shielded: a caller that is cancelled must not cancel the batch of the others.
        return (await asyncio.shield(self._next)).get(key)

    async def _run(self) -> dict[Key, Value]:
        async with self._running:
            keys, self._next = self._keys, None
            return await self._work(keys)
