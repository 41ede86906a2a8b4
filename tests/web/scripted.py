"""A server that misbehaves as it is told to: each test writes down beforehand what happens to each connection.

`PUT /NAME` takes `{"websocket": [[step, ...], ...], "http": [[step, ...], ...]}`: what is done with the first
connection below `/NAME/`, with the second, and so on; the last serves for all that come later. `GET /NAME` tells what
was seen.

For both: `"stay"` (nothing more happens), `"drop"` (cut off), `{"status": 200, "headers": {}}` (an answer, which on a
WebSocket refuses it). On a WebSocket: `{"wait": type}` (until another such message has come), `{"send": message}`,
`{"say": text}`, `{"close": code}`. On HTTP: `{"write": text}`, `{"trickle": text}` (each byte by itself),
`{"bytes": text}` (a byte for each letter).
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, url
from tornado.websocket import WebSocketClosedError, WebSocketHandler

Step = Any  # JSON; the docstring has them all


class Script:
    """What is to happen, and what has."""

    def __init__(self, turns: dict[str, list[list[Step]]]) -> None:
        self._turns = turns
        self.seen: list[dict[str, Any]] = []

    def next(self, kind: str) -> list[Step]:
        turns = self._turns.get(kind) or [[{"status": 500}]]
        return turns.pop(0) if len(turns) > 1 else turns[0]


class ControlHandler(RequestHandler):
    def initialize(self, *, scripts: dict[str, Script]) -> None:
        self.scripts = scripts

    def put(self, name: str) -> None:
        self.scripts[name] = Script(json.loads(self.request.body))

    def get(self, name: str) -> None:
        self.finish({"seen": self.scripts[name].seen})


class PlayHandler(WebSocketHandler):
    def initialize(self, *, scripts: dict[str, Script]) -> None:
        self.scripts = scripts

    async def get(self, name: str, path: str) -> None:
        script = self.scripts[name]
        self.kind = "websocket" if self.request.headers.get("Upgrade", "").lower() == "websocket" else "http"
        self.steps = script.next(self.kind)
        self.seen: dict[str, Any] = {
            "kind": self.kind,
            "path": self.request.uri.removeprefix(f"/{name}") if self.request.uri else "",
            "authorization": self.request.headers.get("Authorization"),
            "messages": [],
            "closed": None,
        }
        script.seen.append(self.seen)
        self.playing: asyncio.Task[None] | None = None
        self.arrived: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.stream: IOStream = self.request.connection.stream  # type: ignore[union-attr]
        self.stream.set_nodelay(True)
        first = self.steps[0] if self.steps else ""
        if self.kind == "websocket" and not (first in ("stay", "drop") or "status" in first):
            await super().get(name, path)
            return
        try:
            for step in self.steps:
                await self.answer(step)
            if not self._finished:
                await self.finish()
        except StreamClosedError:
            pass  # the client has left

    async def answer(self, step: Step) -> None:
        match step:
            case "stay":
                await self.gone.wait()
            case "drop":
                self.drop()
            case {"status": status}:
                self.set_status(status)
                for name, value in step.get("headers", {}).items():
                    self.set_header(name, value)
            case {"write": text}:
                self.write(text)
                await self.flush()
            case {"bytes": text}:
                self.write(text.encode("latin-1"))
                await self.flush()
            case {"trickle": text}:
                for byte in text.encode():
                    self.write(bytes([byte]))
                    await self.flush()
                    await asyncio.sleep(0)

    def drop(self) -> None:
        self.seen["closed"] = 1006
        self.stream.close()

    def check_origin(self, origin: str) -> bool:
        return True

    async def open(self, name: str, path: str) -> None:
        self.playing = asyncio.create_task(self.play(), name="the script of a connection")

    async def play(self) -> None:
        try:
            for step in self.steps:
                match step:
                    case "drop":
                        self.drop()
                    case {"wait": kind}:
                        while (await self.arrived.get())["type"] != kind:
                            pass
                    case {"send": message}:
                        await self.write_message(json.dumps(message))
                    case {"say": text}:
                        await self.write_message(text)
                    case {"close": code}:
                        self.close(code)
        except WebSocketClosedError:
            pass  # the client has left

    def on_message(self, message: str | bytes) -> None:
        said = json.loads(message)
        self.seen["messages"].append(said)
        self.arrived.put_nowait(said)

    def on_close(self) -> None:
        """Of a WebSocket, and of a request whose answer is not complete."""
        self.seen["closed"] = self.close_code or 1006
        self.gone.set()
        if self.playing is not None:
            self.playing.cancel()


@asynccontextmanager
async def listening(application: Application) -> AsyncIterator[str]:
    """Its address, on a free port."""
    sockets = bind_sockets(0, "127.0.0.1", family=socket.AF_INET)
    server = HTTPServer(application)
    server.add_sockets(sockets)
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        server.stop()
        await server.close_all_connections()


@asynccontextmanager
async def scripted() -> AsyncIterator[str]:
    scripts: dict[str, Script] = {}
    rows = [
        url(r"/([^/]+)", ControlHandler, {"scripts": scripts}),
        url(r"/([^/]+)(/.*)", PlayHandler, {"scripts": scripts}),
    ]
    async with listening(Application(rows, log_function=lambda handler: None)) as address:
        yield address
