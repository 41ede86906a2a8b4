"""Pictures at signed URLs, with caching and ranges, and originals for their owners."""

import re
from pathlib import Path

import pytest

from tests import photos
from tests.client import Api, Server, settings


@pytest.mark.gen_test
async def test_a_picture_is_served_as_browsers_want_it(data: Path, mongodb_uri: str) -> None:
    """A picture has its type, an ETag, caching and ranges, and headers that stop browsers from running it."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.finished((await api.dream(photos.small_jpeg(1)))["id"])
        url = dream["images"][0]["url"]
        assert url.startswith(f"{server.url}/media/")
        whole = await api.call("GET", url, signed_in=False)
        assert whole.headers["Content-Type"] == "image/jpeg"
        assert "immutable" in whole.headers["Cache-Control"]
        assert whole.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in whole.headers["Content-Security-Policy"]
        assert whole.headers["Content-Disposition"] == "inline"
        etag = whole.headers["ETag"]
        unchanged = await api.call("GET", url, signed_in=False, headers={"If-None-Match": etag})
        assert (unchanged.code, unchanged.body) == (304, b"")
        head = await api.call("HEAD", url, signed_in=False)
        assert (head.code, head.body, head.headers["Content-Length"]) == (200, b"", str(len(whole.body)))
        size = len(whole.body)
        for wanted, status, part in [
            ("bytes=0-9", 206, whole.body[:10]),
            ("bytes=10-", 206, whole.body[10:]),
            ("bytes=-7", 206, whole.body[-7:]),
            (f"bytes=5-{size * 2}", 206, whole.body[5:]),
            (f"bytes={size}-", 416, None),
            ("bytes=9-5", 200, whole.body),
            ("bytes=0-1,5-6", 200, whole.body),
            ("bytes=-", 200, whole.body),
        ]:
            answer = await api.call("GET", url, signed_in=False, headers={"Range": wanted})
            assert answer.code == status, wanted
            if part is not None:
                assert answer.body == part, wanted
        assert (await api.get(dream["id"]))["images"][0]["url"] == url, "the URL stays the same, for caches"


@pytest.mark.gen_test
async def test_an_altered_address_gets_nothing(data: Path, mongodb_uri: str) -> None:
    """An unsigned, altered or invented URL gets 403 or 404, and never a file from another folder."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.finished((await api.dream(photos.small_jpeg(1)))["id"])
        url = dream["images"][0]["url"]
        ends = re.search(r"e=(\d+)", url)
        assert ends is not None
        for altered in (
            url.partition("?")[0],
            url.replace(ends[1], str(int(ends[1]) + 86400)),
            url[:-1] + ("A" if url[-1] != "A" else "B"),
            url.replace("2048.", "320."),
            url.replace("/media/", "/media/../media/"),
            url.replace("/media/", "/media/%2e%2e/secret/"),
            url.replace("/media/", "/media//etc/passwd?"),
        ):
            if altered != url:
                assert (await api.call("GET", altered, signed_in=False)).code in (403, 404), altered
        original = re.sub(r"/[^/]+\?", "/original.jpg?", url)
        assert (await api.call("GET", original, signed_in=False)).code == 403


@pytest.mark.gen_test
async def test_the_original_is_untouched_and_private(data: Path, mongodb_uri: str) -> None:
    """The owner gets the exact bytes of the upload; without keep_originals, the answer is that there is no original."""
    photo = photos.phone_jpeg()
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.finished((await api.dream(photo))["id"])
        response = await api.call("GET", f"/api/dreams/{dream['id']}/images/1/original")
        assert response.body == photo
        assert response.headers["Content-Type"] == "image/jpeg"
        assert response.headers["Content-Disposition"].startswith("attachment")
    async with Server(data, **settings(data, mongodb_uri, images__keep_originals="false")) as server:
        api.url = server.url
        async with Api(server.url) as other:
            other.access = api.access
            dream = await other.finished((await other.dream(photos.small_jpeg(5)))["id"])
            await other.json("GET", f"/api/dreams/{dream['id']}/images/1/original", status=404)


@pytest.mark.gen_test
async def test_addresses_begin_with_the_host_that_the_client_used(data: Path, mongodb_uri: str) -> None:
    """The URLs of pictures have the host that the client used, unless public_url sets another one."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.finished((await api.dream(photos.small_jpeg(1)))["id"])
        other = server.url.replace("127.0.0.1", "localhost")
        shown = await api.json("GET", f"{other}/api/dreams/{dream['id']}")
        assert shown["images"][0]["url"].startswith(f"{other}/media/")
    public = settings(data, mongodb_uri, server__public_url="https://dreams.example.org")
    async with Server(data, **public) as server, Api(server.url) as other_api:
        other_api.access = api.access
        shown = await other_api.get(dream["id"])
        assert shown["images"][0]["url"].startswith("https://dreams.example.org/media/")
