"""The renderer makes a picture's variants: upright, in sRGB, without metadata. Paths in, a small record out.

It runs in a process of its own and must not know anything of the server, because it decodes hostile bytes.
"""

import base64
import errno
import io
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms, ImageFile, ImageSequence, UnidentifiedImageError

from processing import formats
from processing.png import Png
from processing.resampling import resampled

Image.init()  # load all formats before the fork, so that the processes share their memory and start sooner

SIZES = (320, 1024, 2048)  # pixels of the longer side at most; also the variants' names
RENDER_VERSION = 2  # raise it when the output for the same input changes

# A picture at most 8 % below a size is not resampled: 4032 / 2 = 2016 is good enough for 2048.
CLOSE = 0.92
ANIMATION_PIXELS = 1_000_000_000  # of all frames together, which take about ten seconds to decode
KEPT_PIXELS = 150_000_000  # of all frames that wait for the encoder, 4 bytes each; larger animations are scaled down
EFFORT = {"jpeg": 0, "webp": 2, "avif": 1}  # each further step costs more time than its saved bytes are worth
QUALITY = {"jpeg": 78, "webp": 85, "avif": 64}  # of equal sharpness to the eye (SSIMULACRA2 of about 79)
EXTENSIONS = {"jpeg": "jpg", "webp": "webp", "avif": "avif"}
PLACEHOLDER = 400  # characters of the whole data: URL
FULL = (errno.ENOSPC, errno.EDQUOT)

