"""Load generator: every subcommand prints one line of JSON. See README.md."""

import argparse
import asyncio
import importlib
import itertools
import json
import os
import shlex
import statistics
import time
from functools import partial

import procs
import target as t
import uvloop
from picows import WSMsgType


def quantiles(seconds, digits=1):
    """Milliseconds."""
    values = sorted(seconds)
    if not values:
        return None
    pick = lambda q: round(1000 * values[min(len(values) - 1, int(q * len(values)))], digits)  # noqa: E731
    return {"n": len(values), "p50": pick(0.5), "p95": pick(0.95), "p99": pick(0.99), "max": pick(1)}


class Meter:
    """Wall clock, server CPU and driver CPU of a stretch of the run."""

    def __init__(self, roots):
        self.roots = roots
        self.cpu, self.busy, self.own = procs.cpu(roots), procs.busy(), sum(os.times()[:4])
        self.start = time.perf_counter()

    def read(self, per=None, count=0):
        wall = time.perf_counter() - self.start
        spent = procs.cpu_since(self.cpu, self.roots)
        own = sum(os.times()[:4]) - self.own  # with the publishing command, a child
        figures = {"wall_s": round(wall, 2), "driver_cpu_s": round(own, 2)}
        if self.roots:
            figures["other_cpu_s"] = round(procs.busy() - self.busy - own - spent["total"], 2)
            figures["cpu_s"] = spent
            if per and count:
                figures[f"cpu_ms_per_{per}"] = round(1000 * spent["total"] / count, 3)
        return figures


async def gather_limited(limit, jobs):
    """Runs the jobs (functions without arguments), at most so many at a time."""
    gate = asyncio.Semaphore(limit)

    async def one(job):
        async with gate:
            return await job()

    return await asyncio.gather(*(one(job) for job in jobs))


# ---------------------------------------------------------------- throughput


async def throughput(server, o, roots):
    photos = t.load_images(o.photos)
    tokens = [await server.token(f"load-{number}") for number in range(o.users)]
    numbers, watchers = itertools.count(), []
    posted, ready, lost, failed, unfinished, dropped, errors, ends = [], [], [], [], [], [], [], []

    async def watch(token, dream_id, created):
        await asyncio.sleep(o.ws_delay)
        client = await server.subscribe(token, dream_id)
        deadline = created + o.give_up
        seen_final = False
        while not client.final.done():
            await asyncio.wait([client.final], timeout=2 if seen_final else o.lost_after)
            if client.final.done():
                break
            if seen_final:
                lost.append(dream_id)
                break
            if time.time() > deadline:
                unfinished.append(dream_id)
                break
            seen_final = await server.dream_status(token, dream_id) in t.FINAL
        if client.final.done():
            arrival, message = client.final.result()
            (ready if message["status"] == "completed" else failed).append(arrival - created)
            ends.append(arrival)
        elif client.closed:
            dropped.append(dream_id)
        client.close()

    async def user(token):
        while (number := next(numbers)) < o.dreams:
            images = [photos[(number * o.images + i) % len(photos)] for i in range(o.images)]
            start = time.time()
            try:
                dream_id = await server.create_dream(token, images)
                posted.append(time.time() - start)
                watcher = watch(token, dream_id, time.time())
                if o.no_wait:
                    watchers.append(asyncio.create_task(watcher))
                else:
                    await watcher
            except Exception as error:
                errors.append(repr(error)[:200])

    meter, start = Meter(roots), time.time()
    await asyncio.gather(*(user(token) for token in tokens))
    results = await asyncio.gather(*watchers, return_exceptions=True)
    errors += [repr(result)[:200] for result in results if isinstance(result, Exception)]
    count = len(ready) * o.images
    return {
        "users": o.users,
        "dreams": o.dreams,
        "images_per_dream": o.images,
        "no_wait": o.no_wait,
        "ws_delay_s": o.ws_delay,
        "images_per_s": round(count / (max(ends) - start), 3) if ends else 0,
        "to_201_ms": quantiles(posted),
        "from_201_to_completed_ms": quantiles(ready),
        "lost_notifications": len(lost),
        "dropped_connections": len(dropped),
        "failed": len(failed),
        "unfinished": len(unfinished),
        "errors": len(errors),
        "first_error": errors[0] if errors else None,
        **meter.read("image", (len(ready) + len(lost)) * o.images),
    }


