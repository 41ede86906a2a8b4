"""What the heads of real files say of their size, and what becomes of heads that lie."""

import io
import random
import struct
from collections.abc import Callable
from typing import Any

import pillow_heif
import pytest

from processing import dimensions, formats
from tests import photos

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("AVIF", {"speed": 10}),
]


def told(content: bytes) -> dimensions.Size | None:
    kind = formats.sniff(content[: formats.HEAD_BYTES])
    assert kind is not None
    return dimensions.size(io.BytesIO(content), kind)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_the_size_is_the_upright_pictures(kind: str, options: dict[str, Any], orientation: int) -> None:
    """Whichever way the camera was held, in each format that can say so."""
    upright = photos.scene(48, 30)
    turn = photos.STORED[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    assert told(photos.saved(stored, kind, exif=photos.exif(orientation), **options)) == (48, 30)


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (photos.animated_gif, (480, 320)),
        (photos.animated_webp, (480, 320)),
        (photos.bmp, (300, 200)),
        (photos.heic, (1600, 1200)),
        (photos.cmyk_jpeg, (900, 600)),
        (photos.png16, (512, 300)),
        (photos.bomb_png, (50_000, 50_000)),
    ],
)
def test_each_format_tells_its_size(make: Callable[[], bytes], size: dimensions.Size) -> None:
    """Moving pictures by their canvas; one that will be refused as well."""
    assert told(make()) == size


def test_a_heic_is_turned_by_its_own_property_and_not_by_exif() -> None:
    """Phones write both; decoders turn by `irot`, so Exif must not turn once more."""
    file = io.BytesIO()
    heif = pillow_heif.from_pillow(photos.scene(64, 48))
    heif.info["exif"] = photos.exif(6).tobytes()
    heif.save(file, quality=50)
    decoded = pillow_heif.open_heif(io.BytesIO(file.getvalue()))
    assert told(file.getvalue()) == decoded.size


def test_a_preview_inside_a_photo_is_not_taken_for_it() -> None:
    """Cameras put a small JPEG into the Exif block of the large one."""
    small, large = photos.saved(photos.scene(16, 12), "JPEG"), photos.saved(photos.scene(64, 48), "JPEG")
    block = b"Exif\0\0" + photos.exif(1).tobytes().removeprefix(b"Exif\0\0") + small
    with_preview = large[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + large[2:]
    assert told(with_preview) == (64, 48)


def test_rows_from_the_top_down_have_a_size_too() -> None:
    """A BMP says so by a negative height."""
    whole = bytearray(photos.bmp())
    whole[22:26] = struct.pack("<i", -200)
    assert told(bytes(whole)) == (300, 200)


class Counted(io.BytesIO):
    """A file that notes how often it was read, and how much."""

    reads = 0
    amount = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.reads += 1
        self.amount += len(data)
        return data


def test_a_damaged_head_costs_little_and_raises_nothing() -> None:
    """Thousands of changed and cut heads, from a fixed seed: a size or none, after a bounded number of small reads."""
    seed = random.Random(1)
    heads = [photos.saved(photos.scene(48, 30), kind, exif=photos.exif(6), **options) for kind, options in KINDS]
    heads += [photos.heic()[:2000], photos.bmp()[:200], photos.animated_gif()[:200]]
    for head in heads:
        kind = formats.sniff(head[: formats.HEAD_BYTES])
        assert kind is not None
        for _ in range(400):
            changed = bytearray(head[: seed.randrange(20, len(head) + 1)])
            for _ in range(seed.randrange(1, 6)):
                changed[seed.randrange(12, len(changed))] = seed.choice((0, 1, 0x7F, 0xFF, seed.randrange(256)))
            file = Counted(bytes(changed))
            found = dimensions.size(file, kind)
            assert found is None or min(found) > 0
            assert file.reads <= 6 * dimensions.STEPS
            assert file.amount <= 2 * dimensions.BOX_BYTES


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8" + b"\xff\xe1\0\2" * 100_000,  # segments without end
        b"\xff\xd8" + b"\xff" * 100_000,  # fill bytes without end
        b"\xff\xd8\xff\xe0\0\0" * 1000,  # a length that leads backwards
        struct.pack(">I4s4sI4s", 20, b"ftyp", b"heic", 0, b"mif1") + struct.pack(">I4s", 8, b"free") * 100_000,
        struct.pack(">I4s4sI4s", 20, b"ftyp", b"heic", 0, b"mif1") + struct.pack(">I4sQ", 1, b"meta", 1 << 63),
        b"II*\0\xff\xff\xff\xff",
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x08\0\0\0\1\0\0\1\0\0" + b"ABCD\0\0\0\0" * 100_000,
    ],
    ids=["segments", "fill", "backwards", "boxes", "huge box", "far directory", "chunks"],
)
def test_what_has_no_end_is_given_up(content: bytes) -> None:
    """Chains that were made to keep a reader busy."""
    file = Counted(content)
    kind = formats.sniff(content[: formats.HEAD_BYTES])
    assert kind is not None
    assert dimensions.size(file, kind) in (None, (2, 2))
    assert file.reads <= 4 * dimensions.STEPS
