"""How much memory 20 uploads of 40 MB at once cost the server's process.

    .venv/bin/python benchmarks/upload_memory.py [--uploads 20] [--megabytes 40] [--rounds 3]

Starts a server of its own for each round, uploads different BMP pictures side by side as fast as it takes them, and
reads the peak of its resident memory (VmHWM, which the kernel resets before the uploads) until the last 201.
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
    """A BMP of random pixels: nothing about it can be compressed away."""
    side = int((megabytes * 1_000_000 / 3) ** 0.5) // 4 * 4
    head = struct.pack("<2sIHHI", b"BM", 54 + 3 * side * side, 0, 0, 54)
    head += struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 3 * side * side, 2835, 2835, 0, 0)
    return head + os.urandom(3 * side * side - 4) + struct.pack("<I", seed)


def memory(pid: int, field: str) -> float:
    """MB of a field of /proc/PID/status."""
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
    """Print one JSON line a round, then the medians."""
    results = []
    for _ in range(rounds):
        results.append(asyncio.run(measure(uploads, megabytes)))
        click.echo(json.dumps(results[-1]))
    click.echo(json.dumps({f"median_{name}": statistics.median(r[name] for r in results) for name in results[0]}))


if __name__ == "__main__":
    main()
