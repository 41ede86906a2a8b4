"""Dreamlog: builds the parts in order, wires them, serves and drains. Only this module knows every other one."""

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

import config
from commands.check import check_command
from commands.media import move_command, orphans_command
from commands.options import cli_errors, config_option, data_option
from config import Config
from handlers.access import Access
from handlers.base import NothingHere
from handlers.cors import Cors
from handlers.inflight import InFlight
from handlers.limits import RateLimits
from handlers.metrics import Meters, RouteNames
from handlers.pages import Web
from handlers.passwords import Passwords
from handlers.routes import Parts, routes
from handlers.subscribers import Subscribers
from handlers.tokens import IN_THE_MAKING, Tokens
from handlers.views import UrlFor, UrlForHost
from linux import return_large_buffers
from meters import RequestMeters
from processing.janitor import Janitor
from processing.pipeline import Pipeline
from processing.workers import Workers
from storage.data_folder import CannotStart, DataFolder
from storage.dreams import Dreams
from storage.errors import Error, Refused
from storage.files import MARKS, StoredFiles
from storage.jobs import Jobs
from storage.migrations import migrate
from storage.model import Dream, Image
from storage.references import References
from storage.resources import local_files, open_database, open_files
from storage.staging import Staging
from storage.users import Users
from storage.writes import Writes
from version import VERSION

STORAGE_TIMEOUT = 5.0  # seconds that the start waits for the storage
WEBSOCKET_LIMIT = 256 * 1024  # bytes at which Tornado cuts the connection; above websocket.max_message we answer first

log = logging.getLogger("dreamlog")


class Drain:
    """The time that a graceful stop may still take, counted from the first signal."""

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
        # A tenth remains for releasing jobs and for closing files and database.
        return self._timeout if self._ends is None else max(0.0, self._ends - time.monotonic() - self._timeout / 10)


@asynccontextmanager
async def serving(settings: Config, drain: Drain, *, backup: bool = True) -> AsyncIterator[str]:
    """Run the whole server until the block ends; yields its URL once it accepts requests.

    A stop leaves the stack in reverse: HTTP first, then pipeline, workers, files and database.
    """
    async with AsyncExitStack() as stack:
        stores = ("local", "oss") if settings.storage.has_oss else ("local",)
        data_folder = stack.enter_context(DataFolder(settings, stores=stores))
        mongo = await stack.enter_async_context(open_database(settings, data_folder))
        await migrate(mongo.database, settings.data / "backups" if backup else None)
        files = await stack.enter_async_context(open_files(settings, data_folder))
        await probe_storage(files)
        staging = Staging(settings.data / "staging")
        url_for_host = absolute_urls(files.url)
        subscribers = Subscribers(
            url_for_host=url_for_host, connections=settings.limits.connections, messages=settings.limits.messages
        )

        def changed(dream: Dream, image: Image | None) -> None:
            subscribers.publish(dream, image)
            if dream.waiting:
                pipeline.wake(dream.owner, dream.id)
            if dream.sweep:
                janitor.wake()

        users = Users(mongo.database)
        writes = Writes(mongo.database, changed=changed)
        dreams = Dreams(mongo.database, writes=writes)
        jobs = Jobs(mongo.database, writes=writes)
        references = References(mongo.database, writes=writes)
        workers = Workers(settings.images.workers, settings.images.worker_memory)
        janitor = Janitor(references=references, files=files, staging=staging)
        pipeline = Pipeline(
            jobs=jobs,
            references=references,
            workers=workers,
            files=files,
            staging=staging,
            settings=settings.images,
            server=data_folder.server,
            folder=settings.data / "work",
            drain_left=drain.left,
        )
        await asyncio.gather(users.indexes(), dreams.indexes(), jobs.indexes(), references.indexes())
        if "oss" not in files.stores and await references.has_folder(MARKS["oss"]):
            raise CannotStart("Some images are stored on OSS, but storage.bucket is not set, so nobody could see them.")
        tokens = Tokens(
            data_folder.secret,
            access_lifetime=settings.auth.access_lifetime,
            refresh_lifetime=settings.auth.refresh_lifetime,
        )
        since = datetime.now(UTC) - timedelta(seconds=settings.auth.access_lifetime + IN_THE_MAKING)
        for session in await users.recently_revoked(since):
            tokens.revoke(session, time.time())
        await stack.enter_async_context(workers)
        await stack.enter_async_context(janitor)
        await stack.enter_async_context(pipeline)
        access = Access(public_url=settings.server.public_url, trusted_proxies=settings.server.trusted_proxies)
        cors = Cors(access, public_url=settings.server.public_url, allowed_origins=settings.server.allowed_origins)
        in_flight = InFlight()
        limits = RateLimits(settings.limits)

        async def not_stopping() -> bool:
            return not drain.asked

        async def storage_answers() -> bool:
            await files.check()
            return True

        def request_ended(handler: RequestHandler) -> None:
            log_request(handler)
            names.observe(handler, requests)

        checks = {
            "server": not_stopping,
            "database": mongo.answers,
            "storage": storage_answers,
            "workers": workers.answers,
        }
        requests = RequestMeters()
        parts = Parts(
            access=access,
            cors=cors,
            in_flight=in_flight,
            tokens=tokens,
            limits=limits,
            passwords=stack.enter_context(Passwords()),
            users=users,
            dreams=dreams,
            jobs=jobs,
            files=files,
            local=local_files(settings, data_folder),
            staging=staging,
            subscribers=subscribers,
            url_for_host=url_for_host,
            signed_out=subscribers.sign_out,
            checks=checks,
            meters=Meters(
                requests=requests,
                pipeline=pipeline,
                workers=workers,
                subscribers=subscribers,
                staging=staging,
                limits=limits,
                jobs=jobs,
                checks=checks,
                data=settings.data,
            ),
            web=Web(Path(__file__).with_name("web")),
        )
        table = routes(settings, parts)
        names = RouteNames(table)
        application = Application(
            table,
            default_handler_class=NothingHere,
            default_handler_args={"access": access, "cors": cors, "in_flight": in_flight, "tokens": tokens},
            log_function=request_ended,
            websocket_max_message_size=WEBSOCKET_LIMIT,
        )
        yield await stack.enter_async_context(listening(application, settings, in_flight, subscribers, drain))


