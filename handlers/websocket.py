"""Tornado around a `Conversation`: reads, writes, keeps its deadlines, and reads the dreams that it subscribes to.

It must not know the rules of the conversation or the other listeners of a dream.
"""

import asyncio
import contextlib
import math
import time
from asyncio import Future, Task, TimerHandle
from collections.abc import Awaitable, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from tornado.log import app_log
from tornado.websocket import WebSocketClosedError, WebSocketHandler, WebSocketProtocol13

import config
from handlers.access import Access
from handlers.conversation import Close, Conversation, Join, Now, Output, Ping, Send, Subscribe, Unsubscribe
from handlers.cors import Cors
from handlers.frames import Frames
from handlers.language import preferred_language
from handlers.listening import RETRY_AFTER, check_id
from handlers.messages import CLOSE_CODES
from handlers.plain import refuse
from handlers.subscribers import RESTARTING, OutboundMessage, Subscribers
from handlers.tokens import Tokens
from storage.dreams import Dreams
from storage.errors import NotFound, Unavailable

# Back-pressure: with so many messages queued the server stops reading. A client that sends pings without reading the
# pongs then fills its own socket, and an honest client still gets an answer to every ping.
MAX_QUEUED = 64

ABNORMAL = 1006  # a connection that ended without a close frame (RFC 6455, 7.1.5)
COUNTED = frozenset(CLOSE_CODES) | {1001, ABNORMAL}  # clients may send others, too many to count one by one

MAX_BATCH = 16  # messages in one write: a newer message can no longer replace one that was written


