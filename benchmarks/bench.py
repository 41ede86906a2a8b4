"""Compares Dreamlog with its peers in one run: prints a table, and writes results.json and chart.svg.

Each round runs all loads, and each load runs all servers, so that a busy minute of the machine hits all alike. A figure
is the median of the rounds; its ratio compares with the best peer of that row. The load generator is driver/load.py, in
its own process, and it is the same for every server.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chart
import rendering
from servers import BENCH, HERE, Original, Server

sys.path.insert(0, str(HERE / "driver"))
import procs

DREAMLOG = f"{HERE.parent}/.venv/bin/python {HERE.parent}/server.py run --port {{port}} --data {{folder}}/data"
WEBP = {"DREAMLOG_IMAGES__FORMAT": "webp", "DREAMLOG_IMAGES__QUALITY": "80", "DREAMLOG_IMAGES__EFFORT": "4"}

dreamlog = Server("dreamlog", 18100, DREAMLOG)
dreamlog_webp = Server("dreamlog webp", 18101, DREAMLOG, **WEBP)
uvicorn, daphne = Original("uvicorn", 18000), Original("daphne", 18001)
node = Server("node ws", 18200, "node peers/sockets.js {port}")
bare = Server("bare tornado", 18300, f"{sys.executable} peers/bare.py {{port}}")
AnyServer = Server | Original

Result = dict[str, Any]
Results = dict[str, dict[str, list[Result]]]  # load -> server -> one for each round

LIMIT = 14.5 * 60  # seconds after which no further load is begun: a busy machine leaves the last round incomplete


@dataclass(frozen=True)
class Load:
    """One run of the driver against each of the servers."""

    command: str
    photos: str
    servers: tuple[AnyServer, ...]
    rounds: int = 99
    once: tuple[AnyServer, ...] = ()  # measured in the first round only, as its figure is never the best
    fresh: bool = False  # the server is started anew: memory that an earlier run left would hide what this one takes
    output: str = ""  # what the original's workers render meanwhile, where that is not their default


def publish(count: int, listeners: int) -> str:
    return f"fanout --subscribers {listeners} --messages {count} --rounds 1 --publish-cmd {{publish}}"


TIMES = (1, 2, 4, 8)
SOCKETS = (dreamlog, uvicorn, daphne, node)
LOADS = {
    "photos": Load("throughput --users 8 --dreams 8 --images 3", "phone", (dreamlog, uvicorn)),
    "photos, WebP": Load("throughput --users 8 --dreams 8 --images 3", "phone", (dreamlog_webp,)),
    "photos, JPEG": Load("throughput --users 8 --dreams 8 --images 3", "phone", (uvicorn,), output="jpeg:78"),
    "one photo": Load("throughput --users 1 --dreams 5", "phone", (dreamlog, uvicorn)),
    "accept": Load("throughput --users 4 --dreams 32", "phone", (dreamlog, uvicorn)),
    "small": Load("throughput --users 8 --dreams 100", "tiny", (dreamlog, uvicorn, daphne)),
    "one small": Load("throughput --users 1 --dreams 20", "tiny", (dreamlog, uvicorn)),
    "late": Load("throughput --users 8 --dreams 16 --ws-delay 0.1 --lost-after 1", "tiny", (dreamlog, uvicorn)),
    "upload": Load("upload --users 4 --dreams 40", "phone", (dreamlog, bare)),
    "pings": Load("pingflood --connections 32 --seconds 2", "tiny", SOCKETS, once=(daphne,)),
    "to 200": Load(publish(40, 200), "tiny", SOCKETS, once=(daphne,)),
    "to 1000": Load(publish(6, 1000), "tiny", SOCKETS, once=(daphne,)),
    "one change": Load(publish(1, 1000), "tiny", (dreamlog, uvicorn)),
    "connects": Load("ramp --sizes 1000", "tiny", SOCKETS, once=(daphne,)),
    **{f"photos {n}x": Load(f"throughput --users 8 --dreams {12 * n}", "phone", (dreamlog,)) for n in TIMES},
    **{f"small {n}x": Load(f"throughput --users 8 --dreams {50 * n}", "tiny", (dreamlog,), rounds=1) for n in TIMES},
    **{f"upload {n}x": Load(f"upload --users 4 --dreams {20 * n}", "phone", (dreamlog,), rounds=1) for n in TIMES},
    **{
        f"pings {n}x": Load(f"pingflood --connections {8 * n} --seconds 1", "tiny", (dreamlog,), rounds=1)
        for n in TIMES
    },
    **{f"listeners {n}x": Load(publish(24, 125 * n), "tiny", (dreamlog,), rounds=1) for n in TIMES},
    "connections": Load("ramp --sizes 1000,2000,4000,5000,8000", "tiny", (dreamlog,), fresh=True),
    "connections of the peers": Load("ramp --sizes 5000", "tiny", (uvicorn,), fresh=True),
}


@dataclass(frozen=True)
class Row:
    """One figure, read from the same place in the results of each server."""

    title: str
    unit: str
    load: str
    key: str  # path in the driver's answer
    target: float | None = None  # of the ratio Dreamlog / best peer, or 0: none may be lost
    more: bool = False  # more is better
    peer_load: str = ""  # where the peers' figure is, if elsewhere
    peer_key: str = ""
    scale: float = 1.0


P, S, D = "photos", "small", "from_201_to_completed_ms"
ROWS = [
    Row("photos, each its defaults", "images/s", P, "images_per_s", 5, more=True),
    Row("CPU per image, each its defaults", "ms", P, "cpu_ms_per_image", 0.2),
    Row("photos, both WebP q80 method 4", "images/s", "photos, WebP", "images_per_s", 1.8, more=True, peer_load=P),
    Row("CPU per image, both WebP q80 method 4", "ms", "photos, WebP", "cpu_ms_per_image", 0.55, peer_load=P),
    Row("photos, both JPEG q78", "images/s", P, "images_per_s", 1.8, more=True, peer_load="photos, JPEG"),
    Row("CPU per image, both JPEG q78", "ms", P, "cpu_ms_per_image", 0.55, peer_load="photos, JPEG"),
    *(Row(f"photos: 201 {at}", "ms", P, f"to_201_ms.{at}") for at in ("p50", "p95", "p99")),
    *(Row(f"photos: 201 to completed {at}", "ms", P, f"{D}.{at}") for at in ("p50", "p95", "p99")),
    Row("photos: missed notifications", "", P, "lost_notifications", 0),
    Row("one photo, 201 to completed p50", "ms", "one photo", f"{D}.p50", 0.2),
    Row("one small image, 201 to completed p50", "ms", "one small", f"{D}.p50"),
    Row("small images", "dreams/s", S, "images_per_s", 4, more=True),
    Row("CPU per small dream", "ms", S, "cpu_ms_per_image", 0.25),
    Row("4 people, 3 MB photos: 201 p50", "ms", "accept", "to_201_ms.p50", 1),
    Row("4 people, 3 MB photos: 201 p99", "ms", "accept", "to_201_ms.p99", 1),
    Row("socket 100 ms after the 201: missed of 16", "", "late", "lost_notifications", 0),
    Row("upload alone", "MB/s", "upload", "mb_per_s", more=True),
    Row("upload alone, CPU", "ms/MB", "upload", "cpu_ms_per_mb"),
    Row("connects", "1/s", "connects", "1000.connects_per_s", 3, more=True),
    Row("CPU per connect", "ms", "connects", "1000.cpu_ms_per_connect"),
    Row(
        "memory per connection, 5,000 open",
        "KB",
        "connections",
        "5000.pss_kb_per_connection",
        0.6,
        peer_load="connections of the peers",
    ),
    Row("connects, 5,000 to 8,000", "1/s", "connections", "8000.connects_per_s", more=True),
    Row("CPU per ping round trip", "us", "pings", "cpu_ms_per_round_trip", 0.5, scale=1000),
    Row("deliveries to 200 listeners", "1/s", "to 200", "deliveries_per_s", 5, more=True),
    Row("deliveries to 1,000 listeners", "1/s", "to 1000", "deliveries_per_s", 5, more=True),
    Row("deliveries to 1,000 listeners: missed", "", "to 1000", "missing_deliveries", 0),
    Row(
        "one change: from the first of 1,000 deliveries to the last", "ms", "one change", "spread_first_to_last_ms.p50"
    ),
    Row("from the change to a delivery, 1,000 listeners p50", "ms", "to 1000", "publish_to_delivery_ms.p50"),
    Row("memory of everything at rest", "MB", "rest", "pss_mb", 0.8),
    Row("memory of everything under load", "MB", P, "peak_pss_mb"),
    Row("start to ready", "s", "start", "seconds"),
]


@dataclass(frozen=True)
class Growth:
    """One figure of Dreamlog at 1, 2, 4 and 8 times the work. Each round compares its last with its own first."""

    title: str
    unit: str
    loads: tuple[str, ...]
    keys: tuple[str, ...]
    target: float | None = None  # the most that 8 times the work may be of once
    scale: float = 1.0

    def figures(self, results: "Results") -> list[list[float]]:
        """Four figures for each round that has all of them."""
        found = []
        for each in zip(*(results.get(load, {}).get("dreamlog", []) for load in self.loads), strict=False):
            values = [at(result, key) for result, key in zip(each, self.keys, strict=True)]
            if None not in values:
                found.append([value * self.scale for value in values if value is not None])
        return found


def growth(title: str, unit: str, load: str, key: str, target: float | None = None, scale: float = 1.0) -> Growth:
    return Growth(title, unit, tuple(f"{load} {n}x" for n in TIMES), (key,) * 4, target, scale)


def of_connections(title: str, unit: str, key: str, target: float | None = None) -> Growth:
    return Growth(title, unit, ("connections",) * 4, tuple(f"{1000 * n}.{key}" for n in TIMES), target)


GROWTH = [
    growth("CPU per image (12 photos and more)", "ms", "photos", "cpu_ms_per_image", 1.1),
    growth("CPU per small dream (50 and more)", "ms", "small", "cpu_ms_per_image"),
    growth("CPU of uploads alone (20 and more)", "ms/MB", "upload", "cpu_ms_per_mb"),
    of_connections("memory per connection (1,000 and more)", "KB", "pss_kb_per_connection", 1.1),
    of_connections("CPU per connect (1,000 and more)", "ms", "cpu_ms_per_connect", 1.1),
    growth("CPU per ping round trip (8 connections and more)", "us", "pings", "cpu_ms_per_round_trip", scale=1000),
    growth("CPU per delivery (125 listeners and more)", "us", "listeners", "cpu_ms_per_delivery", scale=1000),
]


class Peak:
    """The peak memory of all processes of a server while this is entered, sampled twice a second."""

    def __init__(self, pids: str) -> None:
        self._roots = procs.parse(pids)
        self.pss_mb = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self.pss_mb = max(self.pss_mb, procs.memory(self._roots)["total"]["pss_mb"])


def drive(load: Load, server: AnyServer) -> Result:
    hook = f"{sys.executable} publish.py {server.url} {{id}} {{count}}"
    if isinstance(server, Original):
        hook = f"{HERE}/peers/original/publish.sh {BENCH}/original {{id}} {{count}}"
    command = [sys.executable, "load.py", *(hook if part == "{publish}" else part for part in load.command.split())]
    command += ["--base", server.url, "--pids", server.pids, "--photos", str(BENCH / "photos" / load.photos)]
    with Peak(server.pids) as peak:
        done = subprocess.run(command, cwd=HERE / "driver", capture_output=True, text=True, timeout=300)
    if done.returncode:
        return {"error": done.stderr.strip()[-500:] or f"exit {done.returncode}"}
    result: Result = json.loads(done.stdout)
    if "per_round" in result and result["deliveries"]:
        cpu = sum(each["cpu_s"]["total"] for each in result["per_round"] if "cpu_s" in each)
        result["cpu_ms_per_delivery"] = 1000 * cpu / result["deliveries"]
    if result.get("errors"):
        print(f"\n  {server.name}: {result['first_error']}", file=sys.stderr)
    return result | {"peak_pss_mb": peak.pss_mb}


class Run:
    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.began = time.monotonic()
        self.results: Results = {}

    def say(self, text: str) -> None:
        seconds = time.monotonic() - self.began
        print(f"{int(seconds) // 60:3d}:{int(seconds) % 60:02d}  {text}", file=sys.stderr, flush=True)

    def keep(self, load: str, server: str, result: Result) -> None:
        self.results.setdefault(load, {}).setdefault(server, []).append(result)

    def one_round(self, number: int) -> None:
        self._start()
        for name in self.names:
            load = LOADS[name]
            if number > load.rounds:
                continue
            if time.monotonic() - self.began > LIMIT:
                self.say(f"  {name}: skipped, the time is over")
                continue
            self.say(f"  {name}")
            if load.output:
                Original.output(load.output)
            servers = [server for server in load.servers if number == 1 or server not in load.once]
            for server in random.sample(servers, len(servers)):
                if load.fresh:
                    server.restart()
                self.keep(name, server.name, drive(load, server))
            if load.output:
                Original.output("webp:80:4")
        self._stop()

    def rendering(self, number: int) -> None:
        self.say("  rendering alone")
        for kind, found in rendering.measure(look=number == 1).items():
            for name, result in found.items():
                self.keep(f"rendering {kind}", name.replace("Dreamlog", "dreamlog"), result)

    def _start(self) -> None:
        """Start every server. Memory at rest is read 15 s after four photos, when each has loaded its libraries."""
        self.say("  start, and memory at rest")
        self.keep("start", "dreamlog", {"seconds": dreamlog.start()})
        self.keep("start", "original", {"seconds": Original.start()})
        for server in (dreamlog, uvicorn):
            drive(Load("throughput --users 1 --dreams 4", "phone", ()), server)
        time.sleep(15)
        for server in (dreamlog, uvicorn):
            self.keep("rest", server.name, procs.memory(procs.parse(server.pids))["total"])
        for server in (dreamlog_webp, node, bare):
            server.start()

    @staticmethod
    def _stop() -> None:
        for server in (dreamlog, dreamlog_webp, node, bare):
            server.stop()
        Original.stop()


# ---- what came out


def at(result: Result, path: str) -> float | None:
    value: Any = result
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int | float) else None


def medians(results: dict[str, list[Result]], key: str, scale: float) -> dict[str, float]:
    found = {}
    for server, rounds in results.items():
        values = [value * scale for result in rounds if (value := at(result, key)) is not None]
        if values:
            found[server] = statistics.median(values)
    return found


def line(row: Row, results: Results) -> dict[str, Any] | None:
    """The row as the table shows it, or None if it was not measured. For losses the worst round counts."""
    ours = [v for n, v in medians(results.get(row.load, {}), row.key, row.scale).items() if n.startswith("dreamlog")]
    if not ours:
        return None
    peers = medians(results.get(row.peer_load or row.load, {}), row.peer_key or row.key, row.scale)
    peers = {name: value for name, value in peers.items() if not name.startswith("dreamlog")}
    rivals = {name: value for name, value in peers.items() if name != "node ws"}
    best = (max if row.more else min)(rivals, key=rivals.__getitem__, default="")
    ratio = ours[0] / rivals[best] if best and rivals[best] else None
    met = None
    if row.target == 0:
        found = [at(result, row.key) for result in results[row.load]["dreamlog"]]
        ours = [max(value for value in found if value is not None)]
        met = ours[0] == 0
    elif ratio is not None and row.target is not None:
        met = ratio >= row.target if row.more else ratio <= row.target
    return {
        "title": row.title,
        "unit": row.unit,
        "dreamlog": ours[0],
        "best": best,
        "peer": rivals.get(best),
        "ratio": ratio,
        "target": row.target,
        "node": peers.get("node ws"),
        "more": row.more,
        "met": met,
        "peers": peers,
    }


def lines(results: Results) -> list[dict[str, Any]]:
    drawn = [line(row, results) for row in ROWS]
    for kind in rendering.KINDS:
        target = 0.6 if kind == "12 MP JPEG" else 1.0
        drawn.append(line(Row(f"rendering alone, {kind}: CPU", "ms", f"rendering {kind}", "cpu_ms", target), results))
        drawn.append(line(Row(f"rendering alone, {kind}: SSIM", "", f"rendering {kind}", "ssim", more=True), results))
    return [each for each in drawn if each is not None]


def growths(results: Results) -> list[dict[str, Any]]:
    """The rows about growth: medians of the rounds, and of the ratio of 8 times the work to once."""
    drawn = []
    for row in GROWTH:
        if rounds := row.figures(results):
            ratio = statistics.median(each[-1] / each[0] for each in rounds)
            drawn.append(
                {
                    "title": f"{row.title}, 8 times to once",
                    "unit": row.unit,
                    "figures": [statistics.median(values) for values in zip(*rounds, strict=True)],
                    "ratio": ratio,
                    "target": row.target,
                    "more": False,
                    "met": None if row.target is None else ratio <= row.target,
                }
            )
    return drawn


MET = {True: "met", False: "**missed**", None: ""}


def table(rows: list[dict[str, Any]]) -> str:
    shown = ["| | Dreamlog | best peer | ratio | target | | Node `ws` |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        target = peer = ratio = node = ""
        if row["target"] is not None:
            target = f"{'≥' if row['more'] else '≤'} {row['target']:g}" if row["target"] else "none"
        if row["peer"] is not None:
            peer = f"{figure(row['peer'])} ({row['best']})"
        if row["ratio"] is not None:
            ratio = f"{row['ratio']:.2f}"
        if row["node"] is not None:
            node = figure(row["node"])
        unit = f" {row['unit']}" if row["unit"] else ""
        ours = figure(row["dreamlog"])
        shown.append(f"| {row['title']} | {ours}{unit} | {peer} | {ratio} | {target} | {MET[row['met']]} | {node} |")
    return "\n".join(shown)


def growth_table(rows: list[dict[str, Any]]) -> str:
    shown = ["| | once | twice | 4 times | 8 times | 8 times / once | target | |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        title = row["title"].removesuffix(", 8 times to once")
        figures = " | ".join(f"{figure(value)} {row['unit']}" for value in row["figures"])
        target = f"≤ {row['target']:g}" if row["target"] else ""
        shown.append(f"| {title} | {figures} | {row['ratio']:.2f} | {target} | {MET[row['met']]} |")
    return "\n".join(shown)


def figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if value != 1 else "1"


def busiest_driver(results: Results) -> list[str]:
    """Runs in which the load generator used most of a CPU: their rates may be its own."""
    found = []
    for load, servers in results.items():
        for server, rounds in servers.items():
            for result in rounds:
                stretches = [result, *result.get("per_round", []), *(v for v in result.values() if isinstance(v, dict))]
                for each in stretches:
                    if each.get("wall_s", 0) > 0.5 and each.get("driver_cpu_s", 0) > 0.8 * each["wall_s"]:
                        found.append(f"{load}, {server}")
    return sorted(set(found))


def failures(results: Results) -> list[str]:
    """Runs that gave no figures, each with the end of its error output."""
    return [
        f"{load}, {server}: {result['error'].splitlines()[-1]}"
        for load, servers in results.items()
        for server, rounds in servers.items()
        for result in rounds
        if "error" in result
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="loads whose names contain one of these, separated by commas")
    parser.add_argument("--out", type=Path, default=BENCH)
    options = parser.parse_args()
    wanted: Callable[[str], bool] = lambda name: any(part in name for part in options.only.split(","))  # noqa: E731
    run = Run([name for name in LOADS if wanted(name)])
    Run._stop()
    try:
        for number in range(1, options.rounds + 1):
            run.say(f"round {number} of {options.rounds}")
            if wanted("rendering"):
                run.rendering(number)
            if run.names:
                run.one_round(number)
    finally:
        Run._stop()
    rows, grown = lines(run.results), growths(run.results)
    machine = f"{os.cpu_count()} CPUs, {platform.platform()}, Python {platform.python_version()}"
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"{machine}; {options.rounds} rounds, {time.monotonic() - run.began:.0f} s; load averages at the end {load}\n"
    )
    print(table(rows))
    print("\n" + growth_table(grown))
    for name in busiest_driver(run.results):
        print(f"\nThe load generator may have been the limit in: {name}")
    for failure in failures(run.results):
        print(f"\nFailed: {failure}")
    options.out.mkdir(exist_ok=True)
    (options.out / "results.json").write_text(
        json.dumps(
            {"machine": machine, "rounds": options.rounds, "rows": rows, "growth": grown, "runs": run.results}, indent=1
        )
    )
    (options.out / "chart.svg").write_text(chart.svg([*rows, *grown]))


if __name__ == "__main__":
    main()
