"""Creates test pictures: ordinary, unusual and hostile ones."""

import io
import struct
import zlib
from functools import cache
from typing import Any

from PIL import Image, ImageCms, ImageDraw

from storage.staging import WRITE_SIZE

CORNERS = {"red": (220, 30, 40), "green": (30, 180, 60), "blue": (40, 60, 220), "yellow": (235, 220, 40)}
# EXIF orientation -> the operation that turns the upright picture into the one that the sensor stores.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def scene(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A gradient with a block of another colour in each corner: red, green, blue, yellow, clockwise from top left."""
    image = Image.radial_gradient("L").resize((width, height)).convert("RGB")
    draw = ImageDraw.Draw(image)
    w, h = width // 4, height // 4
    boxes = [(0, 0), (width - w, 0), (width - w, height - h), (0, height - h)]
    for (left, top), colour in zip(boxes, CORNERS.values(), strict=True):
        draw.rectangle((left, top, left + w, top + h), fill=colour)
    return image.convert(mode)


def assert_corners(image: Image.Image, tolerance: int = 24) -> None:
    """Assert that `image` shows `scene` upright and in its colours."""
    rgb = image.convert("RGB")
    x, y = image.width // 10, image.height // 10
    points = [(x, y), (image.width - x, y), (image.width - x, image.height - y), (x, image.height - y)]
    for point, (name, colour) in zip(points, CORNERS.items(), strict=True):
        seen: Any = rgb.getpixel(point)
        assert all(abs(a - b) <= tolerance for a, b in zip(seen, colour, strict=True)), f"{name} at {point}: {seen}"


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int, gps: bool = True) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010F] = "PhoneMaker"
    if gps:
        tags.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 30.0), 3: "E", 4: (16.0, 22.0, 0.0)})
    return tags


@cache
def phone_jpeg(size: tuple[int, int] = (4032, 3024), orientation: int = 6, gps: bool = True) -> bytes:
    """A photo of 12 megapixels as the sensor stores it, with EXIF, GPS, a comment and an sRGB profile."""
    upright = scene(*(size[::-1] if orientation >= 5 else size))
    turn = STORED[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, Any] = {"exif": exif(orientation, gps), "icc_profile": srgb, "comment": b"my bedroom"}
    return saved(stored, "JPEG", quality=92, **options)


@cache
def heavy_jpeg(orientation: int = 6) -> bytes:
    """A JPEG of a real phone's size, larger than the buffer that the server fills before it writes."""
    return phone_jpeg(orientation=orientation) + bytes(3 * WRITE_SIZE)


def small_jpeg(seed: int) -> bytes:
    """A small JPEG with different bytes for each seed."""
    image = scene(240, 180)
    image.putpixel((120, 90), (seed % 256, seed // 256 % 256, 0))
    return saved(image, "JPEG", quality=90, comment=f"seed {seed}".encode())


@cache
def heic() -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(scene(1600, 1200)).save(file, quality=80)
    return file.getvalue()


@cache
def avif() -> bytes:
    return saved(scene(1200, 900), "AVIF", quality=80, speed=9)


@cache
def png_screenshot_alpha() -> bytes:
    image = scene(1170, 2532, "RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return saved(image, "PNG", compress_level=1)


@cache
def png16() -> bytes:
    """16-bit grey from black to white."""
    ramp = Image.new("I;16", (512, 300))
    row = struct.pack("<512H", *(x * 128 for x in range(512)))
    ramp.frombytes(row * 300)
    return saved(ramp, "PNG")


@cache
def cmyk_jpeg() -> bytes:
    return saved(scene(900, 600, "CMYK"), "JPEG", quality=92)


def animated(kind: str, frames: int, size: tuple[int, int], **options: Any) -> bytes:
    stills = []
    for number in range(frames):
        still = scene(*size)
        left = size[0] // 3 + number * size[0] // 4 // frames
        still.paste((0, 255, 0), (left, size[1] // 3, left + size[0] // 12, size[1] // 2))
        stills.append(still)
    return saved(stills[0], kind, save_all=True, append_images=stills[1:], duration=80, loop=0, **options)


@cache
def animated_gif(frames: int = 12) -> bytes:
    return animated("GIF", frames, (480, 320))


@cache
def animated_webp(frames: int = 6) -> bytes:
    return animated("WEBP", frames, (480, 320), quality=80)


def corrupt_jpeg() -> bytes:
    """The first bytes of a JPEG, followed by garbage."""
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\0" + b"dream" * 400


def truncated_jpeg(part: float = 0.6) -> bytes:
    whole = phone_jpeg(orientation=1)
    return whole[: int(len(whole) * part)]


def bomb_png(width: int = 50_000, height: int = 50_000) -> bytes:
    """A picture of 2.5 gigapixels in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@cache
def slow_png() -> bytes:
    """A small file of nearly 100 megapixels, which takes seconds to render."""
    return saved(Image.new("RGBA", (9900, 9900), (10, 20, 30, 200)), "PNG", compress_level=1)


def bmp() -> bytes:
    return saved(scene(300, 200), "BMP")


def tiff() -> bytes:
    return saved(scene(300, 200), "TIFF")
