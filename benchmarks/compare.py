"""Two checkouts of Dreamlog against each other, in one run: CPU time for each ping, delivery and small dream.

    python compare.py OLD NEW [--pairs 12]     # each a folder with the code and its .venv

Both servers are started anew for each pair, in random order, and get the same load. So a busy minute of the machine
hits both alike, and what differs between two starts of the same code (hash seeds, memory layout) shows in the spread.
Each pair gives one ratio NEW / OLD. The table has its geometric mean and the 95 % interval, by Student's t on the
logarithms. CPU time is user and system time of the server with all its processes.
"""

import argparse
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from servers import BENCH, HERE, Server

Result = dict[str, Any]
COMMAND = "{checkout}/.venv/bin/python {checkout}/server.py run --port {{port}} --data {{folder}}/data"
PUBLISH = f"{sys.executable} publish.py {{url}} {{{{id}}}} {{{{count}}}}"


@dataclass(frozen=True)
class Load:
    """One run of the driver, and how its answer gives operations and CPU seconds."""

    title: str
    command: tuple[str, ...]
    operations: Callable[[Result], float]
    cpu: Callable[[Result], float] = lambda result: result["cpu_s"]["total"]


LOADS = (
    Load(
        "small dream, created and completed",
        ("throughput", "--users", "8", "--dreams", "200"),
        lambda result: result["from_201_to_completed_ms"]["n"],
    ),
    Load(
        "ping, on 32 sockets",
        ("pingflood", "--connections", "32", "--seconds", "4"),
        lambda result: result["round_trips"],
    ),
    Load(
        "delivery, to 200 listeners",
        ("fanout", "--subscribers", "200", "--messages", "400", "--rounds", "1", "--publish-cmd", PUBLISH),
        lambda result: result["deliveries"],
        lambda result: sum(each["cpu_s"]["total"] for each in result["per_round"]),
    ),
)


@dataclass(frozen=True)
class Comparison:
    """Microseconds of CPU for each operation, of both checkouts in each pair."""

    title: str
    old: list[float]
    new: list[float]

    @property
    def ratio(self) -> float:
        return math.exp(statistics.fmean(self._logarithms))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of the geometric mean ratio; needs two pairs at least."""
        count = len(self.old)
        error = statistics.stdev(self._logarithms) / math.sqrt(count)
        reach = student(count - 1) * error
        return self.ratio * math.exp(-reach), self.ratio * math.exp(reach)

    @property
    def _logarithms(self) -> list[float]:
        return [math.log(new / old) for old, new in zip(self.old, self.new, strict=True)]


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t: a table for few pairs, else the expansion around the normal one."""
    table = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]
    if freedom <= len(table):
        return table[freedom - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def measure(server: Server, photos: Path) -> list[float]:
    """Microseconds of CPU for each operation of each load, on a server started for this alone."""
    server.start()
    try:
        return [_drive(load, server, photos) for load in LOADS]
    finally:
        server.stop()


def _drive(load: Load, server: Server, photos: Path) -> float:
    command = [part.format(url=server.url) for part in load.command]
    options = ["--base", server.url, "--pids", server.pids, "--photos", str(photos)]
    done = subprocess.run(
        [sys.executable, "load.py", *command, *options],
        cwd=HERE / "driver",
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        raise SystemExit(f"{server.name}, {load.title}: {done.stderr.strip()[-500:]}")
    result = json.loads(done.stdout)
    return 1e6 * load.cpu(result) / load.operations(result)


def small_photo(folder: Path) -> Path:
    """A folder with one picture of 320 by 240 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = random.Random(1).randbytes(3 * 320 * 240)
    Image.frombytes("RGB", (320, 240), noise).save(folder / "small.jpg", quality=85)
    return folder


def table(comparisons: list[Comparison], pairs: int) -> str:
    lines = [
        f"| CPU time ({pairs} pairs) | old, median | new, median | ratio | 95 % interval |",
        "|---|---|---|---|---|",
    ]
    for each in comparisons:
        low, high = each.interval
        old, new = (f"{statistics.median(values):,.1f} µs" for values in (each.old, each.new))
        lines.append(f"| {each.title} | {old} | {new} | {each.ratio:.3f} | {low:.3f} to {high:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--pairs", type=int, default=12, help="2 at least (12)")
    parser.add_argument("--out", type=Path, default=BENCH / "compare.json")
    options = parser.parse_args()
    if options.pairs < 2:
        parser.error("--pairs: an interval takes 2 at least")
    servers = {
        name: Server(f"{name} checkout", port, COMMAND.format(checkout=folder.resolve()))
        for name, folder, port in (("old", options.old, 18400), ("new", options.new, 18401))
    }
    photos = small_photo(BENCH / "small")
    pairs = []
    for number in range(1, options.pairs + 1):
        found = {name: measure(servers[name], photos) for name in random.sample(["old", "new"], 2)}
        pairs.append(found)
        ratios = ", ".join(f"{new / old:.3f}" for old, new in zip(found["old"], found["new"], strict=True))
        print(f"pair {number} of {options.pairs}: {ratios}", file=sys.stderr, flush=True)
    comparisons = [
        Comparison(load.title, [pair["old"][at] for pair in pairs], [pair["new"][at] for pair in pairs])
        for at, load in enumerate(LOADS)
    ]
    machine = f"{os.cpu_count()} CPUs, {platform.platform()}, Python {platform.python_version()}"
    print(f"{machine}; load averages at the end {' '.join(f'{value:.1f}' for value in os.getloadavg())}\n")
    print(table(comparisons, options.pairs))
    rows = [
        {"title": each.title, "old_us": each.old, "new_us": each.new, "ratio": each.ratio, "interval": each.interval}
        for each in comparisons
    ]
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps({"machine": machine, "pairs": options.pairs, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
