"""An event loop whose clock the tests move: it jumps to the next timer as soon as nothing else is left to do.

So a test waits an hour in no time, and a test in which nothing can ever happen again fails at once instead of hanging.
It does not know threads or processes: the clock would run ahead of them.
"""

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


class _JumpingSelector(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "every task waits for another one"
            self.now += max(0.0, timeout)
        return ready


class FakeTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def in_fake_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on such a loop; `asyncio.sleep` is how it moves the clock."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def soon(condition: Callable[[], object], within: float = 60.0) -> None:
    """Let everything run, and time pass in steps of 0.01 s, until the condition holds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while not condition():
        assert loop.time() < end, "it never came to that"
        await asyncio.sleep(0.01)


async def ends(task: Awaitable[object], within: float) -> float:
    """The seconds after which it ended, at most `within`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(within):
        await task
    return loop.time() - began
