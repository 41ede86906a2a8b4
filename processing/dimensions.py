"""A picture's width and height as its file states them, read without decoding.

Pure: it must not know how a picture is decoded. With the size, every device can lay out the picture's box before the
picture is rendered. A file may state a wrong size; rendering corrects it.
"""

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

Size = tuple[int, int]

MAX_SIDE = 2**31 - 1  # pixels of a side, as in PNG (7.1, integers); no format allows more
# Limit of segments, chunks, boxes, items or tags to read, because hostile files have no end. Enough for 64 MB of a
# JPEG's segments, 8 MB of a PNG in libpng's chunks of 8 KiB, and a HEIC of 100 megapixels in tiles of 512 x 512.
STEPS = 1024
METADATA_BYTES = 65536  # of Exif and of XMP to read; a segment of a JPEG cannot be longer
BOX_BYTES = 1 << 20  # of the description in HEIC or AVIF to read; one of hundreds of tiles has some ten thousand
ORIENTATION = 0x0112
LYING = (5, 6, 7, 8)  # the orientations that swap width and height

_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_IN_PNG = b"XML:com.adobe.xmp\0\0"  # the second zero means: not compressed
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_NUMBERS = {3: "H", 4: "I", 8: "h", 9: "i"}  # TIFF 6.0, section 2: SHORT, LONG, SSHORT, SLONG


class _Unreadable(Exception):
    """The file ends too early or is malformed."""


def size(file: BinaryIO, format: str) -> Size | None:
    """Upright width and height in pixels of a file in `format` (see `formats.sniff`); None if the file has none.

    Never raises for what the file contains. On each level of a format it takes at most `STEPS` steps, each a few reads
    of a few bytes. It also reads `METADATA_BYTES` twice or `BOX_BYTES` once, and seeks over the rest.
    """
    read = _READERS[format]
    try:
        width, height = read(file)
    except (_Unreadable, struct.error, KeyError, OverflowError, ValueError, OSError):
        return None
    return (width, height) if 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE else None


def _jpeg(file: BinaryIO) -> Size:
    """ITU T.81, B.1.1: segments, each with its length, up to the scan (SOS); the frame header (SOF) has the size."""
    found: Size | None = None
    exif, xmp, at = b"", (0, 0), 2
    for _ in range(STEPS):
        mark, kind, length = struct.unpack(">BBH", _read(file, at, 4))
        if mark != 0xFF:
            raise _Unreadable
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        if kind == 0xDA and found is not None:
            return _upright(found, exif, _some(file, *xmp))
        if kind == 0xE1:
            name = _some(file, at + 4, min(length - 2, len(_XMP)))
            if name.startswith(_EXIF):  # long Exif continues in the next segment
                exif += _some(file, at + 10, min(length - 8, METADATA_BYTES - len(exif)))
            elif name == _XMP:
                xmp = at + 4 + len(_XMP), length - 2 - len(_XMP)
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", _read(file, at + 5, 4))
            found = width, height
        at += 2 + length
    raise _Unreadable


def _png(file: BinaryIO) -> Size:
    """PNG, third edition, 11.2 and 11.3: IHDR; eXIf and iTXt (XMP) may also follow the pixels."""
    found: Size = struct.unpack(">II", _read(file, 16, 8))
    exif, xmp, at = (0, 0), (0, 0), 8
    for _ in range(STEPS):
        head = _some(file, at, 8)
        kind = head[4:]
        if len(head) < 8 or kind == b"IEND":
            break
        length = int.from_bytes(head[:4], "big")
        if kind == b"eXIf":
            exif = at + 8, length
        elif kind == b"iTXt" and _some(file, at + 8, len(_XMP_IN_PNG)) == _XMP_IN_PNG:
            xmp = at + 8, length
        at += 12 + length
    return _upright(found, _some(file, *exif), _some(file, *xmp))


