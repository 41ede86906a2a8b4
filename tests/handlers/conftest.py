"""The routes of dreams and images in this process: real sockets, a real database, a real disk, but no pipeline."""

import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from motor.motor_asyncio import AsyncIOMotorDatabase
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

import config
from handlers.access import Access
from handlers.base import NothingHere
from handlers.cors import Cors
from handlers.inflight import InFlight
from handlers.limits import RateLimits
from handlers.routes import Parts, routes
from handlers.subscribers import Subscribers
from handlers.tokens import Tokens
from storage.dreams import Dreams
from storage.jobs import Jobs
from storage.local import LocalFiles
from storage.model import Variant
from storage.staging import Staging
from storage.writes import Writes
from tests.client import Api
from tests.storage.conftest import ADA

MAX_IMAGES = 3
MAX_UPLOADS = 20  # images of an account in an hour
TOKENS = Tokens(b"x" * 32, access_lifetime=900, refresh_lifetime=900)


def application(settings: config.Config, access: Access, **parts: Any) -> Application:
    """Every route, and the answer where there is none, as `server.py` builds them; `parts` are those of `Parts`.

    A part that is left out is only good for what a request never reaches.
    """
    shared = {
        "access": access,
        "cors": Cors(access, public_url="", allowed_origins=()),
        "in_flight": InFlight(),
        "tokens": TOKENS,
    }
    left_out: dict[str, Any] = dict.fromkeys((field.name for field in fields(Parts)), SimpleNamespace(origins=()))
    return Application(
        routes(settings, Parts(**left_out | shared | parts)),
        default_handler_class=NothingHere,
        default_handler_args=shared,
        log_function=lambda handler: None,
    )


class Rest:
    """The routes of dreams and images on loopback."""

    def __init__(self, database: AsyncIOMotorDatabase[dict[str, Any]], folder: Path) -> None:
        writes, access = Writes(database, changed=lambda *_: None), Access(public_url="", trusted_proxies=())
        self.dreams, self.jobs = Dreams(database, writes=writes), Jobs(database, writes=writes)
        self.files = LocalFiles(folder / "media", secret=b"x" * 32)
        self.staged = folder / "staging"
        self.staging = Staging(self.staged)
        self.logged: list[str] = []  # what each request's line in the log is about
        settings = config.Config(images=config.Images(max_per_dream=MAX_IMAGES, max_bytes=1_000_000))

        def url_for_host(base_url: str) -> Any:
            return lambda key: f"{base_url}/media/{key}"

        parts: dict[str, Any] = {
            "limits": RateLimits(config.Limits(images=MAX_UPLOADS)),
            "dreams": self.dreams,
            "jobs": self.jobs,
            "staging": Staging(self.staged),
            "subscribers": Subscribers(url_for_host=url_for_host, connections=0),
            "url_for_host": url_for_host,
            "files": SimpleNamespace(origins=(), open=self.files.open),
        }
        app = application(settings, access, **parts)
        app.settings["log_function"] = self._log
        self._http = HTTPServer(app)
        self._apis: list[Api] = []

    async def __aenter__(self) -> Self:
        await self.dreams.indexes()
        (listening,) = bind_sockets(0, "127.0.0.1")
        self._http.add_sockets([listening])
        self._url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self.ada = self.api(ADA)
        return self

    async def __aexit__(self, *_: object) -> None:
        for api in self._apis:
            api.http.close()
        self._http.stop()
        await self._http.close_all_connections()

    def api(self, user: str) -> Api:
        api = Api(self._url)
        api.access = TOKENS.access(user, "s1", time.time())
        self._apis.append(api)
        return api

    def uploads(self) -> int:
        """How many files of uploads there are."""
        return len(list(self.staged.iterdir()))

    async def fail(self) -> None:
        """Fail Ada's next image for good."""
        job = await self.jobs.claim(ADA, "server")
        assert job is not None
        assert await self.jobs.fail(job, "corrupt") is not None

    async def complete(self, *, original: Path | None = None) -> None:
        """Complete Ada's next image; `original` is the file to keep with it."""
        job = await self.jobs.claim(ADA, "server")
        assert job is not None
        image = replace(job.image, folder="f1", variants={"2048": Variant("f1/2048.jpg", "image/jpeg", 4, 3, 9)})
        if original is not None:
            image = replace(image, original="f1/original-1.jpg")
            await self.files.put("f1/original-1.jpg", original, "image/jpeg")
        stored = await self.jobs.store(job, image)
        assert stored is not None
        assert await self.jobs.complete(stored) is not None

    def _log(self, handler: RequestHandler) -> None:
        self.logged.append(getattr(handler, "log_about", ""))


@pytest.fixture
def rest(database: AsyncIOMotorDatabase[dict[str, Any]], data: Path, io_loop: IOLoop) -> Iterator[Rest]:
    rest = Rest(database, data)
    io_loop.run_sync(rest.__aenter__)
    yield rest
    io_loop.run_sync(rest.__aexit__)


@pytest.fixture
def api(http_server: HTTPServer, base_url: str) -> Iterator[Api]:
    """Nobody's API, of the test's own fixture `app`, which is served in this process."""
    api = Api(base_url)
    yield api
    api.http.close()
