"""What is asked for one by one, at the same time, is done together.

After a restart everyone's devices come back at once, and the files of one picture are stored in one go.
It must not know what is done.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Batches(Generic[Key, Value]):
    """One batch is under way at a time; who asks meanwhile waits for the next, which is for all of them.

    So nobody is given what was read before they asked, and who asks alone does not wait.
    """

    def __init__(self, work: Callable[[set[Key]], Awaitable[dict[Key, Value]]]) -> None:
        """`work` does what these keys ask for, and tells what came out for each."""
        self._work = work
        self._keys: set[Key] = set()
        self._next: asyncio.Task[dict[Key, Value]] | None = None  # has not begun
        self._turn = asyncio.Lock()

    async def get(self, key: Key) -> Value | None:
        """What came out for `key`, if anything; raises as `work` does."""
        if self._next is None:
            self._keys = set()
            self._next = asyncio.create_task(self._run(), name="batch")
        self._keys.add(key)
        # One who gives up must not cancel it for the others.
        return (await asyncio.shield(self._next)).get(key)

    async def _run(self) -> dict[Key, Value]:
        async with self._turn:
            keys, self._next = self._keys, None
            return await self._work(keys)
