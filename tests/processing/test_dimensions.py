"""The upright size of a picture from the head of its file, also for damaged and hostile heads."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pillow_heif
import pytest
from PIL import Image, ImageCms, PngImagePlugin

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


SIDEWAYS = b'<rdf:Description tiff:Orientation="6"/>'  # the orientation in XMP


def upright_size(content: bytes) -> dimensions.Size | None:
    kind = formats.sniff(content[: formats.HEAD_BYTES])
    assert kind is not None
    return dimensions.size(io.BytesIO(content), kind)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_the_size_is_the_upright_pictures(kind: str, options: dict[str, Any], orientation: int) -> None:
    """For each camera orientation, in each format that stores it, the size is that of the upright picture."""
    upright = photos.scene(48, 30)
    turn = photos.STORED[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    assert upright_size(photos.saved(stored, kind, exif=photos.exif(orientation), **options)) == (48, 30)


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
def test_the_size_of_each_format_is_read(make: Callable[[], bytes], size: dimensions.Size) -> None:
    """An animation has the size of its canvas; a picture that will be rejected later has a size too."""
    assert upright_size(make()) == size


def heic_sideways() -> bytes:
    """An upright HEIC of 64 x 48 coded pixels in a block of 64 x 64, with `ispe`, `clap`, `irot` and Exif."""
    file = io.BytesIO()
    heif = pillow_heif.from_pillow(photos.scene(64, 48))
    heif.info["exif"] = photos.exif(6).tobytes()
    heif.save(file, quality=50)
    return file.getvalue()


def test_a_heic_is_turned_by_its_own_property_and_not_by_exif() -> None:
    """Phones write both `irot` and Exif; decoders apply `irot`, so the size must not apply Exif as well."""
    content = heic_sideways()
    assert upright_size(content) == pillow_heif.open_heif(io.BytesIO(content)).size == (48, 64)


@pytest.mark.parametrize(
    ("written", "instead", "size"),
    [
        (b"\x81\x02\x03\x05\x84\x86", b"\x81\x02\x03\x05\x86\x84", (64, 48)),  # rotation before crop
        (b"clap" + struct.pack(">4I", 64, 1, 48, 1), b"clap" + struct.pack(">4I", 81, 2, 61, 2), (31, 41)),
        (b"irot\3", b"irot\2", (64, 48)),
    ],
    ids=["order", "fraction", "half turn"],
)
def test_a_heic_is_cut_and_turned_as_decoders_do(written: bytes, instead: bytes, size: dimensions.Size) -> None:
    """Rotation and crop apply in the order of the file's properties, and a crop is rounded to whole pixels."""
    content = heic_sideways()
    assert content.count(written) == 1
    content = content.replace(written, instead)
    assert upright_size(content) == pillow_heif.open_heif(io.BytesIO(content)).size == size


def test_a_heic_that_is_cut_to_nothing_has_no_size() -> None:
    """A crop is a fraction, whose denominator may be zero."""
    content = heic_sideways()
    whole = b"clap" + struct.pack(">4I", 64, 1, 48, 1)
    assert upright_size(content.replace(whole, b"clap" + struct.pack(">4I", 64, 0, 48, 1))) is None


