"""Calls that are made at the same time."""

import asyncio

import pytest

from storage.coalescer import Coalescer


class Source:
    """Records what it was asked for, and answers once `answers` is set."""

    def __init__(self) -> None:
        self.asked: list[set[str]] = []
        self.answers = asyncio.Event()
        self.coalescer = Coalescer(self.read)

    async def read(self, keys: set[str]) -> dict[str, int]:
        self.asked.append(keys)
        await self.answers.wait()
        if "broken" in keys:
            raise OSError("away")
        return {key: len(self.asked) for key in keys if key != "missing"}


async def asking(source: Source, *keys: str) -> list[asyncio.Task[int | None]]:
    tasks = [asyncio.create_task(source.coalescer.get(key)) for key in keys]
    for _ in range(3):  # iterations of the loop: the tasks ask, one of them begins to read, the reading waits
        await asyncio.sleep(0)
    return tasks


@pytest.mark.gen_test
async def test_calls_during_a_batch_share_the_next_one() -> None:
    """The first is read at once; the others wait for it, and are then read together, each key once."""
    source = Source()
    tasks = await asking(source, "a")
    tasks += await asking(source, "a", "b", "b", "missing")
    assert source.asked == [{"a"}]
    source.answers.set()
    assert await asyncio.gather(*tasks) == [1, 2, 2, 2, None]
    assert source.asked == [{"a"}, {"a", "b", "missing"}]


@pytest.mark.gen_test
async def test_a_batch_that_fails_fails_for_its_callers() -> None:
    """The next call reads again."""
    source = Source()
    source.answers.set()
    tasks = await asking(source, "broken", "a")
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in found] == [OSError, OSError]
    assert await source.coalescer.get("a") == 2


@pytest.mark.gen_test
async def test_a_cancelled_caller_does_not_cancel_the_batch() -> None:
    """The other caller gets its value."""
    source = Source()
    one, other = await asking(source, "a", "b")
    one.cancel()
    source.answers.set()
    assert await other == 1
    assert one.cancelled()
