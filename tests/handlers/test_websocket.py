"""The WebSocket with real sockets; only the database is a stand-in."""

import asyncio
import base64
import contextlib
import json
import logging
import os
import re
import socket
import struct
import time
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, Self

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, url
from tornado.websocket import WebSocketClientConnection, websocket_connect

from config import WebSocket
from handlers.access import Access
from handlers.cors import Cors
from handlers.subscribers import Subscribers
from handlers.tokens import Tokens
from handlers.websocket import MAX_QUEUED, DreamSocket
from storage.errors import NotFound, Unavailable
from storage.model import Dream, State
from tests import contract
from tests.client import WITHIN, Json, until
from tests.handlers.test_subscribers import dream, image
from tests.pace import seconds

BUSY = image(1, State.RENDERING)


class Dreams:
    """Ann's dreams. Reading one waits while `gate` is closed, and fails while there is an `error`."""

    def __init__(self, *dreams: Dream) -> None:
        self.known = {each.id: each for each in dreams}
        self.gate = asyncio.Event()
        self.gate.set()
        self.reading = 0
        self.error: Exception | None = None

    async def get(self, user: str, dream_id: str) -> Dream:
        self.reading += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if user != "ann" or dream_id.lower() not in self.known:
            raise NotFound("There is no such dream.", code="no_dream")
        return self.known[dream_id.lower()]


class Client:
    """A WebSocket client of Tornado's that reads JSON."""

    def __init__(self, socket: WebSocketClientConnection, channel: str) -> None:
        self.socket = socket
        self._channel = channel

    async def read(self) -> Json:
        text = await asyncio.wait_for(self._read(), WITHIN)
        assert text is not None, f"closed with {self.socket.close_code} {self.socket.close_reason}"
        message: Json = json.loads(text)
        return message

    async def read_state(self) -> Json:
        assert (await self.read())["type"] == "connection_established"
        state = await self.read()
        assert state["type"] == "image_update"
        return state

    async def closed(self) -> tuple[int | None, list[Json]]:
        """The close code, and what came before it."""
        messages = []
        while (text := await asyncio.wait_for(self._read(), WITHIN)) is not None:
            messages.append(json.loads(text))
        return self.socket.close_code, messages

    async def say(self, message: Json | str) -> None:
        contract.sent(self._channel, message if isinstance(message, str) else json.dumps(message))
        await self.socket.write_message(message)

    async def _read(self) -> str | bytes | None:
        text = await self.socket.read_message()
        if text is None:
            contract.closed(self.socket.close_code)
        else:
            contract.message(self._channel, text)
        return text


