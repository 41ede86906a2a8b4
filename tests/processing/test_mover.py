"""Moving the files of images to another storage, on a fake database and fake storages.

That it works next to a running server and survives kills is tested in tests/journeys/test_commands.py.
"""

import asyncio
import fcntl
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from processing.mover import AT_ONCE, Mover, exclusive_lock
from storage.data_folder import CannotStart
from storage.errors import Unavailable
from storage.model import Image
from tests.processing.fakes import Files, References, put_files_of, stored_image

AWAY = Unavailable("It does not answer.")


class Bench:
    """A mover to OSS with everything it works with."""

    def __init__(self, folder: Path) -> None:
        self.references, self.files = References(), Files()
        self.folder = folder
        references: Any = self.references
        files: Any = self.files
        self.mover = Mover(references=references, files=files, to="oss", folder=folder)
        self.done = 0

    def add(self, folder: str, **fields: Any) -> Image:
        """An image with its files, which one dream uses."""
        image = stored_image(folder, **fields)
        self.references.sets.append(("ada", image))
        self.references.shared.add(folder)
        put_files_of(self.files, image)
        return image

    async def move(self) -> None:
        def done() -> None:
            self.done += 1

        await self.mover.move(await self.mover.waiting(), done)

    def there(self) -> dict[str, bytes]:
        return {key: content for key, content in self.files.contents.items() if key.startswith("oss/")}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.gen_test
async def test_files_are_copied_named_and_left_where_they_were(bench: Bench) -> None:
    """The old ones stay for as long as URLs of them may be in use; the janitor removes them then."""
    image = bench.add("a")
    before = dict(bench.files.contents)
    await bench.move()
    (folder, until) = bench.references.relocated["a"]
    assert folder.startswith("oss/")
    moved = image.in_folder(folder)
    assert bench.there() == {new: before[old] for old, new in zip(image.keys, moved.keys, strict=True)}
    assert {key: bench.files.types[key] for key in moved.keys} == dict.fromkeys(moved.keys, "image/jpeg")
    assert before.items() <= bench.files.contents.items()
    assert bench.files.calls.count("put") == 3, "variants of the same size are one file"
    days = (until - datetime.now(UTC)) / timedelta(days=1)
    assert days == pytest.approx(2, abs=0.01)
    assert (bench.mover.images, bench.mover.problems, bench.done) == (1, [], 1)
    assert list(bench.folder.iterdir()) == [], "no copy is left on disk"


@pytest.mark.gen_test
async def test_what_is_there_already_is_not_moved(bench: Bench) -> None:
    """In either direction."""
    bench.add("a")
    bench.add("oss/b")
    assert [image.folder for _, image in await bench.mover.waiting()] == ["a"]
    files: Any = bench.files
    references: Any = bench.references
    back = Mover(references=references, files=files, to="local", folder=bench.folder)
    assert [image.folder for _, image in await back.waiting()] == ["oss/b"]


@pytest.mark.gen_test
async def test_an_image_without_its_original_is_moved_too(bench: Bench) -> None:
    """Where originals are not kept, there is one file less."""
    bench.add("a", original=None)
    await bench.move()
    assert len(bench.there()) == 2


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ({"a/2048.jpg": b"20"}, "2048.jpg is not what was stored (2 of 4 bytes)."),
        ({"a/original-x.jpg": b"an uqload"}, "original-x.jpg is not what was stored (9 of 9 bytes)."),
        ({"a/320.jpg": None}, "There is no such file."),
    ],
)
@pytest.mark.gen_test
async def test_damaged_files_stay_where_they_are(bench: Bench, damage: dict[str, bytes | None], problem: str) -> None:
    """The command names them, no copy is left of the image's other files, and other images are moved."""
    bench.add("a")
    bench.add("b")
    for key, content in damage.items():
        bench.files.contents.pop(key)
        if content is not None:
            bench.files.contents[key] = content
    await bench.move()
    assert bench.mover.problems == [f"a: {problem}"]
    assert list(bench.references.relocated) == ["b"]
    assert len(bench.there()) == 3
    assert (bench.mover.images, bench.done) == (1, 2)
    assert list(bench.folder.iterdir()) == []


@pytest.mark.gen_test
async def test_a_copy_is_read_back_and_compared(bench: Bench) -> None:
    """A storage that gives something else than it took gets no dream."""
    bench.add("a")
    put = bench.files.put

    async def damaging(key: str, path: Path, content_type: str) -> None:
        await put(key, path, content_type)
        bench.files.contents[key] = bench.files.contents[key][::-1]

    bench.files.put = damaging  # type: ignore[method-assign]
    await bench.move()
    [problem] = bench.mover.problems
    assert "The new storage returns something else than " in problem
    assert bench.references.relocated == {}
    assert bench.there() == {}


