"""Writes on one dream go one after the other, so that their changes are told in the order in which they happened.

It must not know what is written. The database itself keeps writes apart; but their answers may arrive out of order,
and a listener would drop the older news, which may be of another image.
"""

import asyncio
from weakref import WeakValueDictionary


class Turns:
    """A lock for each dream that is being written, gone when nobody holds or awaits it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._locks)

    def of(self, dream_id: str) -> asyncio.Lock:
        """`async with turns.of(dream_id):` around the write and the call that tells of it."""
        lock = self._locks.get(dream_id)
        if lock is None:
            lock = self._locks[dream_id] = asyncio.Lock()
        return lock
