"""Resampling with the SIMD wheel and without it."""

import importlib.util

import pytest
from PIL import Image, ImageChops, ImageStat

from processing import resampling
from processing.resampling import resampled
from tests import photos


def far(a: Image.Image, b: Image.Image) -> float:
    """The largest difference of any channel of any pixel."""
    return max(ImageStat.Stat(ImageChops.difference(a, b)).extrema, key=lambda each: each[1])[1]


@pytest.mark.parametrize("mode", resampling.MODES)
@pytest.mark.parametrize(
    ("before", "after"),
    [((3000, 2250), (2048, 1536)), ((1170, 2532), (946, 2048)), ((1, 3000), (1, 2048)), ((3000, 2), (2048, 1))],
)
def test_the_pixels_are_those_of_pillows_lanczos(mode: str, before: tuple[int, int], after: tuple[int, int]) -> None:
    """The wheel reads Pillow's memory, which may be in several blocks; a new release of either could break this."""
    pytest.importorskip("cykooz_resizer")
    # The noise is low enough not to clip between the two passes, which the libraries run in different orders.
    image = Image.effect_noise(before, 30).convert("RGB").convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(before))
    seen, wanted = resampled(image, after), image.resize(after, Image.Resampling.LANCZOS)
    assert (seen.mode, seen.size) == (mode, after)
    if mode == "RGBA":  # the colour of an almost transparent pixel is arbitrary
        seen, wanted = seen.convert("RGBa"), wanted.convert("RGBa")
    assert far(seen, wanted) <= 4


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "YCbCr"])
def test_it_works_without_too(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel, Pillow's own filters resample."""
    monkeypatch.setattr(resampling, "RESIZER", None)
    for size in (600, 400), (300, 200):
        smaller = resampled(photos.scene(900, 600).convert(mode), size)
        assert (smaller.mode, smaller.size) == (mode, size)
        photos.assert_corners(smaller)


@pytest.mark.parametrize("mode", resampling.MODES)
def test_the_wheel_is_used_where_there_is_one(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel that could not be imported or called would change no pixel, only take three times the time."""
    pytest.importorskip("cykooz_resizer")
    assert resampling.RESIZER is not None
    monkeypatch.setattr(Image.Image, "resize", lambda *_: pytest.fail("Pillow resampled it"))
    assert resampled(Image.new(mode, (300, 200)), (200, 133)).size == (200, 133)


def test_where_a_wheel_is_installed_it_can_be_imported() -> None:
    """An ImportError inside an installed wheel must not look like a missing wheel."""
    assert (importlib.util.find_spec("cykooz_resizer") is not None) == (resampling.RESIZER is not None)
