"""Rendering of real pictures: upright, with the right colours, and without metadata."""

import io
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image, ImageCms

from processing import render
from processing.render import Rejected, Rendered, RenderRequest
from tests import photos

MARKERS = (
    b"Exif",
    b"http://ns.adobe.com",
    b"ICC_PROFILE",
    b"iCCP",
    b"ICCP",
    b"XMP ",
    b"eXIf",
    b"my bedroom",
    b"PhoneMaker",
)


@pytest.fixture(autouse=True)
def _opener(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the decoders as `processing.child.start` does, but do not limit the tests' process."""
    pillow_heif.register_heif_opener()
    Image.init()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)


def request(folder: Path, content: bytes, **more: Any) -> RenderRequest:
    source, out = folder / "upload", folder / "out"
    source.write_bytes(content)
    out.mkdir()
    defaults: dict[str, Any] = {"format": "jpeg", "quality": 0, "effort": 0, "time_limit": 100.0}
    limits = {"max_pixels": 100_000_000, "max_frames": 600}
    return RenderRequest(source=str(source), folder=str(out), **(defaults | limits | more))


def rendered(folder: Path, content: bytes, **more: Any) -> tuple[Rendered, dict[str, Image.Image]]:
    """The record and the pictures; checks each picture against the record, and that it has no metadata."""
    given = request(folder, content, **more)
    result = render.render(given)
    assert isinstance(result, Rendered), result
    assert list(result.variants) == ["320", "1024", "2048"]
    assert {path.name for path in Path(given.folder).iterdir()} == {each.file for each in result.variants.values()}
    assert result.placeholder.startswith("data:image/webp;base64,")
    assert len(result.placeholder) <= 400
    pictures: dict[str, Image.Image] = {}
    for name, variant in result.variants.items():
        written = (Path(given.folder) / variant.file).read_bytes()
        assert len(written) == variant.bytes
        assert not [marker for marker in MARKERS if marker in written]
        picture = Image.open(io.BytesIO(written))
        picture.load()
        assert picture.size == (variant.width, variant.height)
        assert variant.type == f"image/{(picture.format or '').lower()}"
        assert max(picture.size) <= int(name)
        assert not dict(picture.getexif())
        pictures[name] = picture
    return result, pictures


def rejected(folder: Path, content: bytes, **more: Any) -> str:
    """The error code; checks that a rejected picture leaves no file."""
    given = request(folder, content, **more)
    result = render.render(given)
    assert isinstance(result, Rejected), result
    assert not list(Path(given.folder).iterdir())
    return result.code


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_phone_photo_stands_upright_whichever_way_it_was_held(tmp_path: Path, orientation: int) -> None:
    """All eight EXIF orientations come out upright, without EXIF, GPS, colour profile or comment."""
    record, pictures = rendered(tmp_path, photos.phone_jpeg(orientation=orientation))
    upright = (3024, 4032) if orientation >= 5 else (4032, 3024)
    assert (record.width, record.height) == upright
    assert record.removed == ("comment", "exif", "gps", "icc")
    assert not record.animated
    assert not record.damaged
    for picture in pictures.values():
        assert (picture.width < picture.height) == (orientation >= 5)
        photos.assert_corners(picture)
    assert max(pictures["2048"].size) == 2016, "half of 4032, so no resampling is needed"
    assert max(pictures["1024"].size) == 1008
    assert max(pictures["320"].size) == 320


@pytest.mark.parametrize(
    ("stored", "large", "middle"),
    [
        ((3264, 2448), (2048, 1536), (1024, 768)),  # full size, resampled
        ((4096, 2731), (2048, 1366), (1024, 683)),  # half size, which libjpeg rounds up when the side is odd
        ((5712, 4284), (2048, 1536), (1024, 768)),  # half size, resampled
        ((8064, 6048), (2016, 1512), (1008, 756)),  # quarter size
    ],
)
def test_the_sizes_of_larger_and_smaller_photos(
    tmp_path: Path, stored: tuple[int, int], large: tuple[int, int], middle: tuple[int, int]
) -> None:
    """libjpeg decodes at the smallest of its scales that is large enough."""
    record, pictures = rendered(tmp_path, photos.phone_jpeg(size=stored))
    assert (record.width, record.height) == stored[::-1]
    for name, size in (("2048", large), ("1024", middle)):
        assert pictures[name].size == size[::-1]
        photos.assert_corners(pictures[name])
    assert not record.damaged


