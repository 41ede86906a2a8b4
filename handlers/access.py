"""Where a request comes from, which web pages may make one, and which are under way.

It must not know what is asked for.
"""

import asyncio
import ipaddress
import time
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest


class Access:
    """The client's address and the host it used, as told by the connection or by a trusted proxy."""

    def __init__(self, *, public_url: str, allowed_origins: tuple[str, ...], trusted_proxies: tuple[str, ...]) -> None:
        self._public_url = public_url.rstrip("/")
        self._origins = {_origin(origin) for origin in (*allowed_origins, public_url) if origin}
        self._unanswered: set[object] = set()
        self._proxies = [ipaddress.ip_network(network, strict=False) for network in trusted_proxies]

    def begins(self, request: object) -> None:
        """A stop waits for this request until `ends`."""
        self._unanswered.add(request)

    def ends(self, request: object) -> None:
        self._unanswered.discard(request)

    async def all_answered(self, *, within: float) -> None:
        """Until no request is under way, `within` seconds at most."""
        deadline = time.monotonic() + within
        while self._unanswered and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    def client_address(self, request: HTTPServerRequest) -> str:
        """The nearest address that is not a trusted proxy's.

        X-Forwarded-For is read from its right end, where our own proxies wrote: what stands left of the first
        foreign address may have been made up by the client.
        """
        address = request.remote_ip or ""
        forwarded = request.headers.get("X-Forwarded-For", "").split(",")
        while self._is_proxy(address) and forwarded and (before := forwarded.pop().strip()):
            address = before
        return address

    def base_url(self, request: HTTPServerRequest) -> str:
        """What this client's addresses begin with, as `https://dreams.example.org`."""
        if self._public_url:
            return self._public_url
        scheme, host = request.protocol, request.host
        if self._is_proxy(request.remote_ip or ""):
            if request.headers.get("X-Forwarded-Proto", "") in ("http", "https"):
                scheme = request.headers["X-Forwarded-Proto"]
            host = request.headers.get("X-Forwarded-Host", host)
        return f"{scheme}://{host}"

    def allows(self, origin: str, request: HTTPServerRequest) -> bool:
        """May a page of `origin` talk to us: our own, or one that the settings name."""
        return self.is_foreign_but_allowed(origin) or _origin(origin) == _origin(self.base_url(request))

    def is_foreign_but_allowed(self, origin: str) -> bool:
        return _origin(origin) in self._origins

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)


def _origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of `url`, the default port filled in, so that equal origins compare equal."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "", "", None
    return parts.scheme, parts.hostname or "", port
