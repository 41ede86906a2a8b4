"""The formats that the server accepts, recognized by the first bytes of a file.

Pure: it must not know how a picture is decoded.
"""

HEAD_BYTES = 64  # enough for the brands of every HEIC and AVIF file that we have seen
ACCEPTED = ("JPEG", "PNG", "WebP", "GIF", "HEIC", "AVIF", "TIFF", "BMP")  # their common names

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "HEIF": "image/heic",
    "AVIF": "image/avif",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
}
EXTENSIONS = {name: kind.partition("/")[2].replace("jpeg", "jpg") for name, kind in MEDIA_TYPES.items()}

_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
}
_AVIF = {b"avif", b"avis"}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}


def sniff(head: bytes) -> str | None:
    """Pillow's name of the format of a file that begins with `head` (`HEAD_BYTES` suffice); None if not accepted."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        # ISO 14496-12: the box's length, "ftyp", the major brand, a version, then the compatible brands.
        end = min(len(head), int.from_bytes(head[:4], "big"))
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
        return "AVIF" if brands & _AVIF else "HEIF" if brands & _HEIF else None
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
