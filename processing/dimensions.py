"""How large a picture says it is: width and height from the head of its file, without decoding it.

Pure: it must not know how a picture is decoded. Every device can so show the picture's box in its final shape while it
is being processed. What a file says may be wrong; what was decoded has the last word.
"""

import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

Size = tuple[int, int]

STEPS = 512  # segments, chunks, boxes or tags that are looked at, at most: some are made to have no end
EXIF_BYTES = 65536  # of an Exif block that are read; in a JPEG it cannot have more
BOX_BYTES = 1 << 20  # of a HEIC's or AVIF's description; a picture of hundreds of tiles needs some ten thousand
ORIENTATION = 0x0112
LYING = (5, 6, 7, 8)  # the orientations in which the upright picture's width is the stored one's height


class _Unreadable(Exception):
    """It ends too early, or says nothing that makes sense."""


def size(file: BinaryIO, format: str) -> Size | None:
    """Upright width and height in pixels of a `format`, as `formats.sniff` names it; None: it does not tell.

    Never raises for what the file contains. Reads a bounded part of it, and seeks over the rest.
    """
    try:
        width, height = _READERS[format](file)
    except (_Unreadable, struct.error, OverflowError, ValueError, OSError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _jpeg(file: BinaryIO) -> Size:
    """ITU T.81, B.1.1: segments, each with its length; the frame header (SOF) has the size."""
    orientation, at = 1, 2
    for _ in range(STEPS):
        mark, kind = _read(file, at, 2)
        if mark != 0xFF:
            raise _Unreadable
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        length = _number(file, at + 2, ">H")
        if kind == 0xE1 and orientation == 1 and _read(file, at + 4, 6) == b"Exif\0\0":
            orientation = _orientation(_some(file, at + 10, length - 8))
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", _read(file, at + 5, 4))
            return _upright((width, height), orientation)
        at += 2 + length
    raise _Unreadable


def _png(file: BinaryIO) -> Size:
    """PNG, third edition, 11.2.2 IHDR and 11.3.3.3 eXIf."""
    found: Size = struct.unpack(">II", _read(file, 16, 8))
    at = 8
    for _ in range(STEPS):
        length, kind = struct.unpack(">I4s", _read(file, at, 8))
        if kind == b"eXIf":
            return _upright(found, _orientation(_some(file, at + 8, length)))
        if kind in (b"IDAT", b"IEND"):
            break
        at += 12 + length
    return found


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
    if head[0] & 0x08:  # there is an Exif chunk, behind the frames
        at = 12
        for _ in range(STEPS):
            chunk, length = struct.unpack("<4sI", _read(file, at, 8))
            if chunk == b"EXIF":
                return _upright(canvas, _orientation(_some(file, at + 8, length).removeprefix(b"Exif\0\0")))
            at += 8 + length + length % 2
    return canvas


def _gif(file: BinaryIO) -> Size:
    """GIF89a, 18: the logical screen."""
    found: Size = struct.unpack("<HH", _read(file, 6, 4))
    return found


def _bmp(file: BinaryIO) -> Size:
    """BITMAPCOREHEADER has 12 bytes, all later ones begin alike; a negative height means top-down rows."""
    if _number(file, 14, "<I") == 12:
        found: Size = struct.unpack("<HH", _read(file, 18, 4))
        return found
    width, height = struct.unpack("<ii", _read(file, 18, 8))
    return width, abs(height)


def _tiff(file: BinaryIO) -> Size:
    """TIFF 6.0, section 2: the first directory."""
    tags = _tags(lambda at, length: _read(file, at, length))
    return _upright((tags.get(0x0100, 0), tags.get(0x0101, 0)), tags.get(ORIENTATION, 1))


def _heif(file: BinaryIO) -> Size:
    """ISO 23008-12: size (`ispe`, `clap`) and turns (`irot`) of the primary item; decoders turn by these, not Exif."""
    for kind, at, end in _boxes(file, 0, 1 << 62):
        if kind == b"meta":
            if end - at > BOX_BYTES:
                raise _Unreadable
            return _primary(file, at + 4, end)
    raise _Unreadable


def _primary(file: BinaryIO, at: int, end: int) -> Size:
    boxes = {kind: (start, stop) for kind, start, stop in _boxes(file, at, end)}
    start, _ = boxes.get(b"pitm", (0, 0))
    item = _number(file, start + 4, ">I" if _read(file, start, 1)[0] else ">H")
    properties = {kind: (start, stop) for kind, start, stop in _boxes(file, *boxes.get(b"iprp", (0, 0)))}
    known = list(_boxes(file, *properties.get(b"ipco", (0, 0))))
    found: Size | None = None
    turned = False
    for index in _associated(file, item, *properties.get(b"ipma", (0, 0))):
        if not 1 <= index <= len(known):
            continue
        kind, start, _ = known[index - 1]
        if kind == b"ispe":
            found = struct.unpack(">II", _read(file, start + 4, 8))
        elif kind == b"clap":  # a part of what was encoded, which comes in whole blocks
            width, over, height, under = struct.unpack(">4I", _read(file, start, 16))
            found = width // max(1, over), height // max(1, under)
        elif kind == b"irot":
            turned = bool(_read(file, start, 1)[0] & 1)
    if found is None:
        raise _Unreadable
    return found[::-1] if turned else found


def _associated(file: BinaryIO, item: int, at: int, end: int) -> Iterator[int]:
    """Which properties are the item's, counted from 1 (`ipma`, ISO 23008-12, 9.3)."""
    data = _read(file, at, min(end - at, BOX_BYTES))
    if len(data) < 8:
        raise _Unreadable
    version, wide = data[0], data[3] & 1
    count, place = int.from_bytes(data[4:8], "big"), 8
    for _ in range(min(count, len(data))):
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
    """Kind, start and end of what is in each box between the two places (ISO 14496-12, 4.2)."""
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


def _orientation(exif: bytes) -> int:
    """Exif 2.32, 4.6.4: 1 to 8; 1 where it is not told."""

    def read(at: int, length: int) -> bytes:
        if at + length > len(exif):
            raise _Unreadable
        return exif[at : at + length]

    try:
        return _tags(read).get(ORIENTATION, 1)
    except (_Unreadable, struct.error):
        return 1


def _tags(read: Callable[[int, int], bytes]) -> dict[int, int]:
    """The single SHORT and LONG numbers of the first directory."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(read(0, 4))
    if order is None:
        raise _Unreadable
    at = struct.unpack(order + "I", read(4, 4))[0]
    tags: dict[int, int] = {}
    for n in range(min(STEPS, struct.unpack(order + "H", read(at, 2))[0])):
        tag, kind, count = struct.unpack(order + "HHI", read(at + 2 + 12 * n, 8))
        if count == 1 and kind in (3, 4):
            value = read(at + 10 + 12 * n, 4)
            tags[tag] = struct.unpack(order + "H", value[:2])[0] if kind == 3 else struct.unpack(order + "I", value)[0]
    return tags


def _upright(stored: Size, orientation: int) -> Size:
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
    """As many of these bytes as there are, and as an Exif block may have."""
    file.seek(at)
    return file.read(max(0, min(length, EXIF_BYTES)))


_READERS: dict[str, Callable[[BinaryIO], Size]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
    "TIFF": _tiff,
    "HEIF": _heif,
    "AVIF": _heif,
}
