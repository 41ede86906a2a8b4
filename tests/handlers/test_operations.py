"""The table of operations and the rows of the routes describe the same calls, and these answer as it says."""

import re
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from config import Config, Limits
from handlers.access import Access
from handlers.base import JSON_LIMIT
from handlers.contracts import asyncapi, openapi
from handlers.limits import RateLimits
from handlers.operations import FORM, JSON, OPERATIONS, Operation
from handlers.pages import Web
from handlers.subscribers import Subscribers
from storage.errors import Error, NoSpace, Unavailable
from tests.client import MULTIPART, ROOT, Api, multipart
from tests.handlers.conftest import TOKENS, application
from tests.test_layout import ROWS

# A value for each parameter that its route takes.
SAMPLES = {"dream_id": "665f0c2a9b1e8a0001a1b2c3", "image_id": "1", "key": "a/320.jpg", "path": "app.js"}
METHODS = ("get", "head", "post", "patch", "put", "delete")
PROBLEM = "application/problem+json"
FAILURES: dict[int, Error] = {503: Unavailable("No answer."), 507: NoSpace("No room.")}
# The files of the page and the contracts: a client that has them may ask whether they have changed.
CACHED = [each for each in OPERATIONS if "If-None-Match" in each.headers and each.path != "/media/{key}"]


def row(path: str) -> type[RequestHandler]:
    """The handler that answers at a documented path."""
    sample = path.format(**SAMPLES)
    found = [each.handler_class for each in ROWS if each.regex.fullmatch(sample)]
    assert found, path
    handler: type[RequestHandler] = found[0]
    return handler


def methods(handler: type[RequestHandler]) -> set[str]:
    """Those that the handler answers itself; every call also answers the OPTIONS of CORS."""
    return {each.upper() for each in METHODS if getattr(handler, each) is not getattr(RequestHandler, each)}


def test_every_documented_call_exists_and_no_other_method() -> None:
    """Each documented path has exactly the methods of its handler."""
    for path in {each.path for each in OPERATIONS}:
        documented = {each.method for each in OPERATIONS if each.path == path}
        assert documented == methods(row(path)), path


def test_every_route_is_documented() -> None:
    """HTTP in the table of operations, WebSockets in the contract of messages."""
    handlers = {row(each.path) for each in OPERATIONS}
    sockets = [each["address"].format(**SAMPLES) for each in asyncapi()["channels"].values()]
    for each in ROWS:
        if issubclass(each.handler_class, WebSocketHandler):
            assert sum(each.regex.fullmatch(address) is not None for address in sockets) == 2
        else:
            assert each.handler_class in handlers, each.handler_class


def test_operations_have_names_of_their_own() -> None:
    """Generated clients make functions of them."""
    ids = [each.id for each in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[a-z][A-Za-z]+", each) for each in ids)


def test_what_needs_a_token_is_what_the_handlers_ask() -> None:
    """A call is public in the contract when its handler takes no token."""
    for each in OPERATIONS:
        assert each.public == getattr(row(each.path), "public", True), each.path


def test_every_operation_says_more_than_its_name() -> None:
    """A stranger writes a client from the descriptions."""
    assert [each.id for each in OPERATIONS if not each.description.endswith(".")] == []


def test_the_refresh_token_comes_as_a_cookie() -> None:
    """Of every call that issues one."""
    assert {each.id for each in OPERATIONS if each.sets_cookie} == {"register", "login", "refresh"}


# ---- what the contract says of many calls, tried at each of them; `tests.contract` checks the answers


class Broken:
    """A part of the server in which every call fails as `error` says."""

    error: Error = FAILURES[503]

    def __getattr__(self, name: str) -> Callable[..., Awaitable[None]]:
        async def fail(*_: object, **__: object) -> None:
            raise self.error

        return fail


class Hashes:
    """Passwords that cost no time."""

    async def hash(self, password: str) -> str:
        return password


@pytest.fixture
def broken() -> Broken:
    return Broken()


@pytest.fixture
def app(broken: Broken) -> Application:
    subscribers = Subscribers(url_for_host=lambda host: lambda key: host + key, connections=0)
    return application(
        Config(),
        Access(public_url="", trusted_proxies=()),
        dreams=broken,
        jobs=broken,
        users=broken,
        passwords=Hashes(),
        limits=RateLimits(Limits()),
        subscribers=subscribers,
        files=SimpleNamespace(origins=()),
        web=Web(ROOT / "web"),
    )


def documented(*statuses: int, of: Callable[[Operation], bool] = lambda each: True) -> pytest.MarkDecorator:
    """A parameter for each of these statuses of each call that documents it as a problem."""
    found = [
        pytest.param(each, status, id=f"{each.id}-{status}")
        for each in OPERATIONS
        if each.problem_media == PROBLEM and of(each)
        for status in statuses
        if status in each.problems or (status == 401 and not each.public)
    ]
    return pytest.mark.parametrize(("each", "status"), found)


def takes_json(each: Operation) -> bool:
    return JSON in each.bodies


async def call(api: Api, each: Operation, body: Any = None) -> int:
    """The status of a call that is right in itself; `body` goes in place of the body that it takes."""
    url = each.path.format(**SAMPLES)
    if body is not None:
        return (await api.call(each.method, url, body, headers={"Content-Type": JSON})).code
    if takes_json(each):
        contract: Any = openapi()["paths"][each.path][each.method.lower()]
        body = contract["requestBody"]["content"][JSON]["example"]
        if each.id == "refresh":
            body = {"refresh": TOKENS.refresh("ann", "s1", 1, time.time())}
        return (await api.call(each.method, url, body)).code
    if FORM in each.bodies:
        return (await api.call(each.method, url, multipart(title="t"), headers=MULTIPART)).code
    return (await api.call(each.method, url)).code


@pytest.mark.gen_test
@documented(503, 507)
async def test_a_call_that_cannot_be_carried_out_says_why(
    api: Api, broken: Broken, each: Operation, status: int
) -> None:
    """The database does not answer, or its disk is full."""
    api.access = TOKENS.access("ann", "s1", time.time())
    broken.error = FAILURES[status]
    assert await call(api, each) == status


@pytest.mark.gen_test
@documented(401, of=lambda each: not each.public)
async def test_a_call_without_a_token_is_refused(api: Api, each: Operation, status: int) -> None:
    """Before anything else."""
    assert await call(api, each) == status


@pytest.mark.gen_test
@documented(400, 413, 422, of=takes_json)
async def test_a_body_that_is_wrong_is_refused(api: Api, each: Operation, status: int) -> None:
    """It is not JSON, it is too large, or it is JSON of another kind than the call takes."""
    api.access = TOKENS.access("ann", "s1", time.time())
    body = {400: b"{", 413: b" " * (JSON_LIMIT + 1), 422: b"[]"}[status]
    assert await call(api, each, body) == status


@pytest.mark.gen_test
@pytest.mark.parametrize("each", CACHED, ids=[each.id for each in CACHED])
async def test_a_file_that_a_client_has_is_not_sent_again(api: Api, each: Operation) -> None:
    """It is sent once with its `ETag`, which makes the next answer a 304; a file that does not exist is not found."""
    url = each.path.format(**SAMPLES)
    answer = await api.call(each.method, url)
    assert answer.code == 200
    again = await api.call(each.method, url, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.code, again.body) == (304, b"")
    if 404 in each.problems:
        assert (await api.call(each.method, url + ".gone")).code == 404
