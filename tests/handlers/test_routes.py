"""Every route, in one application: what it refuses, it refuses as HTTP says."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.web import Application

from config import Config
from handlers.access import Access
from handlers.base import NothingHere
from handlers.cors import Cors
from handlers.inflight import InFlight
from handlers.pages import Web
from handlers.routes import Parts, routes
from handlers.subscribers import Subscribers
from handlers.tokens import Tokens

TOKENS = Tokens(b"s" * 32, access_lifetime=900, refresh_lifetime=900)
# A path of each row, and what is allowed there.
PATHS = {
    "/api/server": "GET, OPTIONS",
    "/api/auth/register": "POST, OPTIONS",
    "/api/auth/login": "POST, OPTIONS",
    "/api/auth/refresh": "POST, OPTIONS",
    "/api/auth/logout": "POST, OPTIONS",
    "/api/me": "GET, DELETE, OPTIONS",
    "/api/dreams": "GET, POST, OPTIONS",
    "/api/dreams/d1": "GET, DELETE, PATCH, OPTIONS",
    "/api/dreams/d1/events": "GET, OPTIONS",
    "/api/dreams/d1/images": "POST, OPTIONS",
    "/api/dreams/d1/images/1": "DELETE, OPTIONS",
    "/api/dreams/d1/images/1/retry": "POST, OPTIONS",
    "/api/dreams/d1/images/1/original": "GET, OPTIONS",
    "/ws/dream-images/d1/": "GET",
    "/media/k.jpg": "GET, HEAD",
    "/healthz": "GET, HEAD",
    "/readyz": "GET, HEAD",
    "/metrics": "GET, OPTIONS",
    "/openapi.json": "GET, HEAD",
    "/asyncapi.json": "GET, HEAD",
    "/": "GET, HEAD",
}


@pytest.fixture
def app(tmp_path: Path) -> Application:
    """The routes, over parts that a refusal never asks."""
    access = Access(public_url="", trusted_proxies=())
    shared = {
        "access": access,
        "cors": Cors(access, public_url="", allowed_origins=()),
        "in_flight": InFlight(),
        "tokens": TOKENS,
    }
    parts: dict[str, Any] = dict.fromkeys(Parts.__dataclass_fields__, SimpleNamespace(origins=()))
    parts |= {
        **shared,
        "subscribers": Subscribers(url_for_host=lambda host: lambda key: host + key, connections=0),
        "web": Web(tmp_path),
    }
    return Application(
        [*routes(Config(), Parts(**parts))],
        default_handler_class=NothingHere,
        default_handler_args=shared,
        log_function=lambda handler: None,
    )


def test_each_route_is_tried(app: Application) -> None:
    """By one path below."""
    rows = app.wildcard_router.rules
    assert [row for row in rows if not any(row.matcher.regex.fullmatch(path) for path in PATHS)] == []  # type: ignore[attr-defined]


@pytest.mark.gen_test
@pytest.mark.parametrize(("path", "allowed"), PATHS.items())
async def test_a_method_that_is_not_allowed_learns_which_are(
    http_client: AsyncHTTPClient, base_url: str, path: str, allowed: str
) -> None:
    """Everywhere: in the API as a problem, elsewhere in a line of text."""
    headers = {"Authorization": f"Bearer {TOKENS.access('ann', 's1', time.time())}"}
    answer = await http_client.fetch(base_url + path, method="PUT", body=b"", headers=headers, raise_error=False)
    assert (answer.code, answer.headers["Allow"]) == (405, allowed)
    assert allowed in answer.body.decode()


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/nothing", "/api", "/api/dreams/d1/images/x", "/api/dreams/", "/media/"])
async def test_a_path_without_a_route_is_not_found(http_client: AsyncHTTPClient, base_url: str, path: str) -> None:
    """As a problem, without a token."""
    answer = await http_client.fetch(base_url + path, raise_error=False)
    assert (answer.code, answer.headers["Content-Type"]) == (404, "application/problem+json")