def _webp(file: BinaryIO) -> Size:
    """RFC 9649, 2.5 to 2.7; RFC 6386, 9.1 for the lossy frame."""
    kind, head = _read(file, 12, 4), _read(file, 20, 10)
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", head[6:])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind != b"VP8X":
        raise _Unreadable
    canvas = int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    # Metadata follows the frames, and counts only if the header announces it.
    announced = {name for name, flag in ((b"EXIF", 0x08), (b"XMP ", 0x04)) if head[0] & flag}
    places: dict[bytes, tuple[int, int]] = {}
    at = 12
    for _ in range(STEPS):
        chunk = _some(file, at, 8)
        if len(chunk) < 8 or announced <= places.keys():
            break
        kind, length = chunk[:4], int.from_bytes(chunk[4:], "little")
        if kind in announced:
            places.setdefault(kind, (at + 8, length))
        at += 8 + length + length % 2
    exif, xmp = (_some(file, *places.get(name, (0, 0))) for name in (b"EXIF", b"XMP "))
    return _upright(canvas, exif, xmp)


def _gif(file: BinaryIO) -> Size:
    """GIF89a, 18 and 20: the logical screen; decoders enlarge it to the first frame, and so does this."""
    width, height, flags = struct.unpack("<HHB", _read(file, 6, 5))
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    inside = False  # an extension: a chain of blocks, the last one empty
    for _ in range(STEPS):
        first = _read(file, at, 1)
        if inside:
            inside = first != b"\0"
            at += 1 + first[0]
        elif first == b"!":
            inside = True
            at += 2
        elif first == b",":
            left, top, wide, high = struct.unpack("<4H", _read(file, at + 1, 8))
            return max(width, left + wide), max(height, top + high)
        else:
            break
    return width, height


def _bmp(file: BinaryIO) -> Size:
    """BITMAPCOREHEADER has 12 bytes; all later headers begin alike. A negative height means top-down rows."""
    if _number(file, 14, "<I") == 12:
        found: Size = struct.unpack("<HH", _read(file, 18, 4))
        return found
    width, height = struct.unpack("<ii", _read(file, 18, 8))
    return width, abs(height)


def _tiff(file: BinaryIO) -> Size:
    """TIFF 6.0, section 2: the first directory."""
    tags = _tags(lambda at, length: _some(file, at, length))
    stored = tags.get(0x0100, 0), tags.get(0x0101, 0)
    return stored[::-1] if tags.get(ORIENTATION) in LYING else stored


def _heif(file: BinaryIO) -> Size:
    """ISO 23008-12, 6.5: the encoded size (`ispe`), cropped (`clap`) and rotated (`irot`) in the file's order.

    Decoders ignore Exif here.
    """
    return _shown(_properties(file))


def _avif(file: BinaryIO) -> Size:
    """As HEIC, but not cropped: libavif leaves cropping to its caller, and Pillow does not crop."""
    return _shown([(kind, body) for kind, body in _properties(file) if kind != b"clap"])