# ---------------------------------------------------------------- upload


async def upload(server, o, roots):
    """Only the way to the 201. The same picture each time: a server that knows its bytes has nothing to render."""
    image = t.load_images(o.photos)[0]
    tokens = [await server.token(f"load-{number}") for number in range(o.users)]
    for token in tokens:
        await server.wait_final(token, await server.create_dream(token, [image], unique=False))
    numbers, posted = itertools.count(), []

    async def user(token):
        while next(numbers) < o.dreams:
            start = time.time()
            await server.create_dream(token, [image], unique=False)
            posted.append(time.time() - start)

    meter = Meter(roots)
    await asyncio.gather(*(user(token) for token in tokens))
    megabytes = o.dreams * len(image) / 1e6
    rate = megabytes / (time.perf_counter() - meter.start)
    return {"mb_per_s": round(rate, 1), "to_201_ms": quantiles(posted), **meter.read("mb", megabytes)}


# ---------------------------------------------------------------- idle


async def finished_dreams(server, o, token, count):
    image = t.load_images(o.photos)[0]
    ids = await gather_limited(4, [lambda: server.create_dream(token, [image])] * count)
    await gather_limited(4, [lambda id=id: server.wait_final(token, id) for id in ids])
    return ids


async def ramp(server, o, roots):
    """Connections are opened up to each number in turn, and held: what each of them costs at that size."""
    token = await server.token("load-0")
    ids = await finished_dreams(server, o, token, o.dreams)
    await asyncio.sleep(1)
    before, clients, steps = procs.memory(roots)["total"], [], {}
    for size in map(int, o.sizes.split(",")):
        jobs = [partial(server.subscribe, token, ids[n % len(ids)]) for n in range(size - len(clients))]
        meter = Meter(roots)
        clients += await gather_limited(o.parallel, jobs)
        opening = meter.read("connect", len(jobs))
        await asyncio.sleep(o.settle)
        now = procs.memory(roots)["total"]
        steps[str(size)] = {
            "connects_per_s": round(len(jobs) / opening["wall_s"], 1),
            "pss_kb_per_connection": round(1024 * (now["pss_mb"] - before["pss_mb"]) / size, 2),
            **opening,
        }
    dropped = sum(client.closed is not None for client in clients)
    for client in clients:
        client.close()
    await asyncio.sleep(o.settle)
    return {"dropped": dropped, **steps}


async def idle(server, o, roots):
    token = await server.token("load-0")
    ids = await finished_dreams(server, o, token, o.dreams or o.connections)
    await asyncio.sleep(1)
    before, meter = procs.memory(roots), Meter(roots)
    jobs = [partial(server.subscribe, token, ids[n % len(ids)]) for n in range(o.connections)]
    clients = await gather_limited(o.parallel, jobs)
    connecting = meter.read("connection", o.connections)
    await asyncio.sleep(o.settle)
    after = procs.memory(roots)
    meter = Meter(roots)
    pinger = clients[0]
    trips = [await pinger.ping() for _ in range(o.pings)]
    pinging = meter.read("ping", o.pings)
    holding = None
    if o.hold:
        meter, until = Meter(roots), time.time() + o.hold

        async def beat(number, client):
            await asyncio.sleep(o.heartbeat * number / o.connections)
            while time.time() < until and not client.closed:
                client.send({"type": "ping", "timestamp": time.time()})
                await asyncio.sleep(o.heartbeat)

        beats = [asyncio.create_task(beat(*pair)) for pair in enumerate(clients)] if o.heartbeat else []
        await asyncio.sleep(o.hold)
        holding = meter.read()
        for task in beats:
            task.cancel()
    dropped = sum(client.closed is not None for client in clients)
    for client in clients:
        client.close()
    await asyncio.sleep(o.settle)
    per = lambda key: {  # noqa: E731
        name: round(1024 * (after[name][key] - before[name][key]) / o.connections, 2) for name in after
    }
    return {
        "connections": o.connections,
        "dreams": len(ids),
        "connects_per_s": round(o.connections / connecting["wall_s"], 1),
        "rss_kb_per_connection": per("rss_mb"),
        "pss_kb_per_connection": per("pss_mb"),
        "memory_before": before,
        "memory_with_connections": after,
        "memory_after_close": procs.memory(roots),
        "ping_ms": quantiles(trips, 3),
        "dropped": dropped,
        "connecting": connecting,
        "pinging": pinging,
        "holding": holding and {"heartbeat_s": o.heartbeat, **holding},
    }


