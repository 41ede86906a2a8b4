"""Files on local disk: their layout and their signed URLs. `test_files.py` tests what all stores promise."""

import errno
import os
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from storage.errors import NoSpace, NotFound, Unavailable
from storage.files import CHUNK
from storage.local import DAY, LocalFiles
from tests.storage.conftest import KEY, SECRET, SmallDisk, a_file, content, mode, read

NOON = 1_764_000_000 // DAY * DAY + DAY / 2


class Clock:
    now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def files(folder: Path, clock: Clock) -> LocalFiles:
    return LocalFiles(folder, secret=SECRET, clock=clock)


def everything(folder: Path) -> list[str]:
    """All paths below the folder, hidden ones included."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# ---- on disk


@pytest.mark.gen_test
async def test_no_other_files_are_left(files: LocalFiles, folder: Path, picture: Path) -> None:
    """After put, replace, check and delete, the folder has no temporary files."""
    for key in ("f/1.jpg", "f/1.jpg", "g/1.jpg"):
        await files.put(key, picture, "image/jpeg")
    await files.check()
    assert everything(folder) == ["f", "f/1.jpg", "g", "g/1.jpg"]
    await files.delete(["f/1.jpg", "g/1.jpg"])
    assert everything(folder) == []


@pytest.mark.gen_test
async def test_leftovers_of_a_crash_are_deleted_with_their_file(files: LocalFiles, folder: Path, picture: Path) -> None:
    """`delete` removes the temporary files of an interrupted write, too."""
    await files.put("f/1.jpg", picture, "image/jpeg")
    (folder / "f" / ".1.jpg.0123").write_bytes(b"a pic")
    (folder / "f" / ".2.jpg.0123").write_bytes(b"a pic")
    assert sorted([key async for key, _ in files.scan()]) == ["f/1.jpg", "f/1.jpg", "f/2.jpg"]
    await files.delete(["f/1.jpg"])
    assert everything(folder) == ["f", "f/.2.jpg.0123"]
    await files.delete(["f/2.jpg"])
    assert everything(folder) == []


@pytest.mark.gen_test
@pytest.mark.parametrize("act", ["scan", "delete"])
async def test_a_folder_that_goes_meanwhile_is_no_failure(
    files: LocalFiles, folder: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """Another call deletes the last picture of the folder just before this one reads the folder."""
    for key in ("f/1.jpg", "f/2.jpg", "g/1.jpg"):
        await files.put(key, picture, "image/jpeg")
    look = {name: getattr(os, name) for name in ("listdir", "scandir")}

    def late(name: str, path: str | Path) -> object:
        if Path(path) == folder / "f":
            for left in look["listdir"](path):
                (folder / "f" / left).unlink()
            (folder / "f").rmdir()
        return look[name](path)

    with monkeypatch.context() as patched:
        for name in look:
            patched.setattr(os, name, partial(late, name))
        if act == "scan":
            assert [key async for key, _ in files.scan()] == ["g/1.jpg"]
        else:
            await files.delete(["f/1.jpg"])
    assert everything(folder) == ["g", "g/1.jpg"]


@pytest.mark.gen_test
async def test_only_its_user_may_look_into_the_folder(files: LocalFiles, folder: Path, picture: Path) -> None:
    """The folder and its subfolders have mode 0700."""
    await files.put("f/1.jpg", picture, "image/jpeg")
    assert mode(folder) == mode(folder / "f") == 0o700


@pytest.mark.gen_test
@pytest.mark.parametrize("same_disk", [True, False])
async def test_a_file_is_durable_when_put_returns(
    files: LocalFiles, folder: Path, picture: Path, same_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`put` syncs the file before its name, then each folder with a new entry, even one that another call created."""
    events: list[tuple[str, str]] = []
    fsync, rename, link = os.fsync, os.rename, os.link

    def watched_fsync(descriptor: int) -> None:
        events.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def watched_rename(old: Path, new: Path) -> None:
        events.append(("rename", str(new)))
        rename(old, new)

    def watched_link(old: Path, new: Path) -> None:
        if not same_disk:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        events.append(("link", str(new)))
        link(old, new)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    monkeypatch.setattr(os, "link", watched_link)
    (folder / "f").mkdir()
    await files.put("f/g/1.jpg", picture, "image/jpeg")
    assert (folder / "f/g/1.jpg").read_bytes() == picture.read_bytes()
    assert events.pop(0) == ("fsync", str(picture))
    if not same_disk:
        kind, name = events.pop(0)
        assert kind == "fsync"
        assert Path(name).name.startswith(".1.jpg.")
    assert events == [
        ("link" if same_disk else "rename", str(folder / "f/g/1.jpg")),
        ("fsync", str(folder / "f/g")),
        ("fsync", str(folder / "f")),
        ("fsync", str(folder)),
    ]
    events.clear()
    await files.delete(["f/g/1.jpg"])
    assert events == [("fsync", str(folder / "f/g"))]


