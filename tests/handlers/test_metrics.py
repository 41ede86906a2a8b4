"""`/metrics`: who may read it, and that what happens on a server shows in it."""

import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorDatabase
from prometheus_client.parser import text_string_to_metric_families
from tornado.httputil import HTTPServerRequest, RequestStartLine
from tornado.routing import URLSpec
from tornado.web import Application, RequestHandler, url

import config
from handlers.access import Access
from handlers.health import HealthHandler
from handlers.limits import RateLimits
from handlers.metrics import WEBSOCKET, Meters, RouteNames
from handlers.subscribers import Subscribers
from meters import PipelineMeters, RequestMeters
from storage.dreams import Dreams
from storage.errors import Unavailable
from storage.jobs import Jobs
from storage.staging import Staging
from storage.writes import Writes
from tests import photos
from tests.client import Api, Server, Socket, settings, until
from tests.handlers.conftest import TOKENS, application
from tests.storage.conftest import ADA, made

TOKEN = "a token for Prometheus"


async def samples(api: Api) -> dict[tuple[str, ...], float]:
    """Name and values of the labels, by the labels' names -> the value of each sample."""
    answer = await api.call("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, signed_in=False)
    assert answer.code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.body.decode())
    found = [sample for family in families for sample in family.samples]
    return {(each.name, *(value for _, value in sorted(each.labels.items()))): each.value for each in found}


@pytest.mark.gen_test
async def test_what_happens_on_a_server_shows(data: Path, mongodb_uri: str) -> None:
    """Requests, images, queue, listeners, messages, closes and wrong passwords; no name of anybody."""
    async with (
        Server(data, **settings(data, mongodb_uri, server__metrics_token=TOKEN)) as server,
        Api(server.url) as api,
    ):
        await api.sign_up("ada-lovelace")
        await api.call("POST", "/api/auth/login", {"username": "ada-lovelace", "password": "wrong"})
        dream = await api.dream(photos.small_jpeg(1), photos.corrupt_jpeg())
        async with Socket.of(api, dream["id"]) as socket:
            await socket.message("image_update", status="completed")
            found = await samples(api)
            assert found["dreamlog_listeners", "websocket"] == 1
            assert found["dreamlog_messages_delivered_total",] >= 2
        await api.finished(dream["id"])
        await api.call("GET", "/made/up/by/a/client")

        async def closed() -> bool:
            return any(name[0] == "dreamlog_websocket_closes_total" for name in await samples(api))

        await until(closed, "the close is counted")
        found = await samples(api)
        assert found["dreamlog_http_requests_total", "POST", "/api/dreams", "201"] == 1
        assert found["dreamlog_http_requests_total", "POST", "/api/auth/login", "401"] == 1
        assert found["dreamlog_http_requests_total", "GET", "other", "404"] == 1
        assert found["dreamlog_http_requests_total", "GET", WEBSOCKET, "101"] >= 1
        assert ("dreamlog_http_request_duration_seconds_count", "GET", WEBSOCKET) not in found
        assert found["dreamlog_http_request_duration_seconds_count", "GET", "/api/dreams/{dream_id}"] >= 1
        assert found["dreamlog_images_total", "", "completed"] == 1
        assert found["dreamlog_images_total", "corrupt", "failed"] == 1
        assert found["dreamlog_image_render_duration_seconds_count",] == 1
        assert found["dreamlog_upload_received_bytes_total",] == len(photos.small_jpeg(1) + photos.corrupt_jpeg())
        assert found["dreamlog_sign_ins_failed_total",] == 1
        assert found["dreamlog_queue_images",] == 0
        assert all(found["dreamlog_up", part] == 1 for part in ("server", "database", "storage", "workers"))
        assert found["dreamlog_disk_free_bytes",] > 0
        assert not any("ada" in part for name in found for part in name)


class Parts:
    """The database's part, which a test may take away; what pipeline and workers count is made up."""

    def __init__(self, database: AsyncIOMotorDatabase[dict[str, Any]], data: Path) -> None:
        writes = Writes(database, changed=lambda *_: None)
        self.dreams, self._jobs = Dreams(database, writes=writes), Jobs(database, writes=writes)
        self.database_answers = True
        counted: dict[str, Any] = {
            "pipeline": SimpleNamespace(meters=PipelineMeters(), in_progress=lambda: (2, 1)),
            "workers": SimpleNamespace(replaced={"crashed": 3}),
            "jobs": self,
        }
        self.meters = Meters(
            requests=RequestMeters(),
            subscribers=Subscribers(url_for_host=lambda host: str, connections=0),
            staging=Staging(data / "staging"),
            limits=RateLimits(config.Limits()),
            checks={"database": self.answers},
            data=data.parent,
            **counted,
        )

    async def answers(self) -> bool:
        return self.database_answers

    async def queue(self) -> tuple[int, datetime | None]:
        if not self.database_answers:
            raise Unavailable("The database does not answer just now.")
        return await self._jobs.queue()


