"""Files on OSS, over real sockets: requests, retries, errors and access."""

import asyncio
import base64
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import oss2
import pytest
from tornado.httpclient import HTTPRequest, HTTPResponse
from tornado.ioloop import IOLoop
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from storage import oss as module
from storage.errors import Error, NotFound, Refused, Unavailable
from storage.oss import OssFiles
from tests.client import until
from tests.oss_server import KEY_ID, SECRET, STALL, OssServer
from tests.oss_server import Refused as Answer
from tests.pace import seconds
from tests.storage.conftest import KEY, a_file, content
from tests.storage.test_files import configured

NAME = f"dreamlog/{KEY}"
Opened = Callable[..., OssFiles]


@pytest.fixture
def oss() -> Iterator[OssServer]:
    with OssServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between retries are a hundredth of the real ones."""
    monkeypatch.setattr(module, "PAUSES", [pause / 100 for pause in module.PAUSES])


@pytest.fixture
def opened(oss: OssServer, tmp_path: Path, io_loop: IOLoop) -> Iterator[Opened]:
    """A factory for stores with these settings; closes them afterwards."""
    made: list[OssFiles] = []

    def make(clock: Callable[[], float] = time.time, **settings: object) -> OssFiles:
        files = OssFiles(configured(tmp_path, **oss.settings(**settings)).storage, clock=clock)
        io_loop.run_sync(files.__aenter__)
        made.append(files)
        return files

    yield make
    for files in made:
        io_loop.run_sync(files.__aexit__)


async def fetched(url: str, **more: Any) -> HTTPResponse:
    """Status and body of a plain GET, as a browser sends it."""
    client = SimpleAsyncHTTPClient(force_instance=True)
    try:
        return await client.fetch(HTTPRequest(url, **more), raise_error=False)
    finally:
        client.close()


# ---- uploads


def test_an_object_is_stored_as_the_settings_say(
    oss: OssServer, opened: Opened, picture: Path, io_loop: IOLoop
) -> None:
    """An object has its type, caching, digest, storage class and encryption, and is private."""
    files = opened(storage_class="IA", encryption="KMS", prefix="a/b/")
    io_loop.run_sync(lambda: files.put(KEY, picture, "image/webp"))
    sent = oss.objects[f"a/b/{KEY}"].headers
    assert sent["content-type"] == "image/webp"
    assert sent["cache-control"] == "private, max-age=31536000, immutable"
    assert sent["content-md5"] == base64.b64encode(hashlib.md5(b"a picture").digest()).decode()
    assert sent["x-oss-object-acl"] == "private"
    assert sent["x-oss-storage-class"] == "IA"
    assert sent["x-oss-server-side-encryption"] == "KMS"


def test_a_large_file_goes_in_parts(oss: OssServer, opened: Opened, tmp_path: Path, io_loop: IOLoop) -> None:
    """A large file is a multipart upload with a digest for each part; reads return it in blocks."""
    data = os.urandom(9_000_000)
    files = opened(part_size=1_000_000)
    io_loop.run_sync(lambda: files.put(KEY, a_file(tmp_path / "large", data), "image/tiff"))
    assert oss.objects[NAME].content == data
    assert oss.objects[NAME].headers["content-type"] == "image/tiff"
    assert oss.objects[NAME].headers["x-oss-object-acl"] == "private"
    assert [method for method, _ in oss.requests].count("PUT") == 9
    assert io_loop.run_sync(lambda: content(files, KEY)) == data
    assert not oss.uploads


@pytest.mark.parametrize("lost", ["parts", "completion"])
def test_a_cut_upload_goes_on_where_it_was(
    oss: OssServer, opened: Opened, tmp_path: Path, io_loop: IOLoop, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry sends no stored part again, even after an outage longer than the retries of one put."""
    data = os.urandom(1_950_000)
    path = a_file(tmp_path / "large", data)
    files = opened(part_size=100 * 1024)
    act = oss.act

    def breaking(request: Any, body: bytes) -> Any:
        parts = sum(method == "PUT" for method, _ in oss.requests)
        completes = request.method == "POST" and "uploadId" in request.query
        if (lost == "parts" and parts >= 10) or (lost == "completion" and completes):
            oss.faults.gone = True
        return act(request, body)

    monkeypatch.setattr(oss, "act", breaking)

    async def journey() -> None:
        with pytest.raises(Unavailable):
            await files.put(KEY, path, "image/tiff")
        monkeypatch.setattr(oss, "act", act)
        before = len(oss.requests)
        oss.faults.gone = False
        await files.put(KEY, path, "image/tiff")
        if lost == "parts":
            assert len(oss.requests) - before <= 20 - 10 + 4 + 1, "at most the four parts in flight are sent twice"

    io_loop.run_sync(journey)
    assert oss.objects[NAME].content == data
    assert not oss.uploads


