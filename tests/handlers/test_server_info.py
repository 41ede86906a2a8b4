"""The limits that the server publishes are the limits that it applies."""

from pathlib import Path

import pytest

from config import Auth, Config, Images, WebSocket
from handlers.server_info import server_body
from processing.formats import ACCEPTED
from tests.client import Api, Server, settings
from version import VERSION


def test_the_limits_are_those_of_the_settings() -> None:
    """And of the protocol, where there is no setting."""
    images = Images(max_bytes=7, max_per_dream=3, max_pixels=5, max_frames=2)
    body = server_body(Config(images=images, websocket=WebSocket(auth_timeout=4)))
    assert body.limits.auth_timeout == 4
    assert (body.limits.image_bytes, body.limits.images, body.limits.frames) == (7, 3, 2)
    assert (body.limits.title_length, body.limits.content_length, body.limits.tags) == (200, 100_000, 20)
    assert [each.name for each in body.formats] == list(ACCEPTED)
    assert {each.max_pixels for each in body.formats} == {5}
    assert [each.type for each in body.formats][:3] == ["image/jpeg", "image/png", "image/webp"]


def test_the_answer_shows_whether_registration_is_open() -> None:
    """So that a page need not offer what is refused."""
    assert server_body(Config()).registration == "open"
    assert server_body(Config(auth=Auth(registration="closed"))).registration == "closed"


@pytest.mark.gen_test
async def test_anybody_may_ask(data: Path, mongodb_uri: str) -> None:
    """Without a token; the limits hold."""
    async with Server(data, **settings(data, mongodb_uri), images__max_per_dream=1) as server, Api(server.url) as api:
        body = await api.json("GET", "/api/server")
        assert (body["name"], body["version"]) == ("Dreamlog", VERSION)
        await api.sign_up()
        title = "x" * body["limits"]["title_length"]
        assert (await api.dream(title=title))["title"] == title
        await api.dream(title=title + "x", status=422)