def _shown(properties: list[tuple[bytes, bytes]]) -> Size:
    width, height = struct.unpack_from(">4x2I", dict(properties)[b"ispe"])
    for kind, body in properties:
        if kind == b"clap":  # codecs encode whole blocks, which may be larger than the picture
            wide, over, high, under = struct.unpack(">4I", body)
            if not over or not under:
                raise _Unreadable
            # libheif rounds in the same way.
            width, height = (wide + over // 2) // over, (high + under // 2) // under
        elif kind == b"irot" and body and body[0] & 1:  # an odd number of quarter turns
            width, height = height, width
    return width, height


def _properties(file: BinaryIO) -> list[tuple[bytes, bytes]]:
    """Kind and first 16 bytes of each property of the primary item, in the order in which they apply."""
    at, end = next(((at, end) for kind, at, end in _boxes(file, 0, 1 << 62) if kind == b"meta"), (0, 0))
    if not at or end - at > BOX_BYTES:
        raise _Unreadable
    boxes = _inside(file, at + 4, end)
    start, _ = boxes[b"pitm"]
    item = _number(file, start + 4, ">I" if _read(file, start, 1)[0] else ">H")
    parts = _inside(file, *boxes[b"iprp"])
    known = list(_boxes(file, *parts[b"ipco"]))
    found = [known[index - 1] for index in _associated(file, item, *parts[b"ipma"]) if 1 <= index <= len(known)]
    return [(kind, _some(file, start, min(stop - start, 16))) for kind, start, stop in found]


def _inside(file: BinaryIO, at: int, end: int) -> dict[bytes, tuple[int, int]]:
    return {kind: (start, stop) for kind, start, stop in _boxes(file, at, end)}


def _associated(file: BinaryIO, item: int, at: int, end: int) -> Iterator[int]:
    """The numbers, from 1, of the item's properties (`ipma`, ISO 23008-12, 9.3)."""
    data = _read(file, at, min(end - at, BOX_BYTES))
    if len(data) < 8:
        raise _Unreadable
    version, wide = data[0], data[3] & 1
    count, place = int.from_bytes(data[4:8], "big"), 8
    for _ in range(min(count, STEPS)):
        length = 4 if version else 2
        this, number = int.from_bytes(data[place : place + length], "big"), data[place + length : place + length + 1]
        place += length + 1
        if not number:
            return
        each = 2 if wide else 1
        if this == item:
            for n in range(number[0]):
                raw = int.from_bytes(data[place + n * each : place + (n + 1) * each], "big")
                yield raw & (0x7FFF if wide else 0x7F)
            return
        place += number[0] * each


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and start and end of the content, of each box from `at` to `end` (ISO 14496-12, 4.2)."""
    for _ in range(STEPS):
        if at + 8 > end:
            return
        length, kind = struct.unpack(">I4s", _read(file, at, 8))
        start = at + 8
        if length == 1:
            length, start = _number(file, start, ">Q"), start + 8
        stop = end if length == 0 else at + length
        if stop < start or stop > end:
            raise _Unreadable
        yield kind, start, stop
        at = stop


def _tags(read: Callable[[int, int], bytes]) -> dict[int, int]:
    """The integers in the first directory (TIFF 6.0, section 2). Of a truncated directory, those before its end."""
    tags: dict[int, int] = {}
    order = _ORDERS.get(read(0, 4))
    if order is None:
        return tags
    with suppress(struct.error):
        (at,) = struct.unpack(order + "I", read(4, 4))
        (entries,) = struct.unpack(order + "H", read(at, 2))
        for n in range(min(STEPS, entries)):
            tag, kind, count, value = struct.unpack(order + "HHI4s", read(at + 2 + 12 * n, 12))
            number = order + _NUMBERS.get(kind, "")
            if 0 < count * struct.calcsize(number) <= len(value):  # otherwise the value is elsewhere
                tags.setdefault(tag, struct.unpack_from(number, value)[0])
    return tags


def _upright(stored: Size, exif: bytes, xmp: bytes) -> Size:
    """The upright size, by the orientation in Exif (2.32, 4.6.4), or in XMP if Exif has none."""
    exif = exif.removeprefix(_EXIF).removeprefix(_EXIF)  # some programs write the prefix twice, or where it is wrong
    orientation = _tags(lambda at, length: exif[at : at + length]).get(ORIENTATION)
    if orientation is None and (match := re.search(rb'tiff:Orientation(?:="|>)([0-9])', xmp)):
        orientation = int(match[1])
    return stored[::-1] if orientation in LYING else stored


def _number(file: BinaryIO, at: int, format: str) -> int:
    found: int = struct.unpack(format, _read(file, at, struct.calcsize(format)))[0]
    return found


def _read(file: BinaryIO, at: int, length: int) -> bytes:
    file.seek(at)
    data = file.read(max(0, length))
    if len(data) < length:
        raise _Unreadable
    return data


def _some(file: BinaryIO, at: int, length: int) -> bytes:
    """Up to `length` bytes, and at most METADATA_BYTES."""
    file.seek(at)
    return file.read(max(0, min(length, METADATA_BYTES)))


_READERS: dict[str, Callable[[BinaryIO], Size]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
    "TIFF": _tiff,
    "HEIF": _heif,
    "AVIF": _avif,
}
