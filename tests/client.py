"""The server as its clients see it: a process, its HTTP API, its WebSocket and its event streams.

It must not import the server. Through `tests.contract` it knows the published contracts.
"""

import asyncio
import contextlib
import inspect
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tornado.httpclient import HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests import contract
from tests.oss_server import OssServer
from tests.pace import seconds

ROOT = Path(__file__).parent.parent
WITHIN = seconds(60)  # the deadline of every wait: far longer than anything takes
# Time limits that a busy machine must not reach: rendering has the lowest priority and waits for everything else.
SLOW: dict[str, object] = {
    "images__time_limit": seconds(60),
    "websocket__auth_timeout": seconds(10),
    "websocket__ping_timeout": seconds(20),
    "websocket__slow_timeout": seconds(10),
}
NO_ANSWER = 599  # of Tornado: a failed request
BOUNDARY = "dream-boundary-7f3a"

Json = dict[str, Any]


async def until(look: Callable[[], Any], what: str = "the condition holds", *, within: float = WITHIN) -> Any:
    """Call `look` (plain or async) repeatedly until its answer is true, and return that answer."""
    deadline = time.monotonic() + within
    while True:
        answer = look()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        await asyncio.sleep(0.01)


def settings(data: Path, mongodb_uri: str, **more: object) -> dict[str, Any]:
    """Settings of a server with its own database on the shared mongod: starting another takes half a second."""
    return {"mongodb__uri": mongodb_uri, "mongodb__database": data.parent.name, **more}


class Server:
    """A context manager for `python server.py run` on a free port; it kills the server if it still runs at the end."""

    oss: OssServer | None = None  # set on the class: the storage of every server, instead of the disk

    def __init__(self, data: Path, **settings: object) -> None:
        """`settings` as `images__workers=1`."""
        self.data = data
        self.settings = settings
        self.port = 0  # any free port; set it to restart at the same URL
        self.lines: list[str] = []  # the output of the server
        self.url = ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.ended()

    async def start(self) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DREAMLOG_")}
        settings = SLOW | (self.oss.settings() if self.oss is not None else {}) | self.settings
        variables = {f"DREAMLOG_{name.upper()}": str(value) for name, value in settings.items()}
        self.lines = []
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "error::ResourceWarning", str(ROOT / "server.py"), "run"),
            *("--port", str(self.port), "--data", str(self.data)),
            env=clean | variables,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reader = asyncio.create_task(self._read())
        await until(lambda: self.printed_url() or self.process.returncode is not None, "the server is ready")
        assert self.printed_url(), "the server ended:\n" + self.output
        self.url = self.printed_url()

    def printed_url(self) -> str:
        ready = [line for line in self.lines if line.startswith("Dreamlog is ready at ")]
        return ready[0].split()[4].rstrip(",") if ready else ""

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    async def ended(self) -> int:
        """The exit code, once the process has ended and all its output has been read."""
        async with asyncio.timeout(WITHIN):
            code = await self.process.wait()
            await self._reader
        return code

    async def restart(self) -> None:
        await self.ended()
        await self.start()

    def descendants(self, name: str = "") -> list[int]:
        """Process ids of all descendants whose command line contains `name`."""
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and (stat := _read_text(entry / "stat")):
                parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
        found, todo = [], [self.pid]
        while todo:
            children = parents.get(todo.pop(), [])
            todo += children
            found += [pid for pid in children if name in _read_text(Path(f"/proc/{pid}/cmdline"))]
        return found

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())

    def files(self) -> set[str]:
        """The names of all files of pictures, uploads and unfinished work."""
        folders = [self.data / name for name in ("media", "staging", "work")]
        # Unlike `walk`, `rglob` fails when the server removes a folder meanwhile.
        walked = [(Path(inside), names) for folder in folders for inside, _, names in os.walk(folder)]
        found = {str((inside / name).relative_to(self.data)) for inside, names in walked for name in names}
        return found | {name.replace("dreamlog", "media", 1) for name in (self.oss.names() if self.oss else ())}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # the process has ended
        return ""


