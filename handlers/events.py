"""News of a dream without a WebSocket: a stream of server-sent events, and a read that waits for a change.

It must not know what a change was, nor who else listens: both take what comes into a mailbox like any WebSocket's.
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
from handlers.base import ApiHandler
from handlers.messages import SENTENCES, HeartbeatMessage, error_message
from handlers.problems import Problem, too_many
from handlers.subscribers import RESTARTING, Mailbox, OutboundMessage, Subscribers
from handlers.websocket import RETRY_AFTER
from storage.dreams import NO_DREAM, Dreams
from storage.errors import NotFound
from storage.model import Dream

GONE = "gone"  # why a mailbox ends when its client has, or takes nothing: there is nobody to tell

COME_BACK = (1, 5)  # seconds, at random between the two: after a restart not everyone comes at once


class ListeningHandler(ApiHandler):
    """A request that stays open for news of one dream. It counts as a connection of its account."""

    def initialize(self, *, dreams: Dreams, subscribers: Subscribers, **shared: Any) -> None:
        super().initialize(**shared)
        self.dreams = dreams
        self.subscribers = subscribers
        self.mailbox = Mailbox("", "", self.access.base_url(self.request), self._on_arrival)
        self._arrived = asyncio.Event()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # the mailbox has ended

    def abandon(self) -> None:
        super().abandon()
        self.subscribers.discard(self.mailbox)
        self.subscribers.leave(self.mailbox)
        self.mailbox.end(GONE)

    async def listen(self, dream_id: str) -> Dream:
        """The dream as it is; from now on `next_message` brings first its state and then what changes.

        Raises the answer when there is no such dream, when the account has too many connections, or as `_check` does.
        """
        self.mailbox.user, self.mailbox.session = self.caller.user, self.caller.session
        if not self.subscribers.join(self.mailbox):
            most = self.subscribers.max_connections
            raise too_many(f"This account may have {most} connections at a time: try again later.", RETRY_AFTER)
        self.subscribers.add(dream_id, self.mailbox)
        dream = await self.dreams.get(self.caller.user, dream_id)
        if dream.id != dream_id:  # the same number written differently: its news would go to the other name
            raise NotFound(NO_DREAM)
        self._check()
        self.subscribers.show(dream, self.mailbox)
        return dream

    async def next_message(self, until: float) -> OutboundMessage | None:
        """The next message; None when there is none before `until`, by the loop's clock, or the mailbox has ended."""
        try:
            async with asyncio.timeout_at(until):
                while not self.mailbox.ended:
                    if messages := self.mailbox.take(1):
                        return messages[0]
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            pass
        return None

    async def newer(self, dream_id: str, since: int, wait: float) -> Dream | None:
        """The dream, once its revision is above `since`; None when after `wait` seconds it is not.

        Raises as `listen` does; the dream may also be deleted while it is waited for.
        """
        until = asyncio.get_running_loop().time() + min(wait, self.caller.expires - time.time())
        dream = await self.listen(dream_id)
        while dream.revision <= since:
            message = await self.next_message(until)
            if message is None:
                self._check()
                return None
            if message.revision > dream.revision:
                dream = await self.dreams.get(self.caller.user, dream_id)
        return dream

    def _check(self) -> None:
        """Raises the answer to a request whose caller has been signed out, or whose server stops, since it began."""
        self.tokens.check(self.caller, time.time())
        if self.subscribers.closing:
            # Not a 304: its client would ask again at once, on this connection, as often as the stop lasts.
            later = {"Retry-After": str(random.randint(*COME_BACK))}
            raise Problem(503, SENTENCES["en"][RESTARTING], headers=later)

    def _on_arrival(self) -> None:
        self._arrived.set()
        if self.mailbox.ended and not self._over.done():
            self._over.set_result(None)


class EventsHandler(ListeningHandler):
    """`/api/dreams/{id}/events`"""

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
        _give_up_after(self._settings.slow_timeout, self._stream)
        self.write(f"retry: {1000 * random.uniform(*COME_BACK):.0f}\n\n")  # leaves together with the state
        await self._stream_messages(dream_id)
        if self.mailbox.ended not in ("", GONE):
            speaks = conversation.language(self.request.headers.get("Accept-Language"))
            await self._send(msgspec.json.encode(error_message(self.mailbox.ended, speaks)))
        _give_up_after(0, self._stream)

    async def _stream_messages(self, dream_id: str) -> None:
        """What comes and what the clock brings, until the dream is deleted or the mailbox has ended."""
        now = asyncio.get_running_loop().time
        # Converted once, so that setting the wall clock neither cuts a stream off nor keeps it for ever.
        ends = now() + self.caller.expires - time.time()
        warns, beats = ends - conversation.WARNING, now() + self._settings.ping_interval
        revision = 0
        while not self.mailbox.ended:
            message = await self.next_message(min(ends, warns, beats))
            if message is not None:
                revision = message.revision
                await self._send(message.text, 0 if message.last else message.revision)
                if message.last:
                    return
            if now() >= ends:
                self.mailbox.end("token_expired")
            elif now() >= warns:
                warns = math.inf
                await self._send(msgspec.json.encode(views.token_expiring(ends - now())))
            elif now() >= beats:
                beats = now() + self._settings.ping_interval
                await self._send(msgspec.json.encode(HeartbeatMessage(dream_id, revision, time.time())), revision)

    async def _send(self, text: bytes, revision: int = 0) -> None:
        """One event, with the revision that its message tells as its id; cuts off who does not take it in time."""
        self.write((b"id: %d\n" % revision if revision else b"") + b"data: " + text + b"\n\n")
        written = self.flush()
        # A mailbox that has ended waits for nobody: what the system does not take at once is not sent.
        await asyncio.wait(
            (written, self._over), timeout=self._settings.slow_timeout, return_when=asyncio.FIRST_COMPLETED
        )
        if not written.done():
            self._stream.close()


def _give_up_after(seconds: float, stream: IOStream) -> None:
    """Close the connection when what was sent has not arrived for so long; 0: when the system thinks so.

    For a client without network, whose end nobody tells us: the system waits a quarter of an hour.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT") and not stream.closed():  # not on macOS
        stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * seconds))
