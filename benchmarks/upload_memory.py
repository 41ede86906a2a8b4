"""Measures how much memory 20 simultaneous uploads of 40 MB cost the server's process.

    .venv/bin/python benchmarks/upload_memory.py [--uploads 20] [--megabytes 40] [--rounds 3]

Each round starts a new server and uploads different BMP pictures at the same time, as fast as the server takes them. It
reads the peak of the resident memory (VmHWM, reset before the uploads) after the last 201.
"""

import asyncio
import json
import os
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.client import MULTIPART, Api, Server, multipart


def picture(megabytes: int, seed: int) -> bytes:
    """A BMP of random pixels, which no compression makes smaller."""
    side = int((megabytes * 1_000_000 / 3) ** 0.5) // 4 * 4
    head = struct.pack("<2sIHHI", b"BM", 54 + 3 * side * side, 0, 0, 54)
    head += struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 3 * side * side, 2835, 2835, 0, 0)
    return head + os.urandom(3 * side * side - 4) + struct.pack("<I", seed)


def memory(pid: int, field: str) -> float:
    """A field of /proc/PID/status, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


async def measure(uploads: int, megabytes: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        async with Server(Path(folder)) as server, Api(server.url) as api:
            await api.sign_up()
            bodies = [multipart(picture(megabytes, seed), title="large") for seed in range(uploads)]
            Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak begins anew
            before = memory(server.pid, "VmRSS")
            start = time.perf_counter()
            await asyncio.gather(
                *(api.json("POST", "/api/dreams", body, status=201, headers=MULTIPART) for body in bodies)
            )
            return {
                "before_mb": round(before, 1),
                "peak_mb": round(memory(server.pid, "VmHWM"), 1),
                "raised_mb": round(memory(server.pid, "VmHWM") - before, 1),
                "seconds_to_last_201": round(time.perf_counter() - start, 1),
            }


@click.command()
@click.option("--uploads", default=20)
@click.option("--megabytes", default=40)
@click.option("--rounds", default=3)
def main(uploads: int, megabytes: int, rounds: int) -> None:
    """Print one line of JSON for each round, then the medians."""
    results = []
    for _ in range(rounds):
        results.append(asyncio.run(measure(uploads, megabytes)))
        click.echo(json.dumps(results[-1]))
    click.echo(json.dumps({f"median_{name}": statistics.median(r[name] for r in results) for name in results[0]}))


if __name__ == "__main__":
    main()