class World:
    """A server on loopback with `DreamSocket`, and clients of it."""

    def __init__(
        self, *dreams: Dream, connections: int = 0, messages: int = 0, send_buffer: int = 0, **settings: Any
    ) -> None:
        """`send_buffer` is the size of each connection's buffer in the system: a small one makes a client slow."""
        self.dreams = Dreams(*(dreams or (dream(1, BUSY),)))
        self.tokens = Tokens(b"x" * 32, access_lifetime=900, refresh_lifetime=900)
        self.access = Access(public_url="", trusted_proxies=())
        self.cors = Cors(self.access, public_url="", allowed_origins=("https://other.example",))
        self.subscribers = Subscribers(
            url_for_host=lambda host: lambda key: f"{host}/media/{key}", connections=connections, messages=messages
        )
        self.ended: list[DreamSocket] = []
        self.most_waiting = 0  # messages in the mailbox when one arrived
        self.undelayed = 0
        world = self

        class Watched(DreamSocket):
            def set_nodelay(self, value: bool) -> None:
                super().set_nodelay(value)
                world.undelayed += value

            def on_message(self, message: str | bytes) -> Awaitable[None] | None:
                world.most_waiting = max(world.most_waiting, len(self._mailbox))
                return super().on_message(message)

            def on_close(self) -> None:
                super().on_close()
                world.ended.append(self)

        row = {
            "access": self.access,
            "cors": self.cors,
            "tokens": self.tokens,
            "dreams": self.dreams,
            "subscribers": self.subscribers,
            "settings": WebSocket(**settings),
        }
        application = Application(
            [url(r"/ws/dream-images/(?:([^/]+)/?)?", Watched, row)], websocket_max_message_size=256 * 1024
        )
        self._http = HTTPServer(application)
        self._send_buffer = send_buffer
        self._clients: list[WebSocketClientConnection] = []

    async def __aenter__(self) -> Self:
        (listening,) = bind_sockets(0, "127.0.0.1")
        self.port = listening.getsockname()[1]
        if self._send_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
        self._http.add_sockets([listening])
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self._http.stop()
        await self._http.close_all_connections()

    def token(self, user: str = "ann", session: str = "s1", now: float | None = None) -> str:
        return self.tokens.access(user, session, time.time() if now is None else now)

    async def connect(self, dream_id: str = "d1/", *, token: str | None = "", **headers: str) -> Client:
        """Connect as Ann, with another `token`, or without an Authorization header if it is None."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            named["Authorization"] = f"Bearer {token or self.token()}"
        address = f"ws://127.0.0.1:{self.port}/ws/dream-images/{dream_id}"
        client = await websocket_connect(HTTPRequest(address, headers=named))
        self._clients.append(client)
        return Client(client, contract.channel(f"/ws/dream-images/{dream_id}"))

    def nobody_is_left(self) -> bool:
        return len(self.subscribers) == 0 and not self.subscribers._dreams


class RawClient:
    """A client that reads only on request, with the smallest buffer that the system allows."""

    def __init__(self, world: World, lasts: float = 900.0) -> None:
        """Its token lasts so many seconds."""
        self.token = world.token(now=time.time() - 900 + lasts)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        self.socket.setblocking(False)
        self.world = world

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.socket, ("127.0.0.1", self.world.port))
        request = (
            "GET /ws/dream-images/d1/ HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {self.token}\r\n\r\n"
        )
        await loop.sock_sendall(self.socket, request.encode())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    async def send(self, opcode: int, data: bytes) -> None:
        """Send one frame, masked with zeros."""
        length = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack("!BH", 0x80 | 126, len(data))
        frame = bytes([0x80 | opcode]) + length + bytes(4) + data
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.socket, frame), WITHIN)

    async def read_all(self) -> bytes:
        loop, found = asyncio.get_running_loop(), bytearray()
        while data := await asyncio.wait_for(loop.sock_recv(self.socket, 1 << 16), WITHIN):
            found += data
            if closing_code(found):
                break
        contract.closed(closing_code(found))
        return bytes(found)


def closing_code(data: bytes | bytearray) -> int | None:
    """The code of the close frame in the bytes that a raw client has read."""
    rest = data.partition(b"\r\n\r\n")[2]
    while len(rest) >= 4:
        length, start = rest[1], 2
        if length == 126:
            length, start = struct.unpack("!H", rest[2:4])[0], 4
        elif length == 127 and len(rest) >= 10:
            length, start = struct.unpack("!Q", rest[2:10])[0], 10
        if rest[0] == 0x88:
            return int(struct.unpack("!H", rest[2:4])[0])
        rest = rest[start + length :]
    return None


# ---- authentication and the first state


@pytest.mark.gen_test
async def test_header_signs_in() -> None:
    """With a valid Authorization header, `connection_established` and the state come without a request."""
    async with World() as world:
        client = await world.connect()
        established = await client.read()
        assert established == {
            "type": "connection_established",
            "dream_id": "d1",
            "message": "连接已建立，等待图片处理状态更新",
        }
        state = await client.read()
        assert (state["type"], state["status"], state["images"], state["revision"]) == (
            "image_update",
            "processing",
            [],
            1,
        )
        assert abs(state["timestamp"] - time.time()) < WITHIN
        assert world.undelayed == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("prefix", ["", "Bearer "])
async def test_first_message_signs_in(prefix: str) -> None:
    """`authenticate` works instead of a header, also without the last slash; the text follows Accept-Language."""
    async with World() as world:
        client = await world.connect("d1", token=None, Accept_Language="en-GB,zh;q=0.3")
        await client.say({"type": "authenticate", "token": prefix + world.token()})
        assert (await client.read())["message"] == "Connected. Waiting for image updates."
        assert (await client.read())["type"] == "image_update"


@pytest.mark.gen_test
async def test_urls_begin_with_the_host_that_the_client_used() -> None:
    """The URLs of images are at the host of the handshake, in the state and in updates."""
    async with World(dream(1, image(1))) as world:
        client = await world.connect(Host="dreams.example:8123")
        assert (await client.read_state())["images"][0]["url"] == "http://dreams.example:8123/media/k1"
        world.subscribers.publish(dream(2, image(1), image(2)), image(2))
        assert (await client.read())["image"]["url"] == "http://dreams.example:8123/media/k2"


@pytest.mark.gen_test
async def test_an_update_during_the_read_follows_the_state() -> None:
    """The handler subscribes before it reads the dream: a change in the meantime comes after the state."""
    async with World() as world:
        world.dreams.gate.clear()
        client = await world.connect()
        await until(lambda: world.dreams.reading, "the dream is being read")
        world.subscribers.publish(dream(1, BUSY), None)
        world.subscribers.publish(dream(2, image(1)), image(1))
        world.dreams.gate.set()
        assert (await client.read_state())["revision"] == 1
        assert [(each["type"], each["revision"]) for each in [await client.read(), await client.read()]] == [
            ("image_progress", 2),
            ("image_update", 2),
        ]


@pytest.mark.gen_test
async def test_pings_are_all_answered_in_order() -> None:
    """Three pings in one go are three pongs with the same numbers."""
    async with World() as world:
        client = await world.connect()
        await client.read_state()
        for number in ("1649154859.123", "1e2", "12345678901234567890123"):
            client.socket.write_message(f'{{"type": "ping", "timestamp": {number}}}')
        pongs = [await client.socket.read_message() for _ in range(3)]
        assert pongs == [
            f'{{"type":"pong","timestamp":{number}}}' for number in ("1649154859.123", "1e2", "12345678901234567890123")
        ]


@pytest.mark.gen_test
async def test_a_thousand_pings_at_once_are_a_thousand_pongs() -> None:
    """When the mailbox is full, the server pauses reading, and answers the whole burst later."""
    async with World() as world:
        client = await world.connect()
        await client.read_state()
        for number in range(1000):
            client.socket.write_message(f'{{"type": "ping", "timestamp": {number}}}')
        assert [(await client.read())["timestamp"] for _ in range(1000)] == list(range(1000))
        assert world.most_waiting <= MAX_QUEUED


# ---- errors and limits


@pytest.mark.gen_test
async def test_a_wrong_token_is_an_error_after_the_handshake() -> None:
    """A wrong token gets an error and 4401, which a browser can see."""
    async with World() as world:
        code, (error,) = await (await world.connect(token="wrong")).closed()
        assert (code, error["type"], error["code"]) == (4401, "error", "invalid_token")
        await until(world.nobody_is_left, "the registry is empty")


@pytest.mark.gen_test
async def test_nobody_waits_for_ever_for_a_token() -> None:
    """Without `authenticate` in time, or with another first message, the client gets an error and 4401."""
    async with World(auth_timeout=0.05) as world:
        code, (error,) = await (await world.connect(token=None)).closed()
        assert (code, error["code"]) == (4401, "authentication_timeout")
    async with World() as world:
        client = await world.connect(token=None)
        await client.say({"type": "ping", "timestamp": 1})
        code, (error,) = await client.closed()
        assert (code, error["code"]) == (4401, "unauthenticated")
        await until(world.nobody_is_left, "the registry is empty")


@pytest.mark.gen_test
@pytest.mark.parametrize(("user", "dream_id"), [("bob", "d1/"), ("ann", "d2"), ("ann", "D1/"), ("ann", "%E6%A2%A6/")])
async def test_foreign_and_missing_dreams_look_alike(user: str, dream_id: str) -> None:
    """The dream of another user, none, and another spelling of the id give the same error, and 4403."""
    async with World() as world:
        code, (error,) = await (await world.connect(dream_id, token=world.token(user))).closed()
        assert (code, error["code"]) == (4403, "not_found")
        await until(world.nobody_is_left, "the registry is empty")


@pytest.mark.gen_test
async def test_database_down_means_come_back() -> None:
    """If the database fails during the read of the state, the connection closes with 1012."""
    async with World() as world:
        world.dreams.error = Unavailable("The database does not answer.")
        assert await (await world.connect()).closed() == (1012, [])
        await until(world.nobody_is_left, "the registry is empty")


@pytest.mark.gen_test
async def test_unforeseen_error_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    """After an unexpected error during the read, the connection ends, the log has no URL, and no entry remains."""
    async with World() as world:
        world.dreams.error = ZeroDivisionError()
        with caplog.at_level(logging.ERROR):
            assert (await (await world.connect()).closed())[1] == []
            await until(world.nobody_is_left, "the registry is empty")
            client = await world.connect("")
            await client.say({"type": "subscribe", "dream_ids": ["d1"]})
            assert (await client.closed())[1] == []
            await until(world.nobody_is_left, "the registry is empty")
    assert "ZeroDivisionError" in caplog.text
    assert "dream-images" not in caplog.text


@pytest.mark.gen_test
async def test_the_error_for_a_long_message_arrives() -> None:
    """The error and 1009 reach a client that is still sending, up to Tornado's own limit."""
    async with World() as world:
        client = await world.connect()
        await client.read_state()
        for _ in range(10):
            client.socket.write_message("x" * 200_000)
        code, (error,) = await client.closed()
        assert (code, error["code"]) == (1009, "message_too_big")