@pytest.fixture
def parts(database: AsyncIOMotorDatabase[dict[str, Any]], data: Path) -> Parts:
    return Parts(database, data)


@pytest.fixture
def token() -> str:
    return TOKEN


@pytest.fixture
def app(parts: Parts, token: str) -> Application:
    settings = config.Config(server=config.Server(metrics_token=config.Secret(token)))
    return application(settings, Access(public_url="", trusted_proxies=()), meters=parts.meters)


@pytest.mark.gen_test
async def test_a_reading_shows_what_the_parts_have_counted(api: Api, parts: Parts) -> None:
    """Each part's own numbers, and the age of the image that has waited longest."""
    found = await samples(api)
    assert found["dreamlog_queue_images",] == found["dreamlog_queue_oldest_age_seconds",] == 0
    assert found["dreamlog_images_in_progress", "render"] == 2
    assert found["dreamlog_images_in_progress", "store"] == 1
    assert found["dreamlog_workers_replaced_total", "crashed"] == 3
    dream = await made(parts.dreams, 2)
    found = await samples(api)
    assert found["dreamlog_queue_images",] == 2
    assert 0 <= found["dreamlog_queue_oldest_age_seconds",] <= time.time() - dream.created_at.timestamp()


@pytest.mark.gen_test
async def test_a_database_that_does_not_answer_is_down(api: Api, parts: Parts) -> None:
    """The rest is still there; nobody knows how many images wait."""
    parts.database_answers = False
    found = await samples(api)
    assert found["dreamlog_up", "database"] == 0
    assert found["dreamlog_images_in_progress", "render"] == 2
    assert not any(name.startswith("dreamlog_queue") for name, *_ in found)


@pytest.mark.gen_test
async def test_only_the_token_opens_the_page(api: Api) -> None:
    """Another token, an access token and none at all get 401; the scheme may be written in any case."""
    access = TOKENS.access(ADA, "s1", time.time())
    for authorization in ("", f"Bearer {TOKEN}x", f"Basic {TOKEN}", f"Bearer {access}"):
        headers = {"Authorization": authorization} if authorization else {}
        answer = await api.call("GET", "/metrics", headers=headers)
        assert answer.code == 401, authorization
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert (await api.call("GET", "/metrics", headers={"Authorization": f"bearer  {TOKEN}"})).code == 200


@pytest.mark.gen_test
@pytest.mark.parametrize("token", [""])
async def test_without_a_token_in_the_settings_there_is_no_page(api: Api, token: str) -> None:
    """Not even for an empty token."""
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "}):
        assert (await api.call("GET", "/metrics", headers=headers)).code == 404


class Unknown(RequestHandler):
    pass


@pytest.mark.gen_test
async def test_a_request_that_waited_for_updates_has_no_duration(data: Path, mongodb_uri: str) -> None:
    """A long poll counts as a request, but only a read that answers at once joins the histogram."""
    async with (
        Server(data, **settings(data, mongodb_uri, server__metrics_token=TOKEN)) as server,
        Api(server.url) as api,
    ):
        await api.sign_up("ada")
        dream = await api.dream()
        path, route = f"/api/dreams/{dream['id']}", "/api/dreams/{dream_id}"
        assert (await api.call("GET", path)).code == 200
        assert (await api.call("GET", f"{path}?since={dream['revision']}&wait=1")).code == 304
        found = await samples(api)
        assert found["dreamlog_http_requests_total", "GET", route, "200"] == 1
        assert found["dreamlog_http_requests_total", "GET", route, "304"] == 1
        assert found["dreamlog_http_request_duration_seconds_count", "GET", route] == 1


@pytest.mark.gen_test
async def test_a_made_up_method_or_path_makes_no_new_time_series() -> None:
    """Otherwise a client could fill the memory of the server and of Prometheus."""
    rows: list[URLSpec] = [url(r"/healthz", HealthHandler)]
    requests, names = RequestMeters(), RouteNames(rows)
    for handler, method in ((HealthHandler, "GET"), (HealthHandler, "BREW"), (Unknown, "GET")):
        start_line = RequestStartLine(method, "/x", "HTTP/1.0")
        request = HTTPServerRequest(start_line=start_line, connection=_Connection())  # type: ignore[arg-type]
        names.observe(handler(Application(rows), request), requests)
    assert set(requests.ended) == {
        ("GET", "/healthz", 200),
        ("other", "/healthz", 200),
        ("GET", "other", 200),
    }


class _Connection:
    """As much of a connection as a handler asks for."""

    def set_close_callback(self, callback: object) -> None:
        pass
