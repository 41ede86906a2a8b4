"""The frames of one WebSocket: Tornado's protocol, with fewer calls of the system for each message.

It must not know what the messages say.
"""

import struct
from asyncio import Future
from collections.abc import Sequence
from functools import lru_cache

from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketProtocol13

CHUNK = 16 * 1024  # bytes asked of the system at a time


class Frames(WebSocketProtocol13):
    """Tornado reads a short message in three pieces, and stops and starts listening to the socket around each; and
    what it writes becomes a task and two futures. Here what has come is read at once, and what the system takes at
    once is written without more ado."""

    _unread = b""

    async def _receive_frame_loop(self) -> None:
        self.stream.read_chunk_size = CHUNK  # the server's is for uploads, and cleared before each read
        await super()._receive_frame_loop()

    async def _read_bytes(self, n: int) -> bytes:
        while len(self._unread) < n:
            self._unread += await self.stream.read_bytes(CHUNK, partial=True)
        taken, self._unread = self._unread[:n], self._unread[n:]
        self._wire_bytes_in += n
        return taken

    def write_texts(self, texts: Sequence[bytes]) -> "Future[None] | None":
        """Each a message of its own, all in one write. None: the system has taken them; else done when it has.

        Raises `WebSocketClosedError`.
        """
        if self.is_closing():
            raise WebSocketClosedError
        data = _frame(texts[0]) if len(texts) == 1 else b"".join(map(_frame, texts))
        stream, taken = self.stream, 0
        if not stream.writing():
            try:
                taken = stream.socket.send(data)
            except OSError:  # it takes nothing now, or never more: then the stream finds out, and closes
                taken = 0
            if taken == len(data):
                return None
        try:
            return stream.write(memoryview(data)[taken:])
        except StreamClosedError:
            raise WebSocketClosedError from None


@lru_cache(maxsize=4)
def _frame(text: bytes) -> bytes:
    """A text message in one frame, as a server sends it: unmasked (RFC 6455, 5.2).

    Remembered, because what a dream's listeners are told is mostly the same object.
    """
    if len(text) < 126:
        return struct.pack("!BB", 0x81, len(text)) + text
    if len(text) < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, len(text)) + text
    return struct.pack("!BBQ", 0x81, 127, len(text)) + text