class CheckedClient(SimpleAsyncHTTPClient):
    """Fails a request whose answer is not as documented; every `AsyncHTTPClient()` of the tests is one."""

    def fetch_impl(self, request: HTTPRequest, callback: Callable[[HTTPResponse], None]) -> None:
        def check(answer: HTTPResponse) -> None:
            url = urlsplit(request.url)
            try:
                if answer.code != NO_ANSWER and request.streaming_callback is None:
                    contract.answer(request.method, url.path, answer.code, answer.headers, answer.body)
            except AssertionError as error:
                answer = HTTPResponse(request, NO_ANSWER, error=error)
            callback(answer)

        super().fetch_impl(request, check)


class Api:
    """A client of the HTTP API, signed in or not."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.access = ""
        self.refresh = ""
        self.http = CheckedClient(force_instance=True, max_clients=500, max_body_size=1 << 30)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.http.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        signed_in: bool = True,
    ) -> HTTPResponse:
        """Send one request. A `body` that is not bytes is sent as JSON."""
        sent: dict[str, str] = {}
        if signed_in and self.access:
            sent["Authorization"] = f"Bearer {self.access}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        request = HTTPRequest(
            path if path.startswith("http") else self.url + path,
            method=method,
            headers=sent | dict(headers or {}),
            body=body,
            request_timeout=WITHIN,
            connect_timeout=WITHIN,
            allow_nonstandard_methods=True,
            follow_redirects=False,
            decompress_response=False,
        )
        return await self.http.fetch(request, raise_error=False)

    async def json(self, method: str, path: str, body: Any = None, *, status: int = 200, **more: Any) -> Any:
        """The decoded body of the answer, which must have this status."""
        response = await self.call(method, path, body, **more)
        assert response.code == status, f"{method} {path}: {response.code} {response.body!r}"
        return json.loads(response.body) if response.body else None

    async def sign_up(self, username: str = "ada", password: str = "correct horse") -> Json:
        answer: Json = await self.json(
            "POST", "/api/auth/register", {"username": username, "password": password}, status=201
        )
        self.access, self.refresh = answer["access"], answer["refresh"]
        return answer

    async def dream(
        self, *images: bytes, positions: Sequence[int] | None = None, status: int = 201, key: str = "", **fields: Any
    ) -> Json:
        """Create a dream with a multipart request."""
        body = multipart(*images, positions=positions, **({"title": "a dream"} | fields))
        headers = MULTIPART | ({"Idempotency-Key": key} if key else {})
        answer: Json = await self.json("POST", "/api/dreams", body, status=status, headers=headers)
        return answer

    async def add(self, dream_id: str, *images: bytes, status: int = 201, **fields: Any) -> Json:
        body = multipart(*images, **fields)
        answer: Json = await self.json("POST", f"/api/dreams/{dream_id}/images", body, status=status, headers=MULTIPART)
        return answer

    async def get(self, dream_id: str) -> Json:
        answer: Json = await self.json("GET", f"/api/dreams/{dream_id}")
        return answer

    async def finished(self, dream_id: str, *, within: float = WITHIN) -> Json:
        """The dream, once none of its images is processing."""

        async def look() -> Json | None:
            dream = await self.get(dream_id)
            return dream if dream["status"] != "processing" else None

        answer: Json = await until(look, f"dream {dream_id} is finished", within=within)
        return answer

    async def bytes(self, url: str) -> bytes:
        """The content of the picture at `url`."""
        response = await self.call("GET", url, signed_in=False)
        assert response.code == 200, f"{url}: {response.code}"
        return response.body


MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def multipart(*images: bytes, positions: Sequence[object] | None = None, **fields: Any) -> bytes:
    """A multipart form with `fields` (one part for each item of a list), `images` as files, and their `positions`."""
    repeated = {**fields, **({"positions": list(positions)} if positions is not None else {})}
    parts = []
    for name, value in repeated.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            parts.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n{each}'.encode())
    for number, image in enumerate(images):
        head = f'Content-Disposition: form-data; name="images"; filename="{number}.jpg"\r\nContent-Type: image/jpeg'
        parts.append(head.encode() + b"\r\n\r\n" + image)
    framed = b"".join(b"--" + BOUNDARY.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    return framed + b"--" + BOUNDARY.encode() + b"--\r\n"


class Listener:
    """All messages of one connection, in the order of their arrival."""

    def __init__(self) -> None:
        self.messages: list[Json] = []
        self.closed = False
        self.ending = ""  # how the connection was closed

    async def message(self, kind: str, *, within: float = WITHIN, **fields: Any) -> Json:
        """The first message of this type with these fields, received already or awaited."""

        def look() -> Json | None:
            wanted = {"type": kind, **fields}.items()
            return next((each for each in self.messages if all(each.get(k) == v for k, v in wanted)), None)

        await until(lambda: look() or self.closed, f"{kind} {fields}", within=within)
        found = look()
        assert found is not None, f"closed {self.ending} before {kind} {fields}: {self.messages}"
        return found

    def types(self) -> list[str]:
        return [each["type"] for each in self.messages]


class Socket(Listener):
    """A WebSocket of the protocol."""

    def __init__(
        self, url: str, path: str, *, header: str = "", message: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Authenticates with the token `header` in the handshake, or with the token `message` in the first message."""
        super().__init__()
        self._url = url.replace("http", "ws", 1) + path
        self._channel = contract.channel(path)
        self._headers = dict(headers or {}) | ({"Authorization": f"Bearer {header}"} if header else {})
        self._first = message

    @classmethod
    def of(cls, api: Api, dream_id: str, **more: Any) -> Self:
        return cls(api.url, f"/ws/dream-images/{dream_id}/", message=api.access, **more)

    async def __aenter__(self) -> Self:
        request = HTTPRequest(self._url, headers=self._headers, connect_timeout=WITHIN, request_timeout=WITHIN)
        self._connection: WebSocketClientConnection = await websocket_connect(request)
        self._reader = asyncio.create_task(self._read())
        if self._first:
            await self.send({"type": "authenticate", "token": f"Bearer {self._first}"})
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.close()
        await asyncio.wait_for(self._reader, WITHIN)

    async def send(self, message: Json | str) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        contract.sent(self._channel, text)
        await self._connection.write_message(text)

    async def close_code(self) -> int | None:
        await until(lambda: self.closed, "the connection is closed")
        return self._connection.close_code

    @property
    def close_reason(self) -> str | None:
        return self._connection.close_reason

    async def _read(self) -> None:
        try:
            while (text := await self._connection.read_message()) is not None:
                contract.message(self._channel, text)
                self.messages.append(json.loads(text))
            contract.closed(self._connection.close_code)
        finally:
            self.ending = f"with {self._connection.close_code}"
            self.closed = True


