"""`/metrics`: what the server counts about itself, for Prometheus.

It must not know how the parts do their work: it reads their meters.
"""

import hmac
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tornado.routing import URLSpec
from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler

from config import Secret
from handlers.base import ApiHandler
from handlers.exposition import expose
from handlers.health import Check, answers
from handlers.limits import RateLimits
from handlers.listening import ListeningHandler
from handlers.operations import OPERATIONS
from handlers.problems import CHALLENGE, Problem
from handlers.subscribers import Subscribers
from meters import Readings, RequestMeters
from processing.pipeline import Pipeline
from processing.workers import Workers
from storage.errors import Error
from storage.jobs import Jobs
from storage.staging import Staging

WEBSOCKET = "/ws/dream-images/{dream_id}/"
OTHER = "other"  # in place of a path or method that clients made up, so that they cannot make new time series


class RouteNames:
    """The documented path of each handler."""

    def __init__(self, routes: list[URLSpec]) -> None:
        paths = [*dict.fromkeys(operation.path for operation in OPERATIONS), WEBSOCKET]
        # The first path that leads to a handler: the page has several.
        self._names = {spec.target: path for path in reversed(paths) for spec in routes if _leads(path, spec)}

    def observe(self, handler: RequestHandler, requests: RequestMeters) -> None:
        """Count a request that has ended."""
        method, route = handler.request.method or "", self._names.get(type(handler), OTHER)
        known = method if method in handler.SUPPORTED_METHODS else OTHER
        waited = isinstance(handler, WebSocketHandler) or (isinstance(handler, ListeningHandler) and handler.listened)
        requests.observe(known, route, handler.get_status(), None if waited else handler.request.request_time())


@dataclass(frozen=True, slots=True, kw_only=True)
class Meters:
    """The parts that count."""

    requests: RequestMeters
    pipeline: Pipeline
    workers: Workers
    subscribers: Subscribers
    staging: Staging
    limits: RateLimits
    jobs: Jobs
    checks: Mapping[str, Check]
    data: Path


class MetricsHandler(ApiHandler):
    """`/metrics`, for clients with `server.metrics_token`; without that setting it answers 404."""

    public = True

    def initialize(self, *, token: Secret, meters: Meters, **shared: Any) -> None:
        super().initialize(**shared)
        self._token = token
        self._meters = meters

    async def get(self) -> None:
        if not self._token:
            raise Problem(404, "nothing_here")
        scheme, _, given = self.request.headers.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self._token.value.encode())
        if scheme.lower() != "bearer" or not same:
            raise Problem(401, "metrics_token", headers=CHALLENGE)
        page, media_type = expose(await _read(self._meters))
        self.set_header("Content-Type", media_type)
        self.finish(page)


async def _read(meters: Meters) -> Readings:
    parts = await answers(meters.checks)
    queued, oldest = None, 0.0
    try:
        queued, since = await meters.jobs.queue()
        oldest = max(0.0, time.time() - since.timestamp()) if since is not None else 0.0
    except Error:
        pass  # `dreamlog_up` says so
    rendering, storing = meters.pipeline.in_progress()
    return Readings(
        requests=meters.requests,
        pipeline=meters.pipeline.meters,
        rendering=rendering,
        storing=storing,
        queued=queued,
        oldest=oldest,
        workers_replaced=dict(meters.workers.replaced),
        listeners=meters.subscribers.listeners(),
        deliveries=meters.subscribers.deliveries,
        closes=dict(meters.subscribers.closes),
        received=meters.staging.received,
        wrong_passwords=meters.limits.wrong_passwords,
        parts=parts,
        free=shutil.disk_usage(meters.data).free,
    )


def _leads(path: str, spec: URLSpec) -> bool:
    literal = path.replace("{dream_id}", "1").replace("{image_id}", "1").replace("{key}", "1").replace("{path}", "1")
    return spec.regex.fullmatch(literal) is not None
