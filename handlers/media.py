"""The images of the local storage, at their signed URLs.

It must not know their owners: everybody who has a URL may see the image until the URL expires.
"""

import hashlib
import re
from typing import Any

from tornado.web import RequestHandler

from handlers.plain import refuse
from handlers.problems import from_error
from storage.errors import NotFound
from storage.local import LocalFiles

TYPES = {"jpg": "image/jpeg", "webp": "image/webp", "avif": "image/avif", "png": "image/png", "gif": "image/gif"}
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class MediaHandler(RequestHandler):
    """`/media/{key}?e={expires}&s={signature}`. The content of a key never changes."""

    def initialize(self, *, files: LocalFiles) -> None:
        self.files = files
        self.log_about = ""
        self.request_id = ""

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'none'; sandbox")
        self.set_header("Cross-Origin-Resource-Policy", "cross-origin")
        self.set_header("Access-Control-Allow-Origin", "*")  # the signature is the permission

    async def get(self, key: str) -> None:
        extension = key.rpartition(".")[2]
        if extension not in TYPES:
            return refuse(self, 404, "no_picture")
        if not self.files.allows(key, self.get_query_argument("e", ""), self.get_query_argument("s", "")):
            return refuse(self, 403, "url_expired")
        try:
            size = await self.files.size(key)
        except NotFound:
            return refuse(self, 404, "no_picture")
        etag = f'"{hashlib.sha256(key.encode()).hexdigest()[:32]}"'
        part = self._part(size, etag)
        if part == (0, 0):
            refuse(self, 416, "no_such_range")
            self.set_header("Content-Range", f"bytes */{size}")
            return None
        self.set_header("ETag", etag)
        self.set_header("Cache-Control", "private, max-age=31536000, immutable")
        self.set_header("Accept-Ranges", "bytes")
        if etag in self.request.headers.get("If-None-Match", ""):
            return self.set_status(304)
        start, length = part or (0, size)
        if part is not None:
            self.set_status(206)
            self.set_header("Content-Range", f"bytes {start}-{start + length - 1}/{size}")
        self.set_header("Content-Type", TYPES[extension])
        self.set_header("Content-Disposition", "inline")
        self.set_header("Content-Length", length)
        if self.request.method != "HEAD":
            async for piece in self.files.read(key, start, length):
                self.write(piece)
                await self.flush()
        return None

    head = get

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        refuse(self, from_error(error, "").status if status_code == 500 else status_code)
        self.finish()

    def _part(self, size: int, etag: str) -> tuple[int, int] | None:
        wanted = self.request.headers.get("Range")
        if wanted is None or self.request.headers.get("If-Range", etag) != etag:
            return None
        return byte_range(wanted, size)


def byte_range(wanted: str, size: int) -> tuple[int, int] | None:
    """Start and length of the header `Range` in `size` bytes (RFC 9110, 14.2).

    (0, 0) if the range lies outside the file. None for a header to ignore, because it asks for several parts or is
    malformed.
    """
    match = RANGE.fullmatch(wanted)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        return (size - length, length) if length else (0, 0)
    start, end = int(match[1]), int(match[2] or size - 1)
    if match[2] and end < start:
        return None
    return (start, min(end, size - 1) - start + 1) if start < size else (0, 0)
