"""Health checks: does the process answer, and can every part of the server accept work?

It must not know how the parts work, only how to check each of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from tornado.web import RequestHandler

from handlers.bodies import HealthBody, ReadyBody
from handlers.plain import refuse

Check = Callable[[], Awaitable[bool]]

TIMEOUT = 3.0  # seconds for a part to answer


class HealthHandler(RequestHandler):
    """`/healthz`: the process answers."""

    def initialize(self) -> None:
        self.log_about = ""
        self.request_id = ""

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")

    def write_error(self, status_code: int, **_: Any) -> None:
        refuse(self, status_code)
        self.finish()

    def compute_etag(self) -> None:
        """No `ETag`, which Tornado would add: nobody keeps this answer."""

    async def get(self) -> None:
        self._answer(HealthBody("alive"))

    async def head(self) -> None:
        await self.get()

    def _answer(self, body: HealthBody | ReadyBody) -> None:
        self.set_header("Content-Type", "application/json")
        self.write(msgspec.json.encode(body))


class ReadyHandler(HealthHandler):
    """`/readyz`: 200 when every part can accept work, else 503; the body names each part."""

    def initialize(self, *, checks: Mapping[str, Check]) -> None:
        super().initialize()
        self.checks = checks

    async def get(self) -> None:
        found = await answers(self.checks)
        ready = all(found.values())
        self.set_status(200 if ready else 503)
        parts = {name: "ok" if answer else "unavailable" for name, answer in found.items()}
        self._answer(msgspec.convert({"status": "ready" if ready else "not ready", **parts}, ReadyBody))


async def answers(checks: Mapping[str, Check]) -> dict[str, bool]:
    """For each part: can it accept work?"""
    found = await asyncio.gather(*(_passes(check) for check in checks.values()))
    return dict(zip(checks, found, strict=True))


async def _passes(check: Check) -> bool:
    try:
        async with asyncio.timeout(TIMEOUT):
            return await check()
    except Exception:  # whatever the error, the part cannot accept work
        return False
