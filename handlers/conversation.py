"""The conversation on one WebSocket: text and the time in; messages, deadlines and close codes out.

Pure: it must not know Tornado, the database or the other listeners of a dream.

                     opened with a header, or `authenticate`
    waiting for a token ──────────────────────────────> talking ──> closed (4101 … 4403, 1000, 1009, 1012)
        └──── anything else, a wrong token, too late ─────────────> closed (4401)

Each method returns the outputs that the caller must carry out, in order. The caller reports the results with `found`,
`missing`, `sent` or `end`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from config import WebSocket
from handlers import views
from handlers.messages import (
    MAX_DREAMS,
    SENTENCES,
    AuthenticateMessage,
    ClientMessage,
    HeartbeatMessage,
    PingMessage,
    PongMessage,
    ServerMessage,
    SubscribeMessage,
    UnsubscribeMessage,
    error_message,
)
from handlers.tokens import Caller, InvalidToken

MAX_INVALID = 5  # messages on one connection
WARNING = 60.0  # seconds before the token expires

# name -> (close code, whether an `error` of that name precedes the close, because the client caused it)
ENDINGS: dict[str, tuple[int, bool]] = {
    "dream_deleted": (1000, False),
    "message_too_big": (1009, True),
    "restarting": (1012, False),
    "unavailable": (1012, False),  # the database; 1012 is the only code that lets a client simply reconnect
    "token_expired": (4101, False),
    "signed_out_elsewhere": (4101, False),  # from another device of the user: this session continues
    "too_slow": (4102, False),
    "no_pong": (4103, False),
    "too_many_connections": (4129, True),
    "rate_limited": (4129, True),
    "bad_messages": (4400, False),  # just after the `bad_message` that was one too many
    "unauthenticated": (4401, True),
    "authentication_timeout": (4401, True),
    "invalid_token": (4401, True),
    "wrong_user": (4401, True),
    "signed_out": (4401, True),
    "not_found": (4403, True),
}


class Now(NamedTuple):
    """One moment on two clocks."""

    steady: float  # seconds on a clock that never jumps, for every deadline
    wall: float  # Unix seconds, as in tokens and messages; may be set at any time


# ---- outputs


@dataclass(frozen=True, slots=True)
class Send:
    message: ServerMessage
    heartbeat_of: str = ""  # the dream whose queued heartbeat this replaces


@dataclass(frozen=True, slots=True)
class Join:
    """Count the connection as one of this caller's. Repeated with each new token."""

    caller: Caller


@dataclass(frozen=True, slots=True)
class Subscribe:
    dream_id: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    dream_id: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Send a ping frame of the WebSocket protocol."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close after the messages sent so far. It is the last output."""

    code: int
    reason: str


Output = Send | Join | Subscribe | Unsubscribe | Ping | Close


_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(
    AuthenticateMessage | PingMessage | SubscribeMessage | UnsubscribeMessage
)


