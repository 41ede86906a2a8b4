"""The table of operations and the rows of the routes describe the same calls."""

import re

from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler

from handlers.contracts import asyncapi
from handlers.operations import OPERATIONS
from tests.test_layout import ROWS

# A value for each parameter that its route takes.
SAMPLES = {"dream_id": "665f0c2a9b1e8a0001a1b2c3", "image_id": "1", "key": "a/320.jpg", "path": "app.js"}
METHODS = ("get", "head", "post", "patch", "put", "delete")


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