@pytest.mark.gen_test
async def test_fifth_bad_message_closes() -> None:
    """Five invalid messages get five errors, and then 4400."""
    async with World() as world:
        client = await world.connect()
        await client.read_state()
        for _ in range(4):
            await client.say("?")
        await client.socket.write_message(b"\x00", binary=True)
        code, errors = await client.closed()
        assert (code, [error["code"] for error in errors]) == (4400, ["bad_message"] * 5)


@pytest.mark.gen_test
async def test_too_many_connections() -> None:
    """Above the account's limit, a connection gets an error with `retry_after` and 4129, until another one ends."""
    async with World(connections=2) as world:
        clients = [await world.connect() for _ in range(2)]
        for each in clients:
            await each.read_state()
        code, (error,) = await (await world.connect()).closed()
        assert (code, error["code"], error["retry_after"]) == (4129, "too_many_connections", 30)
        clients[0].socket.close()
        await until(lambda: len(world.subscribers) == 1, "one connection has ended")
        await (await world.connect()).read_state()


@pytest.mark.gen_test
async def test_too_many_messages() -> None:
    """The connections of an account share a message rate; the one that exceeds it gets `retry_after` and 4129."""
    async with World(messages=3) as world:
        first, second = await world.connect(), await world.connect()
        for client in (first, second):
            await client.read_state()
        for client in (first, second, first):
            await client.say({"type": "ping", "timestamp": 1})
            assert (await client.read())["type"] == "pong"
        await second.say({"type": "ping", "timestamp": 1})
        code, (error,) = await second.closed()
        assert (code, error["code"]) == (4129, "rate_limited")
        assert 0 < error["retry_after"] <= 60


