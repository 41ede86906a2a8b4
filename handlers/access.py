"""Where a request comes from, which web pages may make one, and which are under way.

It must not know what is asked for.
"""

import asyncio
import ipaddress
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache, partial
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest

DEFAULT_PORTS = {"http": 80, "https": 443}
MOST_KNOWN = 1024  # addresses
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\[\]\\,]+)(:[0-9]{1,5})?")


class Access:
    """The client's address and the host it used, as told by the connection or by a trusted proxy."""

    def __init__(self, *, public_url: str, allowed_origins: tuple[str, ...], trusted_proxies: tuple[str, ...]) -> None:
        self._public_url = public_url.rstrip("/")
        self._origins = {_origin(origin) for origin in (*allowed_origins, public_url) if origin}
        proxies = [ipaddress.ip_network(network, strict=False) for network in trusted_proxies]
        # Nearly every request comes from an address that was here a moment ago.
        self._is_proxy = lru_cache(MOST_KNOWN)(partial(_is_in, proxies))
        self._unanswered: set[object] = set()
        self._all_answered = asyncio.Event()
        self._all_answered.set()

    def begins(self, request: object) -> None:
        """A stop waits for this request until `ends`."""
        self._unanswered.add(request)
        self._all_answered.clear()

    def ends(self, request: object) -> None:
        self._unanswered.discard(request)
        if not self._unanswered:
            self._all_answered.set()

    async def all_answered(self, *, within: float) -> None:
        """Until no request is under way, `within` seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._all_answered.wait()

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
            # Of several values the last one is our own proxy's, as with X-Forwarded-For.
            told = request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip()
            scheme = told if told in ("http", "https") else scheme
            told = request.headers.get("X-Forwarded-Host", "").rpartition(",")[2].strip()
            host = told if HOST.fullmatch(told) else host
        return f"{scheme}://{host}"

    def allows(self, origin: str, request: HTTPServerRequest) -> bool:
        """May a page of `origin` talk to us: our own, or one that the settings name."""
        own = _origin(self.base_url(request))
        return self.is_foreign_but_allowed(origin) or (own is not None and _origin(origin) == own)

    def is_foreign_but_allowed(self, origin: str) -> bool:
        return (asked := _origin(origin)) is not None and asked in self._origins


def _is_in(networks: Iterable[Network], address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    # ::ffff:10.0.0.1 is how a socket for both kinds of addresses shows 10.0.0.1.
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return any((mapped or parsed) in network for network in networks)


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
