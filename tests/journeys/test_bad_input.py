"""The server answers each kind of bad input as documented, and keeps no file and no document of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorDatabase
from tornado.httpclient import HTTPResponse

from tests import photos
from tests.client import BOUNDARY, MULTIPART, Api, Server, multipart, settings, until

CASES: list[tuple[str, bytes, int, str]] = [  # name, body, status, a field of `errors` or a word of `detail`
    ("a text that calls itself a picture", multipart(b"not a picture", title="t"), 415, "JPEG"),
    ("a PDF", multipart(b"%PDF-1.7\n" + bytes(2000), title="t"), 415, "HEIC"),
    ("an SVG", multipart(b"<svg xmlns='http://www.w3.org/2000/svg'/>", title="t"), 415, "WebP"),
    ("an empty file", multipart(b"", title="t"), 415, "Accepted"),
    ("a position behind the end", multipart(photos.small_jpeg(1), content="abc", positions=[4]), 422, "positions[0]"),
    ("a negative position", multipart(photos.small_jpeg(1), content="abc", positions=[-1]), 422, "positions[0]"),
    ("a position that is no number", multipart(photos.small_jpeg(1), positions=["x"]), 422, "positions[0]"),
    ("too few positions", multipart(*[photos.small_jpeg(1)] * 2, positions=[0]), 422, "positions"),
    ("positions without images", multipart(title="t", positions=[0]), 422, "positions"),
    ("a title that is too long", multipart(title="x" * 201), 422, "title"),
    ("a text that is too long", multipart(title="t", content="x" * 100_001), 422, "content"),
    ("too much text", multipart(title="t", content="x" * 1_100_000), 413, "bytes"),
    ("lucidity out of range", multipart(title="t", lucidity=6), 422, "lucidity"),
    ("lucidity that is no number", multipart(title="t", lucidity="very"), 422, "lucidity"),
    ("a night without an offset", multipart(title="t", dreamed_at="2026-11-22T06:10:00"), 422, "dreamed_at"),
    ("too many tags", multipart(title="t", tags=[f"t{n}" for n in range(21)]), 422, "tags"),
    ("a field that does not exist", multipart(title="t", colour="red"), 422, "colour"),
    ("a title given twice", multipart(title=["a", "b"]), 422, "title"),
    ("more fields than a form needs", multipart(tags=[""] * 1001), 413, "1000"),
    ("an empty dream", multipart(), 422, "title"),
    ("a body that is no form", b"hello", 400, "multipart"),
    ("a form that ends early", multipart(photos.small_jpeg(1), title="t")[:-60], 400, "ends"),
    ("no UTF-8", f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="title"\r\n\r\n'.encode() + b"\xff\xfe\r\n"
     + f"--{BOUNDARY}--\r\n".encode(), 422, "title"),
]  # fmt: skip

JSON_CASES: list[tuple[str, bytes, int, str]] = [
    ("no JSON", b"{", 400, "JSON"),
    ("a list", b"[]", 422, "body"),
    ("half a surrogate pair", b'{"title": "\\ud800"}', 400, "JSON"),
    ("a number as title", b'{"title": 5}', 422, "title"),
    ("true as lucidity", b'{"title": "t", "lucidity": true}', 422, "lucidity"),
    ("tags that are no list", b'{"title": "t", "tags": "sea"}', 422, "tags"),
    ("a field that does not exist", b'{"titel": "t"}', 422, "titel"),
    ("too large", b'{"content": "' + b"x" * 1_100_000 + b'"}', 413, "bytes"),
]


def check_problem(response: HTTPResponse, status: int, word: str) -> None:
    assert response.code == status, response.body
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(response.body)
    assert problem["status"] == status
    assert problem["title"]
    assert problem["type"]
    named = [each["field"] for each in problem.get("errors", [])]
    assert word in named or word in problem["detail"], problem
    assert "Traceback" not in problem["detail"]
    assert "/" not in problem["detail"].replace("multipart/form-data", "").replace("JPEG/", "")


@pytest.mark.gen_test
async def test_every_bad_body_gets_its_answer(
    data: Path, mongodb_uri: str, database: AsyncIOMotorDatabase[dict[str, Any]]
) -> None:
    """The server rejects each body with a sentence that names the mistake, and stores no dream and no file."""
    async with Server(data, mongodb__uri=mongodb_uri, mongodb__database=database.name) as server:
        async with Api(server.url) as api:
            await api.sign_up()
            for _, body, status, word in CASES:
                check_problem(await api.call("POST", "/api/dreams", body, headers=MULTIPART), status, word)
            for _, body, status, word in JSON_CASES:
                headers = {"Content-Type": "application/json"}
                check_problem(await api.call("POST", "/api/dreams", body, headers=headers), status, word)
            assert (await api.json("GET", "/api/dreams"))["items"] == []
            assert await database["dreams"].count_documents({}) == 0
            assert server.files() == set()
            assert "Traceback" not in server.output, server.output
            assert "not a picture" not in server.output


@pytest.mark.gen_test
async def test_what_is_not_there_or_not_allowed(data: Path, mongodb_uri: str) -> None:
    """The server answers 404, 405 and 401 with problems, and a stranger's dream looks like a missing one."""
    async with Server(data, **settings(data, mongodb_uri)) as server:
        async with Api(server.url) as ada, Api(server.url) as bob, Api(server.url) as nobody:
            await ada.sign_up("ada")
            await bob.sign_up("bob")
            dream = await ada.dream(photos.small_jpeg(1), content="abc")
            await ada.finished(dream["id"])
            path = f"/api/dreams/{dream['id']}"
            image = f"{path}/images/1"
            for method, where in strangers_calls(path, image):
                missing = await bob.call(
                    method, where.replace(dream["id"], "0" * 24), body_for(method), headers=MULTIPART
                )
                theirs = await bob.call(method, where, body_for(method), headers=MULTIPART)
                assert (theirs.code, theirs.body) == (missing.code, missing.body), (method, where)
                check_problem(theirs, 404, "no such")
                check_problem(await nobody.call(method, where, body_for(method)), 401, "Bearer")
            check_problem(await ada.call("GET", "/api/nothing"), 404, "nothing")
            check_problem(await ada.call("PUT", path, b"{}"), 405, "PATCH")
            check_problem(await ada.call("GET", "/api/dreams/x"), 404, "no such")
            check_problem(await ada.call("GET", "/api/dreams?limit=0"), 422, "limit")
            check_problem(await ada.call("GET", "/api/dreams?cursor=x"), 422, "cursor")
            check_problem(await ada.call("GET", "/api/dreams?from=yesterday"), 422, "from")
            check_problem(await ada.call("GET", "/api/dreams?page=2"), 422, "page")
            check_problem(
                await ada.call("PATCH", path, {"images": [{"id": 1, "position": 9}]}), 422, "images[0].position"
            )
            check_problem(await ada.call("PATCH", path, {"images": [{"id": 7, "position": 1}]}), 404, "image")
            check_problem(await ada.call("POST", f"{path}/images", b"{}"), 415, "multipart")
            check_problem(await ada.call("POST", f"{path}/images", multipart(), headers=MULTIPART), 422, "images")
            assert (await ada.get(dream["id"]))["images"][0]["status"] == "completed"