@pytest.mark.gen_test
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://[", "", "http://127.0.0.1:1", "::"])
async def test_foreign_origin_is_refused(origin: str) -> None:
    """A page of another origin, or an invalid Origin, gets 403."""
    async with World() as world:
        with pytest.raises(HTTPClientError) as refused:
            await world.connect(Origin=origin)
        assert refused.value.code == 403
        assert world.nobody_is_left()


@pytest.mark.gen_test
@pytest.mark.parametrize("origin", ["https://other.example", "https://other.example:443", "http://127.0.0.1:{port}"])
async def test_own_and_allowed_origins_are_let_in(origin: str) -> None:
    """A page of the server's own host, or of an origin in the settings, can connect."""
    async with World() as world:
        await (await world.connect(Origin=origin.format(port=world.port))).read_state()


@pytest.mark.gen_test
async def test_plain_request_is_answered() -> None:
    """A request without a WebSocket upgrade gets 400, and leaves no entry in the registry."""
    async with World() as world:
        address = f"http://127.0.0.1:{world.port}/ws/dream-images/d1/"
        answer = await AsyncHTTPClient().fetch(address, raise_error=False)
        assert answer.code == 400
        assert world.nobody_is_left()


# ---- updates


@pytest.mark.gen_test
async def test_two_hundred_listeners_get_the_same_bytes() -> None:
    """Every listener receives the same message."""
    async with World() as world:
        clients = await asyncio.gather(*(world.connect() for _ in range(200)))
        for client in clients:
            await client.read_state()
        world.subscribers.publish(dream(2, image(1)), image(1))
        received = {tuple([str(await client.socket.read_message()) for _ in range(2)]) for client in clients}
        assert len(received) == 1
        progress, update = map(json.loads, received.pop())
        assert (progress["type"], progress["done"], progress["total"]) == ("image_progress", 1, 1)
        assert (update["type"], update["status"]) == ("image_update", "completed")


