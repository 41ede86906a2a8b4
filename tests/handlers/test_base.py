"""The way of a request through `ApiHandler`, with a real server and sockets: refusals, silence, methods, headers."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, url

from handlers import body
from handlers.access import Access
from handlers.base import JSON_LIMIT, ApiHandler, NothingHere
from handlers.cors import Cors
from handlers.inflight import InFlight
from handlers.problems import Problem
from handlers.tokens import Tokens
from tests.client import until

APP = "https://app.example.org"


class Note(msgspec.Struct, forbid_unknown_fields=True):
    """What the handler below reads."""

    text: str
    number: int = 0


@dataclass
class World:
    """A server with one handler, and what happened to it."""

    port: int = 0
    events: list[str] = field(default_factory=list)
    logged: list[int] = field(default_factory=list)  # the status of each request that was logged
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    tokens: Tokens = field(default_factory=lambda: Tokens(b"s" * 32, access_lifetime=900, refresh_lifetime=900))
    in_flight: InFlight = field(default_factory=InFlight)

    async def call(self, head: str, content: bytes = b"", *, chunked: bool = False) -> "Answer":
        async with self.connection() as client:
            await client.send(head, content, chunked=chunked)
            return await client.answer()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["Client"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@dataclass
class Answer:
    """One answer of HTTP."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass
class Client:
    """A connection on which a request is written piece by piece."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, head: str, content: bytes = b"", *, chunked: bool = False) -> None:
        """`head` is the request line and headers without the length."""
        lines = [*head.split("\n"), "Host: x"]
        if chunked:
            lines.append("Transfer-Encoding: chunked")
            content = f"{len(content):x}\r\n".encode() + content + b"\r\n0\r\n\r\n"
        elif content and "Content-Length" not in head:
            lines.append(f"Content-Length: {len(content)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        await self.writer.drain()

    async def answer(self) -> Answer:
        async with asyncio.timeout(30):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name: value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            content = await self.reader.readexactly(int(headers.get("Content-Length", 0)))
        return Answer(int(head[0].split()[1]), headers, json.loads(content) if content else None)

    async def closed(self) -> bool:
        async with asyncio.timeout(30):
            return await self.reader.read() == b""


@asynccontextmanager
async def serving() -> AsyncIterator[World]:
    world = World()

    class Notes(ApiHandler):
        public = True

        async def begin(self) -> None:
            await super().begin()
            if self.request.headers.get("X-Early"):
                self.answer(201, {"early": True})

        async def receive(self, chunk: bytes) -> None:
            world.events.append("receive")
            if self.request.headers.get("X-Slow"):
                await world.go_on.wait()
            if self.request.headers.get("X-Refuse"):
                raise Problem(415, "images_as_form")
            await super().receive(chunk)

        def abandon(self) -> None:
            world.events.append("abandon")

        async def post(self) -> None:
            world.events.append("post")
            note = self.read_json(Note)
            if note.text == "fail":
                raise RuntimeError("a secret")
            self.answer(200, note)

        async def get(self) -> None:
            self.answer(200, {"language": self.language})

    class Private(ApiHandler):
        async def get(self, name: str) -> None:
            self.answer(200, {"user": self.caller.user, "name": name, "query": self.get_query_argument("q", "")})

    access = Access(public_url="", trusted_proxies=())
    row = {
        "access": access,
        "cors": Cors(access, public_url="", allowed_origins=(APP,)),
        "in_flight": world.in_flight,
        "tokens": world.tokens,
    }
    application = Application(
        [url("/notes", Notes, row), url("/private/(.*)", Private, row)],
        default_handler_class=NothingHere,
        default_handler_args=row,
        log_function=lambda handler: world.logged.append(handler.get_status()),
    )
    server = HTTPServer(application)
    (listening,) = bind_sockets(0, "127.0.0.1")
    world.port = listening.getsockname()[1]
    server.add_sockets([listening])
    try:
        yield world
    finally:
        server.stop()
        await server.close_all_connections()
        await world.in_flight.wait(within=30)
        assert not world.in_flight._requests


# ---- bodies


@pytest.mark.gen_test
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_is_read_and_answered(chunked: bool) -> None:
    """Then the request is over, and the connection serves the next one."""
    async with serving() as world, world.connection() as client:
        for _ in range(2):
            await client.send("POST /notes HTTP/1.1", b'{"text": "a"}', chunked=chunked)
            answer = await client.answer()
            assert (answer.status, answer.body) == (200, {"text": "a", "number": 0})
        assert world.events == ["receive", "post", "abandon"] * 2


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("content", "status", "detail", "fields"),
    [
        (b"{", 400, "The body is not JSON: it ends too early.", None),
        (b"{'a'}", 400, "The body is not JSON: there is a mistake at byte 1.", None),
        (b'"\xff"', 400, "The body is not JSON in UTF-8.", None),
        (b"", 400, "This call needs a body in JSON.", None),
        (b"[]", 422, "body: must be an object", ["body"]),
        (b'{"text": 5}', 422, "text: must be a text", ["text"]),
        (b'{"text": "a", "number": "x"}', 422, "number: expected int, not str", ["number"]),
        (b'{"text": "a", "more": 1}', 422, "more: unknown field; allowed are text, number", ["more"]),
        (b'{"number": 1}', 422, "body: Object missing required field `text`", ["body"]),
    ],
)
async def test_a_body_that_does_not_fit_is_explained(
    content: bytes, status: int, detail: str, fields: list[str] | None
) -> None:
    """As a problem that names the field, where there is one."""
    async with serving() as world:
        answer = await world.call("POST /notes HTTP/1.1", content)
        assert answer.status == status
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.body["detail"].startswith(detail)
        assert [each["field"] for each in answer.body.get("errors", [])] == (fields or [])


@pytest.mark.gen_test
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_refused_at_once(chunked: bool) -> None:
    """By its length before a byte of it has come, or by what has come of it."""
    async with serving() as world, world.connection() as client:
        if chunked:
            await client.send("POST /notes HTTP/1.1", b"x" * (JSON_LIMIT + 1), chunked=True)
        else:
            await client.send(f"POST /notes HTTP/1.1\nContent-Length: {JSON_LIMIT + 1}")
        answer = await client.answer()
        assert answer.status == 413
        assert str(JSON_LIMIT) in answer.body["detail"]
        assert "post" not in world.events


@pytest.mark.gen_test
async def test_the_rest_of_a_refused_body_is_thrown_away() -> None:
    """The client reads the answer while it still sends, and may use the connection again."""
    async with serving() as world, world.connection() as client:
        await client.send("POST /notes HTTP/1.1\nX-Refuse: 1\nContent-Length: 9000", b"x" * 1000)
        assert (await client.answer()).status == 415
        assert world.events == ["receive", "abandon"]
        client.writer.write(b"x" * 8000)
        await client.send("GET /notes HTTP/1.1")
        assert (await client.answer()).status == 200
        assert "post" not in world.events


@pytest.mark.gen_test
async def test_an_early_answer_replaces_the_method() -> None:
    """As for a repeated Idempotency-Key: the body is not read."""
    async with serving() as world:
        answer = await world.call("POST /notes HTTP/1.1\nX-Early: 1", b'{"text": "a"}')
        assert (answer.status, answer.body) == (201, {"early": True})
        await until(lambda: world.events == ["abandon"], "the request is over")


@pytest.mark.gen_test
async def test_a_refused_sender_that_goes_on_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few seconds in which it could have read the answer."""
    monkeypatch.setattr(body, "LINGER", 0.05)
    async with serving() as world, world.connection() as client:
        await client.send("POST /notes HTTP/1.1\nContent-Length: 9000000", b"x" * 1000)
        answer = await client.answer()
        assert (answer.status, answer.headers["Connection"]) == (413, "close")
        assert await client.closed()


