"""A lock for each key: the writers of one dream go one after the other, so that changes are published in order.

It must not know what the lock protects. The database keeps writes apart by itself, but its answers may arrive out of
order; a listener would then drop the older update, which may be about another image.
"""

import asyncio
from weakref import WeakValueDictionary


class KeyedLock:
    """A lock for each key in use; a lock is gone once no task holds or awaits it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._locks)

    def of(self, key: str) -> asyncio.Lock:
        """The lock of `key`, for `async with`."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock
