"""What `check` finds of each part: on a real database, worker, disk and OSS server, each in order and broken."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import config
from config import Config
from processing import checks
from processing.checks import Finding, run_checks
from storage.data_folder import DataFolder
from storage.errors import NotFound
from storage.local import LocalFiles
from storage.mongod import Mongod
from storage.oss import OssFiles
from tests.client import settings as on_the_tests_mongod
from tests.oss_server import OssServer


def settings(data: Path, mongodb_uri: str, **more: Any) -> Config:
    return config.load(environ={}, data=str(data), **on_the_tests_mongod(data, mongodb_uri), **more)


async def found(settings: Config) -> dict[str, Finding]:
    with DataFolder(settings, allow_running=True) as data_folder:
        return {finding.part: finding async for finding in run_checks(settings, data_folder)}


async def storage(settings: Config, name: str) -> Finding:
    """What is found of that storage alone, because a worker takes its time to start."""
    with DataFolder(settings, allow_running=True) as data_folder:
        return await checks._finding(name, lambda: checks._storage(settings, data_folder, name))


@pytest.mark.gen_test
async def test_everything_is_in_order(data: Path, mongodb_uri: str) -> None:
    """One finding for each part, and no file is left on disk or in the bucket."""
    with OssServer() as oss:
        findings = await found(settings(data, mongodb_uri, **oss.settings()))
        assert list(findings) == ["database", "workers", "storage, local", "storage, oss"]
        assert all(finding.good for finding in findings.values()), findings
        assert "(at mongodb.uri), in 0." in findings["database"].detail
        assert "rendered an image as jpeg" in findings["workers"].detail
        assert "checked its URL; new images go to the other storage" in findings["storage, local"].detail
        assert "fetched it from its URL, in " in findings["storage, oss"].detail
        assert oss.names() == set()
    assert [path for path in (data / "media").rglob("*") if path.is_file()] == []


@pytest.mark.gen_test
async def test_a_storage_that_is_not_set_up_is_not_checked(
    data: Path, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a worker that cannot even make a black picture is a finding, not an error."""
    monkeypatch.setattr(checks, "_picture", lambda: b"no picture at all")
    findings = await found(settings(data, mongodb_uri))
    assert list(findings) == ["database", "workers", "storage, local"]
    assert (findings["workers"].good, findings["storage, local"].good) == (False, True)
    assert findings["workers"].detail.startswith("The renderer cannot make jpeg of an image")


@pytest.mark.gen_test
async def test_a_worker_that_does_not_start_is_a_finding(data: Path, mongodb_uri: str) -> None:
    """As where a process may have too little memory."""
    chosen = settings(data, mongodb_uri)
    finding = await checks._finding("workers", lambda: checks._workers(config.Images(worker_memory=1_000_000)))
    assert not finding.good
    assert finding.detail
    assert (await storage(chosen, "local")).good


@pytest.mark.gen_test
async def test_the_embedded_database_is_checked(data: Path) -> None:
    """Started for the check, or that of the running server."""
    chosen = config.load(environ={}, data=str(data))
    with DataFolder(chosen, stores=("local",)) as data_folder:
        assert "(embedded)" in await checks._database(chosen, data_folder)
        async with Mongod(data / "mongodb"):
            with DataFolder(chosen, allow_running=True) as other:
                assert "(embedded in the running server)" in await checks._database(chosen, other)


@pytest.mark.gen_test
async def test_a_storage_that_does_not_answer(data: Path, mongodb_uri: str) -> None:
    """The finding names the setting to look at."""
    with OssServer() as oss:
        oss.faults.gone = True
        finding = await storage(settings(data, mongodb_uri, **oss.settings()), "oss")
        assert (finding.good, "Check the network and the setting endpoint." in finding.detail) == (False, True)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"access_key_secret": "not-this"}, "storage.access_key_secret"),
        ({"bucket": "nobodys"}, "There is no bucket"),
        ({"public_url": "http://127.0.0.1:1"}, "127.0.0.1:1, the host of image URLs, does not answer: "),
    ],
)
@pytest.mark.gen_test
async def test_a_setting_that_is_wrong(data: Path, mongodb_uri: str, wrong: dict[str, Any], words: str) -> None:
    """Each is named in the finding, and the test picture is removed."""
    with OssServer() as oss:
        finding = await storage(settings(data, mongodb_uri, **oss.settings(**wrong)), "oss")
        assert (finding.good, words in finding.detail) == (False, True), finding
        assert oss.names() == set()


@pytest.mark.gen_test
async def test_a_host_that_does_not_know_the_picture(data: Path, mongodb_uri: str) -> None:
    """The endpoint is no host of the bucket's files."""
    with OssServer() as oss:
        chosen = settings(data, mongodb_uri, **oss.settings(public_url=oss.endpoint))
        finding = await storage(chosen, "oss")
        assert f"The URL of an image at {oss.endpoint.removeprefix('http://')} answers 4" in finding.detail


@pytest.mark.gen_test
async def test_a_bucket_that_everyone_can_read(data: Path, mongodb_uri: str) -> None:
    """URLs are signed, and work without their signature: that is a finding, unless they are to be public."""
    with OssServer() as oss:
        oss.faults.open = True
        finding = await storage(settings(data, mongodb_uri, **oss.settings()), "oss")
        assert (finding.good, "make the bucket private" in finding.detail) == (False, True)
        assert (await storage(settings(data, mongodb_uri, **oss.settings(addresses="public")), "oss")).good


@pytest.mark.gen_test
async def test_a_host_that_serves_something_else(data: Path, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a cache or another site at storage.public_url does."""
    monkeypatch.setattr(checks, "_get", lambda url: (200, b"<html>"))
    with OssServer() as oss:
        finding = await storage(settings(data, mongodb_uri, **oss.settings()), "oss")
        assert "answers with something else: see storage.public_url" in finding.detail


async def nothing(*_: Any) -> AsyncIterator[Any]:
    for _ in ():
        yield None


async def gone(*_: Any) -> AsyncIterator[bytes]:
    raise NotFound("There is no such file.")
    yield b""


async def accepts(*_: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("method", "broken", "words"),
    [
        ("open", nothing, "The storage returns other bytes than were stored."),
        ("open", gone, "There is no such file."),
        ("scan", nothing, "The storage lists no file, although one was stored."),
        ("delete", accepts, "A deleted file is still there."),
        ("allows", lambda *_: False, "A new URL is not valid: check the clock."),
    ],
)
@pytest.mark.gen_test
async def test_a_disk_that_returns_other_bytes_is_reported(
    data: Path, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch, method: str, broken: Any, words: str
) -> None:
    """What is stored is read, listed, served and deleted, and each is looked at."""
    monkeypatch.setattr(LocalFiles, method, broken)
    finding = await storage(settings(data, mongodb_uri), "local")
    assert (finding.good, finding.detail) == (False, words)


@pytest.mark.gen_test
async def test_a_failing_check_still_removes_its_picture(
    data: Path, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would find it there."""
    monkeypatch.setattr(OssFiles, "scan", nothing)
    with OssServer() as oss:
        finding = await storage(settings(data, mongodb_uri, **oss.settings()), "oss")
        assert not finding.good
        assert oss.names() == set()


@pytest.mark.gen_test
async def test_an_error_without_words_is_named() -> None:
    """A time-out has none."""

    async def late() -> str:
        async with asyncio.timeout(0):
            await asyncio.sleep(1)
        return ""

    assert await checks._finding("late", late) == Finding("late", False, "TimeoutError")