@pytest.mark.gen_test
async def test_a_part_of_a_file_is_read(files: LocalFiles, tmp_path: Path) -> None:
    """An offset past the end gives no bytes."""
    data = bytes(range(256)) * 3000
    await files.put(KEY, a_file(tmp_path / "data", data), "image/jpeg")
    for start, length in ((0, 10), (5, 1), (100, CHUNK), (100, CHUNK + 1), (100, None), (0, 0), (len(data), 5)):
        expected = data[start:] if length is None else data[start : start + length]
        assert b"".join([piece async for piece in files.read(KEY, start, length)]) == expected
    assert b"".join([piece async for piece in files.read(KEY, len(data) - 3, 99)]) == data[-3:]
    assert await files.size(KEY) == len(data)


@pytest.mark.gen_test
async def test_only_a_file_has_a_size(files: LocalFiles, picture: Path) -> None:
    """A missing path has no size, and a folder has none."""
    await files.put("f/1.jpg", picture, "image/jpeg")
    for key in ("f", "g", "f/2.jpg", "../picture", "a" * 300):
        with pytest.raises(NotFound):
            await files.size(key)


# ---- path tricks

TRICKS = [
    *("", ".", "..", "../picture", "../../etc/passwd", "f/../../picture", "f/..", "./f/1.jpg", "f/./1.jpg", "f//1.jpg"),
    *("/etc/passwd", "//etc/passwd", "/", "f/", "f/1.jpg/", "f/1.jpg/..", "f/1.jpg/x", "~/x", "~root"),
    *("%2e%2e/picture", "..%2fpicture", "%2fetc%2fpasswd", "f%00", "f/1.jpg\0", "\0", "f/1.jpg\0.png", "f/1.jpg\n"),
    *("..\\picture", "f\\1.jpg", "C:\\x", "f/1.JPG", "F/1.jpg", "f/１.jpg", "f／1.jpg", "é", "f/1.jpg ", " f/1.jpg"),
    *("f/.1.jpg.0123", ".check", "f/1.jpg.gz", "f/1..jpg", "f/1.", "-f", "_f", "f:1", "f*", "f?e=1", "f&s=", "\ud800"),
]


@pytest.mark.gen_test
async def test_path_tricks_find_nothing(files: LocalFiles, folder: Path, picture: Path) -> None:
    """No key reaches a file outside the folder or an unfinished one, for any method."""
    await files.put("f/1.jpg", picture, "image/jpeg")
    (folder / "f" / ".1.jpg.0123").write_bytes(b"a pic")
    for trick in TRICKS:
        with pytest.raises(NotFound, match="no such file"):
            await content(files, trick)
        with pytest.raises(NotFound, match="no such file"):
            await files.size(trick)
        with pytest.raises(NotFound, match="no such file"):
            await files.put(trick, picture, "image/jpeg")
        assert not files.allows(trick, "1764115200", "x" * 24)
    await files.delete(TRICKS)
    assert everything(folder) == ["f", "f/.1.jpg.0123", "f/1.jpg"]
    assert read(picture) == b"a picture"


def test_a_signature_for_a_trick_does_not_help(files: LocalFiles) -> None:
    """The store refuses such a key even with a valid signature."""
    for trick in ("../picture", "/etc/passwd", "f//1.jpg"):
        ends = str(int(NOON) + DAY)
        assert not files.allows(trick, ends, files._signature(trick, ends))


# ---- signed URLs


def parts(address: str) -> tuple[str, str, str]:
    """Key, expiry and signature."""
    split = urlsplit(address)
    query = {name: value for name, [value] in parse_qs(split.query).items()}
    assert set(query) == {"e", "s"}
    assert not split.scheme
    assert not split.netloc
    return split.path.removeprefix("/media/"), query["e"], query["s"]


def test_an_address_is_allowed(files: LocalFiles) -> None:
    """The store accepts a URL that it gave out."""
    assert files.allows(*parts(files.url(KEY)))


def test_an_address_is_the_same_all_day(files: LocalFiles, clock: Clock) -> None:
    """The URL stays the same for a day, so that browsers can cache the picture; then it changes."""
    clock.now = NOON - DAY / 2
    first = files.url(KEY)
    clock.now = NOON + DAY / 2 - 0.001
    assert files.url(KEY) == first
    clock.now = NOON + DAY / 2
    assert files.url(KEY) != first