@pytest.mark.gen_test
async def test_a_silent_sender_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of its body, without an answer; what it held is released."""
    monkeypatch.setattr(body, "STALL", 0.05)
    async with serving() as world, world.connection() as client:
        await client.send("POST /notes HTTP/1.1\nContent-Length: 9000", b"x" * 1000)
        assert await client.closed()
        await until(lambda: world.events == ["receive", "abandon"], "the request is over")


def handlers_in_memory() -> int:
    """How many requests to these tests' handlers the process still holds."""
    gc.collect()
    return sum(issubclass(type(each), ApiHandler) for each in gc.get_objects())  # isinstance would ask dead proxies


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("length", "sent", "status"),
    [
        ("1000", b"{", 499),  # the client leaves in the middle of its body
        ("1000", b"", 499),  # and before it
        (str(2 * JSON_LIMIT), b"{", 413),  # it leaves when it reads the refusal, as curl does
    ],
)
async def test_a_request_that_is_cut_off_is_logged_and_leaves_nothing(length: str, sent: bytes, status: int) -> None:
    """Its task ends with its connection; otherwise clients without an account could fill the memory."""
    async with serving() as world:
        before = handlers_in_memory()
        for _ in range(20):
            async with world.connection() as client:
                await client.send(f"POST /notes HTTP/1.1\nContent-Length: {length}", sent)
                if status == 413:
                    await client.answer()
        await until(lambda: len(world.logged) == 20, "each request is logged once")
        await until(lambda: handlers_in_memory() <= before, "no request stays in memory")
        assert set(world.logged) == {status}
        assert not world.in_flight._requests


@pytest.mark.gen_test
async def test_json_that_is_nested_too_deeply_is_a_problem() -> None:
    """The decoder gives up with an error of Python's own, not of JSON."""
    async with serving() as world:
        for content in (b"[" * 5_000, b'{"text":' * 100_000):
            answer = await world.call("POST /notes HTTP/1.1", content)
            assert answer.status == 400
            assert answer.body["detail"] == "The JSON of the body is nested too deeply."


@pytest.mark.gen_test
async def test_nothing_is_released_while_a_piece_is_in_hand() -> None:
    """The client goes while the handler writes: the end of the writing releases everything."""
    async with serving() as world:
        async with world.connection() as client:
            await client.send("POST /notes HTTP/1.1\nX-Slow: 1\nContent-Length: 9000", b"x" * 1000)
            await until(lambda: world.events == ["receive"], "the piece is in hand")
        assert world.events == ["receive"]
        world.go_on.set()
        await until(lambda: world.events == ["receive", "abandon"], "everything is released")