@pytest.mark.gen_test
async def test_a_deletion_is_sent_and_closes() -> None:
    """The client gets `dream_deleted`, and then 1000."""
    async with World() as world:
        client = await world.connect()
        await client.read_state()
        world.subscribers.publish(dream(2, deleted=True), None)
        code, (message,) = await client.closed()
        assert (code, message["type"]) == (1000, "dream_deleted")
        await until(world.nobody_is_left, "the registry is empty")


@pytest.mark.gen_test
async def test_many_dreams_on_one_connection() -> None:
    """Each subscribed dream sends its state and updates; an error names a missing one; a deletion leaves the others."""
    async with World(dream(1, BUSY), dream(5, BUSY, id="d2")) as world:
        client = await world.connect("")
        await client.say({"type": "subscribe", "dream_ids": ["d1", "none", "d2"]})
        assert (await client.read_state())["dream_id"] == "d1"
        error = await client.read()
        assert (error["code"], error["dream_id"]) == ("not_found", "none")
        assert (await client.read_state())["dream_id"] == "d2"
        await client.say({"type": "subscribe", "dream_ids": ["d2"]})
        assert [(await client.read())[field] for field in ("revision",)] == [5]
        world.subscribers.publish(dream(2, deleted=True), None)
        world.subscribers.publish(dream(6, BUSY, id="d2"), None)
        assert [(await client.read())["type"] for _ in range(2)] == ["dream_deleted", "image_update"]
        await client.say({"type": "unsubscribe", "dream_ids": ["d2"]})
        await until(lambda: not world.subscribers._dreams, "the client has no subscription")
        world.subscribers.publish(dream(7, BUSY, id="d2"), None)
        await client.say({"type": "ping", "timestamp": 1})
        assert (await client.read())["type"] == "pong"


@pytest.mark.gen_test
async def test_a_connection_of_many_dreams_gets_every_message() -> None:
    """It may authenticate late, and gets progress, heartbeats and the warning that its token ends."""
    async with World(ping_interval=0.25, ping_timeout=WITHIN) as world:
        client = await world.connect("", token=None)
        token = world.token(now=time.time() - 900 + seconds(30))
        await client.say({"type": "authenticate", "token": f"Bearer {token}"})
        await client.say({"type": "subscribe", "dream_ids": ["d1"]})
        wanted = {"connection_established", "token_expiring", "image_update", "heartbeat"}
        while wanted:
            wanted.discard((await client.read())["type"])
        world.subscribers.publish(dream(2, image(1)), image(1))
        while (await client.read())["type"] != "image_progress":
            pass


