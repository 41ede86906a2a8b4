"""The whole server for clients without a WebSocket: event streams and long polls."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests import photos
from tests.client import Api, Events, Server, Socket, settings, until
from tests.pace import seconds


async def is_full(api: Api, path: str) -> bool:
    """Whether the account is at its connection limit, so that the server refuses even a read that need not wait."""
    return (await api.call("GET", f"{path}?since=0")).code == 429


@pytest.mark.gen_test
async def test_a_stream_and_a_socket_get_the_same_messages(data: Path, mongodb_uri: str) -> None:
    """A stream and a WebSocket receive the same messages in the same order; a late client gets the state."""
    quiet = settings(data, mongodb_uri, websocket__ping_interval=600)
    async with Server(data, **quiet) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.json("POST", "/api/dreams", {"title": "t"}, status=201)
        async with Socket.of(api, dream["id"]) as socket, Events.of(api, dream["id"]) as events:
            for listener in (socket, events):
                await listener.message("image_update", revision=1)
            await api.add(dream["id"], photos.small_jpeg(1), photos.small_jpeg(2), photos.corrupt_jpeg())
            for listener in (socket, events):
                await listener.message("image_progress", done=3)
            await until(lambda: socket.types()[-1] == events.types()[-1] == "image_update", "both have the last one")
            progress = [each for each in events.messages if each["type"] == "image_progress"]
            assert progress == [each for each in socket.messages if each["type"] == "image_progress"]
            assert [each["done"] for each in progress] == [1, 2, 3]
            assert (end := events.messages[-1]) == socket.messages[-1]
            assert (len(end["images"]), len(end["failed_images"])) == (2, 1)
            revisions = [each["revision"] for each in events.messages]
            assert revisions == sorted(revisions)
            assert events.ids == [str(revision) for revision in revisions]
            async with Events.of(api, dream["id"]) as late:
                assert await late.message("image_update") == end | {"timestamp": late.messages[0]["timestamp"]}
            await api.json("DELETE", f"/api/dreams/{dream['id']}", status=204)
            assert await events.end() == await socket.message("dream_deleted")


@pytest.mark.gen_test
async def test_a_dream_is_followed_by_reads_that_wait(data: Path, mongodb_uri: str) -> None:
    """Each long poll returns a newer revision, until the pictures are ready, and after a change and a deletion."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.dream(photos.small_jpeg(1), photos.small_jpeg(2))
        path = f"/api/dreams/{dream['id']}"
        while dream["status"] == "processing":
            newer = await api.json("GET", f"{path}?since={dream['revision']}&wait=60")
            assert newer["revision"] > dream["revision"]
            dream = newer
        assert [image["status"] for image in dream["images"]] == ["completed"] * 2
        query = f"{path}?since={dream['revision']}"
        nothing = await api.call("GET", f"{query}&wait=1")
        assert (nothing.code, nothing.body) == (304, b"")
        waiting = asyncio.create_task(api.json("GET", f"{query}&wait=60"))
        await api.json("PATCH", path, {"title": "changed"})
        assert (await waiting)["title"] == "changed"
        waiting = asyncio.create_task(api.json("GET", f"{path}?since=1000&wait=60", status=404))
        await api.json("DELETE", path, status=204)
        await waiting


@pytest.mark.gen_test
async def test_a_stop_waits_for_no_listener(data: Path, mongodb_uri: str) -> None:
    """A stop ends fifty streams and fifty long polls with an invitation to reconnect, and does not wait for them."""
    async with Server(data, **settings(data, mongodb_uri, limits__connections=100)) as server:
        async with Api(server.url) as api, AsyncExitStack() as stack:
            await api.sign_up()
            dream = await api.json("POST", "/api/dreams", {"title": "t"}, status=201)
            path = f"/api/dreams/{dream['id']}"
            query = f"{path}?since=1&wait=60"
            reads = [asyncio.create_task(api.call("GET", query)) for _ in range(50)]
            streams = [await stack.enter_async_context(Events.of(api, dream["id"])) for _ in range(50)]
            await until(lambda: is_full(api, path), "all clients are connected")
            clock = asyncio.get_running_loop().time
            began = clock()
            server.kill(signal.SIGTERM)
            assert {(await stream.end())["code"] for stream in streams} == {"restarting"}
            assert {(await read).code for read in reads} == {503}
            assert await server.ended() == 0, server.output
            assert clock() - began < seconds(10)
            assert "Traceback" not in server.output, server.output


@pytest.mark.gen_test
async def test_who_may_listen(data: Path, mongodb_uri: str) -> None:
    """Only the owner can listen, with a token and by GET; all transports share a limit; signing out closes them."""
    async with Server(data, **settings(data, mongodb_uri, limits__connections=3)) as server:
        async with Api(server.url) as ada, Api(server.url) as bob:
            await ada.sign_up("ada")
            await bob.sign_up("bob")
            dream = await ada.json("POST", "/api/dreams", {"title": "t"}, status=201)
            path = f"/api/dreams/{dream['id']}"
            for query in ("/events", "?since=1&wait=60"):
                await bob.json("GET", path + query, status=404)
                await ada.json("GET", path + query, status=401, signed_in=False)
            for method in ("HEAD", "POST", "DELETE"):
                refused = await ada.call(method, f"{path}/events")
                assert (refused.code, refused.headers["Allow"]) == (405, "GET, OPTIONS")
            waiting = asyncio.create_task(ada.call("GET", f"{path}?since=1&wait=60"))
            async with Socket.of(ada, dream["id"]) as socket, Events.of(ada, dream["id"]) as events:
                for listener in (socket, events):
                    await listener.message("image_update")
                await until(lambda: is_full(ada, path), "the long poll is counted too")
                over = await ada.call("GET", f"{path}/events")
                assert (over.code, over.headers["Retry-After"]) == (429, "30")
                await ada.json("POST", "/api/auth/logout", b"", status=204)
                assert (await events.end())["code"] == "signed_out"
                assert await socket.close_code() == 4401
                assert (await waiting).code == 401
