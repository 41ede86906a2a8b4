"""KeyedLock of writers."""

import asyncio

from storage.locks import KeyedLock


def test_writers_of_one_dream_take_locks_and_others_do_not_wait() -> None:
    """The second of a dream waits for the first; another dream's goes at once; nothing is kept afterwards."""

    async def main() -> None:
        locks, order, free = KeyedLock(), [], asyncio.Event()

        async def write(dream_id: str, name: str, wait: bool) -> None:
            async with locks.of(dream_id):
                order.append(f"{name} begins")
                if wait:
                    await free.wait()
                order.append(f"{name} ends")

        first = asyncio.create_task(write("a", "first", True))
        second = asyncio.create_task(write("a", "second", False))
        other = asyncio.create_task(write("b", "other", False))
        await other
        assert order == ["first begins", "other begins", "other ends"]
        free.set()
        await asyncio.gather(first, second)
        assert order[3:] == ["first ends", "second begins", "second ends"]
        del first, second, other
        assert len(locks) == 0

    asyncio.run(main())
