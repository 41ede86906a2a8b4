"""A stop waits for the requests that are in flight."""

import asyncio

import pytest

from handlers.inflight import InFlight
from tests.pace import seconds


@pytest.mark.gen_test
async def test_without_requests_a_stop_waits_for_nothing() -> None:
    """Also with no time at all."""
    await InFlight().wait(within=0)
    await InFlight().wait(within=3600)


@pytest.mark.gen_test
async def test_a_stop_waits_for_the_last_request() -> None:
    """It ends as soon as the last one does, not before."""
    found, first, second = InFlight(), object(), object()
    found.begin(first)
    found.begin(second)
    found.begin(first)
    stop = asyncio.create_task(found.wait(within=3600))
    found.end(first)
    found.end(object())
    await found.wait(within=0.01)
    assert not stop.done()
    found.end(second)
    await asyncio.wait_for(stop, seconds(10))
    found.end(second)


@pytest.mark.gen_test
async def test_a_stop_does_not_wait_for_ever() -> None:
    """A request that does not end is left to be cut off."""
    found = InFlight()
    found.begin(object())
    await found.wait(within=0.01)


@pytest.mark.gen_test
async def test_requests_are_counted_again_after_a_pause() -> None:
    """The last one ended, then a new one came."""
    found, late = InFlight(), object()
    found.begin(late)
    found.end(late)
    found.begin(late)
    stop = asyncio.create_task(found.wait(within=3600))
    await found.wait(within=0.01)
    assert not stop.done()
    found.end(late)
    await asyncio.wait_for(stop, seconds(10))
