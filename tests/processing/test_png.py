"""PNG decoded with ISA-L has the same pixels, and the same errors, as with Pillow's zlib."""

import io
import zlib

import pytest
from PIL import Image, ImageFile, ImageSequence

from processing.png import MAX_BLOCK, Png
from tests import photos


def frames(image: Image.Image) -> list[tuple[str, bytes]]:
    return [(frame.mode, frame.tobytes()) for frame in ImageSequence.Iterator(image)]


def noise(mode: str, size: tuple[int, int]) -> Image.Image:
    return Image.effect_noise(size, 60).convert("RGB").convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (700, 33), (401, 305)])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_the_pixels_are_pillows(mode: str, size: tuple[int, int], level: int) -> None:
    """The test covers every mode, compressed or not, in one block or several."""
    content = photos.saved(noise(mode, size), "PNG", compress_level=level)
    assert frames(Png(io.BytesIO(content))) == frames(Image.open(io.BytesIO(content)))


def test_pillow_still_calls_what_is_overridden() -> None:
    """If Pillow stopped calling the override, zlib would decode every picture: same pixels, three times the time."""
    calls: list[str] = []

    class Watched(Png):
        def load_prepare(self) -> None:
            calls.append("load_prepare")
            super().load_prepare()

        def load_read(self, read_bytes: int) -> bytes:
            calls.append("load_read")
            return super().load_read(read_bytes)

    stills = [noise("RGB", (200, 150)) for _ in range(3)]
    content = photos.saved(stills[0], "PNG", save_all=True, append_images=stills[1:])
    assert len(frames(Watched(io.BytesIO(content)))) == 3
    assert calls.count("load_prepare") == 3, "once per frame"
    rows = 3 * 150 * (1 + 3 * 200)  # bytes; each row begins with the number of its filter
    assert calls.count("load_read") >= rows / MAX_BLOCK, "at least once per block"


def test_every_frame_of_an_animation_is_there() -> None:
    """Each frame has its own stream."""
    stills = [noise("RGB", (200, 150)) for _ in range(4)]
    content = photos.saved(stills[0], "PNG", save_all=True, append_images=stills[1:])
    seen = frames(Png(io.BytesIO(content)))
    assert len(seen) == 4
    assert seen == frames(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_what_is_broken_is_an_oserror(at: float) -> None:
    """A truncated or damaged file raises an OSError, after which the renderer decodes the rows that it can."""
    content = photos.saved(noise("RGB", (401, 305)), "PNG")
    place = int(len(content) * at)
    for broken in content[:place], content[:place] + bytes(64) + content[place + 64 :]:
        with pytest.raises(OSError):
            Png(io.BytesIO(broken)).load()


def with_rows(rows: int, content: bytes) -> bytes:
    """The same file, but its header promises this many rows."""
    header = content[12:20] + rows.to_bytes(4, "big") + content[24:29]
    return content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]


@pytest.mark.parametrize("cut", [False, True])
def test_a_stream_that_ends_before_the_picture_is_broken(cut: bool) -> None:
    """Whether the stream itself is whole, or ends within a block although the file is well-formed."""
    content = photos.saved(noise("L", (64, 64)), "PNG")
    if cut:
        start, end = content.index(b"IDAT"), content.index(b"IEND") - 4
        data = content[start : end - 4 - 2000]
        content = content[: start - 4] + (len(data) - 4).to_bytes(4, "big") + data
        content += zlib.crc32(data).to_bytes(4, "big") + b"\0\0\0\0IEND\xaeB`\x82"
    with pytest.raises(OSError, match="truncated"):
        Png(io.BytesIO(content if cut else with_rows(90, content))).load()


def test_the_rows_before_a_break_are_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The renderer shows a damaged picture as far as it goes, for which zlib must give every row."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    content = photos.saved(noise("RGB", (401, 305)), "PNG")
    content = content[: len(content) // 2]
    seen, wanted = Png(io.BytesIO(content)), Image.open(io.BytesIO(content))
    assert seen.tobytes() == wanted.tobytes()
    assert any(seen.tobytes()[: 3 * 401 * 100])


def test_a_stream_that_unpacks_to_far_more_than_the_picture_is_not_unpacked() -> None:
    """The decoder stops after the last row."""
    small, bomb = (photos.saved(Image.new("L", (side, side)), "PNG") for side in (60, 20_000))
    header = small.index(b"IDAT") - 4
    content = small[:header] + bomb[bomb.index(b"IDAT") - 4 :]
    image = Png(io.BytesIO(content))
    assert image.tobytes() == bytes(3600)