@pytest.mark.gen_test
async def test_an_image_deleted_meanwhile_is_no_problem(bench: Bench) -> None:
    """Neither when its files are gone before they are copied, nor when nobody names them afterwards."""
    bench.add("a")
    bench.add("b")
    bench.references.shared.clear()
    for key in [key for key in bench.files.contents if key.startswith("a/")]:
        del bench.files.contents[key]
    await bench.move()
    assert (bench.mover.problems, bench.mover.images, bench.done) == ([], 0, 2)
    assert bench.there() == {}, "no copy is left"


@pytest.mark.parametrize("method", ["open", "put"])
@pytest.mark.gen_test
async def test_a_storage_that_is_away_ends_the_move(bench: Bench, method: str) -> None:
    """The copies are removed, and the next call goes on."""
    bench.add("a")
    bench.files.errors[method] = [AWAY]
    with pytest.raises(Unavailable):
        await bench.move()
    assert (bench.there(), bench.mover.images, bench.references.relocated) == ({}, 0, {})
    await bench.move()
    assert bench.mover.images == 1


@pytest.mark.gen_test
async def test_copies_that_cannot_be_removed_are_left_as_orphans(bench: Bench) -> None:
    """The first error is the one to show."""
    bench.add("a")
    bench.files.errors["delete"] = [Unavailable("Not this one.")]
    bench.files.contents["a/2048.jpg"] = b"cut"
    await bench.move()
    assert "2048.jpg is not what was stored" in bench.mover.problems[0]
    assert len(bench.there()) == 1


@pytest.mark.gen_test
async def test_a_naming_without_an_answer_keeps_the_copies(bench: Bench) -> None:
    """The dream may name them by now."""
    bench.add("a")
    bench.references.errors["relocate"] = [AWAY]
    with pytest.raises(Unavailable):
        await bench.move()
    assert len(bench.there()) == 3


@pytest.mark.gen_test
async def test_several_images_are_moved_at_once(bench: Bench) -> None:
    """Each once, and no more at a time than a home connection and a disk can use."""
    for number in range(10):
        bench.add(f"folder {number}")
    bench.files.seconds["put"] = 0.01
    await bench.move()
    assert bench.files.most_putting == AT_ONCE
    assert (bench.mover.images, bench.done) == (10, 10)
    assert bench.references.calls.count("relocate") == 10


@pytest.mark.gen_test
async def test_a_move_that_is_stopped_removes_its_copies(bench: Bench) -> None:
    """As Ctrl-C does."""
    bench.add("a")
    bench.files.seconds["put"] = 60.0
    move = asyncio.create_task(bench.move())
    while not bench.files.putting:
        await asyncio.sleep(0)
    bench.files.contents["oss/folder1/320.jpg"] = b"put by now"
    move.cancel()
    with pytest.raises(asyncio.CancelledError):
        await move
    assert bench.there() == {}
    assert list(bench.folder.iterdir()) == []


def test_the_folder_of_copies_has_one_owner_at_a_time(tmp_path: Path) -> None:
    """A second move, or a removal of orphans, is refused; what a killed one left is removed, and so is the folder."""
    folder = tmp_path / "moving"
    folder.mkdir()
    (folder / "left by a kill").write_text("half a copy")
    with exclusive_lock(folder) as held:
        assert held == folder
        assert list(folder.iterdir()) == []
        with pytest.raises(CannotStart, match="already"):
            with exclusive_lock(folder):
                pass
        assert folder.exists(), "the refused one leaves the other's folder alone"
    assert not folder.exists()
    with exclusive_lock(folder):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_an_error_gives_the_lock_back(tmp_path: Path) -> None:
    """Its copies stay for the next one to remove."""
    folder = tmp_path / "moving"
    with pytest.raises(ValueError):
        with exclusive_lock(folder):
            (folder / "a copy").write_text("half")
            raise ValueError
    with exclusive_lock(folder):
        assert list(folder.iterdir()) == []


def test_a_folder_that_its_holder_has_just_removed_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that opened the folder before the holder removed it tries again with a new folder."""
    folder = tmp_path / "moving"
    holder = ExitStack()
    holder.enter_context(exclusive_lock(folder))
    flock = fcntl.flock

    def released_before(lock: int, operation: int) -> None:
        holder.close()
        flock(lock, operation)

    monkeypatch.setattr(fcntl, "flock", released_before)
    with exclusive_lock(folder) as held:
        assert list(held.iterdir()) == []
        with pytest.raises(CannotStart, match="already"), exclusive_lock(folder):
            pass
