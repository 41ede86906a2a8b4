"""A server that misbehaves by a script, which says what happens to each connection of a test.

`PUT /NAME` takes `{"websocket": [[step, ...], ...], "http": [[step, ...], ...]}`: the steps for the first connection
below `/NAME/`, for the second, and so on; the last list also serves all later connections. `GET /NAME` returns what the
server has seen.

Steps for both: `"stay"` (do nothing more), `"drop"` (cut the connection), `{"status": 200, "headers": {}}` (answer;
this rejects a WebSocket). For WebSockets: `{"wait": type}` (until another message of this type has come),
`{"send": message}`, `{"say": text}` (send it as it is), `{"close": code}`. For HTTP: `{"write": text}`,
`{"trickle": text}` (byte by byte), `{"bytes": text}` (one byte per character).
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

Step = Any  # JSON, as the module docstring lists


class Script:
    """The steps to come, and the connections seen."""

    def __init__(self, rounds: dict[str, list[list[Step]]]) -> None:
        self._rounds = rounds
        self.seen: list[dict[str, Any]] = []

    def next(self, kind: str) -> list[Step]:
        rounds = self._rounds.get(kind) or [[{"status": 500}]]
        return rounds.pop(0) if len(rounds) > 1 else rounds[0]


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
            pass  # the client has disconnected

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
            pass  # the client has disconnected

    def on_message(self, message: str | bytes) -> None:
        said = json.loads(message)
        self.seen["messages"].append(said)
        self.arrived.put_nowait(said)

    def on_close(self) -> None:
        """Cut a WebSocket, or a request with an incomplete answer."""
        self.seen["closed"] = self.close_code or 1006
        self.gone.set()
        if self.playing is not None:
            self.playing.cancel()


@asynccontextmanager
async def listening(application: Application) -> AsyncIterator[str]:
    """Yields the URL of the server, on a free port."""
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
