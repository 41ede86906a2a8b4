"""Uploads as real clients send them: streamed, slow, repeated, interrupted, too large."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import photos
from tests.client import BOUNDARY, MULTIPART, WITHIN, Api, Server, Socket, multipart, settings, until


class Raw:
    """A connection on which the test writes a request piece by piece."""

    def __init__(self, api: Api) -> None:
        self.api = api

    async def __aenter__(self) -> "Raw":
        host, _, port = self.api.url.removeprefix("http://").partition(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with suppress(ConnectionError):  # the server closed it first
            await self.writer.wait_closed()

    async def head(self, path: str = "/api/dreams", **headers: Any) -> None:
        lines = [f"POST {path} HTTP/1.1", f"Host: {self.api.url.removeprefix('http://')}"]
        given = {**MULTIPART, "Authorization": f"Bearer {self.api.access}", **headers}
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in given.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await self.writer.drain()

    async def send(self, chunk: bytes) -> None:
        self.writer.write(chunk)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """Status and JSON body of the answer."""
        async with asyncio.timeout(WITHIN):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            length = next(int(line.split(":")[1]) for line in head.splitlines() if line.startswith("Content-Length"))
            return int(head.split()[1]), json.loads(await self.reader.readexactly(length))


@pytest.mark.gen_test
async def test_a_slow_upload_arrives(data: Path, mongodb_uri: str) -> None:
    """The server accepts a body that arrives in small pieces."""
    body = multipart(photos.small_jpeg(1), content="slow", title="t", positions=[2])
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        async with Raw(api) as raw:
            await raw.head(Content_Length=len(body))
            for start in range(0, len(body), 97):
                await raw.send(body[start : start + 97])
            status, dream = await raw.answer()
        assert (status, dream["images"][0]["position"]) == (201, 2)
        assert (await api.finished(dream["id"]))["status"] == "completed"


@pytest.mark.gen_test
async def test_a_chunked_upload_arrives(data: Path, mongodb_uri: str) -> None:
    """The server accepts a chunked body from a client that does not know its length in advance."""
    body = multipart(photos.small_jpeg(1), title="t")
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        async with Raw(api) as raw:
            await raw.head(Transfer_Encoding="chunked")
            for start in range(0, len(body), 5000):
                piece = body[start : start + 5000]
                await raw.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await raw.send(b"0\r\n\r\n")
            status, dream = await raw.answer()
        assert status == 201
        assert dream["images"][0]["position"] == 0


@pytest.mark.gen_test
async def test_a_cut_connection_leaves_nothing_behind(data: Path, mongodb_uri: str) -> None:
    """An upload whose connection breaks leaves no dream and no file."""
    body = multipart(photos.heavy_jpeg(), photos.heavy_jpeg(orientation=1), title="cut")
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        async with Raw(api) as raw:
            await raw.head(Content_Length=len(body))
            await raw.send(body[: len(body) - 1000])
            await until(lambda: len(server.files()) == 2, "the server receives both images")
        await until(lambda: not server.files(), "the files are deleted")
        assert (await api.json("GET", "/api/dreams"))["items"] == []


@pytest.mark.gen_test
async def test_an_oversized_upload_is_refused_before_its_last_byte(data: Path, mongodb_uri: str) -> None:
    """The server sends 413 as early as it can, the client can read it, and the server keeps nothing."""
    limits = settings(data, mongodb_uri, images__max_bytes=100_000, images__max_per_dream=2)
    photo = photos.phone_jpeg()
    assert len(photo) > 300_000
    async with Server(data, **limits) as server, Api(server.url) as api:
        await api.sign_up()
        async with Raw(api) as raw:
            body = multipart(photo)
            await raw.head(Content_Length=len(body))
            await raw.send(body[:200_000])
            status, problem = await raw.answer()
        assert (status, problem["status"]) == (413, 413)
        assert "100000" in problem["detail"]
        async with Raw(api) as raw:  # no byte of the body is sent
            await raw.head(Content_Length=1 << 40)
            status, problem = await raw.answer()
        assert status == 413
        small = photos.small_jpeg(1)
        problem = await api.dream(small, small, small, status=413)
        assert "at most 2" in problem["detail"]
        dream = await api.dream(small, small)
        await api.add(dream["id"], small, status=413)
        await api.finished(dream["id"])
        await until(lambda: not any(name.startswith("staging") for name in server.files()), "staging is empty")


@pytest.mark.gen_test
async def test_who_waits_for_100_continue_is_refused_without_a_body(data: Path, mongodb_uri: str) -> None:
    """A client that sends `Expect: 100-continue` gets the error as its only answer, and need not send the body."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api, Raw(api) as raw:
        await raw.head(Content_Length=5_000_000, Expect="100-continue")
        status, _ = await raw.answer()
        assert status == 401
        assert await raw.reader.read() == b""


