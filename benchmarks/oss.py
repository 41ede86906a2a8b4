"""Measures what a slow OSS costs, and an unreachable one, with the OSS of the tests, which verifies every signature.

    .venv/bin/python benchmarks/oss.py throughput [--images 100] [--rounds 5] [--delay 0.2]
    .venv/bin/python benchmarks/oss.py outage [--seconds 120]

`throughput`: two servers with one worker each render the same 12-megapixel photos at the same time, so that a busy
machine slows both alike. The storage of one answers at once; the other's takes `delay` seconds for each request. The
figure is the ratio of completed images when the first of them has finished. `outage`: of 50 uploads the storage gets
ten, and is then unreachable for `seconds`. The figure is how many complete.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import click

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests import photos
from tests.client import Api, Server
from tests.oss_server import OssServer


def uploads(count: int) -> list[bytes]:
    """Photos that differ in a comment, so that no two count as equal uploads."""
    photo = photos.phone_jpeg()
    return [photo[:2] + b"\xff\xfe\x00\x06" + number.to_bytes(4, "big") + photo[2:] for number in range(count)]


class Side:
    """A server with one worker and its own storage, which takes `delay` seconds for each request."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        oss = self._stack.enter_context(OssServer())
        server = await self._stack.enter_async_context(Server(Path(folder), **oss.settings(), images__workers=1))
        self.api = await self._stack.enter_async_context(Api(server.url))
        await self.api.sign_up()
        await self.api.finished((await self.api.dream(photos.small_jpeg(1)))["id"])  # everything is loaded
        oss.faults.delay = self.delay
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def upload(self, images: list[bytes]) -> None:
        self.ids = [(await self.api.dream(*images[n : n + 10]))["id"] for n in range(0, len(images), 10)]

    async def completed(self) -> int:
        dreams = [await self.api.get(each) for each in self.ids]
        return sum(image["status"] == "completed" for dream in dreams for image in dream["images"])


async def race(images: int, delay: float) -> tuple[float, float]:
    """Images per second with the storage that answers at once, and with the slow one, when either has finished."""
    async with Side(0) as quick, Side(delay) as slow:
        began = time.perf_counter()
        pictures = uploads(images)
        await asyncio.gather(quick.upload(pictures), slow.upload(pictures))
        while True:
            done = await asyncio.gather(quick.completed(), slow.completed())
            if max(done) == images:
                return tuple(count / (time.perf_counter() - began) for count in done)
            await asyncio.sleep(0.2)


async def outage(seconds: float) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder, OssServer() as oss:
        async with Server(Path(folder), **oss.settings()) as server, Api(server.url) as api:
            await api.sign_up()
            dreams = []
            for number in range(50):
                oss.faults.gone = number >= 10
                dreams.append(await api.dream(photos.small_jpeg(number)))
            gone = time.monotonic()
            ready = (await api.call("GET", "/readyz")).code
            await asyncio.sleep(seconds)
            waiting = [await api.get(dream["id"]) for dream in dreams]
            oss.faults.gone = False
            back = time.monotonic()
            dreams = [await api.finished(dream["id"], within=600) for dream in dreams]
            images = [image for dream in dreams for image in dream["images"]]
            return {
                "answered_201": len(images),
                "gone_seconds": round(back - gone),
                "readyz_meanwhile": ready,
                "waiting_at_its_end": sum(dream["status"] == "processing" for dream in waiting),
                "completed": sum(image["status"] == "completed" for image in images),
                "tried_more_than_once": sum(image["attempt"] > 1 for image in images),
                "seconds_until_all_complete": round(time.monotonic() - back, 1),
                "objects": len(oss.names()),
                "written_twice_with_other_content": sum(len(digests) > 1 for digests in oss.writes.values()),
            }


@click.group()
def cli() -> None:
    """Measure images on OSS."""


@cli.command("throughput")
@click.option("--images", default=100)
@click.option("--rounds", default=5)
@click.option("--delay", default=0.2)
def throughput_command(images: int, rounds: int, delay: float) -> None:
    """Print one line of JSON for each round, then the medians."""
    results = []
    for _ in range(rounds):
        at_once, slow = asyncio.run(race(images, delay))
        results.append({"at_once": at_once, "slow": slow, "ratio": slow / at_once})
        click.echo(json.dumps({name: round(value, 3) for name, value in results[-1].items()}))
    medians = {f"median_{name}": round(statistics.median(r[name] for r in results), 3) for name in results[0]}
    click.echo(json.dumps(medians))


@cli.command("outage")
@click.option("--seconds", default=120.0)
def outage_command(seconds: float) -> None:
    """Print the outcome of 50 uploads as one line of JSON."""
    click.echo(json.dumps(asyncio.run(outage(seconds))))


if __name__ == "__main__":
    cli()
