"""Dreamlog: builds the parts in order, wires them, serves, and drains. The one place that knows everything."""

import asyncio
import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import click
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

import config
from config import Config, ConfigError
from handlers.access import Access
from handlers.auth import Passwords
from handlers.base import NothingHere
from handlers.limits import Limits
from handlers.pages import Web
from handlers.routes import Parts, routes
from handlers.subscribers import Subscribers
from handlers.tokens import IN_THE_MAKING, Tokens
from handlers.views import Address
from processing.janitor import Janitor
from processing.pipeline import Pipeline
from processing.workers import Workers
from storage.dreams import Dreams
from storage.errors import Error
from storage.jobs import Jobs
from storage.local import LocalFiles
from storage.model import Dream, Image
from storage.mongo import Mongo
from storage.mongod import Mongod, MongodFailed, MongodMissing
from storage.staging import Staging
from storage.turns import Turns
from storage.users import Users

WEBSOCKET_LIMIT = 256 * 1024  # bytes at which Tornado cuts a message off; websocket.max_message is refused politely

log = logging.getLogger("dreamlog")


class CannotStart(Exception):
    """The message says what is in the way, and what to do."""


class Drain:
    """How long a stop may still take, from the moment it was asked for."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._ends: float | None = None

    @property
    def asked(self) -> bool:
        return self._ends is not None

    def ask(self) -> None:
        if self._ends is None:
            self._ends = time.monotonic() + self._timeout

    def left(self) -> float:
        # A tenth is kept for handing work back and for closing files and database.
        return self._timeout if self._ends is None else max(0.0, self._ends - time.monotonic() - self._timeout / 10)


@asynccontextmanager
async def serving(settings: Config, drain: Drain) -> AsyncIterator[str]:
    """The whole server, from here to the end of the block; gives the address at which it takes work.

    The stack is left in reverse, and that is the order of a stop: HTTP, pipeline, workers, files, database.
    """
    async with AsyncExitStack() as stack:
        keys = Keys(settings)
        stack.enter_context(keys)
        uri = settings.mongodb.uri.value
        if not uri:
            uri = (await stack.enter_async_context(Mongod(settings.data / "mongodb"))).uri
        mongo = await stack.enter_async_context(Mongo(uri, settings.mongodb.database))
        files = LocalFiles(settings.data / "media", secret=keys.derived("media addresses"))
        staging = Staging(settings.data / "staging")
        addresses = addressing(files.url)
        subscribers = Subscribers(
            address=addresses, connections=settings.limits.connections, messages=settings.limits.messages
        )

        def changed(dream: Dream, image: Image | None) -> None:
            subscribers.publish(dream, image)
            if dream.waiting:
                pipeline.wake(dream.owner)
            if dream.sweep:
                janitor.wake()

        users = Users(mongo.database)
        turns = Turns()
        dreams = Dreams(mongo.database, changed=changed, turns=turns)
        jobs = Jobs(mongo.database, changed=changed, turns=turns)
        workers = Workers(settings.images.workers, settings.images.worker_memory)
        janitor = Janitor(jobs=jobs, files=files, staging=staging)
        pipeline = Pipeline(
            jobs=jobs,
            workers=workers,
            files=files,
            staging=staging,
            settings=settings.images,
            server=keys.server,
            folder=settings.data / "work",
            drain_left=drain.left,
        )
        await asyncio.gather(users.indexes(), dreams.indexes(), jobs.indexes())
        tokens = Tokens(
            keys.secret,
            access_lifetime=settings.auth.access_lifetime,
            refresh_lifetime=settings.auth.refresh_lifetime,
        )
        since = datetime.now(UTC) - timedelta(seconds=settings.auth.access_lifetime + IN_THE_MAKING)
        for session in await users.recently_revoked(since):
            tokens.revoke(session, time.time())
        await stack.enter_async_context(workers)
        await stack.enter_async_context(janitor)
        await stack.enter_async_context(pipeline)
        access = Access(
            public_url=settings.server.public_url,
            allowed_origins=settings.server.allowed_origins,
            trusted_proxies=settings.server.trusted_proxies,
        )

        async def not_stopping() -> bool:
            return not drain.asked

        async def storage_answers() -> bool:
            await files.check()
            return True

        parts = Parts(
            access=access,
            tokens=tokens,
            limits=Limits(settings.limits),
            passwords=stack.enter_context(Passwords()),
            users=users,
            dreams=dreams,
            jobs=jobs,
            files=files,
            staging=staging,
            subscribers=subscribers,
            addresses=addresses,
            signed_out=subscribers.sign_out,
            checks={
                "server": not_stopping,
                "database": mongo.answers,
                "storage": storage_answers,
                "workers": workers.answers,
            },
            web=Web(Path(__file__).with_name("web")),
        )
        application = Application(
            routes(settings, parts),
            default_handler_class=NothingHere,
            default_handler_args={"access": access, "tokens": tokens},
            log_function=log_request,
            websocket_max_message_size=WEBSOCKET_LIMIT,
        )
        yield await stack.enter_async_context(listening(application, settings, access, subscribers, drain))


@asynccontextmanager
async def listening(
    application: Application, settings: Config, access: Access, subscribers: Subscribers, drain: Drain
) -> AsyncIterator[str]:
    """HTTP, last to come and first to go."""
    host, port = settings.server.host, settings.server.port
    try:
        sockets = bind_sockets(port, host, backlog=1024)
    except OSError as error:
        raise CannotStart(f"Cannot listen on {host}:{port}: {error.strerror}. Is another server there?") from error
    http = HTTPServer(application, max_header_size=32 * 1024, max_body_size=64 * 1024, idle_connection_timeout=75)
    http.add_sockets(sockets)
    port = sockets[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    try:
        yield f"http://{shown}:{port}"
    finally:
        drain.ask()
        http.stop()
        subscribers.close_all()
        await access.all_answered(within=drain.left())
        await http.close_all_connections()


def addressing(url: Callable[[str], str]) -> Callable[[str], Address]:
    """What a client's addresses begin with -> the address of a key, for that client."""

    def addresses(base: str) -> Address:
        def address(key: str) -> str:
            found = url(key)
            return base + found if found.startswith("/") else found

        return address

    return addresses


