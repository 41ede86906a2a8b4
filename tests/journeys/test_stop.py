"""Start and stop: a failed start prints its reason, and SIGTERM leaves no work half done."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tests import photos
from tests.client import ROOT, Api, Server, Socket, multipart, settings, until
from tests.pace import seconds


async def output_of(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of `python server.py` with these arguments."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "server.py"), *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


@pytest.mark.gen_test
async def test_sigterm_finishes_or_hands_back_the_work(data: Path) -> None:
    """After SIGTERM, sockets close with 1012, the exit code is 0, and the next start finishes without new attempts."""
    async with Server(data, server__drain_timeout=seconds(20)) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.dream(*[photos.phone_jpeg(orientation=o) for o in (1, 2, 3, 4, 5, 6, 7, 8)])
        async with Socket.of(api, dream["id"]) as socket:
            await socket.message("image_update")
            clock = asyncio.get_running_loop().time
            began = clock()
            server.kill(signal.SIGTERM)
            assert await socket.close_code() == 1012
        assert await server.ended() == 0, server.output
        assert clock() - began < seconds(20)
        assert "Traceback" not in server.output, server.output
        await server.start()
        api.url = server.url
        dream = await api.finished(dream["id"])
        assert [(image["status"], image["attempt"]) for image in dream["images"]] == [("completed", 1)] * 8
        await until(lambda: len(server.files()) == 8 * 4, "only the files of the dreams remain")


@pytest.mark.gen_test
async def test_sigterm_with_no_time_hands_everything_back(data: Path) -> None:
    """When drain_timeout is too short for the running work, the server exits with 0 and does not count the attempts."""
    async with Server(data, server__drain_timeout=0) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.dream(photos.slow_png(), photos.phone_jpeg())
        server.kill(signal.SIGTERM)
        assert await server.ended() == 0, server.output
        assert "Traceback" not in server.output, server.output
        await server.start()
        api.url = server.url
        dream = await api.finished(dream["id"])
        assert [(image["status"], image["attempt"]) for image in dream["images"]] == [("completed", 1)] * 2


@pytest.mark.gen_test
async def test_an_upload_under_way_is_answered_before_the_stop(data: Path, mongodb_uri: str) -> None:
    """The server answers requests that have begun before it stops, and accepts no new ones."""
    body = multipart(photos.heavy_jpeg(), title="last")
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        host, _, port = server.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /api/dreams HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.access}\r\n"
        head += (
            f"Content-Type: multipart/form-data; boundary=dream-boundary-7f3a\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body[:-500])
        await until(lambda: server.files(), "the server receives the upload")
        server.kill(signal.SIGTERM)
        await until(lambda: "stopping" in server.output, "the server is stopping")
        writer.write(body[-500:])
        assert (await reader.readline()).split()[1] == b"201"
        writer.close()
        await writer.wait_closed()
        assert await server.ended() == 0, server.output


@pytest.mark.gen_test
async def test_a_second_signal_stops_at_once(data: Path) -> None:
    """A second SIGINT stops the server at once, and no acknowledged upload is lost."""
    async with Server(data) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.dream(photos.slow_png())
        server.kill(signal.SIGINT)
        await until(lambda: "stopping" in server.output, "the server has logged the first signal")
        server.kill(signal.SIGINT)
        await server.restart()
        api.url = server.url
        assert (await api.finished(dream["id"]))["status"] == "completed"


@pytest.mark.gen_test
async def test_wrong_settings_are_all_named_at_once(data: Path) -> None:
    """The server refuses to start, and names every wrong setting in plain words without a traceback."""
    code, said = await output_of(
        "run", PATH="", DREAMLOG_SERVER__PORT="70000", DREAMLOG_IMAGES__FORMAT="bmp", DREAMLOG_IMAGE__WORKERS="1"
    )
    assert code == 1
    for word in (
        "DREAMLOG_SERVER__PORT",
        "DREAMLOG_IMAGES__FORMAT",
        "DREAMLOG_IMAGE__WORKERS: there is no such setting",
    ):
        assert word in said
    assert "Traceback" not in said


@pytest.mark.gen_test
async def test_a_second_server_on_the_same_data_is_refused(data: Path, mongodb_uri: str) -> None:
    """The server refuses to start when another one uses its data folder or its port, and says so."""
    async with Server(data, **settings(data, mongodb_uri)) as server:
        code, said = await output_of("run", "--data", str(data), "--port", "0", DREAMLOG_MONGODB__URI=mongodb_uri)
        assert code == 1
        assert "Another Dreamlog is running" in said
        port = server.url.rpartition(":")[2]
        other = {"DREAMLOG_MONGODB__URI": mongodb_uri, "DREAMLOG_MONGODB__DATABASE": data.parent.name + "2"}
        code, said = await output_of("run", "--data", str(data) + "2", "--port", port, **other)
        assert code == 1
        assert f"Cannot listen on 127.0.0.1:{port}" in said
        assert "Is another server running there?" in said
        assert "Traceback" not in said


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("host", "advice"),
    [
        ("no-such-host.invalid", "Is server.host the name or an IP address of this machine?"),
        ("192.0.2.1", "This machine does not have that IP address: change server.host."),
        ("a..b", "this is no host name. Change server.host."),
    ],
)
async def test_a_host_that_the_server_cannot_listen_on_is_named(
    host: str, advice: str, data: Path, mongodb_uri: str
) -> None:
    """The server says what to change, and does not suspect another server."""
    environment = {"DREAMLOG_MONGODB__URI": mongodb_uri, "DREAMLOG_MONGODB__DATABASE": data.parent.name}
    code, said = await output_of("run", "--data", str(data), "--host", host, "--port", "0", **environment)
    assert code == 1
    assert f"Cannot listen on {host}:0: " in said
    assert advice in said
    assert "another server" not in said
    assert "Traceback" not in said


@pytest.mark.gen_test
async def test_the_log_has_nothing_private(data: Path, mongodb_uri: str) -> None:
    """The log has a line for each request and image, but no token, password, text, search or file name."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up(password="hunter2 hunter2")
        dream = await api.dream(photos.small_jpeg(1), title="secret title", content="secret words", tags=["secret tag"])
        dream = await api.finished(dream["id"])
        await api.json("GET", "/api/dreams?q=secret+search")
        await api.bytes(dream["images"][0]["url"])
        lines = [line for line in server.lines if f"dream={dream['id']}" in line]
        assert any("POST /api/dreams 201" in line for line in lines)
        assert any("image=1 attempt=1 JPEG" in line for line in lines)
        for private in ("secret", "hunter2", api.access, api.refresh, "0.jpg", "s="):
            assert private not in server.output.replace("requests=", ""), private