@pytest.mark.gen_test
async def test_an_idempotency_key_stores_once(data: Path, mongodb_uri: str) -> None:
    """Requests with the same key, in sequence or at once, get the first dream, and leave no other file."""
    photo = photos.small_jpeg(3)
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        dreams = await asyncio.gather(*(api.dream(photo, key="k1") for _ in range(5)))
        dreams.append(await api.dream(photos.phone_jpeg(), key="k1"))
        assert len({dream["id"] for dream in dreams}) == 1
        other = await api.dream(photo, key="k2")
        assert other["id"] != dreams[0]["id"]
        assert len((await api.json("GET", "/api/dreams"))["items"]) == 2
        path, body = f"/api/dreams/{other['id']}/images", multipart(photo)
        for _ in range(2):
            await api.json("POST", path, body, status=201, headers=MULTIPART | {"Idempotency-Key": "k1"})
        assert [image["id"] for image in (await api.finished(other["id"]))["images"]] == [1, 2]
        await api.finished(dreams[0]["id"])
        await until(lambda: not any(name.startswith("staging") for name in server.files()), "staging is empty")


@pytest.mark.gen_test
async def test_positions_are_code_points_as_browsers_count_them(data: Path, mongodb_uri: str) -> None:
    """An emoji counts as one code point, and so does a line break, which HTML forms send as two bytes."""
    content = "🌊海\nend"
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        photo = photos.small_jpeg(1)
        dream = await api.dream(photo, photo, content=content.replace("\n", "\r\n"), positions=[1, 6])
        assert dream["content"] == content
        assert [image["position"] for image in dream["images"]] == [1, 6]
        problem = await api.dream(photo, content=content, positions=[7], status=422)
        assert problem["errors"][0]["field"] == "positions[0]"
        without = await api.dream(photo, content=content)
        assert without["images"][0]["position"] == 6, "without positions, the picture is at the end"


@pytest.mark.gen_test
async def test_an_empty_file_field_is_no_image(data: Path, mongodb_uri: str) -> None:
    """The server ignores the nameless empty file that browsers send for an empty file field."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename=""\r\n\r\n\r\n'.encode()
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        body = part + multipart(title="words only")
        dream = await api.json("POST", "/api/dreams", body, status=201, headers=MULTIPART)
        assert (dream["status"], dream["images"]) == ("completed", [])
        assert server.files() == set()


@pytest.mark.gen_test
async def test_an_image_removed_in_the_middle_is_gone(data: Path, mongodb_uri: str) -> None:
    """Deleting an image or a dream during its processing leaves no file, and listeners are notified."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.dream(photos.phone_jpeg(), photos.small_jpeg(1))
        await api.json("DELETE", f"/api/dreams/{dream['id']}/images/1", status=204)
        kept = await api.finished(dream["id"])
        assert [image["id"] for image in kept["images"]] == [2]
        await until(lambda: len(server.files()) == len(kept_files(kept)) + 1, "only the other image has files")
        more = await api.add(dream["id"], photos.small_jpeg(9))
        assert [image["id"] for image in more["images"]] == [2, 3], "an id is never reused"
        async with Socket.of(api, dream["id"]) as socket:
            await socket.message("image_update")
            await api.add(dream["id"], photos.phone_jpeg())
            await api.json("DELETE", f"/api/dreams/{dream['id']}", status=204)
            await socket.message("dream_deleted")
            assert await socket.close_code() == 1000
        await until(lambda: server.files() == set(), "no file is left")
        await api.json("GET", f"/api/dreams/{dream['id']}", status=404)


def kept_files(dream: dict[str, Any]) -> set[str]:
    variants = [variant for image in dream["images"] for variant in image["variants"].values()]
    return {variant["url"].partition("?")[0] for variant in variants}


@pytest.mark.gen_test
async def test_an_upload_that_the_disk_cannot_hold_is_refused_unread(data: Path, mongodb_uri: str) -> None:
    """The server answers 507 before it reads any of the body."""
    roomy = settings(data, mongodb_uri, images__max_bytes=1 << 50)
    async with Server(data, **roomy) as server, Api(server.url) as api:
        await api.sign_up()
        async with Raw(api) as raw:
            await raw.head(Content_Length=1 << 50)
            status, problem = await raw.answer()
        assert (status, problem["status"]) == (507, 507)
        assert "room" in problem["detail"]
        assert server.files() == set()


@pytest.mark.gen_test
async def test_a_chunked_request_that_is_refused_leaves_its_connection_usable(data: Path, mongodb_uri: str) -> None:
    """The server answers at once, and serves the next request on the same connection."""
    body = multipart(title="x" * 201)
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        async with Raw(api) as raw:
            for _ in range(2):
                await raw.head(Transfer_Encoding="chunked")
                await raw.send(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
                status, problem = await raw.answer()
                assert (status, problem["errors"][0]["field"]) == (422, "title")


@pytest.mark.gen_test
async def test_an_upload_does_not_outlive_its_account(data: Path, mongodb_uri: str) -> None:
    """When an account is deleted during an upload, the upload creates no dream."""
    body = multipart(photos.heavy_jpeg(), title="late")
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        async with Raw(api) as raw:
            await raw.head(Content_Length=len(body))
            await raw.send(body[:-500])
            await until(lambda: server.files(), "the server receives the upload")
            await api.json("DELETE", "/api/me", status=204)
            await raw.send(body[-500:])
            status, _ = await raw.answer()
        assert status == 401
        await until(lambda: server.files() == set(), "no file is left")