class Keys:
    """The data folder, locked for this process, and what it keeps: the secret, and this installation's name."""

    def __init__(self, settings: Config) -> None:
        self._data = settings.data
        self._configured = settings.auth.secret.value
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> "Keys":
        try:
            self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self._data / "lock").open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CannotStart(f"Another Dreamlog is running on {self._data}.") from error
        except OSError as error:
            raise CannotStart(f"The data folder {self._data} cannot be used: {error.strerror}.") from error
        self.secret = (self._configured or self._kept("secret")).encode()
        self.server = self._kept("server")[:16]
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def derived(self, purpose: str) -> bytes:
        """A key of its own for each purpose, so that no signature serves twice."""
        return hmac.digest(self.secret, purpose.encode(), hashlib.sha256)

    def _kept(self, name: str) -> str:
        """The text in the file, made at the first start; a half-written one is never seen."""
        path = self._data / name
        if not path.exists():
            beside = path.with_suffix(".part")
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
            beside.rename(path)
        return path.read_text().strip()


def log_request(handler: RequestHandler) -> None:
    """One line a request: the path without its query, which may hold a search or a signature."""
    request = handler.request
    caller = getattr(handler, "caller", None)
    details = [
        f"{request.method} {request.path} {handler.get_status()} {1000 * request.request_time():.1f} ms",
        f"request={request_id}" if (request_id := getattr(handler, "request_id", "")) else "",
        f"user={caller.user}" if caller is not None else "",
        getattr(handler, "log_about", ""),
    ]
    logging.getLogger("dreamlog.http").info(" ".join(filter(None, details)))


async def run(settings: Config) -> None:
    loop = asyncio.get_running_loop()
    drain, stop = Drain(settings.server.drain_timeout), asyncio.Event()
    main = asyncio.current_task()
    assert main is not None
    serves = False

    def asked_to_stop() -> None:
        if drain.asked:
            log.warning("stopped at once")
            os._exit(1)  # mongod and the workers are killed with us; the next start takes their work back
        drain.ask()
        stop.set() if serves else main.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop)
    try:
        async with serving(settings, drain) as address:
            serves = True
            log.info("data in %s", settings.data)
            known_as = f", for clients at {settings.server.public_url}" if settings.server.public_url else ""
            click.echo(f"Dreamlog is ready at {address}{known_as}   (stop it with Ctrl-C)")
            await stop.wait()
            log.info("stopping")
    except asyncio.CancelledError:
        if not drain.asked:
            raise
    log.info("stopped")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Dreamlog, a journal for dreams and their pictures."""


@cli.command("run")
@click.option("--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="Settings [config.yaml].")
@click.option("--host", help="Address to listen on [server.host].")
@click.option("--port", type=int, help="Port to listen on [server.port].")
@click.option("--data", help="Folder for everything that must survive [data].")
def run_command(file: Path | None, host: str | None, port: int | None, data: str | None) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = config.load(file, server__host=host, server__port=port, data=data)
        asyncio.run(run(settings))
    except ConfigError as error:
        raise click.ClickException(
            "These settings have mistakes:\n" + "\n".join(f"  {m}" for m in error.mistakes)
        ) from None
    except (CannotStart, MongodMissing, MongodFailed, Error) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    cli()
