"""The web page, its documentation and the contracts: read once, compressed once, and cached by their content.

It must not know what the page does.
"""

import gzip
import hashlib
import json
import mimetypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from tornado.web import RequestHandler

from handlers.plain import refuse

Json = dict[str, Any]

TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".ts": "text/plain; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}
TEXT = {".js", ".ts", ".css", ".html", ".svg", ".txt", ".webmanifest"}

# What browsers look for at the top, and not under /web/.
AT_THE_TOP = {
    "": "index.html",
    "sw.js": "sw.js",
    "manifest.webmanifest": "manifest.webmanifest",
    "robots.txt": "robots.txt",
    "docs": "docs/index.html",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One file, as it goes out."""

    body: bytes
    zipped: bytes  # empty where compression does not make it smaller
    type: str
    etag: str


class Web:
    """The folder's files under their paths, and its version: the hash of all of them.

    In text files, `/web/` at the start of a quoted address becomes `/web/{version}/`, so the page names nothing that a
    browser would have to ask about again. Modules import each other by relative paths and follow. The service worker
    finds the version and the list of files in place of `{version}` and `{files}`.
    """

    def __init__(self, folder: Path) -> None:
        contents = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        }
        digest = hashlib.sha256()
        for name, body in contents.items():
            digest.update(f"{name} {len(body)}\n".encode() + body)
        self.version = digest.hexdigest()[:16]
        self.pages = {name: self._page(name, body, list(contents)) for name, body in contents.items()}

    def _page(self, name: str, body: bytes, names: list[str]) -> Page:
        suffix = Path(name).suffix
        if name in AT_THE_TOP.values():
            text = body.decode().replace('"/web/', f'"/web/{self.version}/')
            kept = json.dumps([each for each in names if _is_kept(each)])
            body = text.replace("{version}", self.version).replace("['{files}']", kept).encode()
        kind = TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        return packed(body, kind, zip=suffix in TEXT)


def packed(body: bytes, kind: str, *, zip: bool = True) -> Page:
    """`kind` is the media type; `zip`: compression can make it smaller."""
    zipped = gzip.compress(body, 9, mtime=0) if zip else b""
    return Page(body, zipped if len(zipped) < len(body) else b"", kind, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _is_kept(name: str) -> bool:
    """Does the service worker keep this file? The journal needs neither the documentation nor types."""
    return name not in AT_THE_TOP.values() and not name.startswith("docs/") and ".d.ts" not in name


class CachedHandler(RequestHandler):
    """Answers with what stays the same while the server runs: compressed once, with an `ETag`."""

    def initialize(self) -> None:
        self.log_about = ""

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")
        self.set_header("Content-Type", "text/plain; charset=utf-8")

    def send(self, page: Page, *, immutable: bool = False) -> None:
        """`immutable`: what lies at this URL never changes."""
        self.set_header("Content-Type", page.type)
        self.set_header("ETag", page.etag)
        self.set_header("Vary", "Accept-Encoding")
        self.set_header("Cache-Control", "public, max-age=31536000, immutable" if immutable else "no-cache")
        if page.etag in self.request.headers.get("If-None-Match", ""):
            self.set_status(304)
            return
        body = page.body
        if page.zipped and "gzip" in self.request.headers.get("Accept-Encoding", ""):
            self.set_header("Content-Encoding", "gzip")
            body = page.zipped
        self.set_header("Content-Length", len(body))
        if self.request.method != "HEAD":
            self.write(body)

    def write_error(self, status_code: int, **_: Any) -> None:
        refuse(self, status_code)
        self.finish()


class ContractHandler(CachedHandler):
    """`/openapi.json` and `/asyncapi.json`. Tools at other origins may read them: they hold nothing of anybody."""

    def initialize(self, *, contract: Callable[[], Json]) -> None:
        super().initialize()
        self.contract = contract

    def get(self) -> None:
        self.set_header("Access-Control-Allow-Origin", "*")
        self.send(_published(self.contract))

    head = get


@cache
def _published(contract: Callable[[], Json]) -> Page:
    """At the first request, because a start should not wait for it."""
    return packed(msgspec.json.encode(contract()), "application/json")


class PageHandler(CachedHandler):
    """`/` and what else is at the top; `/web/{version}/{path}` for ever; `/web/{path}` to copy a file."""

    def initialize(self, *, web: Web, pictures: tuple[str, ...]) -> None:
        """`pictures` are the origins, other than our own, at which the storage shows pictures."""
        super().initialize()
        self.web = web
        self.pictures = " ".join(pictures)

    def get(self, path: str) -> None:
        self.set_header("Content-Security-Policy", self._policy())
        version, _, rest = path.removeprefix("web/").partition("/")
        immutable = path.startswith("web/") and version == self.web.version
        name = AT_THE_TOP.get(path) or (rest if immutable else path.removeprefix("web/"))
        page = self.web.pages.get(name)
        if page is None:
            refuse(self, 404, "nothing_here")
            return
        self.send(page, immutable=immutable)

    head = get

    def _policy(self) -> str:
        """Nothing from elsewhere, nothing inline, no text that becomes HTML or code (Trusted Types)."""
        return (
            "default-src 'none'; script-src 'self'; style-src 'self'; manifest-src 'self'; worker-src 'self'; "
            f"img-src 'self' data: blob: {self.pictures}; connect-src 'self' {self.pictures}; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
            "require-trusted-types-for 'script'; trusted-types dreamlog"
        )