@pytest.mark.parametrize("moment", [0.0, 1.0, DAY / 3, DAY - 0.001])
def test_an_address_ends_after_one_to_two_days(files: LocalFiles, clock: Clock, moment: float) -> None:
    """A URL lasts between one and two days, whenever the store gave it out."""
    midnight = NOON - DAY / 2
    clock.now = given = midnight + moment
    address = parts(files.url(KEY))
    clock.now = given + DAY
    assert files.allows(*address)
    clock.now = midnight + 2 * DAY - 0.001
    assert files.allows(*address)
    clock.now = midnight + 2 * DAY
    assert not files.allows(*address)
    assert DAY <= clock.now - given <= 2 * DAY


def test_an_altered_address_is_refused(files: LocalFiles) -> None:
    """The store refuses a URL with another key, a later expiry or another signature."""
    key, ends, signature = parts(files.url(KEY))
    later = str(int(ends) + DAY)
    other = parts(files.url("0123456789abcdef/320.jpg"))
    for altered in (
        ("0123456789abcdef/320.jpg", ends, signature),
        (KEY.replace("0", "1"), ends, signature),
        (key, later, signature),
        (key, ends, other[2]),
        (key, f"0{ends}", signature),
        (key, f"+{ends}", signature),
        (key, f" {ends}", signature),
        (key, f"{ends}.0", signature),
        (key, f"{ends}\n", signature),
        (key, "".join(chr(ord(digit) + 0xFEE0) for digit in ends), signature),
        (key, "-1", signature),
        (key, "", signature),
        (key, "9" * 11, signature),
        (key, "9" * 5000, signature),
        (key, ends, ""),
        (key, ends, signature[:-1]),
        (key, ends, signature + "="),
        (key, ends, signature.swapcase()),
        (key, ends, "é" * 24),
        (key, ends, "\ud800"),
    ):
        assert not files.allows(*altered), altered
    assert files.allows(key, ends, signature)


def test_every_character_of_a_signature_counts(files: LocalFiles) -> None:
    """A change of any character invalidates the signature."""
    key, ends, signature = parts(files.url(KEY))
    assert len(signature) == 24
    for place, character in enumerate(signature):
        wrong = "A" if character != "A" else "B"
        assert not files.allows(key, ends, signature[:place] + wrong + signature[place + 1 :])


def test_another_secret_signs_otherwise(files: LocalFiles, folder: Path, clock: Clock) -> None:
    """A client that knows only the scheme cannot sign a URL."""
    other = LocalFiles(folder, secret=SECRET[:-1], clock=clock)
    assert not other.allows(*parts(files.url(KEY)))


# ---- a full or missing disk


@pytest.mark.gen_test
async def test_a_full_disk_raises_no_space_and_leaves_nothing(
    small_disk: SmallDisk, tmp_path: Path, clock: Clock
) -> None:
    """The store keeps no part of the file and all older files, and accepts the next file that fits."""
    folder = small_disk.folder / "media"
    files = LocalFiles(folder, secret=SECRET, clock=clock)
    small = a_file(tmp_path / "small", bytes(100_000))
    with small_disk.too_large.open("rb") as source, small.open("rb") as fitting:
        # Through /proc, `put` cannot link the file and must copy it, which needs room on the disk.
        too_large, fits = (Path(f"/proc/self/fd/{file.fileno()}") for file in (source, fitting))
        await files.put("f/1.jpg", fits, "image/jpeg")
        for _ in range(3):
            with pytest.raises(NoSpace, match="no room left"):
                await files.put("f/2.jpg", too_large, "image/jpeg")
        assert everything(folder) == ["f", "f/1.jpg"]
        await files.check()
        small_disk.fill()
        with pytest.raises(NoSpace, match="no room left"):
            await files.check()
        with pytest.raises(NoSpace, match="no room left"):
            await files.put("f/3.jpg", fits, "image/jpeg")
        assert await content(files, "f/1.jpg") == bytes(100_000)
        small_disk.empty()
        await files.put("f/3.jpg", fits, "image/jpeg")
    assert everything(folder) == ["f", "f/1.jpg", "f/3.jpg"]


@pytest.mark.gen_test
async def test_a_folder_that_cannot_be_used_is_unavailable(folder: Path, picture: Path, clock: Clock) -> None:
    """The error has the reason, but no path of the server."""
    files = LocalFiles(folder, secret=SECRET, clock=clock)
    os.rmdir(folder)
    a_file(folder, b"not a folder")
    with pytest.raises(Unavailable, match="cannot be used") as caught:
        await files.put(KEY, picture, "image/jpeg")
    assert str(folder) not in str(caught.value)
    with pytest.raises(Unavailable):
        await files.check()
    with pytest.raises(NotFound):
        await content(files, KEY)
    await files.delete([KEY])
