"""Event streams and what they share with long polls, over real sockets; only the database is a stand-in."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable
from typing import Any, Self

import pytest
from tornado.httpclient import HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, url

from config import WebSocket
from handlers.access import Access
from handlers.cors import Cors
from handlers.dreams import DreamHandler
from handlers.events import EventsHandler
from handlers.inflight import InFlight
from handlers.subscribers import Subscribers
from handlers.tokens import Tokens
from storage.errors import NotFound, Unavailable
from storage.model import Dream, State
from tests.client import WITHIN, Api, Events, until
from tests.handlers.test_subscribers import dream, image
from tests.pace import seconds

BUSY = image(1, State.RENDERING)
FAILED = tuple(image(number, State.FAILED) for number in range(1, 501))  # their state is 60 kB long


class Dreams:
    """Ann's dreams. A read returns the state at its beginning, and waits while `gate` is closed."""

    def __init__(self, *dreams: Dream) -> None:
        self.known = {each.id: each for each in dreams}
        self.gate = asyncio.Event()
        self.gate.set()
        self.reading = 0
        self.error: Exception | None = None

    async def get(self, user: str, dream_id: str) -> Dream:
        self.reading += 1
        found = self.known.get(dream_id.lower())
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if user != "ann" or found is None:
            raise NotFound("There is no such dream.", code="no_dream")
        return found


class World:
    """A server on loopback with both handlers. At its end no request and no listener may remain."""

    def __init__(self, *dreams: Dream, connections: int = 0, send_buffer: int = 0, **settings: Any) -> None:
        """`send_buffer` is the size of each connection's buffer in the system: a small one makes a client slow."""
        self.dreams = Dreams(*(dreams or (dream(1, BUSY),)))
        self.tokens = Tokens(b"x" * 32, access_lifetime=900, refresh_lifetime=900)
        self.subscribers = Subscribers(url_for_host=url_for_host, connections=connections)
        self.streams: list[EventsHandler] = []
        world = self

        class Watched(EventsHandler):
            def initialize(self, **row: Any) -> None:
                super().initialize(**row)
                world.streams.append(self)

        access = Access(public_url="", trusted_proxies=())
        row = {
            "access": access,
            "cors": Cors(access, public_url="", allowed_origins=()),
            "in_flight": InFlight(),
            "tokens": self.tokens,
            "dreams": self.dreams,
            "subscribers": self.subscribers,
        }
        rows = [
            url(r"/api/dreams/([^/]+)", DreamHandler, {**row, "url_for_host": url_for_host}),
            url(r"/api/dreams/([^/]+)/events", Watched, {**row, "settings": WebSocket(**settings)}),
        ]
        self._http = HTTPServer(Application(rows))
        self._send_buffer = send_buffer
        self._apis: list[Api] = []

    async def __aenter__(self) -> Self:
        (listening,) = bind_sockets(0, "127.0.0.1")
        self.port = listening.getsockname()[1]
        if self._send_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
        self._http.add_sockets([listening])
        return self

    async def __aexit__(self, *_: object) -> None:
        await until(lambda: len(self.subscribers) == 0, "the registry is empty")
        await until(lambda: not requests_under_way(), "every request has ended")
        assert not self.subscribers._dreams
        for api in self._apis:
            api.http.close()
        self._http.stop()
        await self._http.close_all_connections()

    def api(self, user: str = "ann", session: str = "s1", lasts: float = 900.0) -> Api:
        """A client whose token lasts so many seconds."""
        api = Api(f"http://127.0.0.1:{self.port}")
        api.access = self.tokens.access(user, session, time.time() - 900 + lasts)
        self._apis.append(api)
        return api

    def events(self, api: Api | None = None, **headers: str) -> Events:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Events.of(api or self.api(), "d1", headers=named)

    async def waiting(self, query: str = "since=1&wait=60", api: Api | None = None) -> "asyncio.Task[HTTPResponse]":
        """A long poll, once it is in the registry and has read its dream."""
        before = len(self.subscribers), self.dreams.reading
        task = asyncio.create_task((api or self.api()).call("GET", f"/api/dreams/d1?{query}"))
        await until(
            lambda: (len(self.subscribers), self.dreams.reading) == (before[0] + 1, before[1] + 1),
            "the long poll is waiting",
        )
        return task

    def change(self, to: Dream, progress: int = 0) -> None:
        """Publish as a write does; `progress` is the id of the image that it finished."""
        self.dreams.known[to.id] = to
        if to.deleted:
            del self.dreams.known[to.id]
        self.subscribers.publish(to, next((each for each in to.images if each.id == progress), None))

    def sign_out(self, session: str) -> None:
        self.tokens.revoke(session, time.time())
        self.subscribers.sign_out("ann", session)


