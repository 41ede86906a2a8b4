"""Which web pages may talk to this server, and the CORS headers that tell their browsers.

It must not know what a request asks for.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest

from handlers.access import Access

DEFAULT_PORTS = {"http": 80, "https": 443}
METHODS = "GET, POST, PATCH, DELETE"
REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID"
ANSWER_HEADERS = "Retry-After, X-Request-Id"
REMEMBER = 86_400  # seconds for which a browser may keep the answer to a preflight request


class Cors:
    """The origins that the settings name, and the server's own."""

    def __init__(self, access: Access, *, public_url: str, allowed_origins: tuple[str, ...]) -> None:
        self._access = access
        self._origins = {_origin(origin) for origin in (*allowed_origins, public_url) if origin}

    def allows(self, origin: str, request: HTTPServerRequest) -> bool:
        """Whether a page of `origin` may talk to the server: its own pages, and those that the settings name."""
        own = _origin(self._access.base_url(request))
        return self.names(origin) or (own is not None and _origin(origin) == own)

    def names(self, origin: str) -> bool:
        """Whether the settings name `origin`."""
        return (asked := _origin(origin)) is not None and asked in self._origins

    def headers(self, request: HTTPServerRequest) -> Iterator[tuple[str, str]]:
        """The headers of the answer; none for a page of the server's own, which needs no permission."""
        origin = request.headers.get("Origin")
        if origin is None or not self.names(origin):
            return
        yield "Access-Control-Allow-Origin", origin
        yield "Access-Control-Allow-Credentials", "true"
        yield "Access-Control-Expose-Headers", ANSWER_HEADERS
        if request.method == "OPTIONS":
            yield "Access-Control-Allow-Methods", METHODS
            yield "Access-Control-Allow-Headers", REQUEST_HEADERS
            yield "Access-Control-Max-Age", str(REMEMBER)


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of `url`, the default port filled in, so that equal origins compare equal.

    None for what is no origin, like the `null` of a sandboxed page: two of those are not equal.
    """
    try:
        parts = urlsplit(url)
        port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    except (ValueError, KeyError):
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None
