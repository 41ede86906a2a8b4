"""A front end written for the original server knows only its five messages, and works unchanged."""

import asyncio
import json
from pathlib import Path
from typing import Self

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests import contract, photos
from tests.client import WITHIN, Api, Json, Server, settings, until

HELLO = "连接已建立，等待图片处理状态更新"

# Type -> the fields that such a front end reads. It ignores all others.
KNOWN = {
    "connection_established": {"type", "dream_id", "message"},
    "image_update": {"type", "dream_id", "status", "images", "timestamp"},
    "pong": {"type", "timestamp"},
}


class OldClient:
    """A client that reads these messages and ignores all others."""

    def __init__(self, url: str, dream_id: str, token: str, *, in_header: bool = False, slash: str = "/") -> None:
        self._address = url.replace("http", "ws", 1) + f"/ws/dream-images/{dream_id}{slash}"
        self._token = f"Bearer {token}"
        self._in_header = in_header
        self.messages: list[Json] = []

    async def __aenter__(self) -> Self:
        headers = {"Authorization": self._token} if self._in_header else {}
        self._connection: WebSocketClientConnection = await websocket_connect(
            HTTPRequest(self._address, headers=headers)
        )
        if not self._in_header:
            await self.send({"type": "authenticate", "token": self._token})
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.close()
        await asyncio.wait_for(self._reader, WITHIN)

    async def send(self, message: Json) -> None:
        contract.sent("dream", json.dumps(message))
        await self._connection.write_message(json.dumps(message))

    async def _read(self) -> None:
        while (text := await self._connection.read_message()) is not None:
            contract.message("dream", text)
            message = json.loads(text)
            if message["type"] in KNOWN:
                self.messages.append({name: message[name] for name in KNOWN[message["type"]]})

    async def count(self, number: int) -> list[Json]:
        """Wait until so many messages have arrived, and return them."""
        await until(lambda: len(self.messages) >= number, f"{number} messages")
        return self.messages

    async def ended(self) -> Json:
        """The first `image_update` with another status after one with the status processing."""

        def look() -> Json | None:
            updates = [each for each in self.messages if each["type"] == "image_update"]
            began = next((n for n, each in enumerate(updates) if each["status"] == "processing"), len(updates))
            return next((each for each in updates[began:] if each["status"] != "processing"), None)

        ended: Json = await until(look, "all pictures are ready")
        return ended


@pytest.mark.gen_test
async def test_pictures_come_to_their_places(data: Path, mongodb_uri: str) -> None:
    """With token in header or message, slash or not, the client gets a Chinese greeting, then pictures in order."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        for in_header in (True, False):
            for slash in ("/", ""):
                dream = await api.json("POST", "/api/dreams", {"content": "梦 🌊 of the sea"}, status=201)
                async with OldClient(server.url, dream["id"], api.access, in_header=in_header, slash=slash) as client:
                    hello, state = (await client.count(2))[:2]
                    assert hello == {"type": "connection_established", "dream_id": dream["id"], "message": HELLO}
                    assert (state["type"], state["dream_id"], state["images"]) == ("image_update", dream["id"], [])
                    await api.add(dream["id"], photos.small_jpeg(1), photos.small_jpeg(2), positions=[4, 1])
                    update = await client.ended()
                    assert update["status"] == "completed"
                    assert [sorted(image) for image in update["images"]] == [["id", "position", "url"]] * 2
                    assert {image["id"]: image["position"] for image in update["images"]} == {1: 4, 2: 1}
                    assert isinstance(update["timestamp"], float)
                    for image in update["images"]:
                        assert await api.bytes(image["url"])
                    processing = [each for each in client.messages if each.get("status") == "processing"]
                    assert processing and all(each["images"] == [] for each in processing)


@pytest.mark.gen_test
async def test_a_failure_reaches_the_client(data: Path, mongodb_uri: str) -> None:
    """When all pictures fail, the status is failed and the list of images is empty."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.json("POST", "/api/dreams", {"title": "t"}, status=201)
        async with OldClient(server.url, dream["id"], api.access) as client:
            await client.count(2)
            await api.add(dream["id"], photos.small_jpeg(1)[:300])
            update = await client.ended()
            assert (update["status"], update["images"]) == ("failed", [])


@pytest.mark.gen_test
async def test_a_late_client_gets_the_state_at_once(data: Path, mongodb_uri: str) -> None:
    """A client that connects after processing gets the pictures in the message after the greeting."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.dream(photos.small_jpeg(1), content="sea", positions=[2])
        await api.finished(dream["id"])
        async with OldClient(server.url, dream["id"], api.access) as client:
            hello, update = await client.count(2)
            assert hello["message"] == HELLO
            assert update["status"] == "completed"
            assert [(image["id"], image["position"]) for image in update["images"]] == [(1, 2)]


@pytest.mark.gen_test
async def test_a_ping_is_answered(data: Path, mongodb_uri: str) -> None:
    """A pong repeats the number of the ping, integer or not."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.json("POST", "/api/dreams", {"title": "t"}, status=201)
        async with OldClient(server.url, dream["id"], api.access) as client:
            times = [1649154859.123, 1649154859, 1649154859123]
            for timestamp in times:
                await client.send({"type": "ping", "timestamp": timestamp})
            assert (await client.count(5))[2:] == [{"type": "pong", "timestamp": timestamp} for timestamp in times]