class Conversation:
    """One connection's side of the protocol, for one dream or (`dream_id` None) for many."""

    __slots__ = (
        "_authenticate_by",
        "_caller",
        "_check",
        "_dream_id",
        "_dreams",
        "_expires",
        "_invalid",
        "_language",
        "_ping_at",
        "_pong_by",
        "_settings",
        "_warn_at",
        "closed",
    )

    def __init__(
        self, settings: WebSocket, check: Callable[[str, float], Caller], dream_id: str | None, language: str, now: Now
    ) -> None:
        self.closed = False
        self._settings = settings
        self._check = check
        self._dream_id = dream_id
        self._language = language
        self._caller: Caller | None = None
        self._dreams: dict[str, int] = {}  # subscribed -> the newest revision that was sent; 0: none yet
        self._invalid = 0
        self._authenticate_by: float | None = now.steady + settings.auth_timeout
        self._ping_at = now.steady + settings.ping_interval
        self._pong_by: float | None = None
        self._warn_at: float | None = None
        self._expires: float | None = None

    # ---- events

    def opened(self, authorization: str | None, now: Now) -> list[Output]:
        """The handshake is complete; `authorization` is its header."""
        return [] if authorization is None else self._authenticate(authorization, now)

    def received(self, message: str | bytes, now: Now) -> list[Output]:
        if self.closed:
            return []
        if len(message.encode() if isinstance(message, str) else message) > self._settings.max_message:
            return self.end("message_too_big")
        request = _decode(message)
        if isinstance(request, AuthenticateMessage):
            return self._authenticate(request.token, now)
        if self._caller is None:
            return self.end("unauthenticated")
        match request:
            case PingMessage():
                return [Send(PongMessage(request.timestamp))]
            case SubscribeMessage() if self._dream_id is None:
                return self._subscribe(request.dream_ids)
            case UnsubscribeMessage() if self._dream_id is None:
                known = [dream_id for dream_id in dict.fromkeys(request.dream_ids) if dream_id in self._dreams]
                for dream_id in known:
                    del self._dreams[dream_id]
                return [Unsubscribe(dream_id) for dream_id in known]
            case _:
                return self._bad_message()

    def pong(self) -> None:
        """The client answered a ping frame."""
        self._pong_by = None

    def deadline(self) -> float | None:
        """The time on the steady clock at which `tick` has something to do; None once closed."""
        if self.closed:
            return None
        times = (self._authenticate_by, self._warn_at, self._expires, self._ping_at, self._pong_by)
        return min(time for time in times if time is not None)

    def tick(self, now: Now) -> list[Output]:
        if self.closed:
            return []
        if _due(self._authenticate_by, now):
            return self.end("authentication_timeout")
        if _due(self._expires, now):
            return self.end("token_expired")
        if _due(self._pong_by, now):
            return self.end("no_pong")
        return [*self._warning(now), *self._heartbeats(now)]

    # ---- results of outputs

    def found(self, dream_id: str, revision: int) -> ServerMessage | None:
        """The dream was read. The caller sends the returned message, if there is one, and then the state."""
        first = not self._dreams.get(dream_id)
        self._dreams[dream_id] = max(revision, self._dreams.get(dream_id, 0))
        return views.connection_established(dream_id, self._language) if first else None

    def missing(self, dream_id: str) -> list[Output]:
        """The dream does not exist, or belongs to another user."""
        if self.closed:
            return []
        if self._dream_id is not None:
            return self.end("not_found", dream_id=dream_id)
        self._dreams.pop(dream_id, None)
        return [self._error("not_found", dream_id=dream_id)]

    def sent(self, dream_id: str, revision: int, last: bool) -> list[Output]:
        """A message about the dream was written; `last` when it is the dream's deletion."""
        if dream_id in self._dreams:
            self._dreams[dream_id] = max(revision, self._dreams[dream_id])
        if not last:
            return []
        self._dreams.pop(dream_id, None)
        return self.end("dream_deleted") if self._dream_id is not None else [Unsubscribe(dream_id)]

    def end(self, name: str, **details: Any) -> list[Output]:
        """Close for the reason `name`, a key of `ENDINGS`; no outputs when it is closed already."""
        if self.closed:
            return []
        self.closed = True
        code, has_error = ENDINGS[name]
        error: list[Output] = [self._error(name, **details)] if has_error else []
        return [*error, Close(code, SENTENCES[self._language][name])]

    # ---- inside

    def _authenticate(self, token: str, now: Now) -> list[Output]:
        scheme, _, rest = token.strip().partition(" ")
        try:
            caller = self._check(rest.strip() if scheme.lower() == "bearer" else token.strip(), now.wall)
        except InvalidToken:
            return self.end("invalid_token")
        first = self._caller is None
        if self._caller is not None and caller.user != self._caller.user:
            return self.end("wrong_user")
        self._caller = caller
        self._authenticate_by = None
        # Converted once, so that a change of the wall clock neither cuts a connection off nor keeps it for ever.
        self._expires = now.steady + caller.expires - now.wall
        self._warn_at = self._expires - WARNING
        subscribed: list[Output] = []
        if first and self._dream_id is not None:
            self._dreams[self._dream_id] = 0
            subscribed = [Subscribe(self._dream_id)]
        return [Join(caller), *subscribed, *self._warning(now)]

    def _subscribe(self, dream_ids: list[str]) -> list[Output]:
        outputs: list[Output] = []
        for dream_id in dict.fromkeys(dream_ids):
            if dream_id not in self._dreams and len(self._dreams) >= MAX_DREAMS:
                return [*outputs, self._error("too_many_dreams", dream_id=dream_id)]
            self._dreams.setdefault(dream_id, 0)
            outputs.append(Subscribe(dream_id))
        return outputs

    def _warning(self, now: Now) -> list[Output]:
        if self._expires is None or not _due(self._warn_at, now):
            return []
        self._warn_at = None
        return [Send(views.token_expiring(self._expires - now.steady))]

    def _heartbeats(self, now: Now) -> Iterator[Output]:
        if not _due(self._ping_at, now):
            return
        self._ping_at = now.steady + self._settings.ping_interval
        if self._pong_by is None:
            self._pong_by = now.steady + self._settings.ping_timeout
        yield Ping()
        for dream_id, revision in self._dreams.items():
            if revision:
                yield Send(HeartbeatMessage(dream_id, revision, now.wall), heartbeat_of=dream_id)

    def _bad_message(self) -> list[Output]:
        self._invalid += 1
        error = self._error("bad_message")
        return [error] if self._invalid < MAX_INVALID else [error, *self.end("bad_messages")]

    def _error(self, code: str, **details: Any) -> Send:
        return Send(error_message(code, self._language, **details))


def _due(time: float | None, now: Now) -> bool:
    return time is not None and now.steady >= time


def _decode(message: str | bytes) -> ClientMessage | None:
    if isinstance(message, bytes):
        return None
    try:
        request = _decoder.decode(message)
    except (msgspec.DecodeError, RecursionError):
        return None
    if isinstance(request, PingMessage) and bytes(request.timestamp)[0] not in b"-0123456789":
        return None
    return request
