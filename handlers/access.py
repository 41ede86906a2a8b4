"""The IP address of the client, and the host under which it knows this server.

It must not know what the request asks for.
"""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache, partial

from tornado.httputil import HTTPServerRequest

MAX_CACHED = 1024  # IP addresses
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\[\]\\,]+)(:[0-9]{1,5})?")


class Access:
    """Reads both from the connection, or from the headers of a trusted proxy."""

    def __init__(self, *, public_url: str, trusted_proxies: tuple[str, ...]) -> None:
        self._public_url = public_url.rstrip("/")
        proxies = [ipaddress.ip_network(network, strict=False) for network in trusted_proxies]
        # Nearly every request comes from an IP address that was here a moment ago.
        self._is_proxy = lru_cache(MAX_CACHED)(partial(_is_in, proxies))

    def client_ip(self, request: HTTPServerRequest) -> str:
        """The nearest IP address that does not belong to a trusted proxy.

        X-Forwarded-For is read from its right end, where the trusted proxies wrote. The client may have made up
        everything left of the first foreign IP address.
        """
        ip = request.remote_ip or ""
        forwarded = request.headers.get("X-Forwarded-For", "").split(",")
        while self._is_proxy(ip) and forwarded and (before := forwarded.pop().strip()):
            ip = before
        return ip

    def base_url(self, request: HTTPServerRequest) -> str:
        """The beginning of this client's URLs, as `https://dreams.example.org`."""
        if self._public_url:
            return self._public_url
        scheme, host = request.protocol, request.host
        if self._is_proxy(request.remote_ip or ""):
            # Of several values the last one is the trusted proxy's, as with X-Forwarded-For.
            forwarded = request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip()
            scheme = forwarded if forwarded in ("http", "https") else scheme
            forwarded = request.headers.get("X-Forwarded-Host", "").rpartition(",")[2].strip()
            host = forwarded if HOST.fullmatch(forwarded) else host
        return f"{scheme}://{host}"


def _is_in(networks: Iterable[Network], ip: str) -> bool:
    try:
        parsed = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return False
    # ::ffff:10.0.0.1 is how a socket for both kinds of addresses shows 10.0.0.1.
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return any((mapped or parsed) in network for network in networks)
