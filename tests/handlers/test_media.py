"""Pictures at their signed URLs: ranges, caching, and refusals; with a real store."""

from pathlib import Path

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.ioloop import IOLoop
from tornado.web import Application, url

from handlers.media import MediaHandler, byte_range
from storage.errors import Unavailable
from storage.local import LocalFiles

CONTENT = bytes(range(256)) * 4
SIZE = len(CONTENT)
KEY = "u1/d1/1/2048.jpg"


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=10-", (10, 90)),
        ("bytes=0-", (0, 100)),
        ("bytes=99-", (99, 1)),
        ("bytes=5-5", (5, 1)),
        ("bytes=5-1000", (5, 95)),
        ("bytes=-7", (93, 7)),
        ("bytes=-100", (0, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=-0", (0, 0)),
        ("bytes=100-", (0, 0)),
        ("bytes=100-200", (0, 0)),
        ("bytes=9-5", None),
        ("bytes=200-100", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("bytes=a-b", None),
        ("bytes= 0-1", None),
        ("bytes=٣-٤", None),
        ("bytes=0-" + "9" * 5000, None),
        ("items=0-9", None),
        ("", None),
    ],
)
def test_a_range_is_read_as_rfc_9110_says(wanted: str, part: tuple[int, int] | None) -> None:
    """Of 100 bytes: what is there of it, nothing, or not a range at all."""
    assert byte_range(wanted, 100) == part


def test_nothing_of_an_empty_file_is_there() -> None:
    """Whatever the range."""
    assert byte_range("bytes=0-", 0) == (0, 0)
    assert byte_range("bytes=-5", 0) == (0, 0)


# ---- the handler


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path / "media", secret=b"s" * 32)


@pytest.fixture
def app(files: LocalFiles) -> Application:
    return Application([url("/media/(.+)", MediaHandler, {"files": files})], log_function=lambda handler: None)


@pytest.fixture
def picture(files: LocalFiles, tmp_path: Path, io_loop: IOLoop, base_url: str) -> str:
    """The URL of a picture."""
    path = tmp_path / "picture"
    path.write_bytes(CONTENT)
    io_loop.run_sync(lambda: files.put(KEY, path, "image/jpeg"))
    return base_url + files.url(KEY)


async def call(http_client: AsyncHTTPClient, url: str, method: str = "GET", **headers: str) -> HTTPResponse:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await http_client.fetch(url, method=method, headers=sent, raise_error=False, allow_nonstandard_methods=True)


@pytest.mark.gen_test
async def test_a_picture_is_cached_for_ever(http_client: AsyncHTTPClient, picture: str) -> None:
    """It never changes under its URL, and is nothing but a picture."""
    answer = await call(http_client, picture)
    assert (answer.code, answer.body) == (200, CONTENT)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    again = await call(http_client, picture, If_None_Match=answer.headers["ETag"])
    assert (again.code, again.body) == (304, b"")
    head = await call(http_client, picture, "HEAD")
    assert (head.code, head.headers["Content-Length"]) == (200, str(SIZE))


@pytest.mark.gen_test
async def test_a_part_is_served(http_client: AsyncHTTPClient, picture: str) -> None:
    """With its place in the whole; of another file than the client's, the whole is served."""
    answer = await call(http_client, picture, Range="bytes=10-19")
    assert (answer.code, answer.body) == (206, CONTENT[10:20])
    assert answer.headers["Content-Range"] == f"bytes 10-19/{SIZE}"
    etag = answer.headers["ETag"]
    assert (await call(http_client, picture, Range="bytes=0-9", If_Range=etag)).code == 206
    assert (await call(http_client, picture, Range="bytes=0-9", If_Range='"other"')).body == CONTENT
    assert (await call(http_client, picture, Range="bytes=0-")).code == 206
    assert (await call(http_client, picture, Range="bytes=9-5")).body == CONTENT


@pytest.mark.gen_test
async def test_a_part_that_is_not_there_is_refused(http_client: AsyncHTTPClient, picture: str) -> None:
    """With the size that there is."""
    answer = await call(http_client, picture, Range=f"bytes={SIZE}-")
    assert (answer.code, answer.headers["Content-Range"]) == (416, f"bytes */{SIZE}")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.body == b"The image does not have these bytes.\n"


@pytest.mark.gen_test
async def test_only_signed_pictures_are_served(
    http_client: AsyncHTTPClient, picture: str, files: LocalFiles, base_url: str
) -> None:
    """An altered URL is refused; what is no picture, or is gone, is not found."""
    altered = await call(http_client, picture + "x", Accept_Language="zh")
    assert (altered.code, altered.body.decode()) == (403, "这个网址已过期，或被改动过。\n")
    assert (await call(http_client, picture.partition("?")[0])).code == 403
    assert (await call(http_client, base_url + "/media/u1/d1/1/2048.html")).code == 404
    await files.delete([KEY])
    gone = await call(http_client, picture)
    assert (gone.code, gone.headers["Cache-Control"]) == (404, "no-store")


@pytest.mark.gen_test
async def test_a_disk_that_fails_is_not_a_missing_picture(
    http_client: AsyncHTTPClient, picture: str, files: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client may come back."""

    async def size(key: str) -> int:
        raise Unavailable("The disk fails.")

    monkeypatch.setattr(files, "size", size)
    answer = await call(http_client, picture)
    assert (answer.code, answer.body) == (503, b"Service Unavailable\n")
    assert (await call(http_client, picture, "HEAD")).code == 503


@pytest.mark.gen_test
async def test_the_headers_of_a_picture_are_those_of_the_picture(
    http_client: AsyncHTTPClient, picture: str, base_url: str
) -> None:
    """`HEAD` answers as `GET` does, whatever the answer is, but without a body."""
    etag = (await call(http_client, picture)).headers["ETag"]
    cases: list[tuple[int, str, dict[str, str]]] = [
        (200, picture, {}),
        (206, picture, {"Range": "bytes=10-19"}),
        (304, picture, {"If_None_Match": etag}),
        (403, picture + "x", {}),
        (404, base_url + "/media/u1/d1/1/2048.html", {}),
        (416, picture, {"Range": f"bytes={SIZE}-"}),
    ]
    for status, address, headers in cases:
        got, head = [await call(http_client, address, method, **headers) for method in ("GET", "HEAD")]
        assert (got.code, head.code, head.body) == (status, status, b"")
        assert {**got.headers, "Date": ""} == {**head.headers, "Date": ""}


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_a_picture_can_only_be_read(http_client: AsyncHTTPClient, picture: str, method: str) -> None:
    """Other methods learn which are allowed."""
    answer = await call(http_client, picture, method)
    assert (answer.code, answer.headers["Allow"]) == (405, "GET, HEAD")
