"""The page for Prometheus: readings under their names, with units and help texts.

Names follow Prometheus' conventions: base units, `_total` for counters. No label has anything of a user.
It must not know where the readings come from.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from meters import BOUNDS, Durations, Readings
from version import VERSION

BUCKETS = [*map(str, BOUNDS), "+Inf"]


def expose(readings: Readings) -> tuple[bytes, str]:
    """The page and its media type."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)  # the server's own CPU seconds, memory and descriptors
    registry.register(_Families(readings))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Families(Collector):
    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterable[Metric]:
        yield _gauge("build_info", "1, labelled with the version of the server", {(VERSION,): 1}, ["version"])
        yield from _http(self._readings)
        yield from _images(self._readings)
        yield from _listeners(self._readings)
        yield from _parts(self._readings)


def _http(of: Readings) -> Iterator[Metric]:
    requests = {(method, route, str(status)): n for (method, route, status), n in of.requests.ended.items()}
    yield _counter("http_requests", "Requests that have ended", requests, ["method", "route", "status"])
    durations = _histogram(
        "http_request_duration_seconds",
        "From a request's head to the end of its answer; not of WebSockets, event streams and long polls",
        ["method", "route"],
    )
    for (method, route), each in of.requests.durations.items():
        durations.add_metric([method, route], *_buckets(each))
    yield durations
    yield _counter("upload_received_bytes", "Bytes of uploaded images, kept or not", {(): of.received})
    yield _counter("sign_ins_failed", "Sign-ins with a wrong name or password", {(): of.wrong_passwords})


def _images(of: Readings) -> Iterator[Metric]:
    outcomes = {("completed", ""): of.pipeline.completed}
    outcomes |= {("failed", code): n for code, n in of.pipeline.failed.items()}
    yield _counter("images", "Images that were completed or failed for good", outcomes, ["outcome", "code"])
    retried = {(code,): n for code, n in of.pipeline.retried.items()}
    yield _counter("image_retries", "Failed tries that another try follows", retried, ["code"])
    for name, help_text, durations in (
        ("image_render_duration_seconds", "Time from a claim to the rendered variants", of.pipeline.render),
        ("image_store_duration_seconds", "Time from the rendered variants to completion", of.pipeline.store),
    ):
        family = _histogram(name, help_text)
        family.add_metric([], *_buckets(durations))
        yield family
    in_progress = {("render",): of.rendering, ("store",): of.storing}
    yield _gauge("images_in_progress", "Images that are being rendered or stored", in_progress, ["step"])
    if of.queued is not None:
        yield _gauge("queue_images", "Images that wait for a worker, on all servers", {(): of.queued})
        yield _gauge("queue_oldest_age_seconds", "How long the oldest of them has waited", {(): of.oldest})
    replaced = {(reason,): n for reason, n in of.workers_replaced.items()}
    yield _counter("workers_replaced", "Worker processes that were replaced", replaced, ["reason"])


def _listeners(of: Readings) -> Iterator[Metric]:
    listeners = {(carrier,): of.listeners.get(carrier, 0) for carrier in ("websocket", "events", "poll")}
    yield _gauge("listeners", "Open connections that listen to dreams", listeners, ["carrier"])
    yield _counter("messages_delivered", "Messages handed to connections", {(): of.deliveries.delivered})
    yield _counter("messages_coalesced", "Queued messages that a newer one replaced", {(): of.deliveries.coalesced})
    yield _counter("messages_dropped", "Queued messages whose connection was ended", {(): of.deliveries.dropped})
    closes = {(str(code),): n for code, n in of.closes.items()}
    yield _counter("websocket_closes", "WebSockets that ended, by close code", closes, ["code"])


def _parts(of: Readings) -> Iterator[Metric]:
    up = {(part,): int(good) for part, good in of.parts.items()}
    yield _gauge("up", "1 if the part can take work: server, database, storage, workers", up, ["part"])
    yield _gauge("disk_free_bytes", "Free bytes of the disk with the data folder", {(): of.free})


Values = Mapping[Any, float]  # the values of the labels, a tuple of str -> the value of the metric


def _counter(name: str, help_text: str, values: Values, labels: list[str] | None = None) -> Metric:
    family = CounterMetricFamily(f"dreamlog_{name}", help_text, labels=labels or [])
    for label_values, value in values.items():
        family.add_metric(list(label_values), value)
    return family


def _gauge(name: str, help_text: str, values: Values, labels: list[str] | None = None) -> Metric:
    family = GaugeMetricFamily(f"dreamlog_{name}", help_text, labels=labels or [])
    for label_values, value in values.items():
        family.add_metric(list(label_values), value)
    return family


def _histogram(name: str, help_text: str, labels: list[str] | None = None) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"dreamlog_{name}", help_text, labels=labels or [])


def _buckets(durations: Durations) -> tuple[list[tuple[str, float]], float]:
    return list(zip(BUCKETS, map(float, durations.cumulative()), strict=True)), durations.total
