"""Uploads on disk: during their arrival, once they are complete, and until the janitor removes them."""

import asyncio
import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest

from storage.errors import NoSpace, NotFound, Unavailable
from storage.files import CHUNK
from storage.staging import RESERVE, WRITE_SIZE, Part, Staging
from tests.storage.conftest import SmallDisk, mode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "staging"


@pytest.fixture
def staging(folder: Path) -> Staging:
    return Staging(folder)


async def written(part: Part, *chunks: bytes) -> Part:
    for chunk in chunks:
        await part.write(chunk)
    await part.finish(lambda file: None)
    return part


def aged(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def open_files() -> list[str]:
    return [os.readlink(descriptor) for descriptor in Path("/proc/self/fd").iterdir() if descriptor.exists()]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ---- one part


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "sizes",
    [
        (0,),
        (1,),
        (10, 20, 30),
        (WRITE_SIZE - 1, 1),
        (WRITE_SIZE - 1, 1, 1),
        (WRITE_SIZE, WRITE_SIZE),
        (3 * WRITE_SIZE + 5,),
        (1000,) * 1000,
    ],
)
async def test_a_part_holds_all_bytes_and_their_hash(staging: Staging, sizes: tuple[int, ...]) -> None:
    """The size of the chunks makes no difference."""
    chunks = [os.urandom(size) for size in sizes]
    part = await written(staging.part(), *chunks)
    data = b"".join(chunks)
    assert staging.path(part.name).read_bytes() == data
    assert (part.size, part.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.gen_test
async def test_a_part_without_bytes_is_an_empty_file(staging: Staging) -> None:
    """The callers decide whether an empty file is a picture."""
    part = await written(staging.part())
    assert staging.path(part.name).read_bytes() == b""
    assert part.sha256 == hashlib.sha256().hexdigest()


@pytest.mark.gen_test
async def test_a_chunk_may_be_used_again_by_its_sender(staging: Staging) -> None:
    """`write` copies the bytes before it returns."""
    part, chunk = staging.part(), bytearray(b"first")
    await part.write(bytes(chunk))
    chunk[:] = b"other"
    await part.finish(lambda file: None)
    assert staging.path(part.name).read_bytes() == b"first"


@pytest.mark.gen_test
async def test_an_upload_is_never_whole_in_memory(staging: Staging) -> None:
    """The bytes that are not yet on disk are never more than one write and one chunk."""
    part, size = staging.part(), 0
    for _ in range(100):
        await part.write(bytes(50_000))
        size += 50_000
        path = staging.path(part.name)
        assert size - (path.stat().st_size if path.exists() else 0) < WRITE_SIZE + 50_000
    await part.finish(lambda file: None)


@pytest.mark.gen_test
async def test_parts_are_private(staging: Staging, folder: Path) -> None:
    """Only the server's user can read originals, which may have GPS positions, and names cannot be guessed."""
    parts = [await written(staging.part(), b"x") for _ in range(20)]
    assert mode(folder) == 0o700
    assert {mode(staging.path(part.name)) for part in parts} == {0o600}
    assert len({part.name for part in parts}) == 20
    assert all(len(part.name) == 32 and set(part.name) <= set("0123456789abcdef") for part in parts)


@pytest.mark.gen_test
async def test_parts_at_once_do_not_mix(staging: Staging) -> None:
    """Each of several simultaneous parts holds its own bytes."""
    parts = [staging.part() for _ in range(8)]
    chunks = [bytes([number]) * 100_000 for number in range(8)]
    await asyncio.gather(*(written(part, *[chunk] * 5) for part, chunk in zip(parts, chunks, strict=True)))
    assert [staging.path(part.name).read_bytes() for part in parts] == [chunk * 5 for chunk in chunks]


@pytest.mark.gen_test
async def test_a_discarded_part_is_gone(staging: Staging, folder: Path) -> None:
    """`discard` works before the first byte, in the middle, at the end, and twice."""
    unwritten, half, whole = staging.part(), staging.part(), await written(staging.part(), b"x")
    await half.write(bytes(WRITE_SIZE + 1))
    assert names(folder) == {half.name, whole.name}
    for part in (unwritten, half, whole, half):
        part.discard()
    assert names(folder) == set()
    assert not any(str(folder) in opened for opened in open_files())


@pytest.mark.gen_test
async def test_a_finished_part_is_durable(staging: Staging, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`finish` syncs the file and its folder."""
    synced: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr("storage.staging.fsync", watched)
    monkeypatch.setattr(os, "fsync", watched)
    part = await written(staging.part(), b"x")
    assert synced == [str(staging.path(part.name)), str(folder)]


# ---- the folder


def test_a_folder_that_is_there_is_used(folder: Path) -> None:
    """The folder keeps what an earlier run left in it."""
    Staging(folder)
    (folder / "left").write_bytes(b"x")
    assert Staging(folder).path("left").read_bytes() == b"x"


def test_an_upload_is_removed_by_its_name(staging: Staging, folder: Path) -> None:
    """A file that no longer exists counts as removed."""
    (folder / "a").write_bytes(b"x")
    for _ in range(2):
        staging.remove("a")
    assert names(folder) == set()


@pytest.mark.gen_test
async def test_a_sweep_keeps_the_needed_and_the_young(staging: Staging, folder: Path) -> None:
    """The sweep returns the number of removed files."""
    for name, age in (("needed", 10_000), ("old", 10_000), ("older", 1e9), ("edge", 3600), ("young", 3500)):
        (folder / name).write_bytes(b"x")
        aged(folder / name, age)
    assert await staging.collect({"needed", "gone"}, older_than=3600) == 3
    assert names(folder) == {"needed", "young"}
    assert await staging.collect({"needed"}, older_than=3600) == 0


@pytest.mark.gen_test
async def test_the_sweep_of_a_start_keeps_only_the_needed(staging: Staging, folder: Path) -> None:
    """Even the newest files without a document belong to a run that was interrupted."""
    parts = [await written(staging.part(), b"x") for _ in range(3)]
    half = staging.part()
    await half.write(bytes(WRITE_SIZE))
    assert await staging.collect({parts[1].name}, older_than=0) == 3
    assert names(folder) == {parts[1].name}
    half.discard()


@pytest.mark.gen_test
async def test_a_sweep_is_not_disturbed_by_uploads(staging: Staging, folder: Path) -> None:
    """Files may appear and disappear during a sweep."""
    for _ in range(20):
        parts = [await written(staging.part(), b"x") for _ in range(20)]

        async def discard(parts: list[Part] = parts) -> None:
            for part in reversed(parts):
                await asyncio.to_thread(part.discard)

        await asyncio.gather(staging.collect(set(), older_than=0), staging.collect(set(), older_than=0), discard())
    assert names(folder) == set()


# ---- reading


@pytest.mark.gen_test
async def test_an_upload_is_read_in_pieces(staging: Staging) -> None:
    """The chunks together are the bytes that arrived."""
    data = os.urandom(CHUNK + 1)
    part = await written(staging.part(), data)
    assert [len(piece) async for piece in staging.read(part.name)] == [CHUNK, 1]
    assert b"".join([piece async for piece in staging.read(part.name)]) == data


@pytest.mark.gen_test
async def test_an_upload_that_is_lost_is_not_found(staging: Staging) -> None:
    """A missing file raises `NotFound`, not an `OSError`."""
    part = await written(staging.part(), b"x")
    staging.remove(part.name)
    with pytest.raises(NotFound, match=r"The uploaded file is no longer on the server\."):
        await anext(staging.read(part.name))


@pytest.mark.gen_test
async def test_an_upload_that_cannot_be_read_is_unavailable(staging: Staging, folder: Path) -> None:
    """The disk may answer later, so this is no `NotFound`."""
    (folder / "loop").symlink_to("loop")
    with pytest.raises(Unavailable, match="data folder cannot be used"):
        await anext(staging.read("loop"))


# ---- room


def test_an_upload_leaves_the_reserve_free(staging: Staging, folder: Path) -> None:
    """The reserve is for the database and the variants."""
    free = shutil.disk_usage(folder).free
    staging.check_room(0)
    staging.check_room(free - RESERVE - (1 << 26))  # other programs use this disk too
    for size in (free, free * 2, 1 << 61):
        with pytest.raises(NoSpace, match="no room left"):
            staging.check_room(size)


@pytest.mark.gen_test
async def test_a_disk_that_fills_up_raises_no_space(small_disk: SmallDisk) -> None:
    """After `NoSpace` at any byte, discarding the part frees its room again."""
    staging = Staging(small_disk.folder / "staging")
    large = staging.part()
    with pytest.raises(NoSpace, match="no room left"):
        await written(large, *[bytes(WRITE_SIZE)] * 5)
    large.discard()
    small = staging.part()
    await small.write(b"x" * 10)
    small_disk.fill()
    with pytest.raises(NoSpace, match="no room left"):
        await small.finish(lambda file: None)
    small.discard()
    small_disk.empty()
    assert names(small_disk.folder / "staging") == set()
    await written(staging.part(), bytes(WRITE_SIZE))
