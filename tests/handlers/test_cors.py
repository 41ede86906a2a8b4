"""Which web pages may call the server, and the headers that their browsers get."""

import pytest

from handlers.cors import Cors
from tests.handlers.test_access import access, request

APP = "https://app.example.org"


def cors(*origins: str, public_url: str = "") -> Cors:
    return Cors(access(public_url=public_url), public_url=public_url, allowed_origins=origins)


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
    found = cors("https://app.example.org", "http://localhost:3000", "http://plain.example:80")
    assert found.allows(origin, request()) is allowed


@pytest.mark.parametrize(("host", "origin"), [("dreams.local", "http://dreams.local:80"), ("[::1]:80", "http://[::1]")])
def test_a_host_without_its_port_has_the_default_one(host: str, origin: str) -> None:
    """Both ways of writing it are one origin."""
    assert cors().allows(origin, request(("Host", host)))


@pytest.mark.parametrize("host", ["dreams.local:99999", ":80", ""])
@pytest.mark.parametrize("origin", ["null", "", "http://[", "http://x:99999"])
def test_two_origins_that_are_none_are_not_equal(host: str, origin: str) -> None:
    """A sandboxed page's `null` does not get in by a host that cannot be read."""
    assert not cors().allows(origin, request(("Host", host)))


def test_behind_a_proxy_our_own_page_is_the_proxys() -> None:
    """TLS ends there, so the page's origin is not what our connection shows."""
    headers = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "dreams.example.org")]
    assert cors().allows("https://dreams.example.org", request(*headers, remote_ip="10.0.0.1"))
    assert not cors().allows("https://dreams.example.org", request(*headers, remote_ip="203.0.113.7"))


def test_pages_of_the_public_url_are_our_own() -> None:
    """And then those of the internal host are not."""
    found = cors(public_url="https://dreams.example.org")
    assert found.allows("https://dreams.example.org", request())
    assert not found.allows("http://dreams.local:8000", request())


def test_only_the_settings_name_an_origin() -> None:
    """The server's own pages need no permission."""
    found = cors(APP)
    assert found.names("https://app.example.org:443")
    assert not found.names("http://dreams.local:8000")
    assert not found.names("null")


# ---- headers


def test_an_allowed_page_may_read_the_answer() -> None:
    """Its origin comes back as it was sent, with the headers that scripts may read."""
    assert dict(cors(APP).headers(request(("Origin", APP)))) == {
        "Access-Control-Allow-Origin": APP,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": "Retry-After, X-Request-Id",
    }


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null", "http://dreams.local:8000"])
def test_no_other_page_gets_a_header(origin: str | None) -> None:
    """Neither a foreign page nor the server's own, which needs none."""
    headers = [] if origin is None else [("Origin", origin)]
    assert not list(cors(APP).headers(request(*headers)))


def test_a_preflight_request_learns_what_it_may_send() -> None:
    """The methods and headers of the API, for a day."""
    asked = request(("Origin", APP))
    asked.method = "OPTIONS"
    headers = dict(cors(APP).headers(asked))
    assert headers["Access-Control-Allow-Methods"] == "GET, POST, PATCH, DELETE"
    assert "Idempotency-Key" in headers["Access-Control-Allow-Headers"]
    assert headers["Access-Control-Max-Age"] == "86400"
