"""What every call of the API shares: who is calling, JSON in and out, errors as RFC 9457 problems.

It must not know what a dream is.
"""

import re
import secrets
import time
from collections.abc import Awaitable
from typing import Any, NoReturn, TypeVar

import msgspec
from tornado.httputil import HTTPHeaders
from tornado.ioloop import IOLoop
from tornado.log import app_log
from tornado.web import HTTPError, RequestHandler, stream_request_body

from handlers.access import Access
from handlers.cors import Cors
from handlers.inflight import InFlight
from handlers.language import Language, preferred_language
from handlers.problems import CHALLENGE, FieldError, Invalid, Problem, from_error
from handlers.tokens import Caller, InvalidToken, Tokens
from storage.errors import Error

T = TypeVar("T")

JSON_LIMIT = 1_000_000  # bytes of a JSON body: the longest content, every code point escaped as \uXXXX, and room
LINGER = 5.0  # seconds in which the rest of a refused body is thrown away; nginx's lingering_timeout
STALL = 60.0  # seconds without a byte after which a sender is given up

UNKNOWN = 1 << 62  # length of a body that does not say its length


@stream_request_body
class ApiHandler(RequestHandler):
    """One call: `begin` before the body arrives, `receive` for each piece of it, then the method.

    An error at any of these is answered at once, and what the client still sends is thrown away for `LINGER` seconds:
    closing on a client that is still sending would reset the connection, and it would never read the answer.
    """

    public = False  # True: no token is asked for
    caller: Caller

    def initialize(self, *, access: Access, cors: Cors, in_flight: InFlight, tokens: Tokens) -> None:
        self.access = access
        self.cors = cors
        self.in_flight = in_flight
        self.tokens = tokens
        self.request_id = secrets.token_hex(4)
        self.log_about = ""  # joins the request's line in the log to those of its images
        self._body = bytearray()
        self.unread = _body_length(self.request.headers)
        self._ended_early = False
        self._receiving_body = False
        self._watchdog: object | None = None

    @property
    def language(self) -> Language:
        """The language of sentences for people in the answer."""
        return preferred_language(self.request.headers.get("Accept-Language"), "en")

    # ---- for subclasses

    async def begin(self) -> None:
        """Before the body: the last chance to refuse it unread."""
        if JSON_LIMIT < self.unread < UNKNOWN:
            self._too_large()

    async def receive(self, chunk: bytes) -> None:
        if len(self._body) + len(chunk) > JSON_LIMIT:
            self._too_large()
        self._body += chunk

    def abandon(self) -> None:
        """The request ended without its method having run: let go of everything. May be called twice."""

    def read_json(self, kind: type[T]) -> T:
        """The body, which has ended, as a `kind`; raises a 400 or 422 that says what is wrong."""
        self.unread = 0
        try:
            raw = msgspec.json.decode(self._body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Problem(400, "not_json", reason=error) from error
        try:
            return msgspec.convert(raw, kind)
        except msgspec.ValidationError as error:
            raise Invalid([_mistake(str(error), kind)]) from error

    def answer(self, status: int, body: Any) -> None:
        """End the request with `body` as JSON; before the method, also the last that is read of it."""
        self.set_status(status)
        self._end(msgspec.json.encode(body), "application/json")

    # ---- the way of a request

    async def prepare(self) -> None:
        self.in_flight.begin(self)
        if self.unread:
            self._deadline_from_now(STALL)
        try:
            # Tornado's own limit would answer without a body; ours is watched in begin() and receive().
            self.request.connection.set_max_body_size(UNKNOWN)  # type: ignore[union-attr]
            self._allow_origin()
            if not self.public and self.request.method != "OPTIONS":
                self.caller = self._authenticated()
            await self.begin()
        except Exception as error:
            self._refuse(error)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        self._receiving_body = True
        self.unread -= len(chunk)
        if self._ended_early:
            return None
        self._deadline_from_now(STALL) if self.unread > 0 else self._stop_watchdog()
        return self._receive(chunk)

    async def _receive(self, chunk: bytes) -> None:
        try:
            await self.receive(chunk)
        except Exception as error:
            self._refuse(error)

    def on_connection_close(self) -> None:
        self.in_flight.end(self)
        self._stop_watchdog()
        self.abandon()

    def on_finish(self) -> None:
        self.in_flight.end(self)
        self._stop_watchdog()
        self.abandon()

    def options(self, *_: str) -> None:
        self.set_status(204)

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Vary", "Accept-Language, Origin")  # sentences, and the headers of CORS
        if hasattr(self, "request_id"):
            self.set_header("X-Request-Id", self.request_id)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every error's one way out; `kwargs["exc_info"]` tells which."""
        self._allow_origin()  # Tornado has cleared all headers
        error = kwargs.get("exc_info", (None, None, None))[1]
        self._end_with(self._problem(error, status_code))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, Problem | Error | HTTPError | InvalidToken):
            # The traceback only: the request's own text, which Tornado would add, is private.
            app_log.error("request %s failed", self.request_id, exc_info=(typ, value, tb))

    # ---- inside

    def _authenticated(self) -> Caller:
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Problem(401, "no_access_token", headers=CHALLENGE)
        return self.tokens.caller(token.strip(), time.time())

    def _allow_origin(self) -> None:
        for name, value in self.cors.headers(self.request):
            self.set_header(name, value)

    def _problem(self, error: BaseException | None, status: int) -> Problem:
        match error:
            case HTTPError(status_code=405):
                allowed = [m for m in self.SUPPORTED_METHODS if m.lower() in vars(type(self))]
                return Problem(405, "method_not_allowed", headers={"Allow": ", ".join(allowed)}, methods=allowed)
            case HTTPError():
                return Problem(status, "unreadable")
            case _:
                return from_error(error, self.request_id)

    def _end_with(self, problem: Problem) -> None:
        self.set_status(problem.status)
        for name, value in problem.headers.items():
            self.set_header(name, value)
        self._end(msgspec.json.encode(problem.body(self.language)), "application/problem+json")

    def _refuse(self, error: Exception) -> None:
        self.log_exception(type(error), error, error.__traceback__)
        self._end_with(self._problem(error, 500))

    def _end(self, body: bytes, content_type: str) -> None:
        self.set_header("Content-Type", content_type)
        self.set_header("Content-Length", len(body))
        self.write(body)
        expects = self.request.headers.get("Expect", "").lower() == "100-continue"
        if self.unread <= 0 or (expects and not self._receiving_body):
            self.finish()  # nothing more is on its way
            return
        self._ended_early = True
        self.abandon()
        method = (self.request.method or "").lower()
        setattr(self, method, lambda *_: None)  # when the body has ended, nothing is left to do
        if self.unread > JSON_LIMIT:
            self.set_header("Connection", "close")
        self.flush()
        self._deadline_from_now(LINGER)

    def _deadline_from_now(self, seconds: float) -> None:
        self._stop_watchdog()
        self._watchdog = IOLoop.current().call_later(seconds, self._give_up)

    def _stop_watchdog(self) -> None:
        if self._watchdog is not None:
            IOLoop.current().remove_timeout(self._watchdog)
            self._watchdog = None

    def _give_up(self) -> None:
        self._watchdog = None
        if self._ended_early and not self._finished:
            self.finish()  # closes the connection, since the body has not all been read
        elif self.request.connection is not None:
            app_log.info("request %s: the sender has been silent for %d s", self.request_id, STALL)
            self.request.connection.stream.close()  # type: ignore[attr-defined]

    @staticmethod
    def _too_large() -> NoReturn:
        raise Problem(413, "body_too_large", most=JSON_LIMIT)


def _body_length(headers: HTTPHeaders) -> int:
    """Bytes of body to come; `UNKNOWN` for a chunked one."""
    if "Transfer-Encoding" in headers:
        return UNKNOWN
    length = headers.get("Content-Length", "0")
    return int(length) if length.isdecimal() else 0


_WRONG_TYPE = re.compile(r"Expected `(.*)`, got `(.*)`")


def _mistake(message: str, kind: type) -> FieldError:
    """The mistake behind `message`, with which msgspec refuses to read the body as a `kind`."""
    text, _, path = message.partition(" - at `$.")
    field = path.rstrip("`") or "body"
    if text.startswith("Object contains unknown field") and issubclass(kind, msgspec.Struct):
        return FieldError(field, "unknown_field", allowed=kind.__struct_encode_fields__)
    if found := _WRONG_TYPE.fullmatch(text):
        return FieldError(field, "wrong_type", expected=found[1], given=found[2])
    return FieldError(field, "does_not_fit", reason=text)


class NothingHere(ApiHandler):
    """Every path that is in no route."""

    public = True

    async def begin(self) -> None:
        raise Problem(404, "nothing_here")