def requests_under_way() -> list[Any]:
    execute = RequestHandler._execute.__qualname__
    return [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__qualname__", "") == execute]


def url_for_host(base: str) -> Callable[[str], str]:
    return lambda key: f"{base}/media/{key}"


class Silent:
    """A client that sends one request and reads no more than the smallest buffer of the system holds."""

    def __init__(self, world: World, path: str = "/api/dreams/d1/events") -> None:
        self._port = world.port
        self._request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.api().access}\r\n\r\n".encode()
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        self.socket.setblocking(False)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.socket, ("127.0.0.1", self._port))
        await loop.sock_sendall(self.socket, self._request)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    async def read(self) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.socket, 1 << 16), WITHIN)

    async def is_cut_off(self) -> bool:
        """Whether the connection ended before the answer was complete."""
        found = b""
        try:
            while data := await self.read():
                found += data
        except ConnectionResetError:
            pass
        return not found.endswith(b"0\r\n\r\n")


def problem(answer: HTTPResponse, status: int) -> dict[str, Any]:
    assert answer.code == status, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = json.loads(answer.body)
    return found


# ---- the stream


@pytest.mark.gen_test
async def test_head_and_state_come_in_one_piece() -> None:
    """One packet has the headers, the hint when to come back and the state with its revision."""
    async with World(dream(3, image(1))) as world, Silent(world) as client:
        head, _, body = (await client.read()).partition(b"\r\n\r\n")
        for line in (b"Content-Type: text/event-stream", b"Cache-Control: no-store", b"X-Accel-Buffering: no"):
            assert line in head.split(b"\r\n")
        assert b"Content-Encoding" not in head
        _, retry, empty, id, data, *_ = body.splitlines()
        assert 1000 <= int(retry.removeprefix(b"retry: ")) <= 5000
        assert (empty, id) == (b"", b"id: 3")
        state = json.loads(data.removeprefix(b"data: "))
        assert state["images"] == [{"id": 1, "url": "http://x/media/k1", "position": 10}]


