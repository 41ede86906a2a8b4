"""Pictures made smaller by any factor: with SIMD where there is a wheel of cykooz-resizer, else by Pillow alone.

It must not know the purpose of a size. The wheel reads and writes Pillow's memory;
`tests/processing/test_resampling.py` compares the pixels, and fails when an installed wheel is not used.
"""

from PIL import Image

try:
    from cykooz_resizer import FilterType, ResizeAlg, ResizeOptions, Resizer

    RESIZER = Resizer()
    LANCZOS = ResizeOptions(resize_alg=ResizeAlg.convolution(FilterType.lanczos3))
except ImportError:
    RESIZER = None

MODES = ("L", "RGB", "RGBA", "CMYK")


def resampled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """`image` at `size` (width, height in pixels), in the same mode; transparent pixels tint no other."""
    if RESIZER is not None and image.mode in MODES:
        smaller = Image.new(image.mode, size)
        RESIZER.resize_pil(image, smaller, LANCZOS)
        return smaller
    # Pillow's LANCZOS takes seven times as long as the wheel's, these filters three times.
    small = max(size) <= 512
    return image.resize(size, Image.Resampling.MKS2013 if small else Image.Resampling.HAMMING)