class Events(Listener):
    """A stream of server-sent events. `ids` has the id of each message, "" for a message without one."""

    def __init__(self, url: str, path: str, token: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._url_parts = urlsplit(url)
        lines = {"Host": self._url_parts.netloc, "Authorization": f"Bearer {token}", **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._request = f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()
        self._path = path
        self.ids: list[str] = []
        self.retry = 0  # milliseconds

    @classmethod
    def of(cls, api: Api, dream_id: str, **more: Any) -> Self:
        return cls(api.url, f"/api/dreams/{dream_id}/events", api.access, **more)

    async def __aenter__(self) -> Self:
        """Connect, and return once the headers have arrived."""
        self._from, self._to = await asyncio.open_connection(self._url_parts.hostname, self._url_parts.port)
        self._to.write(self._request)
        async with asyncio.timeout(WITHIN):
            status, _, head = (await self._from.readuntil(b"\r\n\r\n")).decode().partition("\r\n")
        self.status = int(status.split()[1])
        self.headers = HTTPHeaders.parse(head)
        if self.status == 200:  # the body of a refusal is not read as events
            contract.answer("GET", self._path, 200, self.headers, b"")
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        self._to.close()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await self._reader
            await self._to.wait_closed()

    async def end(self) -> Json:
        """The last message of a stream, which must end with the final chunk of HTTP."""
        await until(lambda: self.closed, "the stream has ended")
        assert self.ending == "as a whole", self.ending
        return self.messages[-1]

    async def _read(self) -> None:
        text, self.ending = b"", "too early"
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                while size := int(await self._from.readuntil(b"\r\n"), 16):
                    text += (await self._from.readexactly(size + 2))[:-2]
                    *events, text = text.split(b"\n\n")
                    for event in events:
                        self._take(event.decode())
                self.ending = "as a whole"
        finally:
            self.closed = True

    def _take(self, event: str) -> None:
        fields = dict(line.split(": ", 1) for line in event.split("\n"))
        self.retry = int(fields.get("retry", self.retry))
        if "data" in fields:
            contract.message("events", fields["data"])
            self.messages.append(json.loads(fields["data"]))
            self.ids.append(fields.get("id", ""))