# ---- time


@pytest.mark.gen_test
async def test_heartbeats_and_pings_keep_a_quiet_connection() -> None:
    """Heartbeats come with the newest revision, and a client that answers pings outlives the ping timeout."""
    async with World(ping_interval=0.25, ping_timeout=seconds(2)) as world:
        client = await world.connect()
        await client.read_state()
        for _ in range(10):
            heartbeat = await client.read()
            assert (heartbeat["type"], heartbeat["dream_id"], heartbeat["revision"]) == ("heartbeat", "d1", 1)
        world.subscribers.publish(dream(4, BUSY), None)
        revisions = [(await client.read())["revision"] for _ in range(3)]
        assert revisions[-1] == 4


@pytest.mark.gen_test
async def test_unanswered_ping_closes() -> None:
    """A connection closes with 4103 if the client does not answer protocol pings."""
    async with World(ping_interval=0.05, ping_timeout=0.2) as world, RawClient(world) as client:
        received = await client.read_all()
        assert b"\x89\x00" in received  # the ping
        assert closing_code(received) == 4103
        await until(world.nobody_is_left, "the registry is empty")


@pytest.mark.gen_test
async def test_token_end_closes_and_a_new_token_extends() -> None:
    """With less than a minute left, the warning comes at once; without a fresh token, 4101 follows."""
    async with World() as world:
        lasts = seconds(1)
        ending = [world.token(now=time.time() - 900 + lasts) for _ in range(2)]
        stays, goes = [await world.connect(token=token) for token in ending]
        for client in (stays, goes):
            await client.read_state()
            assert (await client.read())["type"] == "token_expiring"
        await stays.say({"type": "authenticate", "token": world.token(session="s2")})
        assert await goes.closed() == (4101, [])
        await stays.say({"type": "ping", "timestamp": 1})
        assert (await stays.read())["type"] == "pong"
        world.subscribers.sign_out("ann", "s2")  # the connection belongs to the new token's session
        assert (await stays.closed())[0] == 4401


# ---- close


@pytest.mark.gen_test
async def test_signing_out_closes_at_once() -> None:
    """The session's connections get an error and 4401, the user's others 4101; with the account gone all get 4401."""
    async with World() as world:
        for session, code in [("s1", 4101), (None, 4401)]:
            first, second = await world.connect(), await world.connect(token=world.token(session="s2"))
            for client in (first, second):
                await client.read_state()
            world.subscribers.sign_out("ann", session)
            assert world.nobody_is_left()
            number, (error,) = await first.closed()
            assert (number, error["code"]) == (4401, "signed_out")
            assert (await second.closed())[0] == code


@pytest.mark.gen_test
async def test_restart_sends_everyone_away() -> None:
    """`close_all` closes every connection with 1012, also before sign-in or the state, and all later ones."""
    async with World() as world:
        signed_in, waiting = await world.connect(), await world.connect(token=None)
        await signed_in.read_state()
        world.dreams.gate.clear()
        reading = await world.connect()
        await until(lambda: world.dreams.reading == 2, "a dream is being read")
        world.subscribers.close_all()
        assert world.nobody_is_left()
        assert [await client.closed() for client in (signed_in, waiting)] == [(1012, [])] * 2
        world.dreams.gate.set()
        assert await reading.closed() == (1012, [])
        assert await (await world.connect()).closed() == (1012, [])
        assert world.nobody_is_left()


