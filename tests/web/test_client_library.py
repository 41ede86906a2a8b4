"""The client library in Node, with the real server and with one that misbehaves. The tests are in *.test.mjs."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from tornado.web import Application, RequestHandler, url

from tests import photos
from tests.client import Server, settings
from tests.pace import seconds
from tests.web.scripted import listening, scripted

HERE = Path(__file__).parent
LONGEST = seconds(100)  # per file; less than the timeout of pytest, so that a failure shows the output of Node


async def node(test: str, **environment: str) -> None:
    """Run one file; fails with the output of Node."""
    version = await _run("node", "--version")
    # Before version 22, Node has a WebSocket only with this option.
    asked_for = ["--experimental-websocket"] if int(version.removeprefix("v").partition(".")[0]) < 22 else []
    reporter = ["--test-reporter", "spec"]
    await _run("node", *asked_for, "--no-warnings", *reporter, "--test", str(HERE / test), **environment)


async def _run(*command: str, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    output = b""
    try:
        async with asyncio.timeout(LONGEST):
            async for line in process.stdout:
                output += line
            await process.wait()
    except TimeoutError:
        process.terminate()  # not kill: Node must stop its own child processes
        await process.wait()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.gen_test
@pytest.mark.parametrize("test", ["one_dream.test.mjs", "events.test.mjs", "many_dreams.test.mjs"])
async def test_before_servers_that_misbehave(test: str) -> None:
    """The client reconnects or stops as documented after close codes, silence, cuts and refused WebSockets."""
    async with scripted() as address:
        await node(test, SCRIPTED_URL=address)


class RestartHandler(RequestHandler):
    def initialize(self, *, server: Server) -> None:
        self.server = server

    async def post(self) -> None:
        self.server.port = int(self.server.url.rpartition(":")[2])
        self.server.kill(signal.SIGTERM)
        await self.server.restart()


@pytest.mark.gen_test
async def test_with_the_server(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """Pictures, deletion, rejections, signing out and a restart work over WebSockets and over event streams."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(photos.small_jpeg(1))
    async with Server(data, **settings(data, mongodb_uri, images__workers=1)) as server:
        restarts = Application([url(r"/", RestartHandler, {"server": server})], log_function=lambda handler: None)
        async with listening(restarts) as address:
            await node("real_server.test.mjs", SERVER_URL=server.url, RESTART_URL=address, PHOTO=str(photo))


@pytest.mark.gen_test
async def test_with_tokens_that_last_two_seconds(data: Path, mongodb_uri: str) -> None:
    """The client fetches fresh tokens on the connection and for the next one, never in a tight loop."""
    short = settings(data, mongodb_uri, images__workers=1, auth__access_lifetime=seconds(2))
    async with Server(data, **short) as server:
        await node("tokens.test.mjs", SERVER_URL=server.url)
