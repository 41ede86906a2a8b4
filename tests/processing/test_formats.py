"""Formats are recognized by their first bytes."""

from collections.abc import Callable

import pytest

from processing import formats
from tests import photos

MADE: dict[str, Callable[[], bytes]] = {
    "JPEG": photos.phone_jpeg,
    "PNG": photos.png16,
    "GIF": photos.animated_gif,
    "WEBP": photos.animated_webp,
    "HEIF": photos.heic,
    "AVIF": photos.avif,
    "TIFF": photos.tiff,
    "BMP": photos.bmp,
}


@pytest.mark.parametrize(("kind", "make"), MADE.items())
def test_every_accepted_format_is_known_by_its_head(kind: str, make: Callable[[], bytes]) -> None:
    """The first bytes of real files identify the format; each format has a media type and an extension."""
    assert formats.sniff(make()[: formats.HEAD_BYTES]) == kind
    assert formats.MEDIA_TYPES[kind].startswith("image/")
    assert formats.EXTENSIONS[kind].isalnum()


def test_a_heic_family_file_with_avif_inside_is_avif() -> None:
    """`mif1` is the brand of both; the compatible brands decide."""
    head = b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf"
    assert formats.sniff(head) == "AVIF"
    assert formats.sniff(head.replace(b"avif", b"heic")) == "HEIF"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff\xd8",
        b"%PDF-1.7",
        b"<svg xmlns='http://www.w3.org/2000/svg'>",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"\0\0\0\xffftypisom",
        b"\0\0\0\0ftypavix",
    ],
)
def test_anything_else_is_refused(head: bytes) -> None:
    """Documents, videos, sounds and truncated heads have no accepted format."""
    assert formats.sniff(head) is None