@pytest.mark.gen_test
async def test_packets_are_not_delayed_and_not_sent_for_ever() -> None:
    """A stream has TCP_NODELAY and a timeout for unacknowledged data; after it, the connection has no timeout."""
    async with World(slow_timeout=7) as world, world.events() as events:
        await events.message("image_update")
        connection: Any = world.streams[0].request.connection
        options = connection.stream.socket.getsockopt
        assert options(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert options(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
        world.change(dream(2, deleted=True))
        await events.end()
        assert options(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


@pytest.mark.gen_test
async def test_an_update_during_the_read_follows_the_state() -> None:
    """The handler subscribes before it reads the dream: a change in the meantime comes after the state."""
    async with World() as world:
        world.dreams.gate.clear()
        opening = asyncio.create_task(world.events().__aenter__())
        await until(lambda: world.dreams.reading, "the dream is being read")
        world.change(dream(1, BUSY))
        world.change(dream(2, image(1)), progress=1)
        world.dreams.gate.set()
        events = await opening
        await events.message("image_update", revision=2)
        assert list(zip(events.types(), events.ids, strict=True)) == [
            ("image_update", "1"),
            ("image_progress", "2"),
            ("image_update", "2"),
        ]
        await events.__aexit__()


@pytest.mark.gen_test
async def test_last_event_id_changes_nothing() -> None:
    """A client that reconnects gets the state first, with any `Last-Event-ID`."""
    async with World(dream(5, BUSY)) as world, world.events(Last_Event_ID="5") as events:
        await events.message("image_update", revision=5)


@pytest.mark.gen_test
async def test_deleted_dream_ends_the_stream() -> None:
    """`dream_deleted`, which has no revision, is the last event; the connection serves the next request."""
    async with World() as world, world.events() as events:
        await events.message("image_update")
        world.change(dream(2, deleted=True))
        assert (await events.end())["type"] == "dream_deleted"
        assert events.ids == ["1", ""]
        assert events.headers.get("Connection") != "close"


@pytest.mark.gen_test
async def test_heartbeats_keep_a_quiet_stream() -> None:
    """They carry the newest revision, as on the WebSocket, and also come between updates."""
    async with World(ping_interval=0.1) as world, world.events() as events:
        heartbeat = await events.message("heartbeat", revision=1)
        assert list(heartbeat) == ["type", "dream_id", "revision", "timestamp"]
        assert (heartbeat["dream_id"], events.ids[1]) == ("d1", "1")
        revision = 1
        while len([each for each in events.types() if each == "heartbeat"]) < 5:
            revision += 1
            world.change(dream(revision, BUSY))
            await events.message("image_update", revision=revision)
        world.change(dream(revision + 1, BUSY))
        await events.message("heartbeat", revision=revision + 1)


@pytest.mark.gen_test
@pytest.mark.parametrize(("language", "ascii"), [("en-GB,zh;q=0.3", True), ("zh-CN", False)])
async def test_token_end_is_announced_and_ends_the_stream(language: str, ascii: bool) -> None:
    """`token_expiring`, at once since less than a minute is left; then an error in the reader's language."""
    async with World() as world, world.events(world.api(lasts=1.0), Accept_Language=language) as events:
        error = await events.end()
        assert events.types() == ["image_update", "token_expiring", "error"]
        assert events.messages[1] == {"type": "token_expiring", "expires_in": 1}
        assert (error["code"], error["message"].isascii()) == ("token_expired", ascii)


@pytest.mark.gen_test
async def test_signing_out_ends_the_streams() -> None:
    """The streams of the session end with that reason; those of other sessions learn that they may reconnect."""
    async with World() as world:
        async with world.events() as mine, world.events(world.api(session="s2")) as elsewhere:
            for events in (mine, elsewhere):
                await events.message("image_update")
            world.sign_out("s1")
            assert (await mine.end())["code"] == "signed_out"
            assert (await elsewhere.end())["code"] == "signed_out_elsewhere"


@pytest.mark.gen_test
async def test_restart_ends_the_streams() -> None:
    """Every stream ends with an error; a stream whose state is still being read becomes 503, as later ones do."""
    async with World() as world, world.events() as events:
        await events.message("image_update")
        world.dreams.gate.clear()
        reading = asyncio.create_task(world.api().call("GET", "/api/dreams/d1/events"))
        await until(lambda: world.dreams.reading == 2, "a dream is being read")
        world.subscribers.close_all()
        assert (await events.end())["code"] == "restarting"
        world.dreams.gate.set()
        for answer in (await reading, await world.api().call("GET", "/api/dreams/d1/events")):
            assert problem(answer, 503)["detail"] == "The server is restarting. Try again in a moment."
            assert 1 <= int(answer.headers["Retry-After"]) <= 5


@pytest.mark.gen_test
@pytest.mark.parametrize(("user", "dream_id"), [("bob", "d1"), ("ann", "d2"), ("ann", "D1")])
@pytest.mark.parametrize("query", ["/events", "?since=1&wait=60"])
async def test_foreign_and_missing_dreams_look_alike(user: str, dream_id: str, query: str) -> None:
    """The dream of another user, none, and another spelling of the id are 404 before any stream or wait begins."""
    async with World() as world:
        answer = await world.api(user).call("GET", f"/api/dreams/{dream_id}{query}")
        assert problem(answer, 404)["detail"] == "There is no such dream."


@pytest.mark.gen_test
@pytest.mark.parametrize("query", ["/events", "?since=1&wait=60"])
async def test_database_down_means_come_back(query: str) -> None:
    """If the database fails, the server answers 503 and opens no stream."""
    async with World() as world:
        world.dreams.error = Unavailable("The database does not answer.")
        answer = await world.api().call("GET", f"/api/dreams/d1{query}")
        assert problem(answer, 503)
        assert answer.headers["Retry-After"]


@pytest.mark.gen_test
async def test_connections_of_an_account_are_limited() -> None:
    """Streams and long polls count alike; one too many is 429 with `Retry-After`; one that leaves makes room."""
    async with World(connections=2) as world:
        waiting = await world.waiting()
        async with world.events() as events:
            await events.message("image_update")
            for query in ("/events", "?since=1&wait=60"):
                answer = await world.api().call("GET", f"/api/dreams/d1{query}")
                assert "2 connections" in problem(answer, 429)["detail"]
                assert answer.headers["Retry-After"] == "30"
            assert (await world.api().call("GET", "/api/dreams/d1")).code == 200
            assert (await world.api("bob").call("GET", "/api/dreams/d1/events")).code == 404
            world.change(dream(2, BUSY))
            assert (await waiting).code == 200
            async with world.events() as another:
                await another.message("image_update", revision=2)


# ---- clients that are slow or gone


@pytest.mark.gen_test
async def test_slow_reader_costs_others_nothing() -> None:
    """A client that reads nothing is cut off, and until then costs the newest of each kind; others get everything."""
    async with (
        World(slow_timeout=seconds(0.5), send_buffer=4096) as world,
        world.events() as quick,
        Silent(world) as slow,
    ):
        await quick.message("image_update")
        await until(lambda: len(world.subscribers) == 2, "both clients are subscribed")
        revision, most = 1, 0
        while len(world.subscribers) == 2:
            revision += 1
            assert revision < 2000
            world.change(dream(revision, *FAILED), progress=1)
            await quick.message("image_update", revision=revision)
            most = max(most, len(world.streams[1].mailbox))
        assert most == 2, "one update of an image and one of the dream"
        assert await slow.is_cut_off()
        world.change(dream(revision + 1, BUSY))
        await quick.message("image_update", revision=revision + 1)


@pytest.mark.gen_test
@pytest.mark.parametrize("why", ["restart", "sign-out"])
async def test_slow_reader_holds_nothing_up(why: str) -> None:
    """When a stream must end, the server does not wait for data that its client does not read."""
    async with World(slow_timeout=WITHIN * 10, send_buffer=4096) as world, Silent(world) as slow:
        await slow.read()
        world.change(dream(2, *FAILED))
        connection: Any = world.streams[0].request.connection
        await until(connection.stream.writing, "the buffer of the connection is full")
        world.subscribers.close_all() if why == "restart" else world.sign_out("s1")
        await until(lambda: len(world.subscribers) == 0, "the stream has ended")
        assert await slow.is_cut_off()


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/api/dreams/d1/events", "/api/dreams/d1?since=1&wait=60"])
async def test_client_that_goes_leaves_the_registry(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """A client that disconnects leaves the registry at once, in any phase, and nothing is logged."""
    async with World(ping_interval=600) as world:
        world.dreams.gate.clear()
        async with Silent(world, path):
            await until(lambda: world.dreams.reading == 1, "the dream is being read")
        await until(lambda: len(world.subscribers) == 0, "the client has left during the read")
        world.dreams.gate.set()
        async with Silent(world, path):
            await until(lambda: len(world.subscribers) == 1 and world.dreams.reading == 2, "the client is subscribed")
        await until(lambda: len(world.subscribers) == 0, "the client has left the registry")
        world.change(dream(2, BUSY))
    assert world.dreams.reading == 2
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
