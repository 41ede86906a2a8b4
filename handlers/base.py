"""The base of every call of the API: authentication, JSON in and out, errors as RFC 9457 problems.

It must not know what a dream is.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NoReturn, TypeVar

import msgspec
from tornado.log import app_log
from tornado.web import HTTPError, RequestHandler, stream_request_body

from handlers.access import Access
from handlers.body import STALL, Action, Event, Phase, RequestBody
from handlers.cors import Cors
from handlers.inflight import InFlight
from handlers.language import Language, preferred_language
from handlers.plain import allowed_methods
from handlers.problems import CHALLENGE, FieldError, Invalid, Problem, from_error, unknown_fields
from handlers.tokens import Caller, InvalidToken, Tokens
from storage.errors import Error

T = TypeVar("T")

JSON_LIMIT = 1_000_000  # bytes of a JSON body: the longest content, every code point escaped as \uXXXX, and room
UNLIMITED = 1 << 62
CUT = 499  # nginx's status, in the log and the metrics only, of a request whose client went away before its end


@stream_request_body
class ApiHandler(RequestHandler):
    """One call: `begin` before the body arrives, `receive` for each piece of it, then the method.

    The server answers an error in any of them at once, and throws away what the client still sends for a few seconds
    (`body.py`): closing the connection would reset it, and a client that is still sending would never read the answer.
    """

    public = False  # True: a call needs no token
    caller: Caller

    def initialize(self, *, access: Access, cors: Cors, in_flight: InFlight, tokens: Tokens) -> None:
        self.access = access
        self.cors = cors
        self.in_flight = in_flight
        self.tokens = tokens
        self.request_id = secrets.token_hex(4)
        self.log_about = ""  # joins the request's line in the log to those of its images
        self._received = bytearray()
        self.incoming = RequestBody(self.request.headers)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def language(self) -> Language:
        """The language of sentences for people in the answer."""
        return preferred_language(self.request.headers.get("Accept-Language"), "en")

    # ---- for subclasses

    async def begin(self) -> None:
        """Runs before the body arrives: the last chance to refuse it unread."""
        if (self.incoming.length or 0) > JSON_LIMIT:
            self._too_large()

    async def receive(self, chunk: bytes) -> None:
        if len(self._received) + len(chunk) > JSON_LIMIT:
            self._too_large()
        self._received += chunk

    def abandon(self) -> None:
        """The request is over: release what it holds. Not called while `receive` runs; may be called twice."""

    def read_json(self, kind: type[T]) -> T:
        """The whole body as a `kind`; raises a 400 or 422 that names the mistake."""
        if not self._received:
            raise Problem(400, "no_body")
        try:
            raw = msgspec.json.decode(self._received)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _not_json(str(error)) from error
        except RecursionError:
            raise Problem(400, "json_too_deep") from None
        unknown = unknown_fields(raw, kind)
        for each in unknown:
            del raw[each.field]
        try:
            found = msgspec.convert(raw, kind)
        except msgspec.ValidationError as error:
            raise Invalid([*unknown, _mistake(str(error))]) from error
        if unknown:
            raise Invalid(unknown)
        return found

    def read_query(self) -> dict[str, str]:
        """The parameters of the URL; of a repeated one the last. Raises `Invalid` for values that are not UTF-8."""
        query: dict[str, str] = {}
        errors: list[FieldError] = []
        for name in self.request.query_arguments:
            try:
                query[name] = self.get_query_argument(name)
            except HTTPError:
                errors.append(FieldError(name, "must_be_utf8"))
        if errors:
            raise Invalid(errors)
        return query

    def answer(self, status: int, body: Any) -> None:
        """End the request with `body` as JSON. Called before the method, it replaces the method."""
        self.set_status(status)
        self._end(msgspec.json.encode(body), "application/json")

    def compute_etag(self) -> None:
        """No `ETag`, which Tornado would add: a changed dream has a new `revision`."""

    # ---- the stages of a request

    async def prepare(self) -> None:
        self.in_flight.begin(self)
        self._restart_timer()
        # Tornado calls the method once the last byte has arrived.
        name = (self.request.method or "").lower()
        setattr(self, name, partial(self._run, getattr(self, name)))
        try:
            # Tornado's own limit would answer without a body; begin() and receive() enforce this server's limits.
            self.request.connection.set_max_body_size(UNLIMITED)  # type: ignore[union-attr]
            self._allow_origin()
            if not self.public and self.request.method != "OPTIONS":
                self.caller = self._authenticated()
            await self.begin()
        except Exception as error:
            self._refuse(error)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self.incoming.piece(len(chunk)) is not Action.TAKE:
            return None
        self._restart_timer()
        return self._take(chunk)

    async def _take(self, chunk: bytes) -> None:
        refusal: Exception | None = None
        try:
            await self.receive(chunk)
        except Exception as error:
            refusal = error
        finally:
            self._do(self.incoming.on(Event.TAKEN))
        if refusal is not None:
            self._refuse(refusal)

    def _run(self, method: Callable[..., Awaitable[None] | None], *args: str) -> Awaitable[None] | None:
        if self.incoming.ended() is not Action.RUN:
            return None  # refused already: Tornado ends the answer
        self._restart_timer()
        return method(*args)

    def on_connection_close(self) -> None:
        cut = not self.request._body_future.done()
        # Tornado's own part ends the task that waits for the rest of the body. Without it every cut request would stay
        # in memory for ever.
        super().on_connection_close()
        if cut:
            self._received.clear()  # now, because the garbage collector comes seldom
            if self.incoming.phase is not Phase.LINGERING:
                self.set_status(CUT, "Client Closed Request")
            self._log()  # Tornado logs only requests that it has finished
        self._over()

    def on_finish(self) -> None:
        self._over()

    def _over(self) -> None:
        self.in_flight.end(self)
        self._do(self.incoming.on(Event.CLOSED))
        self._restart_timer()

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
        """Answer with the problem for the error in `kwargs["exc_info"]`."""
        self._allow_origin()  # Tornado has cleared all headers
        error = kwargs.get("exc_info", (None, None, None))[1]
        self._end_with(self._problem(error, status_code))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, Problem | Error | HTTPError | InvalidToken):
            # Only the traceback: Tornado would add the text of the request, which is private.
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
                allowed = allowed_methods(self)
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
        self._do(self.incoming.answered())

    def _do(self, action: Action) -> None:
        match action:
            case Action.FINISH:
                self.finish()
            case Action.LINGER:
                if self.incoming.left > JSON_LIMIT:
                    self.set_header("Connection", "close")
                self.flush()
                self.abandon()
                self._restart_timer()
            case Action.HANG_UP:
                app_log.info(
                    "request %s: connection closed, because the client has sent nothing for %d s",
                    self.request_id,
                    STALL,
                )
                if self.request.connection is not None:
                    self.request.connection.stream.close()  # type: ignore[attr-defined]
            case Action.ABANDON:
                self.abandon()

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (seconds := self.incoming.patience) is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._on_silence)

    def _on_silence(self) -> None:
        self._timer = None
        self._do(self.incoming.on(Event.SILENT))

    @staticmethod
    def _too_large() -> NoReturn:
        raise Problem(413, "body_too_large", most=JSON_LIMIT)


_PLACE = re.compile(r"\(byte (\d+)\)")
_KINDS = {"object": "must_be_object", "str": "must_be_text", "str | null": "must_be_text"}
_WRONG_TYPE = re.compile(r"Expected `(.*)`, got `(.*)`")


def _not_json(message: str) -> Problem:
    """The answer to a body in which msgspec finds the mistake that `message` describes."""
    if found := _PLACE.search(message):
        return Problem(400, "not_json_at", byte=found[1])
    return Problem(400, "json_ends_early") if "truncated" in message else Problem(400, "not_json")


def _mistake(message: str) -> FieldError:
    """The mistake that msgspec describes in `message`, when it cannot read the body."""
    text, _, path = message.partition(" - at `$.")
    field = path.rstrip("`") or "body"
    if found := _WRONG_TYPE.fullmatch(text):
        if found[1] in _KINDS:
            return FieldError(field, _KINDS[found[1]])
        return FieldError(field, "wrong_type", expected=found[1], given=found[2])
    return FieldError(field, "does_not_fit", reason=text)


class NothingHere(ApiHandler):
    """Answers 404 to every path without a route."""

    public = True

    async def begin(self) -> None:
        raise Problem(404, "nothing_here")