# ---------------------------------------------------------------- fanout


async def fanout(server, o, roots):
    token = await server.token("load-0")
    photos = t.load_images(o.photos)
    spreads, latencies, rates, racy, missing, dropped, deliveries, readings = [], [], [], 0, 0, 0, 0, []

    async def subscribers_of(ids):
        jobs = [lambda id=id: server.subscribe(token, id) for id in ids for _ in range(o.subscribers)]
        clients = await gather_limited(o.parallel, jobs)
        return [clients[i : i + o.subscribers] for i in range(0, len(clients), o.subscribers)]

    for _ in range(o.rounds):
        if o.publish_cmd:
            ids = await finished_dreams(server, o, token, o.dreams)
            groups = await subscribers_of(ids)
            await asyncio.sleep(0.5)
            for client in itertools.chain(*groups):
                client.updates.clear()  # the state that some servers send at the beginning
            meter = Meter(roots)
            commands = [o.publish_cmd.format(id=id, count=o.messages) for id in ids]
            children = [await asyncio.create_subprocess_exec(*shlex.split(command)) for command in commands]
            codes = [await child.wait() for child in children]
            if any(codes):
                raise SystemExit(f"--publish-cmd exited {codes}")
            everyone = [client for group in groups for client in group]
            expected, seen, quiet = len(everyone) * o.messages, -1, 0
            while quiet < 3 and seen < expected:  # until all have come, or nothing for 3 seconds
                await asyncio.sleep(0.2)
                last, seen = seen, sum(len(client.updates) for client in everyone)
                quiet = 0 if seen != last else quiet + 0.2
            arrivals = [[update for client in group for update in client.updates] for group in groups]
        else:
            hold = [photos[i % len(photos)] for i in range(o.hold_images)]
            ids = await gather_limited(4, [partial(server.create_dream, token, hold)] * o.dreams)
            groups = await subscribers_of(ids)
            statuses = [await server.dream_status(token, id) for id in ids]
            meter = Meter(roots)
            racy += sum(status in t.FINAL for status in statuses)
            everyone = [client for group in groups for client in group]
            for id, status in zip(ids, statuses, strict=True):
                status in t.FINAL or await server.wait_final(token, id)
            await asyncio.wait([client.final for client in everyone], timeout=3)
            expected = len(everyone)
            arrivals = [[c.final.result() for c in group if c.final.done()] for group in groups]
        readings.append(meter.read())
        got = sum(map(len, arrivals))
        deliveries, missing = deliveries + got, missing + expected - got
        dropped += sum(client.closed is not None for client in everyone)
        for events in arrivals:
            times = sorted(now for now, _ in events)
            latencies += [now - message["timestamp"] for now, message in events]
            if len(times) > 1:
                spreads.append(times[-1] - times[0])
        times = sorted(now for events in arrivals for now, _ in events)
        if len(times) > 1 and times[-1] > times[0]:
            rates.append(len(times) / (times[-1] - times[0]))
        for client in everyone:
            client.close()
        await asyncio.sleep(0.5)
    return {
        "mode": "publish" if o.publish_cmd else "processing",
        "dreams": o.dreams,
        "subscribers_per_dream": o.subscribers,
        "rounds": o.rounds,
        "messages": o.messages if o.publish_cmd else 1,
        "deliveries": deliveries,
        "missing_deliveries": missing,
        "dropped_connections": dropped,
        "racy_dreams": racy,
        "spread_first_to_last_ms": quantiles(spreads, 2),
        "publish_to_delivery_ms": quantiles(latencies, 2),
        "deliveries_per_s": round(statistics.median(rates), 1) if rates else None,
        "per_round": readings,
    }


# ---------------------------------------------------------------- pingflood


class Flooder(t.Subscriber):
    """Sends the next ping from inside the arrival of the last pong."""

    trips = running = None

    def flood(self):
        self.started = time.perf_counter()
        self.transport.send(WSMsgType.TEXT, b'{"type":"ping","timestamp":%.6f}' % self.started)

    def on_ws_frame(self, transport, frame):
        if self.running and frame.msg_type == WSMsgType.TEXT and b'"pong"' in frame.get_payload_as_bytes():
            self.trips.append(time.perf_counter() - self.started)
            self.flood()
        else:
            super().on_ws_frame(transport, frame)