def test_an_avif_is_not_cut() -> None:
    """Neither libavif nor Pillow applies the crop of an AVIF, so the size is that of the whole picture."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = photos.saved(photos.scene(64, 48), "AVIF", speed=10, icc_profile=profile)
    # A crop that is marked essential, and another property, take the place of the fourth one, the profile.
    content = content.replace(b"\1\2\x83\4\5", b"\1\2\x83\x84\5")
    place = content.index(b"colrprof") - 4
    length = int.from_bytes(content[place : place + 4], "big")
    part = struct.pack(">I4s8I", 40, b"clap", 40, 1, 30, 1, 0, 1, 0, 1)
    other = struct.pack(">I4s", length - len(part), b"free").ljust(length - len(part), b"\0")
    content = content[:place] + part + other + content[place + length :]
    assert upright_size(content) == Image.open(io.BytesIO(content)).size == (64, 48)


def segment(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(content) + 2) + content


def exif_of(orientation: int, entries: int = 1) -> bytes:
    """An Exif directory that announces `entries` entries and has one."""
    return b"Exif\0\0" + struct.pack("<2sHIHHHIHHI", b"II", 42, 8, entries, 0x0112, 3, 1, orientation, 0, 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    ("segments", "size"),
    [
        ([segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SIDEWAYS)], (30, 48)),
        ([segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SIDEWAYS), segment(0xE1, exif_of(3))], (48, 30)),
        ([segment(0xE1, exif_of(6, entries=5))], (30, 48)),
        ([segment(0xE1, b"Exif\0\0" + exif_of(6))], (30, 48)),
        ([segment(0xE1, exif_of(1)), segment(0xE1, exif_of(6))], (48, 30)),
        ([segment(0xE1, exif_of(6)[:12]), segment(0xE1, b"Exif\0\0" + exif_of(6)[12:])], (30, 48)),
        ([segment(0xE1, b"Exif\0\0" + b"?" * 20)], (48, 30)),
        ([segment(0xE5, bytes(65000))] * 40 + [segment(0xE1, exif_of(8))], (30, 48)),
    ],
    ids=["xmp", "xmp and exif", "cut", "named twice", "second block", "two segments", "no exif", "behind megabytes"],
)
def test_a_jpeg_is_turned_as_decoders_do(segments: list[bytes], size: dimensions.Size) -> None:
    """The size agrees with Pillow for Exif that is missing, repeated, damaged or replaced by XMP."""
    plain = photos.saved(photos.scene(48, 30), "JPEG")
    content = plain[:2] + b"".join(segments) + plain[2:]
    with Image.open(io.BytesIO(content)) as image:
        turned = image.getexif().get(dimensions.ORIENTATION) in dimensions.LYING
        assert upright_size(content) == (image.size[::-1] if turned else image.size) == size


def test_a_webp_or_png_may_be_turned_by_its_xmp() -> None:
    """Without Exif, the orientation in XMP counts, as in a JPEG."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", SIDEWAYS.decode())
    assert upright_size(photos.saved(photos.scene(48, 30), "PNG", pnginfo=text)) == (30, 48)
    assert upright_size(photos.saved(photos.scene(48, 30), "WEBP", xmp=SIDEWAYS)) == (30, 48)


def test_a_png_may_say_behind_the_picture_that_it_is_turned() -> None:
    """A PNG may have its eXIf chunk behind the pixels."""
    plain = photos.saved(photos.scene(48, 30), "PNG")
    exif = photos.exif(6).tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I4s", len(exif), b"eXIf") + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    end = plain.index(b"IEND") - 4
    assert upright_size(plain[:end] + chunk + plain[end:]) == (30, 48)
    assert upright_size(plain[:end]) == (48, 30), "a truncated file has the orientation of the chunks before its end"


@pytest.mark.parametrize("screen", [(0, 0), (10, 10), (480, 10), (480, 320), (600, 400)])
def test_a_gif_is_as_large_as_its_screen_and_its_first_picture(screen: dimensions.Size) -> None:
    """Some programs write a screen size of 0 x 0; the first frame then gives the size."""
    content = bytearray(photos.animated_gif())
    content[6:10] = struct.pack("<HH", *screen)
    assert upright_size(bytes(content)) == Image.open(io.BytesIO(content)).size


@pytest.mark.parametrize("side", [0, 1 << 31, (1 << 32) - 1])
def test_a_size_that_no_picture_can_have_is_none(side: int) -> None:
    """A side of zero, or one larger than PNG allows, gives no size."""
    content = bytearray(photos.bomb_png())
    content[16:20] = struct.pack(">I", side)
    assert upright_size(bytes(content)) is None