def test_an_upload_whose_first_answer_was_lost_leaves_nothing(
    oss: OssServer, opened: Opened, tmp_path: Path, io_loop: IOLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the answer with the upload id is lost, the store begins another upload and aborts the first."""
    data = os.urandom(500_000)
    files = opened(part_size=100 * 1024)
    begun: list[Any] = []
    act = oss.act

    def losing(request: Any, body: bytes) -> Any:
        answer = act(request, body)
        if "uploads" in request.query and request.method == "POST":
            begun.append(answer)
            if len(begun) == 1:
                raise ConnectionResetError
        return answer

    monkeypatch.setattr(oss, "act", losing)
    io_loop.run_sync(lambda: files.put(KEY, a_file(tmp_path / "large", data), "image/tiff"))
    assert len(begun) == 2
    assert oss.objects[NAME].content == data
    assert not oss.uploads


def test_another_file_under_the_key_begins_anew(
    oss: OssServer, opened: Opened, tmp_path: Path, io_loop: IOLoop
) -> None:
    """The store never combines parts of two files, and deleting a key deletes its parts."""
    files = opened(part_size=100 * 1024)
    first, second = (a_file(tmp_path / str(size), os.urandom(size)) for size in (500_000, 510_000))

    async def journey() -> None:
        with pytest.raises(Error):
            oss.keys["another"] = oss.keys.pop(KEY_ID)
            await files.put(KEY, first, "image/tiff")
        oss.keys[KEY_ID] = oss.keys.pop("another")
        answer = await files._try(lambda bucket: bucket.init_multipart_upload(NAME))
        files._unfinished[NAME] = module.Unfinished((500_000, first.stat().st_mtime_ns), answer.upload_id)
        await files.put(KEY, second, "image/tiff")
        assert oss.objects[NAME].content == second.read_bytes()
        assert [key async for key, _ in files.scan()] == [KEY], "the object, and no parts of the other file"
        await files._try(lambda bucket: bucket.init_multipart_upload(NAME))
        assert [key async for key, _ in files.scan()] == [KEY, KEY]
        await files.delete([KEY])
        assert oss.names() == set()

    io_loop.run_sync(journey)


# ---- retries


@pytest.mark.parametrize("fault", ["busy", "reset", "lost", "cut", "stall"])
def test_what_passes_is_tried_again(
    oss: OssServer, opened: Opened, picture: Path, tmp_path: Path, io_loop: IOLoop, fault: str
) -> None:
    """With 503s, resets, lost answers, and truncated or stalled bodies in every sixth request, all calls succeed."""
    files = opened(part_size=100 * 1024, read_timeout=STALL / 3 if fault == "stall" else 20)
    large = a_file(tmp_path / "large", os.urandom(450_000))
    setattr(oss.faults, fault, 0.16)

    async def journey() -> None:
        for number in range(10):
            await files.put(f"{number}/1.jpg", picture, "image/jpeg")
            await files.put(f"{number}/2.jpg", large, "image/jpeg")
            assert await content(files, f"{number}/1.jpg") == b"a picture"
            assert await content(files, f"{number}/2.jpg") == large.read_bytes()
        await files.delete([f"{number}/{each}.jpg" for number in range(10) for each in (1, 2)])
        assert [key async for key, _ in files.scan()] == []

    io_loop.run_sync(journey, timeout=seconds(60))
    assert oss.failed > 5
    assert all(len(digests) == 1 for digests in oss.writes.values())


def test_what_arrives_otherwise_is_sent_again(
    oss: OssServer, opened: Opened, picture: Path, io_loop: IOLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest reveals a byte that changed in transit; OSS stores nothing, and the store sends the file again."""
    files = opened()
    act, tries = oss.act, []

    def corrupting(request: Any, body: bytes) -> Any:
        tries.append(body)
        return act(request, b"b picture" if len(tries) == 1 else body)

    monkeypatch.setattr(oss, "act", corrupting)
    io_loop.run_sync(lambda: files.put(KEY, picture, "image/jpeg"))
    assert len(tries) == 2
    assert oss.writes[NAME] == {hashlib.md5(b"a picture").hexdigest().upper()}


def test_a_silent_storage_is_given_up(oss: OssServer, opened: Opened, picture: Path, io_loop: IOLoop) -> None:
    """Each request ends after read_timeout."""
    files = opened(read_timeout=0.05)
    oss.faults.delay = 0.5
    with pytest.raises(Unavailable, match="cannot be reached"):
        io_loop.run_sync(lambda: files.put(KEY, picture, "image/jpeg"))


# ---- errors that a retry cannot fix


def refusal(files: OssFiles, io_loop: IOLoop) -> str:
    with pytest.raises(Refused) as caught:
        io_loop.run_sync(files.check)
    for private in (KEY_ID, SECRET, "dreamlog/", "Signature="):
        assert private not in str(caught.value)
    return str(caught.value)


def test_each_refusal_is_named(oss: OssServer, opened: Opened, io_loop: IOLoop) -> None:
    """The error names the wrong setting, and the store does not retry."""
    assert "access_key_id" in refusal(opened(access_key_id="LTAIunknown"), io_loop)
    assert "access_key_secret" in refusal(opened(access_key_secret="wrong"), io_loop)
    assert "access_key_secret" in refusal(opened(access_key_secret="wrong", signature="v1"), io_loop)
    assert "storage.bucket" in refusal(opened(bucket="nobodys"), io_loop)
    assert "region" in refusal(opened(region="cn-beijing"), io_loop)
    assert oss.requests == []


@pytest.mark.parametrize(("seconds", "words"), [(7200, "120 minutes behind"), (-7200, "120 minutes ahead of")])
@pytest.mark.parametrize("signature", ["v4", "v1"])
def test_a_wrong_clock_is_named_as_such(
    oss: OssServer, opened: Opened, io_loop: IOLoop, seconds: float, words: str, signature: str
) -> None:
    """The error names the difference of the clocks."""
    oss.faults.clock = seconds
    found = refusal(opened(signature=signature), io_loop)
    assert found == f"The clock of this machine is {words} OSS's. Set it, preferably with NTP."


def test_other_answers_are_quoted(
    oss: OssServer, opened: Opened, io_loop: IOLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error quotes OSS: a bucket in another region, a policy that forbids access, an unpaid bill."""
    for answer, words in (
        (Answer(403, "AccessDenied", "no", Endpoint="oss-cn-beijing.aliyuncs.com"), "oss-cn-beijing.aliyuncs.com"),
        (
            Answer(403, "AccessDenied", "The bucket policy forbids it."),
            "OSS refuses the request: AccessDenied: The bucket policy",
        ),
        (Answer(403, "UserDisable"), "bill"),
    ):

        def refusing(*_: object, answer: Answer = answer) -> Any:
            raise answer

        monkeypatch.setattr(oss, "act", refusing)
        assert words in refusal(opened(), io_loop)


def test_a_storage_that_is_gone_is_unavailable_and_comes_back(
    oss: OssServer, opened: Opened, picture: Path, io_loop: IOLoop
) -> None:
    """During an outage, calls raise `Unavailable` and not `Refused`; later they succeed."""
    files = opened()
    oss.faults.gone = True
    for step in (files.check, lambda: files.put(KEY, picture, "image/jpeg"), lambda: files.delete([KEY])):
        with pytest.raises(Unavailable, match="cannot be reached") as caught:
            io_loop.run_sync(step)
        assert not isinstance(caught.value, Refused)
        assert str(oss.endpoint.rpartition(":")[2]) not in str(caught.value)
    oss.faults.gone = False
    io_loop.run_sync(files.check)
    assert oss.names() == set()


# ---- access


@pytest.mark.parametrize("signature", ["v4", "v1"])
def test_nothing_private_is_reachable(
    oss: OssServer, opened: Opened, picture: Path, io_loop: IOLoop, signature: str
) -> None:
    """A signed URL works; one that is unsigned, altered, expired or used to write gets 403."""
    now = [time.time()]
    files = opened(clock=lambda: now[0], signature=signature, address_life=600)

    async def journey() -> None:
        await files.put(KEY, picture, "image/jpeg")
        url = files.url(KEY)
        answer = await fetched(url)
        assert (answer.code, answer.body) == (200, b"a picture")
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert "immutable" in answer.headers["Cache-Control"]
        plain = url.partition("?")[0]
        assert plain == f"{oss.endpoint}/dreams/{NAME}"
        for altered in (plain, url.replace("2048", "320"), url[:-1] + ("0" if url[-1] != "0" else "1"), url + "1"):
            assert (await fetched(altered)).code == 403, altered
        assert (await fetched(url, method="PUT", body=b"x")).code == 403
        assert (await fetched(url, method="DELETE")).code == 403
        assert (await fetched(f"{oss.endpoint}/dreams/?list-type=2&max-keys=10&prefix=")).code == 403
        now[0] -= 1200
        assert (await fetched(files.url(KEY))).code == 403, "the URL has expired"
        assert oss.objects[NAME].content == b"a picture"

    io_loop.run_sync(journey)


def test_an_address_is_the_same_for_half_its_life(opened: Opened) -> None:
    """The URL stays the same for half its lifetime, so that browsers can cache the picture; then it changes."""
    now = [1_764_000_000.0]
    files = opened(clock=lambda: now[0], address_life=86_400)
    seen = set()
    for _ in range(24):
        seen.add(files.url(KEY))
        now[0] += 3600
    assert len(seen) in (2, 3)


@pytest.mark.parametrize("size", [9, 300_000])
def test_public_addresses_are_for_pictures_only(
    oss: OssServer, opened: Opened, tmp_path: Path, io_loop: IOLoop, size: int
) -> None:
    """Pictures are public and their URLs never expire; originals stay private, also multipart ones."""
    files = opened(addresses="public", part_size=102_400)
    path = a_file(tmp_path / "file", os.urandom(size))

    async def journey() -> None:
        for key in (KEY, "0123/original-4567.jpg"):
            await files.put(key, path, "image/jpeg")
        assert files.url(KEY) == f"{oss.endpoint}/dreams/{NAME}"
        answer = await fetched(files.url(KEY))
        assert (answer.code, answer.headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
        assert (await fetched(files.url("0123/original-4567.jpg"))).code == 403

    io_loop.run_sync(journey)


def test_addresses_begin_where_the_settings_say(opened: Opened, tmp_path: Path) -> None:
    """URLs have the host of the bucket or of a CDN, while the server may use an internal endpoint."""
    own = opened(endpoint="https://oss-cn-hangzhou.aliyuncs.com")
    assert own.origins == ("https://dreams.oss-cn-hangzhou.aliyuncs.com",)
    assert own.url(KEY).startswith(f"https://dreams.oss-cn-hangzhou.aliyuncs.com/{NAME}?x-oss-credential=")
    cdn = opened(endpoint="https://oss-cn-hangzhou-internal.aliyuncs.com", public_url="https://img.example.org")
    assert cdn.origins == ("https://img.example.org",)
    assert urlsplit(cdn.url(KEY))[:3] == ("https", "img.example.org", f"/{NAME}")
    domain = opened(endpoint="https://img.example.org", cname=True)
    assert urlsplit(domain.url(KEY))[:3] == ("https", "img.example.org", f"/{NAME}")
    for files in (own, domain):
        theirs = urlsplit(files._bucket().sign_url("GET", NAME, 600, slash_safe=True))
        assert theirs[:3] == urlsplit(files.url(KEY))[:3], (
            "oss2 chooses the host of requests, and URLs lead to the same place"
        )
    for bad in ("../x", "/etc/passwd", "a//b", "A.jpg", ""):
        with pytest.raises(NotFound):
            own.url(bad)


# ---- credentials


def test_credentials_come_from_the_environment(
    oss: OssServer, opened: Opened, io_loop: IOLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store reads the environment variables of Aliyun's own tools."""
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", SECRET)
    io_loop.run_sync(opened(credentials="environment", access_key_id="", access_key_secret="").check)
    monkeypatch.delenv("OSS_ACCESS_KEY_ID")
    with pytest.raises(Refused, match=r"storage\.credentials"):
        opened(credentials="environment")


def test_credentials_of_a_machines_role_are_renewed(
    opened: Opened, io_loop: IOLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """URLs have the current token of the role, and its renewal does not block the event loop."""
    tokens = iter(f"token-{number}" for number in range(10**9))

    class Role:
        def __init__(self, host: str) -> None:
            assert host.endswith("/dreams-role")

        def get_credentials(self) -> Any:
            assert threading.current_thread() is not threading.main_thread()
            return oss2.credentials.Credentials("STS.id", "secret", next(tokens))

    monkeypatch.setattr(oss2.credentials, "EcsRamRoleCredentialsProvider", Role)
    monkeypatch.setattr(module, "REFRESH", 0.001)
    files = opened(credentials="ecs_role", ecs_role="dreams-role")
    first = files.url(KEY)
    assert "x-oss-security-token=token-0" in first
    io_loop.run_sync(lambda: until(lambda: files.url(KEY) != first, "the store has renewed the token"))


# ---- threads and logs


def test_requests_are_bounded_and_never_on_the_loop(
    oss: OssServer, opened: Opened, picture: Path, io_loop: IOLoop
) -> None:
    """At most `connections` requests run at once, in threads, and the event loop continues."""
    files = opened(connections=3)
    oss.faults.delay = 0.05
    iterations = []

    async def journey() -> None:
        puts = asyncio.gather(*(files.put(f"{number}.jpg", picture, "image/jpeg") for number in range(12)))
        while not puts.done():
            iterations.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0.001)
        await puts

    io_loop.run_sync(journey)
    assert oss.busiest == 3
    assert len(iterations) > 5


def test_a_cancelled_put_has_ended_when_it_returns(
    oss: OssServer, opened: Opened, picture: Path, io_loop: IOLoop
) -> None:
    """A put that completed after its cancellation would leave an orphan."""
    files = opened()
    oss.faults.delay = 0.2

    async def journey() -> None:
        put = asyncio.create_task(files.put(KEY, picture, "image/jpeg"))
        await until(lambda: oss.busiest, "OSS is receiving the file")
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        assert oss.names() == {NAME}, "the request in flight completes before the cancellation does"

    io_loop.run_sync(journey)


def test_nothing_private_is_logged(
    oss: OssServer, opened: Opened, picture: Path, io_loop: IOLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has no keys, signatures or names, whatever error occurs."""
    caplog.set_level(logging.INFO)
    good, bad = opened(), opened(access_key_secret="wrong")
    oss.faults.busy = 0.5
    io_loop.run_sync(lambda: good.put(KEY, picture, "image/jpeg"))
    with pytest.raises(Error):
        io_loop.run_sync(lambda: bad.put(KEY, picture, "image/jpeg"))
    for private in (KEY_ID, SECRET, KEY, "OSS4-HMAC", "wrong"):
        assert private not in caplog.text
