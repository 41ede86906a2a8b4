"""Who the client is: its IP address, and the host under which it knows the server."""

import pytest
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPServerRequest, RequestStartLine

from handlers.access import Access

PROXIES = ("10.0.0.0/8", "::1", "192.168.1.1")


class Context:
    """The facts of a connection about its client."""

    def __init__(self, remote_ip: str, protocol: str) -> None:
        self.remote_ip = remote_ip
        self.protocol = protocol


class Connection(HTTPConnection):
    def __init__(self, remote_ip: str, protocol: str) -> None:
        self.context = Context(remote_ip, protocol)


def request(*headers: tuple[str, str], remote_ip: str = "203.0.113.7", protocol: str = "http") -> HTTPServerRequest:
    found = HTTPHeaders({"Host": "dreams.local:8000"})
    for name, value in headers:
        found[name] = value if name == "Host" else ",".join([*found.get_list(name), value])
    line = RequestStartLine("GET", "/", "HTTP/1.1")
    return HTTPServerRequest(start_line=line, headers=found, connection=Connection(remote_ip, protocol))


def access(*, public_url: str = "", proxies: tuple[str, ...] = PROXIES) -> Access:
    return Access(public_url=public_url, trusted_proxies=proxies)


# ---- the client's IP address


@pytest.mark.parametrize(
    ("remote_ip", "forwarded", "ip"),
    [
        ("203.0.113.7", None, "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),  # not our proxy: anyone can write such a header
        ("10.1.2.3", None, "10.1.2.3"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "1.1.1.1, 198.51.100.1", "198.51.100.1"),  # the client wrote the first one itself
        ("10.1.2.3", "198.51.100.1, 10.9.9.9", "198.51.100.1"),
        ("10.1.2.3", "198.51.100.1,192.168.1.1 , 10.9.9.9", "198.51.100.1"),
        ("10.1.2.3", "10.9.9.9", "10.9.9.9"),
        ("10.1.2.3", "198.51.100.1, ", "10.1.2.3"),
        ("10.1.2.3", "unknown", "unknown"),
        ("10.1.2.3", "198.51.100.1, unknown", "unknown"),
        ("10.1.2.3", "2001:db8::1", "2001:db8::1"),
        ("::1", "198.51.100.1", "198.51.100.1"),
        ("::2", "198.51.100.1", "::2"),
        ("::ffff:10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "198.51.100.1, ::ffff:10.9.9.9", "198.51.100.1"),
        ("192.168.1.1", "198.51.100.1", "198.51.100.1"),
        ("192.168.1.2", "198.51.100.1", "192.168.1.2"),
        ("fe80::1%eth0", "198.51.100.1", "fe80::1%eth0"),
        ("", "198.51.100.1", ""),
    ],
)
def test_the_clients_ip_is_the_nearest_that_is_no_proxys(remote_ip: str, forwarded: str | None, ip: str) -> None:
    """What stands left of the first foreign address may have been made up."""
    headers = [] if forwarded is None else [("X-Forwarded-For", forwarded)]
    assert access().client_ip(request(*headers, remote_ip=remote_ip)) == ip


def test_several_headers_are_one_list() -> None:
    """As RFC 9110 reads them; the last proxy may add a header of its own."""
    headers = [("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "198.51.100.1")]
    assert access().client_ip(request(*headers, remote_ip="10.0.0.1")) == "198.51.100.1"


def test_without_trusted_proxies_the_header_is_nothing() -> None:
    """The default: the connection's own end is the client."""
    headers = [("X-Forwarded-For", "198.51.100.1")]
    assert access(proxies=()).client_ip(request(*headers, remote_ip="10.0.0.1")) == "10.0.0.1"


def test_a_trusted_network_may_be_written_by_any_of_its_addresses() -> None:
    """10.1.2.3/8 means 10.0.0.0/8."""
    found = access(proxies=("10.1.2.3/8", "fd00::1/8"))
    for proxy in ("10.200.0.1", "fd12::9"):
        assert found.client_ip(request(("X-Forwarded-For", "1.1.1.1"), remote_ip=proxy)) == "1.1.1.1"


# ---- the beginning of URLs


@pytest.mark.parametrize(
    ("headers", "remote_ip", "base"),
    [
        ({}, "203.0.113.7", "http://dreams.local:8000"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}, "203.0.113.7", "http://dreams.local:8000"),
        ({"X-Forwarded-Proto": "https"}, "10.0.0.1", "https://dreams.local:8000"),
        ({"X-Forwarded-Host": "dreams.example.org"}, "10.0.0.1", "http://dreams.example.org"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "d.example:81"}, "10.0.0.1", "https://d.example:81"),
        ({"X-Forwarded-Proto": "http, https"}, "10.0.0.1", "https://dreams.local:8000"),
        ({"X-Forwarded-Host": "evil.example, d.example"}, "10.0.0.1", "http://d.example"),
        ({"X-Forwarded-Host": "[2001:db8::1]:8000"}, "10.0.0.1", "http://[2001:db8::1]:8000"),
        ({"X-Forwarded-Proto": "gopher"}, "10.0.0.1", "http://dreams.local:8000"),
        ({"X-Forwarded-Proto": ""}, "10.0.0.1", "http://dreams.local:8000"),
        ({"X-Forwarded-Host": ""}, "10.0.0.1", "http://dreams.local:8000"),
        ({"X-Forwarded-Host": "d.example/path?x="}, "10.0.0.1", "http://dreams.local:8000"),
        ({"X-Forwarded-Host": "user@d.example"}, "10.0.0.1", "http://dreams.local:8000"),
        ({"Host": "192.168.1.5:8000"}, "203.0.113.7", "http://192.168.1.5:8000"),
    ],
)
def test_urls_begin_with_the_host_that_the_client_used(headers: dict[str, str], remote_ip: str, base: str) -> None:
    """The connection or a trusted proxy names it; a client that sends the headers of a proxy is ignored."""
    assert access().base_url(request(*headers.items(), remote_ip=remote_ip)) == base


def test_a_tls_connection_of_our_own_is_https() -> None:
    """Without a proxy."""
    assert access().base_url(request(protocol="https")) == "https://dreams.local:8000"


def test_the_public_url_wins() -> None:
    """Whatever the request says."""
    found = access(public_url="https://dreams.example.org")
    headers = [("X-Forwarded-Host", "other.example")]
    assert found.base_url(request(*headers, remote_ip="10.0.0.1")) == "https://dreams.example.org"
