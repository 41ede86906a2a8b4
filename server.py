"""Dreamlog: builds the parts in order, wires them, serves, and drains. The one place that knows everything."""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

import config
from config import Config, ConfigError
from handlers.access import Access
from handlers.base import NothingHere
from handlers.cors import Cors
from handlers.inflight import InFlight
from handlers.limits import RateLimits
from handlers.pages import Web
from handlers.passwords import Passwords
from handlers.routes import Parts, routes
from handlers.subscribers import Subscribers
from handlers.tokens import IN_THE_MAKING, Tokens
from handlers.views import UrlFor, UrlForHost
from linux import return_large_buffers
from processing.checks import run_checks
from processing.janitor import Janitor, orphans
from processing.mover import Mover, exclusive_lock
from processing.pipeline import Pipeline
from processing.workers import Workers
from storage.data_folder import CannotStart, DataFolder
from storage.dreams import Dreams
from storage.errors import Error, Refused
from storage.files import MARKS, StoredFiles
from storage.jobs import Jobs
from storage.locks import KeyedLock
from storage.model import Dream, Image
from storage.mongod import MongodFailed, MongodMissing
from storage.resources import local_files, open_database, open_files
from storage.staging import Staging
from storage.users import Users
from version import VERSION

STORAGE_TIMEOUT = 5.0  # seconds that a storage may hold up the start
WEBSOCKET_LIMIT = 256 * 1024  # bytes at which Tornado cuts a message off; websocket.max_message is refused politely

log = logging.getLogger("dreamlog")


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
        stores = ("local", "oss") if settings.storage.has_oss else ("local",)
        data_folder = stack.enter_context(DataFolder(settings, stores=stores))
        mongo = await stack.enter_async_context(open_database(settings, data_folder))
        files = await stack.enter_async_context(open_files(settings, data_folder))
        await tried(files)
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
        turns = KeyedLock()
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
            server=data_folder.server,
            folder=settings.data / "work",
            drain_left=drain.left,
        )
        await asyncio.gather(users.indexes(), dreams.indexes(), jobs.indexes())
        if "oss" not in files.stores and await jobs.has_folder(MARKS["oss"]):
            raise CannotStart("There are still pictures on OSS, and storage.bucket is not set: nobody could see them.")
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

        async def not_stopping() -> bool:
            return not drain.asked

        async def storage_answers() -> bool:
            await files.check()
            return True

        parts = Parts(
            access=access,
            cors=cors,
            in_flight=in_flight,
            tokens=tokens,
            limits=RateLimits(settings.limits),
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
            default_handler_args={"access": access, "cors": cors, "in_flight": in_flight, "tokens": tokens},
            log_function=log_request,
            websocket_max_message_size=WEBSOCKET_LIMIT,
        )
        yield await stack.enter_async_context(listening(application, settings, in_flight, subscribers, drain))


async def tried(files: StoredFiles) -> None:
    """A storage that refuses us stops the start; for one that is only away the pictures wait."""
    try:
        async with asyncio.timeout(STORAGE_TIMEOUT):
            await files.check()
    except Refused:
        raise
    except (Error, TimeoutError) as error:
        log.warning("pictures wait for their storage: %s", error or f"no answer within {STORAGE_TIMEOUT:.0f} s")


