"""The frames of one WebSocket: Tornado's protocol, with fewer system calls for each message.

It must not know what the messages say.
"""

import struct
from asyncio import Future
from collections.abc import Sequence
from functools import lru_cache

from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketProtocol13

CHUNK = 16 * 1024  # bytes of one read from the socket


class Frames(WebSocketProtocol13):
    """Tornado's protocol with a read buffer and with writes that bypass its tasks.

    Tornado reads a short message in three pieces, and registers and unregisters the socket with the event loop around
    each of them; its writes cost a task and two futures. `Frames` reads whatever has arrived in one call, and writes
    straight to the socket as long as the system accepts the data at once.
    """

    _unread = b""

    async def _receive_frame_loop(self) -> None:
        self.stream.read_chunk_size = CHUNK  # the server's is sized for uploads, and zeroed before each read
        await super()._receive_frame_loop()

    async def _read_bytes(self, n: int) -> bytes:
        while len(self._unread) < n:
            self._unread += await self.stream.read_bytes(CHUNK, partial=True)
        taken, self._unread = self._unread[:n], self._unread[n:]
        self._wire_bytes_in += n
        return taken

    def write_texts(self, texts: Sequence[bytes]) -> "Future[None] | None":
        """Write each text as a message of its own, all in one write.

        Returns None when the system has accepted them all, else a future that completes when it has.
        Raises `WebSocketClosedError`.
        """
        if self.is_closing():
            raise WebSocketClosedError
        data = _frame(texts[0]) if len(texts) == 1 else b"".join(map(_frame, texts))
        stream, taken = self.stream, 0
        if not stream.writing():
            try:
                taken = stream.socket.send(data)
            except OSError:  # the socket is full or broken: the stream finds out which, and closes a broken one
                taken = 0
            if taken == len(data):
                return None
        try:
            return stream.write(memoryview(data)[taken:])
        except StreamClosedError:
            raise WebSocketClosedError from None


@lru_cache(maxsize=4)
def _frame(text: bytes) -> bytes:
    """A text message in one unmasked frame, as a server sends it (RFC 6455, 5.2).

    Cached, because the listeners of a dream mostly receive the same bytes object.
    """
    if len(text) < 126:
        return struct.pack("!BB", 0x81, len(text)) + text
    if len(text) < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, len(text)) + text
    return struct.pack("!BBQ", 0x81, 127, len(text)) + text