T = Image.Transpose
TURNS = {
    2: T.FLIP_LEFT_RIGHT,
    3: T.ROTATE_180,
    4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE,
    6: T.ROTATE_270,
    7: T.TRANSVERSE,
    8: T.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """What to render."""

    source: str  # path of the upload
    folder: str  # an existing, empty folder for the variants
    format: str  # of stills without transparency: jpeg, webp or avif
    quality: int  # 1 to 100; 0: the format's default, QUALITY
    effort: int  # 1 to 6, for webp and avif; 0: the format's default, EFFORT
    max_pixels: int  # width times height
    max_frames: int
    time_limit: float  # wall-clock seconds, after which a timer kills the process


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """One file in the request's folder."""

    file: str
    type: str  # media type
    width: int
    height: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """The result: a variant for every size. Variants of the same pixel size share a file."""

    variants: dict[str, RenderedFile]
    width: int  # of the upright original
    height: int
    animated: bool
    placeholder: str  # a data: URL of at most 400 characters
    removed: tuple[str, ...]  # the kinds of metadata that the upload had
    damaged: bool  # the file ends early or is broken; rendered from the part that could be read


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why there is no result: a key of `storage.model.FAILURES`, and details for the log."""

    code: str
    detail: str


class _Rejection(Exception):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def render(request: RenderRequest) -> Rendered | Rejected:
    """Write every variant of one picture durably. Never raises: a picture that cannot be rendered is `Rejected`."""
    try:
        return _render(request)
    except _Rejection as rejection:
        return Rejected(rejection.code, str(rejection))
    except MemoryError:
        return Rejected("out_of_memory", "MemoryError")
    except OSError as error:
        code = "storage_unavailable" if error.errno in FULL else "corrupt"
        return Rejected(code, f"{type(error).__name__}: {os.strerror(error.errno) if error.errno else error}")
    except Exception as error:  # broken files have raised SyntaxError, KeyError, IndexError, RuntimeError ...
        return Rejected("corrupt", type(error).__name__)


def _render(request: RenderRequest) -> Rendered:
    with open(request.source, "rb") as file:
        kind = formats.sniff(file.read(formats.HEAD_BYTES))
    if kind is None:
        raise _Rejection("unsupported", "first bytes of no accepted format")
    image, size, damaged = _open(request, kind)
    with image:
        removed = _metadata(image)
        frames = 1 if kind in ("TIFF", "HEIF") or image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames > request.max_frames:
            raise _Rejection("too_many_frames", f"{frames} frames")
        if frames * image.width * image.height > max(ANIMATION_PIXELS, request.max_pixels):
            raise _Rejection("too_many_pixels", f"{frames} frames of {image.width} x {image.height}")
        orientation = 1 if kind == "HEIF" else image.getexif().get(0x0112, 1)  # libheif has rotated it already
        icc = image.info.get("icc_profile")
        saver = _Saver(request)
        animated = frames > 1
        still = _still(image, icc, orientation)
        if animated:
            _animation(image, orientation, icc, saver)
    upright = size[::-1] if orientation in (5, 6, 7, 8) else size
    for name in sorted(SIZES, reverse=True):
        still = _reduced(still, name)
        if not animated or name == SIZES[0]:
            saver.still(name, still)
    return Rendered(
        variants={str(name): saver.variants[name] for name in SIZES},
        width=upright[0],
        height=upright[1],
        animated=animated,
        placeholder=_placeholder(still),
        removed=removed,
        damaged=damaged,
    )


def _open(request: RenderRequest, kind: str) -> tuple[ImageFile.ImageFile, tuple[int, int], bool]:
    """The first frame, decoded no larger than needed; the picture's full size; whether the file is damaged."""
    for damaged in (False, True):
        try:
            image = Png(request.source) if kind == "PNG" else Image.open(request.source, formats=(kind,))
        except UnidentifiedImageError as error:
            raise _Rejection("corrupt", "cannot be identified") from error
        size = image.size
        if image.width * image.height > request.max_pixels:
            image.close()
            raise _Rejection("too_many_pixels", f"{image.width} x {image.height}")
        if kind == "JPEG":
            for factor in (8, 4, 2):
                if max(image.size) / factor >= CLOSE * max(SIZES):
                    image.draft("", (image.width // factor, image.height // factor))
                    break
        ImageFile.LOAD_TRUNCATED_IMAGES = damaged
        try:
            image.load()
            return image, size, damaged
        except (OSError, SyntaxError, ValueError):
            image.close()
            if damaged:
                raise
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
    raise AssertionError("the second try returns or raises")


def _metadata(image: Image.Image) -> tuple[str, ...]:
    names = {"exif": "exif", "xmp": "xmp", "XML:com.adobe.xmp": "xmp", "icc_profile": "icc", "photoshop": "iptc"}
    found = {names[name] for name in names if image.info.get(name)}
    if image.info.get("comment"):
        found.add("comment")
    if image.getexif().get_ifd(0x8825):
        found.add("gps")
    return tuple(sorted(found))


def _still(image: Image.Image, icc: bytes | None, orientation: int) -> Image.Image:
    """No larger than the largest variant, in sRGB, upright, with alpha only if something is transparent."""
    if image.mode.startswith("I"):
        # Pillow's own conversion to L clips; dividing keeps the tones of 16 bits.
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        icc = None
    elif image.mode in ("P", "PA", "1", "LA", "La"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode == "RGB" and image.has_transparency_data:
        image = image.convert("RGBA")
    image = _in_srgb(_reduced(image, max(SIZES)), icc)
    if image.mode not in ("RGB", "RGBA", "L"):
        image = image.convert("RGB")
    if image.mode == "RGBA" and image.getchannel("A").getextrema()[0] == 255:
        image = image.convert("RGB")
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _reduced(image: Image.Image, most: int) -> Image.Image:
    longer = max(image.size)
    if longer <= most:
        return image
    factor = math.ceil(longer / most)
    if longer / factor >= CLOSE * most:
        return image.reduce(factor)
    size = (max(1, round(image.width * most / longer)), max(1, round(image.height * most / longer)))
    return resampled(image, size)


def _in_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    if not icc or image.mode not in ("RGB", "RGBA", "CMYK", "L"):
        return image
    try:
        if image.mode == "RGBA":
            transform = _transform(icc, "RGB")
            if transform is None:
                return image
            alpha = image.getchannel("A")
            converted = ImageCms.applyTransform(image.convert("RGB"), transform)
            assert converted is not None
            converted.putalpha(alpha)
            return converted
        transform = _transform(icc, image.mode)
        return image if transform is None else ImageCms.applyTransform(image, transform) or image
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a broken profile is ignored


@lru_cache(8)
def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    if mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(profile):
        return None
    return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")


def _animation(image: Image.Image, orientation: int, icc: bytes | None, saver: "_Saver") -> None:
    """Animate all sizes but the smallest. That one appears in lists, where fifty animations would tire eyes and
    batteries."""
    pixels = getattr(image, "n_frames", 1) * image.width * image.height
    most = min(max(SIZES), int(max(image.size) * math.sqrt(min(1.0, KEPT_PIXELS / pixels))))
    durations, stills = [], []
    for frame in ImageSequence.Iterator(image):
        still = frame.copy()  # copy() loads the frame, which sets its duration
        durations.append(round(frame.info.get("duration", 100)) or 100)
        stills.append(_reduced(_still(still, icc, orientation), most))
    alpha = any(still.mode == "RGBA" for still in stills)
    stills = [still.convert("RGBA" if alpha else "RGB") for still in stills]
    # A GIF without a loop count plays once; 0 in WebP means for ever.
    loop = image.info.get("loop", 1)
    for name in SIZES[:0:-1]:
        stills = [_reduced(still, name) for still in stills]
        saver.moving(name, stills, durations, loop)


class _Saver:
    """Writes variants, and each pixel size only once."""

    def __init__(self, request: RenderRequest) -> None:
        self._request = request
        self._by_size: dict[tuple[Any, ...], RenderedFile] = {}
        self.variants: dict[int, RenderedFile] = {}

    def still(self, name: int, image: Image.Image) -> None:
        kind = self._request.format
        if image.mode == "RGBA" and kind == "jpeg":
            kind = "webp"
        quality, effort = self._request.quality or QUALITY[kind], self._request.effort or EFFORT[kind]
        options: dict[str, dict[str, Any]] = {
            "jpeg": {"optimize": True, "subsampling": "4:2:0"},
            "webp": {"method": effort},
            "avif": {"speed": 10 - effort, "max_threads": 1, "icc_profile": b""},
        }
        self._save(name, image, "still", kind, quality=quality, **options[kind])

    def moving(self, name: int, images: list[Image.Image], durations: list[int], loop: int) -> None:
        quality = self._request.quality if self._request.format == "webp" and self._request.quality else QUALITY["webp"]
        more = {"save_all": True, "append_images": images[1:], "duration": durations, "loop": loop, "method": 0}
        self._save(name, images[0], "moving", "webp", quality=quality, **more)

    def _save(self, name: int, image: Image.Image, look: str, kind: str, **options: Any) -> None:
        key = (look, image.size)
        if key not in self._by_size:
            image.info.clear()  # save() would write the comment and the profile from there
            path = Path(self._request.folder) / f"{name}.{EXTENSIONS[kind]}"
            with path.open("xb") as file:
                image.save(file, kind.upper(), **options)
                file.flush()
                os.fsync(file.fileno())
            self._by_size[key] = RenderedFile(path.name, f"image/{kind}", *image.size, path.stat().st_size)
        self.variants[name] = self._by_size[key]


def _placeholder(image: Image.Image) -> str:
    """A WebP of 16 pixels as a data: URL, at a lower quality until it fits into PLACEHOLDER."""
    scale = 16 / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    tiny = image.resize(size, Image.Resampling.BOX)
    tiny.info.clear()
    url = ""
    for quality in (20, 10, 0):
        file = io.BytesIO()
        tiny.save(file, "WEBP", quality=quality, method=4, alpha_quality=quality)
        url = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
        if len(url) <= PLACEHOLDER:
            break
        tiny = tiny.convert("RGB") if quality == 10 else tiny
    return url
