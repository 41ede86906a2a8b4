"""The contract of a store of files: one suite for each store, and tests of all stores as one."""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from tornado.ioloop import IOLoop

import config
from config import Config
from storage.data_folder import DataFolder
from storage.errors import NotFound, Unavailable
from storage.files import CHUNK, Files, StoredFiles
from storage.local import LocalFiles
from storage.oss import OssFiles
from storage.resources import open_files
from tests.oss_server import OssServer
from tests.storage.conftest import KEY, SECRET, a_file, content, read


class FilesSuite:
    """The contract of every store. A subclass provides the fixture `files`."""

    KEYS: ClassVar = ["a", "a.jpg", "0123/320.webp", "0123-a_b/original.heic", "a/b/c/d.avif", "a/b.part"]

    @pytest.mark.gen_test
    async def test_what_was_put_is_read(self, files: Files, picture: Path) -> None:
        """A read returns the bytes under each form of key."""
        for key in self.KEYS[1:]:
            await files.put(key, picture, "image/jpeg")
            assert await content(files, key) == b"a picture"

    @pytest.mark.gen_test
    @pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
    async def test_a_file_comes_in_pieces(self, files: Files, tmp_path: Path, size: int) -> None:
        """Chunks are neither empty nor larger than 1 MiB; an empty file has none."""
        data = os.urandom(size)
        await files.put(KEY, a_file(tmp_path / "data", data), "image/jpeg")
        pieces = [piece async for piece in files.open(KEY)]
        assert b"".join(pieces) == data
        assert all(0 < len(piece) <= 1 << 20 for piece in pieces)

    @pytest.mark.gen_test
    async def test_the_source_may_go_afterwards(self, files: Files, picture: Path) -> None:
        """`put` leaves the source unchanged, and does not need it afterwards."""
        await files.put(KEY, picture, "image/jpeg")
        assert read(picture) == b"a picture"
        os.unlink(picture)
        assert await content(files, KEY) == b"a picture"

    @pytest.mark.gen_test
    async def test_putting_again_replaces(self, files: Files, picture: Path, tmp_path: Path) -> None:
        """A second `put` of a key replaces the file, also with the same content."""
        for _ in range(2):
            await files.put(KEY, picture, "image/jpeg")
            assert await content(files, KEY) == b"a picture"
        await files.put(KEY, a_file(tmp_path / "other", b"another"), "image/jpeg")
        assert await content(files, KEY) == b"another"

    @pytest.mark.gen_test
    async def test_replacing_is_one_step(self, files: Files, tmp_path: Path) -> None:
        """A simultaneous read returns either the old or the new file, complete."""
        versions = [a_file(tmp_path / str(number), bytes([number]) * 300_000) for number in range(4)]
        whole = {hashlib.sha256(version.read_bytes()).digest() for version in versions}
        await files.put(KEY, versions[0], "image/jpeg")
        seen: set[bytes] = set()

        async def put() -> None:
            for number in range(40):
                await files.put(KEY, versions[number % 4], "image/jpeg")

        async def look(putting: "asyncio.Task[None]") -> None:
            while not putting.done():
                seen.add(hashlib.sha256(await content(files, KEY)).digest())

        putting = asyncio.create_task(put())
        await asyncio.gather(putting, *(look(putting) for _ in range(3)))
        assert seen
        assert seen <= whole

    @pytest.mark.gen_test
    async def test_puts_at_once_all_arrive(self, files: Files, tmp_path: Path) -> None:
        """Simultaneous puts succeed, for the files of one image and for one key."""
        keys = [f"f{number // 4}/{number}.jpg" for number in range(20)]
        sources = [a_file(tmp_path / str(number), bytes([number])) for number in range(20)]
        await asyncio.gather(*(files.put(key, path, "image/jpeg") for key, path in zip(keys, sources, strict=True)))
        assert [await content(files, key) for key in keys] == [bytes([number]) for number in range(20)]
        await asyncio.gather(*(files.put(KEY, path, "image/jpeg") for path in sources))
        assert len(await content(files, KEY)) == 1

    @pytest.mark.gen_test
    async def test_an_unknown_key_is_not_found(self, files: Files, picture: Path) -> None:
        """A prefix of a known key has no file, and a longer key has none."""
        await files.put(KEY, picture, "image/jpeg")
        for key in ("nothing.jpg", "no/thing.jpg", KEY.partition("/")[0], "a" * 3000, KEY.removesuffix(".jpg")):
            with pytest.raises(NotFound, match="no such file"):
                await content(files, key)

    @pytest.mark.gen_test
    async def test_deleted_files_are_gone(self, files: Files, picture: Path) -> None:
        """`delete` removes the named files and no others; an empty list is allowed."""
        for key in ("f/1.jpg", "f/2.jpg", "f/3.jpg", "g/1.jpg"):
            await files.put(key, picture, "image/jpeg")
        await files.delete([])
        await files.delete(iter(["f/1.jpg", "g/1.jpg", "f/2.jpg"]))
        assert await content(files, "f/3.jpg") == b"a picture"
        for key in ("f/1.jpg", "f/2.jpg", "g/1.jpg"):
            with pytest.raises(NotFound):
                await content(files, key)

    @pytest.mark.gen_test
    async def test_what_is_not_there_is_as_good_as_deleted(self, files: Files, picture: Path) -> None:
        """A janitor that repeats its work after a crash may name missing files; `delete` removes the others."""
        await files.put(KEY, picture, "image/jpeg")
        await files.delete(["nothing.jpg", "no/thing.jpg", "a" * 300, KEY.partition("/")[0], KEY])
        with pytest.raises(NotFound):
            await content(files, KEY)
        await asyncio.gather(*(files.delete([KEY]) for _ in range(5)))

    @pytest.mark.gen_test
    async def test_a_deleted_key_can_be_put_again(self, files: Files, picture: Path) -> None:
        """A deleted key behaves like a new one."""
        for _ in range(2):
            await files.put(KEY, picture, "image/jpeg")
            await files.delete([KEY])
        await files.put(KEY, picture, "image/jpeg")
        assert await content(files, KEY) == b"a picture"

    @pytest.mark.gen_test
    async def test_a_missing_source_is_an_error(self, files: Files, tmp_path: Path) -> None:
        """A `put` without a source fails and stores nothing."""
        with pytest.raises(Unavailable):
            await files.put(KEY, tmp_path / "nothing", "image/jpeg")
        with pytest.raises(NotFound):
            await content(files, KEY)

    @pytest.mark.gen_test
    async def test_a_storage_that_works_passes_its_check(self, files: Files) -> None:
        """Simultaneous checks succeed."""
        await files.check()
        await asyncio.gather(*(files.check() for _ in range(10)))

    def test_an_address_names_its_key(self, files: Files) -> None:
        """The URL contains the key, and is the same at each call on one day."""
        assert KEY in files.url(KEY)
        assert files.url(KEY) == files.url(KEY)
        assert files.url(KEY) != files.url("other/2048.jpg")

    @pytest.mark.gen_test
    async def test_everything_is_listed(self, files: Files, picture: Path) -> None:
        """`scan` returns each key once, with the time of its `put`."""
        keys = [f"{number % 7:x}/{number}.jpg" for number in range(25)]
        before = picture.stat().st_mtime - 2
        for key in keys:
            await files.put(key, picture, "image/jpeg")
        await files.check()
        found = [each async for each in files.scan()]
        assert sorted(key for key, _ in found) == sorted(keys)
        assert all(before <= at <= before + 600 for _, at in found)
        await files.delete(keys)
        assert [each async for each in files.scan()] == []