async def pingflood(server, o, roots):
    token = await server.token("load-0")
    ids = await finished_dreams(server, o, token, o.dreams)
    jobs = [partial(server.subscribe, token, ids[n % len(ids)], Flooder()) for n in range(o.connections)]
    clients = await gather_limited(o.parallel, jobs)
    await clients[0].ping()  # a full check of one answer
    trips = Flooder.trips = []
    Flooder.running = True
    meter = Meter(roots)
    for client in clients:
        client.flood()
    await asyncio.sleep(o.seconds)
    count, figures = len(trips), meter.read("round_trip", len(trips))
    Flooder.running = False
    dropped = sum(client.closed is not None for client in clients)
    for client in clients:
        client.close()
    return {
        "connections": o.connections,
        "round_trips": count,
        "round_trips_per_s": round(count / figures["wall_s"], 1),
        "round_trip_ms": quantiles(trips[:count], 3),
        "dropped": dropped,
        **figures,
    }


# ---------------------------------------------------------------- command line


def main():
    common = argparse.ArgumentParser(add_help=False)
    t.add_options(common)
    common.add_argument("--pids", help="'web=12,worker=34' or @FILE: whose CPU and memory to count, with descendants")
    common.add_argument("--photos", required=True, help="folder of images to upload")
    common.add_argument("--label", default="", help="copied to the output")
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(function, **options):
        sub = commands.add_parser(function.__name__, parents=[common])
        sub.set_defaults(function=function)
        for name, (default, text) in options.items():
            flag = "--" + name.replace("_", "-")
            if default is False:
                sub.add_argument(flag, action="store_true", help=text)
            else:
                sub.add_argument(flag, type=type(default), default=default, help=f"{text} ({default})")

    command(
        throughput,
        users=(4, "concurrent users"),
        dreams=(24, "dreams to upload in all"),
        images=(1, "images per dream"),
        no_wait=(False, "a user uploads the next dream without waiting for the last one's completion"),
        ws_delay=(0.0, "seconds from the 201 to the WebSocket's opening, as on a slow network"),
        lost_after=(10.0, "seconds without an event after which the dream is looked up over HTTP"),
        give_up=(300.0, "seconds after which a dream counts as unfinished"),
    )
    command(upload, users=(4, "concurrent users"), dreams=(24, "uploads of one picture in all"))
    command(
        ramp,
        sizes=("1000,2000,4000,8000", "connections to hold, one number after the other"),
        dreams=(10, "dreams they are spread over"),
        parallel=(64, "connection attempts at a time"),
        settle=(1.0, "seconds before memory is read"),
    )
    command(
        idle,
        connections=(1000, "connections to hold"),
        dreams=(10, "dreams they are spread over; 0: one each"),
        parallel=(64, "connection attempts at a time"),
        pings=(1000, "sequential pings on one of them"),
        hold=(0.0, "seconds to hold them after that"),
        heartbeat=(30.0, "seconds between the pings of each connection while holding; 0: none"),
        settle=(3.0, "seconds before memory is read"),
    )
    command(
        fanout,
        dreams=(1, "dreams per round"),
        subscribers=(100, "subscribers per dream"),
        rounds=(3, "rounds"),
        hold_images=(6, "images per dream: enough to be still processing when the last subscriber has connected"),
        parallel=(64, "connection attempts at a time"),
        publish_cmd=("", "hook: a command that publishes {count} updates of dream {id}"),
        messages=(100, "updates per dream, with --publish-cmd"),
    )
    command(
        pingflood,
        connections=(32, "connections"),
        seconds=(10.0, "seconds"),
        dreams=(4, "dreams they are spread over"),
        parallel=(64, "connection attempts at a time"),
    )
    o = parser.parse_args()
    roots = procs.parse(o.pids)
    cls = t.Target
    if o.adapter:
        module, _, name = o.adapter.partition(":")
        cls = getattr(importlib.import_module(module), name)

    async def run():
        async with cls(o) as server:
            return await o.function(server, o, roots)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(run())
    print(json.dumps({"command": o.command, "label": o.label, "base": o.base, **result}, ensure_ascii=False))


if __name__ == "__main__":
    main()