async def probe_storage(files: StoredFiles) -> None:
    """Raise `Refused` if the storage refuses our settings. While it is only unreachable, images wait."""
    try:
        async with asyncio.timeout(STORAGE_TIMEOUT):
            await files.check()
    except Refused:
        raise
    except (Error, TimeoutError) as error:
        log.warning("images wait for the file storage: %s", error or f"no answer within {STORAGE_TIMEOUT:.0f} s")


@asynccontextmanager
async def listening(
    application: Application, settings: Config, in_flight: InFlight, subscribers: Subscribers, drain: Drain
) -> AsyncIterator[str]:
    """Accept HTTP requests until the block ends; yields the URL. It starts last and stops first."""
    host, port = settings.server.host, settings.server.port
    try:
        sockets = bind_sockets(port, host, backlog=1024)
    except OSError as error:
        raise CannotStart(f"Cannot listen on {host}:{port}: {error.strerror}. {_advice(error)}".rstrip()) from error
    except UnicodeError:
        raise CannotStart(f"Cannot listen on {host}:{port}: this is no host name. Change server.host.") from None
    http = HTTPServer(
        application,
        chunk_size=128 * 1024,  # read at a time, of an upload
        max_header_size=32 * 1024,
        max_body_size=64 * 1024,
        idle_connection_timeout=75,
    )
    http.add_sockets(sockets)
    port = sockets[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    try:
        yield f"http://{shown}:{port}"
    finally:
        drain.ask()
        http.stop()
        subscribers.close_all()
        await in_flight.wait(within=drain.left())
        await http.close_all_connections()


def _advice(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "Is server.host the name or an IP address of this machine?"
    match error.errno:
        case errno.EADDRINUSE:
            return "Is another server running there?"
        case errno.EADDRNOTAVAIL:
            return "This machine does not have that IP address: change server.host."
        case _:
            return ""


def absolute_urls(url: Callable[[str], str]) -> UrlForHost:
    """Complete the URLs of our own media, which lack scheme and host, with those that the client used."""

    def url_for_host(base_url: str) -> UrlFor:
        def url_for(key: str) -> str:
            found = url(key)
            return base_url + found if found.startswith("/") else found

        return url_for

    return url_for_host


def collect_seldom() -> None:
    """Collect garbage less often, and never look at the objects of the start again.

    By default, a third of the time in which thousands of clients connect goes into collections that find nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def log_request(handler: RequestHandler) -> None:
    """Log one line for each request. It leaves out the query, which may hold a search or a signature.

    Ids in the path come from clients: escaped, a line break or an escape sequence in one cannot forge another line.
    """
    request = handler.request
    caller = getattr(handler, "caller", None)
    details = [
        f"{request.method} {request.path} {handler.get_status()} {1000 * request.request_time():.1f} ms",
        f"request={request_id}" if (request_id := getattr(handler, "request_id", "")) else "",
        f"user={caller.user}" if caller is not None else "",
        getattr(handler, "log_about", ""),
    ]
    line = " ".join(filter(None, details))
    logging.getLogger("dreamlog.http").info(line if line.isprintable() else line.encode("unicode_escape").decode())


async def run(settings: Config, *, backup: bool = True) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    drain, stop = Drain(settings.server.drain_timeout), asyncio.Event()
    main = asyncio.current_task()
    assert main is not None
    serves = False

    def on_signal() -> None:
        if drain.asked:
            log.warning("stopped at once by a second signal")
            os._exit(1)  # the kernel kills mongod and the workers too; the next start resumes their jobs
        drain.ask()
        stop.set() if serves else main.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        async with serving(settings, drain, backup=backup) as url:
            serves = True
            collect_seldom()
            log.info("the data folder is %s", settings.data)
            known_as = f", for clients at {settings.server.public_url}" if settings.server.public_url else ""
            click.echo(f"Dreamlog is ready at {url}{known_as}   (stop it with Ctrl-C)")
            await stop.wait()
            log.info("stopping")
    except asyncio.CancelledError:
        if not drain.asked:
            raise
    log.info("stopped")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="Dreamlog", message="%(prog)s %(version)s")
def cli() -> None:
    """Dreamlog, a journal for dreams and their images."""


@cli.command("run")
@config_option
@click.option("--host", help="IP address or host name to listen on. Overrides server.host.")
@click.option("--port", type=int, help="Port to listen on. Overrides server.port.")
@data_option
@click.option(
    "--backup/--no-backup",
    default=True,
    show_default=True,
    help="Copy the database into the data folder before an upgrade migrates it.",
)
def run_command(file: Path | None, host: str | None, port: int | None, data: str | None, backup: bool) -> None:
    """Run the server until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return_large_buffers()
    with cli_errors():
        asyncio.run(run(config.load(file, server__host=host, server__port=port, data=data), backup=backup))


for command in (check_command, move_command, orphans_command):
    cli.add_command(command)


if __name__ == "__main__":
    cli()
