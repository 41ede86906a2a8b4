"""WebSocket frames on a real socket: in whatever pieces they arrive, and however slowly the other side reads."""

import asyncio
import inspect
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketClosedError, WebSocketHandler, WebSocketProtocol13

from handlers.frames import CHUNK, Frames
from tests.client import until


class Handler(WebSocketHandler):
    """Records every message."""

    last: "Handler"

    def get_websocket_protocol(self) -> Frames | None:
        protocol = super().get_websocket_protocol()
        return Frames(self, False, protocol.params) if isinstance(protocol, WebSocketProtocol13) else None

    def open(self) -> None:
        Handler.last = self
        self.received: list[str | bytes] = []
        self.closed = False
        assert isinstance(self.ws_connection, Frames)
        self.frames = self.ws_connection

    def on_message(self, message: str | bytes) -> None:
        self.received.append(message)

    def on_close(self) -> None:
        self.closed = True


class Ends(NamedTuple):
    handler: Handler
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@asynccontextmanager
async def connected() -> AsyncIterator[Ends]:
    server = HTTPServer(Application([("/", Handler)], websocket_max_message_size=300_000))
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    server.add_sockets([listening])
    reader, writer = await asyncio.open_connection(*listening.getsockname(), limit=1 << 24)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    try:
        yield Ends(Handler.last, reader, writer)
    finally:
        writer.close()
        await until(lambda: Handler.last.closed, "the server's end is closed")
        server.stop()


def frame(payload: bytes, *, first: int = 0x81) -> bytes:
    """A masked frame, as a client sends it."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", first, 0x80 | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, length)
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


async def text(reader: asyncio.StreamReader) -> bytes:
    """The next message that the server has sent, which must be whole and unmasked."""
    first, length = await reader.readexactly(2)
    assert first == 0x81
    if length >= 126:
        kind = "!H" if length == 126 else "!Q"
        (length,) = struct.unpack(kind, await reader.readexactly(struct.calcsize(kind)))
    return await reader.readexactly(length)


@pytest.mark.gen_test
@pytest.mark.parametrize("piece", [1, 5, 16 * 1024, 1 << 20])
async def test_messages_are_read_however_they_are_cut(piece: int) -> None:
    """Short and long messages, and one in three frames around a ping; byte by byte, or all at once."""
    long = "雨" * (20_000 if piece > 5 else 50)
    sent = [
        frame(b"one"),
        frame(b""),
        frame(long.encode()),
        frame(b"a", first=0x01) + frame(b"b", first=0x00) + frame(b"hello", first=0x89) + frame(b"c", first=0x80),
        frame(b"\x00\xff", first=0x82),
    ]
    stream = b"".join(sent)
    async with connected() as (handler, reader, writer):
        for start in range(0, len(stream), piece):
            writer.write(stream[start : start + piece])
            await writer.drain()
            if piece < 10:
                await asyncio.sleep(0)
        await until(lambda: len(handler.received) == 5, "all messages have arrived")
        assert handler.received == ["one", "", long, "abc", b"\x00\xff"]
        assert await reader.readexactly(7) == b"\x8a\x05hello"


@pytest.mark.gen_test
async def test_a_message_that_is_too_long_closes() -> None:
    """With 1009, before the server reads it."""
    async with connected() as (handler, reader, writer):
        writer.write(frame(b"x" * 300_001))
        assert (await reader.readexactly(4))[2:] == struct.pack("!H", 1009)
        assert handler.received == []


@pytest.mark.gen_test
async def test_texts_of_every_length_arrive() -> None:
    """Texts of one write arrive in order, each as a message of its own."""
    texts = [b"x" * length for length in (0, 1, 125, 126, 65_535, 65_536)]
    async with connected() as (handler, reader, _):
        handler.frames.write_texts(texts)
        assert [await text(reader) for _ in texts] == texts


@pytest.mark.gen_test
async def test_what_is_not_taken_at_once_follows() -> None:
    """In order, as the other side reads on; a future of the writer completes with each."""
    texts = [bytes([65 + n]) * 3_000_000 for n in range(4)]
    async with connected() as (handler, reader, _):
        written = [handler.frames.write_texts([each]) for each in texts]
        waiting = [each for each in written if each is not None]
        assert waiting, "nobody has taken twelve megabytes"
        assert not waiting[-1].done()
        assert [await text(reader) for _ in texts] == texts
        await asyncio.gather(*waiting)
        assert handler.frames.write_texts([b"later"]) is None, "a client that keeps up costs no future"
        assert await text(reader) == b"later"


@pytest.mark.gen_test
async def test_writing_to_a_closed_connection_raises() -> None:
    """Once the close is known; until then a failed write closes the connection."""
    async with connected() as (handler, _, writer):
        writer.transport.abort()
        await until(lambda: handler.closed, "the end is noticed")
        with pytest.raises(WebSocketClosedError):
            handler.frames.write_texts([b"x"])


@pytest.mark.gen_test
async def test_a_connection_that_breaks_while_it_is_written_to_closes() -> None:
    """The write itself reports it first."""
    async with connected() as (handler, _, _writer):
        handler.frames.stream.socket.shutdown(socket.SHUT_WR)
        written = handler.frames.write_texts([b"x"])
        assert written is None or written.done()
        await until(lambda: handler.closed, "the end is noticed")


# ---- guards: an upgrade of Tornado must still call what we override


def test_overridden_methods_exist_in_tornado() -> None:
    """Each override has the name and the parameters of a method of Tornado's."""
    own = {name for name, _ in inspect.getmembers(Frames, inspect.isfunction) if name in vars(Frames)}
    assert own == {"_receive_frame_loop", "_read_bytes", "write_texts"}
    for name in own - {"write_texts"}:
        assert inspect.signature(getattr(Frames, name)) == inspect.signature(getattr(WebSocketProtocol13, name))


@pytest.mark.gen_test
async def test_tornado_reads_through_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tornado reads every byte through our overrides, so a hundred messages in one packet cost a single read."""
    async with connected() as (handler, _, writer):
        stream, sizes = handler.frames.stream, []
        read_bytes = stream.read_bytes

        def counted(size: int, partial: bool = False) -> Awaitable[bytes]:
            sizes.append((size, partial))
            return read_bytes(size, partial)

        monkeypatch.setattr(stream, "read_bytes", counted)
        for _ in range(2):
            writer.write(b"".join(frame(b"%d" % number) for number in range(100)))
            await until(lambda: handler.received[99:] and handler.received[-1] == "99", "all messages have arrived")
            handler.received.clear()
        assert stream.read_chunk_size == CHUNK
        assert set(sizes) == {(CHUNK, True)}
        assert len(sizes) <= 4, "one read for each packet, and one for the next"


@pytest.mark.gen_test
async def test_frames_equal_those_of_tornado() -> None:
    """`write_texts` bypasses Tornado's own writing, and must put the same bytes on the wire."""
    async with connected() as (handler, reader, _):
        for length in (0, 125, 126, 65_535, 65_536):
            text = "x" * length
            await handler.write_message(text)
            handler.frames.write_texts([text.encode()])
            size = length + (2 if length < 126 else 4 if length < 1 << 16 else 10)
            assert await reader.readexactly(size) == await reader.readexactly(size)