class TestLocalFiles(FilesSuite):
    """The contract for the local disk."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> LocalFiles:
        return LocalFiles(tmp_path / "media", secret=SECRET)


def configured(tmp_path: Path, **settings: object) -> Config:
    file = tmp_path / "config.yaml"
    file.write_text("")
    return config.load(file, {}, **settings)


class TestOssFiles(FilesSuite):
    """The contract for OSS, with both signature versions."""

    @pytest.fixture(params=["v4", "v1"])
    def files(self, request: pytest.FixtureRequest, tmp_path: Path, io_loop: IOLoop) -> Iterator[OssFiles]:
        with OssServer() as oss:
            settings = configured(tmp_path, **oss.settings(signature=request.param, part_size=200_000))
            files = OssFiles(settings.storage)
            io_loop.run_sync(files.__aenter__)
            yield files
            io_loop.run_sync(files.__aexit__)
            assert oss.names() <= set(oss.objects), "no multipart upload is left"


# ---- all stores as one


def test_without_oss_nothing_of_it_is_loaded(tmp_path: Path, io_loop: IOLoop) -> None:
    """Without OSS settings, keys have no prefix, and URLs have no other origin."""

    async def look() -> None:
        settings = configured(tmp_path)
        with DataFolder(settings) as data_folder:
            async with open_files(settings, data_folder) as files:
                assert list(files.stores) == ["local"]
                assert "/" not in files.new_folder()
                assert files.new_folder() != files.new_folder()
                assert files.origins == ()

    io_loop.run_sync(look)


@pytest.mark.gen_test
async def test_a_key_names_the_storage_of_its_file(tmp_path: Path, picture: Path) -> None:
    """`put` uses the store in the key; reads, lists and deletes work for both stores under either backend."""
    with OssServer() as oss, DataFolder(configured(tmp_path)) as data_folder:
        for backend in ("oss", "local"):
            settings = configured(tmp_path, **oss.settings(backend=backend))
            async with open_files(settings, data_folder) as files:
                assert files.origins == (oss.endpoint,)
                assert files.store_of(files.new_folder() + "/1.jpg") == backend
                keys = [f"{files.new_folder(store)}/1.jpg" for store in ("local", "oss")]
                for key in keys:
                    await files.put(key, picture, "image/jpeg")
                    assert await content(files, key) == b"a picture"
                assert [files.url(key).startswith("/media/") for key in keys] == [True, False]
                assert oss.names() == {"dreamlog/" + keys[1].removeprefix("oss/")}
                assert sorted([key async for key, _ in files.scan()]) == sorted(keys)
                await files.check()
                await files.delete(keys)
                assert [key async for key, _ in files.scan()] == []


@pytest.mark.gen_test
async def test_a_server_that_stores_on_disk_does_not_wait_for_oss(tmp_path: Path) -> None:
    """`check` asks only the store of new files."""
    with OssServer() as oss:
        settings = configured(tmp_path, **oss.settings(backend="local"))
        with DataFolder(settings) as data_folder:
            async with open_files(settings, data_folder) as files:
                oss.faults.gone = True
                await files.check()


def test_the_protocol_is_kept(tmp_path: Path) -> None:
    """The type checker accepts the combined store as `Files`."""
    files: Files = StoredFiles({"local": LocalFiles(tmp_path, secret=SECRET)}, new="local", life=1)
    assert files.url(KEY)
