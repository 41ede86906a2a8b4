"""What a slow OSS costs, and what an absent one: on the tests' own OSS, which verifies every signature.

    .venv/bin/python benchmarks/oss.py throughput [--images 60] [--rounds 5] [--delay 0.2]
    .venv/bin/python benchmarks/oss.py outage [--seconds 120]

`throughput` uploads different 12-megapixel photos and takes the time from the first claim to the last completed image,
with a storage that answers at once and with one that takes `delay` seconds for each request, in turns, so that a busy
machine slows both alike; its figure is the ratio. `outage` uploads 50 pictures, of which the storage sees ten before it
is gone for so many seconds, and counts what came of them.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests import photos
from tests.client import Api, Server
from tests.oss_server import OssServer


def uploads(count: int) -> list[bytes]:
    """Photos that differ in a comment, so that none is taken for another."""
    photo = photos.phone_jpeg()
    return [photo[:2] + b"\xff\xfe\x00\x06" + number.to_bytes(4, "big") + photo[2:] for number in range(count)]


async def rate(images: int, delay: float) -> float:
    """Images a second, from the last 201 to the last completed one; the server stands still until then."""
    with tempfile.TemporaryDirectory() as folder, OssServer() as oss:
        async with Server(Path(folder), **oss.settings()) as server, Api(server.url) as api:
            await api.sign_up()
            await api.finished((await api.dream(photos.small_jpeg(1)))["id"])  # everything is loaded
            oss.faults.delay = delay
            began = time.perf_counter()
            dreams = [await api.dream(*uploads(images)[n : n + 10], title=str(n)) for n in range(0, images, 10)]
            for dream in dreams:
                finished = await api.finished(dream["id"], within=600)
                assert finished["status"] == "completed"
            return images / (time.perf_counter() - began)


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
    """Figures of pictures on OSS."""


@cli.command("throughput")
@click.option("--images", default=60)
@click.option("--rounds", default=5)
@click.option("--delay", default=0.2)
def throughput_command(images: int, rounds: int, delay: float) -> None:
    """Print one JSON line a round, then the medians."""
    results = []
    for number in range(rounds):
        order = (0.0, delay) if number % 2 == 0 else (delay, 0.0)
        rates = {each: asyncio.run(rate(images, each)) for each in order}
        results.append({"at_once": rates[0.0], "slow": rates[delay], "ratio": rates[delay] / rates[0.0]})
        click.echo(json.dumps({name: round(value, 3) for name, value in results[-1].items()}))
    medians = {f"median_{name}": round(statistics.median(r[name] for r in results), 3) for name in results[0]}
    click.echo(json.dumps(medians))


@cli.command("outage")
@click.option("--seconds", default=120.0)
def outage_command(seconds: float) -> None:
    """Print what came of 50 uploads, as one JSON line."""
    click.echo(json.dumps(asyncio.run(outage(seconds))))


if __name__ == "__main__":
    cli()
