"""The updates of a dream as a stream of server-sent events.

It must not know the content of updates or the other listeners of a dream.
"""

import asyncio
import math
import random
import socket
import time
from typing import Any

import msgspec
from tornado.iostream import IOStream

import config
from handlers import conversation, views
from handlers.language import preferred_language
from handlers.listening import COME_BACK, GONE, ListeningHandler
from handlers.messages import HeartbeatMessage, error_message


class EventsHandler(ListeningHandler):
    """`/api/dreams/{id}/events`"""

    carrier = "events"

    def initialize(self, *, settings: config.WebSocket, **shared: Any) -> None:
        super().initialize(**shared)
        self._settings = settings

    async def get(self, dream_id: str) -> None:
        self.log_about = f"dream={dream_id}"
        await self.listen(dream_id)
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")  # nginx would hold events back until they fill its buffer
        self._stream: IOStream = self.request.connection.stream  # type: ignore[union-attr]
        self._stream.set_nodelay(True)
        _set_ack_timeout(self._stream, self._settings.slow_timeout)
        self.write(f"retry: {1000 * random.uniform(*COME_BACK):.0f}\n\n")  # leaves together with the state
        await self._send_messages(dream_id)
        if self.mailbox.ended not in ("", GONE):
            language = preferred_language(self.request.headers.get("Accept-Language"), "zh")
            await self._send(msgspec.json.encode(error_message(self.mailbox.ended, language)))
        _set_ack_timeout(self._stream, 0)

    async def _send_messages(self, dream_id: str) -> None:
        """Send messages, heartbeats and the token's warning until the dream is deleted or the mailbox has ended."""
        now = asyncio.get_running_loop().time
        # Converted once, so that a change of the wall clock neither cuts a stream off nor keeps it for ever.
        expires = now() + self.caller.expires - time.time()
        warn_at, beat_at = expires - conversation.WARNING, now() + self._settings.ping_interval
        revision = 0
        while not self.mailbox.ended:
            message = await self.next_message(min(expires, warn_at, beat_at))
            if message is not None:
                revision = message.revision
                await self._send(message.text, 0 if message.last else message.revision)
                if message.last:
                    return
            if now() >= expires:
                self.mailbox.end("token_expired")
            elif now() >= warn_at:
                warn_at = math.inf
                await self._send(msgspec.json.encode(views.token_expiring(expires - now())))
            elif now() >= beat_at:
                beat_at = now() + self._settings.ping_interval
                await self._send(msgspec.json.encode(HeartbeatMessage(dream_id, revision, time.time())), revision)

    async def _send(self, text: bytes, revision: int = 0) -> None:
        """Send one event, with its revision as the id; disconnect a client that does not read it in time."""
        self.write((b"id: %d\n" % revision if revision else b"") + b"data: " + text + b"\n\n")
        written = self.flush()
        # After the end of the mailbox nothing waits: the rest that the system does not accept at once is not sent.
        await asyncio.wait(
            (written, self.mailbox_ended), timeout=self._settings.slow_timeout, return_when=asyncio.FIRST_COMPLETED
        )
        if not written.done():
            self._stream.close()


def _set_ack_timeout(stream: IOStream, seconds: float) -> None:
    """Let the system close the connection when sent data stays unacknowledged for so long; 0: the system's default.

    The default, a quarter of an hour, is too long for a client that has lost its network.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT") and not stream.closed():  # not on macOS
        stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * seconds))
