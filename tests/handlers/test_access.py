"""Where a request comes from, and which pages may make one."""

import asyncio

import pytest
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPServerRequest, RequestStartLine

from handlers.access import Access

PROXIES = ("10.0.0.0/8", "::1", "192.168.1.1")


class Context:
    """What a connection tells of its other end."""

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


def access(*, public_url: str = "", origins: tuple[str, ...] = (), proxies: tuple[str, ...] = PROXIES) -> Access:
    return Access(public_url=public_url, allowed_origins=origins, trusted_proxies=proxies)


# ---- the client's address


@pytest.mark.parametrize(
    ("remote_ip", "forwarded", "address"),
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
def test_the_clients_address_is_the_nearest_that_is_no_proxys(
    remote_ip: str, forwarded: str | None, address: str
) -> None:
    """What stands left of the first foreign address may have been made up."""
    headers = [] if forwarded is None else [("X-Forwarded-For", forwarded)]
    assert access().client_address(request(*headers, remote_ip=remote_ip)) == address


def test_several_headers_are_one_list() -> None:
    """As RFC 9110 reads them; the last proxy may add a header of its own."""
    headers = [("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "198.51.100.1")]
    assert access().client_address(request(*headers, remote_ip="10.0.0.1")) == "198.51.100.1"


def test_without_trusted_proxies_the_header_is_nothing() -> None:
    """The default: the connection's own end is the client."""
    headers = [("X-Forwarded-For", "198.51.100.1")]
    assert access(proxies=()).client_address(request(*headers, remote_ip="10.0.0.1")) == "10.0.0.1"


def test_a_trusted_network_may_be_written_by_any_of_its_addresses() -> None:
    """10.1.2.3/8 means 10.0.0.0/8."""
    found = access(proxies=("10.1.2.3/8", "fd00::1/8"))
    for proxy in ("10.200.0.1", "fd12::9"):
        assert found.client_address(request(("X-Forwarded-For", "1.1.1.1"), remote_ip=proxy)) == "1.1.1.1"


# ---- the base of addresses


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
def test_addresses_begin_with_the_host_that_the_client_used(headers: dict[str, str], remote_ip: str, base: str) -> None:
    """As the connection tells it, or a trusted proxy, but never the client through headers of a proxy."""
    assert access().base_url(request(*headers.items(), remote_ip=remote_ip)) == base


def test_a_tls_connection_of_our_own_is_https() -> None:
    """Without a proxy."""
    assert access().base_url(request(protocol="https")) == "https://dreams.local:8000"


def test_the_public_url_wins() -> None:
    """Whatever the request says."""
    found = access(public_url="https://dreams.example.org")
    headers = [("X-Forwarded-Host", "other.example")]
    assert found.base_url(request(*headers, remote_ip="10.0.0.1")) == "https://dreams.example.org"


# ---- origins


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://dreams.local:8000", True),
        ("HTTP://Dreams.LOCAL:8000", True),
        ("https://dreams.local:8000", False),
        ("http://dreams.local", False),
        ("http://dreams.local:8001", False),
        ("http://xdreams.local:8000", False),
        ("http://dreams.local.evil.example:8000", False),
        ("http://dreams.local:8000@evil.example", False),
        ("https://app.example.org", True),
        ("https://app.example.org:443", True),
        ("http://app.example.org", False),
        ("https://app.example.org:444", False),
        ("https://sub.app.example.org", False),
        ("http://localhost:3000", True),
        ("http://localhost", False),
        ("http://plain.example:80", True),
        ("http://plain.example", True),
        ("null", False),
        ("", False),
        ("*", False),
        ("file://", False),
        ("http://", False),
        ("http://dreams.local:x", False),
        ("http://dreams.local:99999", False),
        ("http://[", False),
        ("chrome-extension://app.example.org", False),
    ],
)
def test_our_own_pages_and_those_of_the_settings_may_talk_to_us(origin: str, allowed: bool) -> None:
    """Scheme, host and port must be equal, the default port written or not."""
    origins = ("https://app.example.org", "http://localhost:3000", "http://plain.example:80")
    assert access(origins=origins).allows(origin, request()) is allowed


@pytest.mark.parametrize(("host", "origin"), [("dreams.local", "http://dreams.local:80"), ("[::1]:80", "http://[::1]")])
def test_a_host_without_its_port_has_the_default_one(host: str, origin: str) -> None:
    """Both ways of writing it are one origin."""
    assert access().allows(origin, request(("Host", host)))


@pytest.mark.parametrize("host", ["dreams.local:99999", ":80", ""])
@pytest.mark.parametrize("origin", ["null", "", "http://[", "http://x:99999"])
def test_two_origins_that_are_none_are_not_equal(host: str, origin: str) -> None:
    """A sandboxed page's `null` does not get in by a host that cannot be read."""
    assert not access().allows(origin, request(("Host", host)))


def test_behind_a_proxy_our_own_page_is_the_proxys() -> None:
    """TLS ends there, so the page's origin is not what our connection shows."""
    headers = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "dreams.example.org")]
    assert access().allows("https://dreams.example.org", request(*headers, remote_ip="10.0.0.1"))
    assert not access().allows("https://dreams.example.org", request(*headers, remote_ip="203.0.113.7"))


def test_pages_of_the_public_url_are_our_own() -> None:
    """And then those of the internal host are not."""
    found = access(public_url="https://dreams.example.org")
    assert found.allows("https://dreams.example.org", request())
    assert not found.allows("http://dreams.local:8000", request())


def test_only_named_pages_are_foreign_but_allowed() -> None:
    """Our own need no permission from us."""
    found = access(origins=("https://app.example.org",))
    assert found.is_foreign_but_allowed("https://app.example.org:443")
    assert not found.is_foreign_but_allowed("http://dreams.local:8000")
    assert not found.is_foreign_but_allowed("null")


# ---- what is under way


@pytest.mark.gen_test
async def test_without_requests_a_stop_waits_for_nothing() -> None:
    """Also with no time at all."""
    await access().all_answered(within=0)
    await access().all_answered(within=3600)


@pytest.mark.gen_test
async def test_a_stop_waits_for_the_last_request() -> None:
    """It ends as soon as the last one does, not before."""
    found, first, second = access(), object(), object()
    found.begins(first)
    found.begins(second)
    found.begins(first)
    stop = asyncio.create_task(found.all_answered(within=3600))
    found.ends(first)
    found.ends(object())
    await found.all_answered(within=0.01)
    assert not stop.done()
    found.ends(second)
    await asyncio.wait_for(stop, 10)
    found.ends(second)


@pytest.mark.gen_test
async def test_a_stop_does_not_wait_for_ever() -> None:
    """A request that does not end is left to be cut off."""
    found = access()
    found.begins(object())
    await found.all_answered(within=0.01)


@pytest.mark.gen_test
async def test_requests_are_counted_again_after_a_pause() -> None:
    """The last one ended, then a new one came."""
    found, late = access(), object()
    found.begins(late)
    found.ends(late)
    found.begins(late)
    stop = asyncio.create_task(found.all_answered(within=3600))
    await found.all_answered(within=0.01)
    assert not stop.done()
    found.ends(late)
    await asyncio.wait_for(stop, 10)