@pytest.mark.parametrize("kind", ["jpeg", "webp", "avif"])
def test_the_format_and_quality_of_the_settings_are_used(tmp_path: Path, kind: str) -> None:
    """The renderer writes each still format, and a lower quality makes smaller files."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    good, _ = rendered(tmp_path / "a", photos.phone_jpeg(), format=kind)
    poor, _ = rendered(tmp_path / "b", photos.phone_jpeg(), format=kind, quality=20)
    assert {variant.type for variant in good.variants.values()} == {f"image/{kind}"}
    assert poor.variants["2048"].bytes < good.variants["2048"].bytes


@pytest.mark.parametrize("kind", ["webp", "avif"])
def test_more_effort_makes_smaller_files(tmp_path: Path, kind: str) -> None:
    """At the same quality, more effort than the default makes smaller files."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    usual, _ = rendered(tmp_path / "a", photos.small_jpeg(1), format=kind)
    more, _ = rendered(tmp_path / "b", photos.small_jpeg(1), format=kind, effort=4)
    assert more.variants["320"].bytes < usual.variants["320"].bytes


def test_a_small_picture_is_never_enlarged(tmp_path: Path) -> None:
    """Variants that would be equal share one file."""
    record, pictures = rendered(tmp_path, photos.small_jpeg(1))
    assert {variant.file for variant in record.variants.values()} == {record.variants["2048"].file}
    assert pictures["2048"].size == (240, 180)


