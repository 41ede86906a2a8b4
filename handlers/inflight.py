"""The requests that are in flight, so that a stop can wait for their answers.

It must not know what a request is.
"""

import asyncio
from contextlib import suppress


class InFlight:
    """A set of requests, and an event that is set while the set is empty."""

    def __init__(self) -> None:
        self._requests: set[object] = set()
        self._none = asyncio.Event()
        self._none.set()

    def begin(self, request: object) -> None:
        """A stop waits for this request until `end`."""
        self._requests.add(request)
        self._none.clear()

    def end(self, request: object) -> None:
        """The request is answered or its connection is gone; may be called twice."""
        self._requests.discard(request)
        if not self._requests:
            self._none.set()

    async def wait(self, *, within: float) -> None:
        """Return once no request is in flight, after `within` seconds at the latest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._none.wait()
