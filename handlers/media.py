"""The pictures of the local storage, at their signed addresses.

It must not know whose they are: who has the address may see the picture until the address ends.
"""

import hashlib
import re

from tornado.web import RequestHandler

from storage.errors import NotFound
from storage.local import LocalFiles

TYPES = {"jpg": "image/jpeg", "webp": "image/webp", "avif": "image/avif", "png": "image/png", "gif": "image/gif"}
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class MediaHandler(RequestHandler):
    """`/media/{key}?e={ends}&s={signature}`. What lies under a key never changes."""

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
        self.set_header("Content-Type", "text/plain; charset=utf-8")

    async def get(self, key: str) -> None:
        extension = key.rpartition(".")[2]
        allowed = self.files.allows(key, self.get_query_argument("e", ""), self.get_query_argument("s", ""))
        if extension not in TYPES or not allowed:
            return self._end(404 if extension not in TYPES else 403)
        try:
            size = await self.files.size(key)
        except NotFound:
            return self._end(404)
        etag = f'"{hashlib.sha256(key.encode()).hexdigest()[:32]}"'
        self.set_header("ETag", etag)
        self.set_header("Cache-Control", "private, max-age=31536000, immutable")
        self.set_header("Accept-Ranges", "bytes")
        if etag in self.request.headers.get("If-None-Match", ""):
            return self._end(304)
        start, length = 0, size
        if self.request.headers.get("If-Range", etag) == etag and (wanted := self.request.headers.get("Range")):
            part = _part(wanted, size)
            if part == (0, 0):
                self.set_header("Content-Range", f"bytes */{size}")
                return self._end(416)
            if part is not None:
                start, length = part
                self.set_status(206)
                self.set_header("Content-Range", f"bytes {start}-{start + length - 1}/{size}")
        self.set_header("Content-Type", TYPES[extension])
        self.set_header("Content-Disposition", "inline")
        self.set_header("Content-Length", length)
        if self.request.method != "HEAD":
            async for piece in self.files.read(key, start, length):
                self.write(piece)
                await self.flush()

    head = get

    def _end(self, status: int) -> None:
        self.set_status(status)
        if status >= 400:
            self.set_header("Cache-Control", "no-store")
            self.write({403: "This address has run out or was changed.\n"}.get(status, "There is no such picture.\n"))

    def write_error(self, status_code: int, **_: object) -> None:
        self._end(status_code)
        self.finish()


def _part(wanted: str, size: int) -> tuple[int, int] | None:
    """Start and length of a `Range`; (0, 0) when it cannot be given, None when it is to be ignored (RFC 9110, 14.2)."""
    match = RANGE.fullmatch(wanted)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        return (size - length, length) if length else (0, 0)
    start, end = int(match[1]), min(int(match[2] or size - 1), size - 1)
    if match[2] and int(match[2]) < start:
        return None
    return (start, end - start + 1) if start < size else (0, 0)