def test_a_preview_inside_a_photo_is_not_taken_for_it() -> None:
    """Cameras store a small JPEG in the Exif block of the large one; its size does not count."""
    small, large = photos.saved(photos.scene(16, 12), "JPEG"), photos.saved(photos.scene(64, 48), "JPEG")
    block = b"Exif\0\0" + photos.exif(1).tobytes().removeprefix(b"Exif\0\0") + small
    with_preview = large[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + large[2:]
    assert upright_size(with_preview) == (64, 48)


def test_rows_from_the_top_down_have_a_size_too() -> None:
    """A BMP with rows from top to bottom has a negative height."""
    whole = bytearray(photos.bmp())
    whole[22:26] = struct.pack("<i", -200)
    assert upright_size(bytes(whole)) == (300, 200)


class Counted(io.BytesIO):
    """A file that counts its reads and the bytes that they return."""

    reads = 0
    amount = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.reads += 1
        self.amount += len(data)
        return data


def test_a_damaged_head_costs_little_and_raises_nothing() -> None:
    """Each of thousands of altered and truncated heads (fixed seed) gives a size or none, after a few small reads."""
    seed = random.Random(1)
    heads = [photos.saved(photos.scene(48, 30), kind, exif=photos.exif(6), **options) for kind, options in KINDS]
    heads += [photos.saved(photos.scene(48, 30), "WEBP", xmp=SIDEWAYS), heic_sideways()]
    heads += [photos.heic()[:2000], photos.bmp()[:200], photos.animated_gif()[:1200]]
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
            assert file.reads <= 4 * dimensions.STEPS
            assert file.amount <= dimensions.BOX_BYTES


def a_million_items() -> bytes:
    """The `meta` box of a HEIC with a huge list of associations, none of them for the primary item."""

    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", len(content) + 8, kind) + content

    items = box(b"ipma", struct.pack(">II", 0, 1_000_000) + b"\0\1\0" * 300_000)
    return box(b"meta", bytes(4) + box(b"pitm", b"\0\0\0\0\0\2") + box(b"iprp", box(b"ipco", b"") + items))


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8" + b"\xff\xe1\0\2" * 100_000,  # endless segments
        b"\xff\xd8" + segment(0xE1, exif_of(6)) * 100_000,
        b"\xff\xd8" + b"\xff" * 100_000,  # endless fill bytes
        b"\xff\xd8\xff\xe0\0\0" * 1000,  # a length that points backwards
        struct.pack(">I4s4sI4s", 20, b"ftyp", b"heic", 0, b"mif1") + struct.pack(">I4s", 8, b"free") * 100_000,
        struct.pack(">I4s4sI4s", 20, b"ftyp", b"heic", 0, b"mif1") + struct.pack(">I4sQ", 1, b"meta", 1 << 63),
        struct.pack(">I4s4sI4s", 20, b"ftyp", b"heic", 0, b"mif1") + a_million_items(),
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff" + b"\0\1\3\0\1\0\0\0\2\0\0\0" * 65535,
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I4s3I", 13, b"IHDR", 2, 2, 0)
        + struct.pack(">I4sI", 0, b"IDAT", 0) * 100_000,
        b"GIF89a\2\0\2\0\0\0\0!\xfe" + b"\1a" * 100_000,
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x08\0\0\0\1\0\0\1\0\0" + b"ABCD\0\0\0\0" * 100_000,
    ],
    ids=[
        "segments",
        "exif",
        "fill",
        "backwards",
        "boxes",
        "huge box",
        "items",
        "far directory",
        "directory",
        "chunks of a PNG",
        "blocks",
        "chunks of a WebP",
    ],
)
def test_what_has_no_end_is_given_up(content: bytes) -> None:
    """The reader stops after a bounded number of steps in files with endless chains."""
    file = Counted(content)
    kind = formats.sniff(content[: formats.HEAD_BYTES])
    assert kind is not None
    assert dimensions.size(file, kind) in (None, (2, 2))
    assert file.reads <= 4 * dimensions.STEPS