def test_transparency_is_kept(tmp_path: Path) -> None:
    """A transparent picture becomes WebP, because JPEG has no alpha; a fully opaque alpha channel is dropped."""
    record, pictures = rendered(tmp_path, photos.png_screenshot_alpha())
    assert {variant.type for variant in record.variants.values()} == {"image/webp"}
    for picture in pictures.values():
        alpha = picture.convert("RGBA").getchannel("A")
        assert alpha.getpixel((picture.width // 2, 2)) in range(0, 12)
        assert alpha.getpixel((picture.width // 2, picture.height - 3)) in range(243, 256)
    (tmp_path / "opaque").mkdir()
    opaque = photos.saved(photos.scene(400, 300, "RGBA"), "PNG")
    record, _ = rendered(tmp_path / "opaque", opaque)
    assert record.variants["320"].type == "image/jpeg"


def test_a_transparent_palette_is_not_resized_as_numbers(tmp_path: Path) -> None:
    """The renderer turns palette indices into colours before it resamples."""
    image = photos.scene(1600, 1200).quantize(64)
    record, pictures = rendered(tmp_path, photos.saved(image, "PNG", transparency=63))
    assert record.variants["2048"].type == "image/webp"
    photos.assert_corners(pictures["320"], tolerance=40)


def test_16_bit_grey_keeps_its_tones(tmp_path: Path) -> None:
    """A ramp from black to white stays a ramp, and is not clipped to white."""
    _, pictures = rendered(tmp_path, photos.png16())
    row = [pictures["2048"].convert("L").getpixel((x, 150)) for x in (8, 128, 256, 384, 504)]
    for seen, wanted in zip(row, (4, 64, 128, 192, 252), strict=True):
        assert isinstance(seen, int | float)
        assert abs(seen - wanted) <= 4, row


def test_cmyk_has_its_colours(tmp_path: Path) -> None:
    """A CMYK file for print is not inverted."""
    _, pictures = rendered(tmp_path, photos.cmyk_jpeg())
    photos.assert_corners(pictures["1024"], tolerance=40)


@pytest.mark.parametrize("make", [photos.heic, photos.avif, photos.bmp, photos.tiff])
def test_other_formats_have_their_colours(tmp_path: Path, make: Any) -> None:
    """HEIC, AVIF, BMP and TIFF keep their colours."""
    _, pictures = rendered(tmp_path, make())
    photos.assert_corners(pictures["320"])


def test_a_foreign_profile_is_converted(tmp_path: Path) -> None:
    """A picture in another colour space looks the same after the conversion to sRGB."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be")).replace(b"sRGB", b"xRGB")
    red = Image.new("RGB", (600, 400), (200, 30, 30))
    record, pictures = rendered(tmp_path, photos.saved(red, "PNG", icc_profile=swapped))
    r, g, _ = pictures["320"].convert("RGB").getpixel((100, 100))  # type: ignore[misc]
    assert g > r, "that profile swaps red and green"
    assert record.removed == ("icc",)


def test_a_broken_profile_is_as_good_as_none(tmp_path: Path) -> None:
    """The renderer ignores a broken profile and removes it."""
    _, pictures = rendered(tmp_path, photos.saved(photos.scene(400, 300), "PNG", icc_profile=b"not a profile" * 20))
    photos.assert_corners(pictures["320"])


def test_an_mpo_is_its_first_picture(tmp_path: Path) -> None:
    """Phones append a gain map or a second view to a JPEG; the renderer does not take them for an animation."""
    view = photos.scene(800, 600)
    record, pictures = rendered(tmp_path, photos.saved(view, "MPO", save_all=True, append_images=[view]))
    assert not record.animated
    photos.assert_corners(pictures["320"])


@pytest.mark.parametrize("make", [photos.animated_gif, photos.animated_webp])
def test_an_animation_moves_where_it_is_large(tmp_path: Path, make: Any) -> None:
    """The 2048 and 1024 variants keep frames, durations and loops; the 320 variant is a still of the first frame."""
    record, pictures = rendered(tmp_path, make())
    source = Image.open(io.BytesIO(make()))
    assert record.animated
    assert (record.width, record.height) == source.size
    moving: Any = pictures["2048"]
    assert moving.n_frames == source.n_frames  # type: ignore[attr-defined]
    moving.seek(1)
    moving.load()
    assert moving.info["duration"] == 80
    assert moving.info["loop"] == 0
    assert getattr(pictures["320"], "n_frames", 1) == 1
    photos.assert_corners(pictures["320"])


def test_a_truncated_photo_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    """Phones produce files whose last bytes are missing; the renderer shows the rows that can be decoded."""
    record, pictures = rendered(tmp_path, photos.truncated_jpeg())
    assert record.damaged
    assert pictures["320"].convert("RGB").getpixel((20, 20)) is not None


def test_a_long_animation_gets_smaller_instead_of_failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder holds all frames in memory, so a long animation gets smaller frames."""
    monkeypatch.setattr(render, "KEPT_PIXELS", 12 * 480 * 320 // 4)
    record, pictures = rendered(tmp_path, photos.animated_gif())
    assert pictures["2048"].size == (240, 160)
    assert (record.width, record.height) == (480, 320)


def test_limits_are_kept_before_anything_is_decoded(tmp_path: Path) -> None:
    """The renderer rejects a picture above a limit, and a file that it cannot decode, each with its code."""
    for number, (content, more, code) in enumerate(
        [
            (photos.bomb_png(), {}, "too_many_pixels"),
            (photos.phone_jpeg(), {"max_pixels": 12_000_000}, "too_many_pixels"),
            (photos.animated_gif(), {"max_frames": 11}, "too_many_frames"),
            (photos.corrupt_jpeg(), {}, "corrupt"),
            (photos.phone_jpeg()[:400], {}, "corrupt"),
            (b"\x89PNG\r\n\x1a\n" + bytes(100), {}, "corrupt"),
            (photos.heic()[:300], {}, "corrupt"),
            (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(50), {}, "corrupt"),
            (b"hello", {}, "unsupported"),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        assert rejected(tmp_path / str(number), content, **more) == code, number