@asynccontextmanager
async def listening(
    application: Application, settings: Config, in_flight: InFlight, subscribers: Subscribers, drain: Drain
) -> AsyncIterator[str]:
    """HTTP, last to come and first to go."""
    host, port = settings.server.host, settings.server.port
    try:
        sockets = bind_sockets(port, host, backlog=1024)
    except OSError as error:
        raise CannotStart(f"Cannot listen on {host}:{port}: {error.strerror}. Is another server there?") from error
    http = HTTPServer(
        application,
        chunk_size=128 * 1024,  # of an upload, read at once
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


def absolute_urls(url: Callable[[str], str]) -> UrlForHost:
    """Complete the URLs of our own media, which lack scheme and host, with those that the client used."""

    def url_for_host(base_url: str) -> UrlFor:
        def url_for(key: str) -> str:
            found = url(key)
            return base_url + found if found.startswith("/") else found

        return url_for

    return url_for_host


def collect_seldom() -> None:
    """Fewer and larger collections of garbage: by default, a third of the time in which thousands of connections are
    taken goes into looking through those that are there. What the start has made stays, and is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


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
            collect_seldom()
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
@click.version_option(VERSION, prog_name="Dreamlog", message="%(prog)s %(version)s")
def cli() -> None:
    """Dreamlog, a journal for dreams and their pictures."""


a_file = click.Path(path_type=Path, dir_okay=False)
config_option = click.option("--config", "file", type=a_file, help="Settings [config.yaml].")
data_option = click.option("--data", help="Folder for everything that must survive [data].")


@cli.command("run")
@config_option
@click.option("--host", help="Address to listen on [server.host].")
@click.option("--port", type=int, help="Port to listen on [server.port].")
@data_option
def run_command(file: Path | None, host: str | None, port: int | None, data: str | None) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return_large_buffers()
    with told():
        asyncio.run(run(config.load(file, server__host=host, server__port=port, data=data)))


@cli.command("check")
@config_option
@data_option
def check_command(file: Path | None, data: str | None) -> None:
    """Try the settings, the database, the workers and the storage; exit code 1 when any of them fails."""

    async def check(settings: Config) -> bool:
        all_good = True
        with DataFolder(settings, allow_running=True) as data_folder:
            async for found in run_checks(settings, data_folder):
                click.echo(f"{'ok  ' if found.good else 'FAIL'}  {found.part:<16} {found.said}")
                all_good &= found.good
        return all_good

    with told():
        settings = config.load(file, data=data)
        click.echo(
            f"ok    {'settings':<16} of {file or config.DEFAULT_FILE} and the environment, with data in {settings.data}"
        )
        sys.exit(0 if asyncio.run(check(settings)) else 1)


@cli.command("move-media")
@click.option("--to", required=True, type=click.Choice(["local", "oss"]), help="The storage in which they are to be.")
@config_option
@data_option
def move_command(to: str, file: Path | None, data: str | None) -> None:
    """Move the pictures that are elsewhere, also while the server runs; stopped, it goes on when called again."""
    with told():
        mover = asyncio.run(move_media(config.load(file, data=data), to))
    if mover.problems:
        click.echo("\n".join(["These stay where they are:", *(f"  {problem}" for problem in mover.problems)]))
        sys.exit(1)


async def move_media(settings: Config, to: str) -> Mover:
    async with beside(settings) as (data_folder, jobs, files):
        if to not in files.stores or (data_folder.running_stores and to not in data_folder.running_stores):
            whose = "the settings" if to not in files.stores else "the running server: restart it"
            raise CannotStart(f"OSS is not set up in {whose}. See storage in config.yaml.")
        if settings.storage.backend != to:
            click.echo(f"New pictures still go to {settings.storage.backend}, as storage.backend says.")
        seen: set[str | None] = set()
        with exclusive_lock(settings.data / "moving") as folder:
            mover = Mover(jobs=jobs, files=files, to=to, folder=folder)
            # Again for those that were completed meanwhile, until there are none.
            while sets := [each for each in await mover.waiting() if each[1].folder not in seen]:
                seen |= {image.folder for _, image in sets}
                with click.progressbar(length=len(sets), label="Moving", show_pos=True) as bar:
                    await mover.move(sets, lambda: bar.update(1))
        click.echo(f"{mover.images} images moved to {to}.")
        if mover.images:
            days = files.life / 86_400
            click.echo(f"The server removes their old files in {days:.1f} days, when no address of them is in use.")
    return mover


@cli.command("orphans")
@click.option("--delete", is_flag=True, help="Remove them; without it they are only named.")
@click.option("--older-than", default=24.0, show_default=True, help="Hours; younger files may be on their way.")
@config_option
@data_option
def orphans_command(delete: bool, older_than: float, file: Path | None, data: str | None) -> None:
    """Find stored files that no dream names, as a kill in the wrong moment may leave."""
    with told():
        asyncio.run(remove_orphans(config.load(file, data=data), delete=delete, hours=older_than))


async def remove_orphans(settings: Config, *, delete: bool, hours: float) -> None:
    count = 0
    async with beside(settings) as (_, jobs, files), AsyncExitStack() as stack:
        if delete:
            stack.enter_context(exclusive_lock(settings.data / "moving"))
        async for keys in orphans(jobs, files, older_than=3600 * hours):
            count += len(keys)
            for key in keys:
                click.echo(key)
            if delete:
                await files.delete(keys)
    click.echo(f"{count} files belong to no dream" + (", and were removed." if delete else "; --delete removes them."))


@asynccontextmanager
async def beside(settings: Config) -> AsyncIterator[tuple[DataFolder, Jobs, StoredFiles]]:
    """What a command works with, whether a server runs on the same data or not."""
    with DataFolder(settings, allow_running=True) as data_folder:
        async with open_database(settings, data_folder) as mongo, open_files(settings, data_folder) as files:
            # The running server tells nobody of what is changed here; addresses given out stay good meanwhile.
            jobs = Jobs(mongo.database, changed=lambda *_: None, turns=KeyedLock())
            await jobs.indexes()
            yield data_folder, jobs, files


@contextmanager
def told() -> Iterator[None]:
    """What keeps a command from its work ends it with plain words, and exit code 1."""
    try:
        yield
    except ConfigError as error:
        raise click.ClickException(
            "These settings have mistakes:\n" + "\n".join(f"  {m}" for m in error.mistakes)
        ) from None
    except (CannotStart, MongodMissing, MongodFailed, Error) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    cli()