def strangers_calls(path: str, image: str) -> Iterator[tuple[str, str]]:
    yield "GET", path
    yield "PATCH", path
    yield "DELETE", path
    yield "POST", f"{path}/images"
    yield "DELETE", image
    yield "POST", f"{image}/retry"
    yield "GET", f"{image}/original"


def body_for(method: str) -> bytes | None:
    return {"PATCH": b"{}", "POST": multipart(photos.small_jpeg(2))}.get(method)


@pytest.mark.gen_test
async def test_rates_are_kept(data: Path, mongodb_uri: str) -> None:
    """Above the account's image rate, the server answers 429 with the seconds to wait, and keeps nothing."""
    async with Server(data, **settings(data, mongodb_uri), limits__images=3) as server, Api(server.url) as api:
        await api.sign_up()
        first = await api.dream(photos.small_jpeg(1), photos.small_jpeg(2))
        response = await api.call(
            "POST", "/api/dreams", multipart(photos.small_jpeg(3), photos.small_jpeg(4)), headers=MULTIPART
        )
        assert response.code == 429
        assert 0 < int(response.headers["Retry-After"]) <= 3600
        await api.finished(first["id"])
        assert len((await api.json("GET", "/api/dreams"))["items"]) == 1


@pytest.mark.gen_test
async def test_an_id_cannot_forge_a_line_of_the_log(data: Path, mongodb_uri: str) -> None:
    """A line break and an escape sequence in it are printed as such."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        forged = "2026-11-28 16:00:00,000 ERROR dreamlog.http forged"
        for path in ("/api/dreams/x%0A{}%1B%5B31m", "/api/dreams/x%0A{}/events", "/api/dreams/x%0A{}/images/1/retry"):
            await api.call("GET", path.format(forged.replace(" ", "%20")))
        await api.call("GET", "/api/me")
        await until(lambda: "GET /api/me 200" in server.output, "the last request is logged")
        assert "forged" in server.output
        assert not [line for line in server.lines if line.startswith("2026-11-28 16:00:00,000") or "\x1b" in line]