@pytest.mark.gen_test
async def test_a_client_that_asks_first_gets_the_refusal_alone() -> None:
    """With `Expect: 100-continue`: no 100 comes before or after it, and the connection stays usable."""
    async with serving() as world, world.connection() as client:
        await client.send(f"POST /notes HTTP/1.1\nExpect: 100-continue\nContent-Length: {JSON_LIMIT + 1}")
        assert (await client.answer()).status == 413


# ---- errors


@pytest.mark.gen_test
async def test_an_unexpected_error_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """The answer names the request, and so does the log."""
    async with serving() as world:
        answer = await world.call("POST /notes HTTP/1.1", b'{"text": "fail"}')
        assert answer.status == 500
        assert "secret" not in str(answer.body)
        request_id = answer.headers["X-Request-Id"]
        assert request_id in answer.body["detail"]
        assert any(request_id in record.getMessage() and record.exc_info for record in caplog.records)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("head", "status", "detail"),
    [
        ("GET /private/a HTTP/1.1", 401, "Bearer"),
        ("GET /private/a HTTP/1.1\nAuthorization: Basic x", 401, "Bearer"),
        ("GET /private/a HTTP/1.1\nAuthorization: Bearer x", 401, "not valid"),
        ("GET /nowhere HTTP/1.1", 404, "nothing"),
        ("DELETE /nowhere HTTP/1.1", 404, "nothing"),
        ("PUT /notes HTTP/1.1", 405, "GET, POST, OPTIONS"),
        ("BREW /notes HTTP/1.1", 405, "GET, POST, OPTIONS"),
        ("GET /private/%FF HTTP/1.1", 400, "cannot read"),
    ],
)
async def test_a_request_that_leads_nowhere_is_a_problem(head: str, status: int, detail: str) -> None:
    """In the form of all others, also where Tornado itself refuses it."""
    async with serving() as world:
        answer = await world.call(head)
        assert (answer.status, answer.body["status"]) == (status, status)
        assert detail in answer.body["detail"]
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers.get("Www-Authenticate") == ("Bearer" if status == 401 else None)
        assert answer.headers.get("Allow") == ("GET, POST, OPTIONS" if status == 405 else None)


@pytest.mark.gen_test
async def test_a_query_that_is_no_text_is_a_problem() -> None:
    """Tornado refuses it inside the method."""
    async with serving() as world:
        token = world.tokens.access("ann", "s1", 9e9)
        head = f"GET /private/a?q=%FF HTTP/1.1\nAuthorization: Bearer {token}"
        answer = await world.call(head)
        assert (answer.status, answer.body["detail"]) == (400, "The server cannot read this request.")
        assert (await world.call(head.replace("%FF", "b"))).body == {"user": "ann", "name": "a", "query": "b"}


# ---- languages, other pages


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("header", "title", "detail"),
    [
        ("", "Not Found", "There is nothing at this URL."),
        ("\nAccept-Language: fr", "Not Found", "There is nothing at this URL."),
        ("\nAccept-Language: zh-CN,zh;q=0.9,en;q=0.8", "未找到", "这个网址下没有任何内容。"),
        ("\nAccept-Language: zh;q=0.5,en;q=0.8", "Not Found", "There is nothing at this URL."),
    ],
)
async def test_a_problem_follows_the_readers_language(header: str, title: str, detail: str) -> None:
    """English unless the header prefers Chinese, and caches know that it matters."""
    async with serving() as world:
        answer = await world.call(f"GET /nowhere HTTP/1.1{header}")
        assert (answer.body["title"], answer.body["detail"]) == (title, detail)
        assert answer.headers["Vary"] == "Accept-Language, Origin"


@pytest.mark.gen_test
async def test_an_allowed_page_may_read_answers_and_problems() -> None:
    """The headers of CORS are on both, and `Vary` is one line."""
    async with serving() as world:
        for path, status in (("/notes", 200), ("/nowhere", 404)):
            answer = await world.call(f"GET {path} HTTP/1.1\nOrigin: {APP}")
            assert answer.status == status
            assert answer.headers["Access-Control-Allow-Origin"] == APP
            assert answer.headers["Vary"] == "Accept-Language, Origin"
        failed = await world.call(f"POST /notes HTTP/1.1\nOrigin: {APP}", b'{"text": "fail"}')
        assert failed.headers["Access-Control-Allow-Origin"] == APP
        foreign = await world.call("GET /notes HTTP/1.1\nOrigin: https://evil.example")
        assert "Access-Control-Allow-Origin" not in foreign.headers


@pytest.mark.gen_test
async def test_a_preflight_request_needs_no_token() -> None:
    """It has no body and no answer but headers."""
    async with serving() as world:
        answer = await world.call(f"OPTIONS /private/a HTTP/1.1\nOrigin: {APP}")
        assert answer.status == 204
        assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