class DreamSocket(WebSocketHandler):
    """`/ws/dream-images/{dream_id}/`, and `/ws/dream-images/` for many dreams."""

    def initialize(
        self,
        *,
        access: Access,
        cors: Cors,
        tokens: Tokens,
        dreams: Dreams,
        subscribers: Subscribers,
        settings: config.WebSocket,
    ) -> None:
        self.cors = cors
        self.tokens = tokens
        self.dreams = dreams
        self.subscribers = subscribers
        self._settings = settings
        self._writer: Task[None] | None = None
        self._timer: TimerHandle | None = None
        self._closing: Close | None = None
        self._writing = False
        self._loop = asyncio.get_running_loop()
        language = preferred_language(self.request.headers.get("Accept-Language"), "en")
        self._mailbox = subscribers.mailbox("websocket", access.base_url(self.request), self._on_arrival, language)

    def prepare(self) -> None:
        try:
            urlsplit(self.request.headers.get("Origin", ""))
        except ValueError:  # Tornado would answer 500
            self.set_status(403)
            self.finish("The Origin header is not an origin.")

    def check_origin(self, origin: str) -> bool:
        """Decide about origins other than the host that the client used, which Tornado itself allows."""
        return self.cors.allows(origin, self.request)

    def get_websocket_protocol(self) -> Frames | None:
        protocol = super().get_websocket_protocol()
        return Frames(self, False, protocol.params) if isinstance(protocol, WebSocketProtocol13) else None

    # ---- events from Tornado

    async def open(self, dream_id: str | None = None) -> None:
        headers = self.request.headers
        authorization = headers.get("Authorization")
        language = preferred_language(headers.get("Accept-Language"), "zh")
        headers.clear()  # a kilobyte, token included, that Tornado would keep for the life of the connection
        self.set_nodelay(True)
        self._conversation = Conversation(self._settings, self.tokens.caller, dream_id, language, self._now())
        if self.subscribers.closing:
            self._end_now(RESTARTING)
            return
        self.subscribers.join(self._mailbox)
        try:
            await self._follow(self._conversation.opened(authorization, self._now()))
        except BaseException:
            self._leave()  # Tornado calls on_close only after open() has returned
            raise

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        """Answer most messages at once: for an awaitable Tornado would create a task."""
        if self._closing is None and self._mailbox.user and (wait := self.subscribers.take_message(self._mailbox.user)):
            outputs = self._conversation.end("rate_limited", retry_after=math.ceil(wait))
        else:
            outputs = self._conversation.received(message, self._now())
        if self._writer is not None or any(isinstance(output, Subscribe) for output in outputs):
            return self._follow(outputs)
        self._do_all(outputs)
        self._set_timer()
        return None

    def on_pong(self, data: bytes) -> None:
        self._conversation.pong()

    def on_close(self) -> None:
        code = self._closing.code if self._closing is not None else self.close_code or ABNORMAL
        self.subscribers.closes[code if code in COUNTED else ABNORMAL] += 1
        self._leave()

    def write_error(self, status_code: int, **_: Any) -> None:
        refuse(self, status_code)
        self.finish()

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, asyncio.CancelledError):
            # Only the traceback: the text of the request, which Tornado would add, is private.
            app_log.error("a WebSocket failed", exc_info=(typ, value, tb))

    # ---- the outputs of the conversation

    async def _follow(self, outputs: Sequence[Output]) -> None:
        self._set_timer()
        for output in outputs:
            if self._closing is not None:
                return
            if isinstance(output, Subscribe):
                await self._subscribe(output.dream_id)
            else:
                self._do(output)
        self._set_timer()
        while self._writer is not None and len(self._mailbox) >= MAX_QUEUED:
            await asyncio.wait((self._writer,))

    def _do_all(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self._do(output)

    def _do(self, output: Output) -> None:
        match output:
            case Send(message, heartbeat_of):
                self._mailbox.send(message, heartbeat_of)
            case Join(caller):
                self.subscribers.leave(self._mailbox)
                self._mailbox.user, self._mailbox.session = caller.user, caller.session
                if not self.subscribers.join(self._mailbox):
                    self._do_all(self._conversation.end("too_many_connections", retry_after=RETRY_AFTER))
            case Unsubscribe(dream_id):
                self.subscribers.remove(dream_id, self._mailbox)
            case Ping():
                self._ping()
            case Close():
                self._closing = output
                self._leave()
                self._write()

    async def _subscribe(self, dream_id: str) -> None:
        self.subscribers.add(dream_id, self._mailbox)
        try:
            dream = await self.dreams.get(self._mailbox.user, dream_id)
            check_id(dream, dream_id)
        except NotFound:
            self.subscribers.remove(dream_id, self._mailbox)
            self._do_all(self._conversation.missing(dream_id))
        except Unavailable:
            # Close with 1012, so that the client reconnects after a random delay. Staying without the state would
            # break the promise that the next message is the state.
            self._do_all(self._conversation.end("unavailable"))
        else:
            self.subscribers.show(dream, self._mailbox, self._conversation.found(dream_id, dream.revision))

    # ---- writing

    def _on_arrival(self) -> None:
        if self._mailbox.ended:
            self._end_now(self._mailbox.ended)
        else:
            self._write()

    def _write(self) -> None:
        """Write queued messages as long as the system accepts them at once, then close if a close is due.

        Only a client that falls behind costs a task, which waits for the client. There are never two writers.
        """
        if self._writing or self._writer is not None:
            return
        self._writing = True  # reporting a write may queue new messages, which this same loop then writes
        try:
            while messages := self._mailbox.take(MAX_BATCH):
                written = self._send([message.text for message in messages])
                if written is not None and not written.done():
                    self._writer = self._loop.create_task(self._wait(written, messages), name="websocket writer")
                    return
                self._report(messages)
            if self._closing is not None:
                self.close(self._closing.code, self._closing.reason)
        except WebSocketClosedError:
            pass  # on_close does the rest
        finally:
            self._writing = False

    async def _wait(self, written: "Future[None]", messages: list[OutboundMessage]) -> None:
        # Not wait_for, which would cancel: Tornado does not expect its futures to be cancelled.
        await asyncio.wait((written,), timeout=self._settings.slow_timeout)
        self._writer = None
        if not written.done():
            self._end_now("too_slow")
        elif written.exception() is None:
            self._report(messages)
            self._write()

    def _report(self, messages: list[OutboundMessage]) -> None:
        for message in messages:
            if message.dream_id:
                self._do_all(self._conversation.sent(message.dream_id, message.revision, message.last))

    def _send(self, texts: list[bytes]) -> "Future[None] | None":
        if self.ws_connection is None:
            raise WebSocketClosedError
        assert isinstance(self.ws_connection, Frames)
        return self.ws_connection.write_texts(texts)

    def _end_now(self, reason: str) -> None:
        """Close without writing the queue: the server ends the connection, or the client has stopped reading.

        The client then has 5 s to answer the close, before Tornado drops the connection.
        """
        self._leave()
        with contextlib.suppress(WebSocketClosedError):
            for output in self._conversation.end(reason):
                if isinstance(output, Send):
                    self._send([msgspec.json.encode(output.message)])
                elif isinstance(output, Close):
                    self._closing = output
        if self._closing is not None:  # a close that was waiting for the writer keeps its code
            self.close(self._closing.code, self._closing.reason)

    def _ping(self) -> None:
        # Bypasses the queue. Pings cannot pile up, because one without an answer closes the connection.
        with contextlib.suppress(WebSocketClosedError):
            self.ping()

    # ---- deadlines, and the end

    def _now(self) -> Now:
        return Now(self._loop.time(), time.time())

    def _set_timer(self) -> None:
        """Keep one timer, which may fire early and is then set again."""
        deadline = self._conversation.deadline()
        if self._timer is not None and (deadline is None or deadline < self._timer.when()):
            self._timer.cancel()
            self._timer = None
        if self._timer is None and deadline is not None:
            self._timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._do_all(self._conversation.tick(self._now()))
        self._set_timer()

    def _leave(self) -> None:
        """Leave the registry and stop the timer. May be called twice."""
        self.subscribers.discard(self._mailbox)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