@pytest.mark.gen_test
async def test_slow_consumer_costs_others_nothing() -> None:
    """A client that reads nothing is closed with 4102, while another one gets every message."""
    failed = tuple(replace(image(number, State.FAILED), position=number) for number in range(1, 501))
    async with World(slow_timeout=seconds(0.5), send_buffer=4096) as world, RawClient(world) as slow:
        quick = await world.connect()
        await quick.read_state()
        await until(lambda: len(world.subscribers) == 2, "both clients are subscribed")
        revision = 1
        while len(world.subscribers) == 2:
            revision += 1
            assert revision < 2000
            world.subscribers.publish(dream(revision, *failed), None)
            assert (await quick.read())["revision"] == revision
        assert closing_code(await slow.read_all()) == 4102
        world.subscribers.publish(dream(revision + 1), None)
        assert (await quick.read())["revision"] == revision + 1


@pytest.mark.gen_test
@pytest.mark.parametrize(("slow_timeout", "lasts"), [(0.2, 900.0), (seconds(2), seconds(1))])
async def test_client_that_never_reads_is_cut_off(slow_timeout: float, lasts: float) -> None:
    """The server waits for no close handshake, also when its close frame is queued behind unread data."""
    async with World(slow_timeout=slow_timeout, send_buffer=4096) as world, RawClient(world, lasts) as client:
        await until(lambda: len(world.subscribers) == 1, "the client is signed in")
        ping = b'{"type": "ping", "timestamp": ' + b"1" * 4000 + b"}"
        with contextlib.suppress(OSError):  # reset, or a broken pipe: the only way out of the loop
            while True:
                await client.send(0x1, ping)
        await until(lambda: world.ended, "Tornado has closed the handler")
        assert 0 < world.most_waiting <= MAX_QUEUED
        assert world.nobody_is_left()


@pytest.mark.gen_test
async def test_a_client_that_reads_late_gets_every_answer() -> None:
    """A client that keeps reading within `slow_timeout` gets all answers in order."""
    expected = [b"%04d" % number for number in range(40)]
    async with World(slow_timeout=seconds(30), send_buffer=4096) as world, RawClient(world) as client:

        async def ping() -> None:
            for number in expected:
                await client.send(0x1, b'{"type": "ping", "timestamp": 1' + number + b"5" * 4000 + b"}")

        pinging = asyncio.create_task(ping())
        await until(lambda: world.most_waiting, "answers wait in the mailbox")
        found, answered = bytearray(), list[bytes]()
        while len(answered) < len(expected):
            assert closing_code(found) is None
            found += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client.socket, 1 << 16), WITHIN)
            answered = re.findall(rb"1(\d{4})5{4000}", found)
        await pinging
        assert answered == expected


@pytest.mark.gen_test
async def test_abrupt_ends_leave_nothing_behind() -> None:
    """When a connection breaks, the client leaves the registry, whatever it was doing."""
    async with World() as world:
        world.dreams.gate.clear()
        loop = asyncio.get_running_loop()
        async with RawClient(world) as reading:  # during the read of its dream
            await until(lambda: world.dreams.reading == 1, "the dream is being read")
            reading.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        world.dreams.gate.set()
        await until(world.nobody_is_left, "the registry is empty")
        async with RawClient(world) as idle:  # while idle
            await loop.sock_recv(idle.socket, 4096)
            await until(lambda: len(world.subscribers) == 1, "the client is subscribed")
        await until(world.nobody_is_left, "the registry is empty")
        async with RawClient(world) as garbled:  # after an invalid frame
            await garbled.send(0x3, b"reserved")
            await until(lambda: len(world.ended) == 3, "the server has cut the connection")
        async with RawClient(world) as halfway:  # in the middle of a frame
            await loop.sock_sendall(halfway.socket, b"\x81\xff\x00")
            await until(lambda: len(world.subscribers) == 1, "the client is subscribed")
        await until(world.nobody_is_left, "the registry is empty")
        client = await world.connect()
        await client.read_state()
        client.socket.close(1000, "goodbye")  # with a close handshake
        await until(world.nobody_is_left, "the registry is empty")
        await until(lambda: len(world.ended) == 5, "all connections have ended")
        assert all(handler._timer is None and handler._writer is None for handler in world.ended)
