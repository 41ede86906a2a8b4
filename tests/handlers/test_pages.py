"""The web page as the server sends it, and the rules that its files keep among themselves."""

import ast
import gzip
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urljoin

import pytest
from PIL import Image
from tornado.web import Application

from config import Config
from handlers.access import Access
from handlers.pages import Web
from storage.model import FAILURES
from tests.client import Api
from tests.handlers.conftest import application

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
MODULES = sorted(str(path.relative_to(WEB)) for path in WEB.rglob("*.js"))
# The browser starts the service worker; pages of others import the client library by its first name.
NOT_IMPORTED = {"sw.js", "frontend_example.js"}
IMPORT = re.compile(r"^(?:import|export) (?:[^'\n]* from )?'(\.{1,2}/[^']+)'", re.MULTILINE)


@pytest.fixture
def app() -> Application:
    access = Access(public_url="", trusted_proxies=())
    return application(Config(), access, web=Web(WEB), files=SimpleNamespace(origins=("https://pictures.example",)))


class Elements(HTMLParser):
    """Every tag of a page with its attributes, and the text inside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.inline = ""
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._within = tag

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within in {"script", "style"}:
            self.inline += data

    def addresses(self) -> list[str]:
        return [value for _, values in self.tags for name, value in values.items() if name in {"href", "src"}]


def index() -> Elements:
    return Elements((WEB / "index.html").read_text("utf-8"))


def imported(module: str) -> set[str]:
    """What `module` imports, and what that imports."""
    found: set[str] = set()
    todo = {module}
    while todo:
        name = todo.pop()
        found.add(name)
        named = {urljoin(name, each) for each in IMPORT.findall((WEB / name).read_text("utf-8"))}
        todo |= named - found
    return found - {module}


def words(language: str) -> dict[str, str]:
    """The page's texts in ENGLISH or CHINESE by name; the plural, where there is one."""
    source = (WEB / "words.js").read_text("utf-8")
    block = source[source.index(f"const {language} = {{") :].partition("\n}")[0]
    entry = r"^  (\w+):\s+(?:\{\s+one: '.*',\s+other: )?('.*'|\".*\")(?:,?\s+\})?,$"
    return {name: ast.literal_eval(text) for name, text in re.findall(entry, block, re.MULTILINE)}


@pytest.mark.gen_test
async def test_the_page_and_all_it_names_come_from_here(api: Api) -> None:
    """The policy is strict, nothing is inline, and each file has a URL whose content never changes."""
    page = await api.call("GET", "/")
    assert (page.code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["Cache-Control"] == "no-cache"
    policy = dict(each.strip().partition(" ")[::2] for each in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "no-referrer"

    elements = Elements(page.body.decode())
    assert elements.inline == ""
    assert [(tag, name) for tag, values in elements.tags for name in values if name.startswith("on")] == []
    assert [tag for tag, values in elements.tags if "style" in values or tag == "base"] == []

    worker = await api.call("GET", "/sw.js")
    assert worker.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert worker.headers["Cache-Control"] == "no-cache"
    version = re.findall(r"VERSION = '(\w+)'", worker.body.decode())[0]
    kept = ast.literal_eval(re.findall(r"FILES = (\[.*\])", worker.body.decode())[0])

    manifest = await api.call("GET", "/manifest.webmanifest")
    assert manifest.headers["Content-Type"] == "application/manifest+json"
    icons = ast.literal_eval(manifest.body.decode())["icons"]
    assert {each.get("purpose", "any") for each in icons} == {"any", "maskable"}

    named = {each for each in elements.addresses() if each != "/manifest.webmanifest"}
    named |= {icon["src"] for icon in icons} | {f"/web/{version}/{name}" for name in kept}
    named |= {f"/web/{version}/{name}" for name in imported("app.js")}
    for address in named:
        assert address.startswith(f"/web/{version}/"), address
        file = await api.call("GET", address)
        assert file.code == 200, address
        assert file.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert file.headers["Content-Type"].partition(";")[0] in {
            "text/javascript",
            "text/css",
            "text/plain",
            "image/svg+xml",
            "image/png",
        }, address
    assert f"/web/{version}/app.js" in named

    for icon in icons:
        body = (await api.call("GET", icon["src"])).body
        if icon["type"] == "image/png":
            width, height = Image.open(io.BytesIO(body)).size
            assert icon["sizes"] == f"{width}x{height}"
        else:
            assert (icon["type"], icon["sizes"], body[:4]) == ("image/svg+xml", "any", b"<svg")


@pytest.mark.gen_test
async def test_files_are_asked_for_as_browsers_and_proxies_do(api: Api) -> None:
    """The server answers ETags, gzip and HEAD, gives 404 outside the folder, and has short URLs for modules to copy."""
    source = (WEB / "client" / "dreamlog.js").read_bytes()
    short = await api.call("GET", "/web/client/dreamlog.js")
    assert (short.code, short.body) == (200, source)
    assert short.headers["Cache-Control"] == "no-cache"
    again = {"If-None-Match": f'W/{short.headers["ETag"]}, "other"'}
    unchanged = await api.call("GET", "/web/client/dreamlog.js", headers=again)
    assert (unchanged.code, unchanged.body) == (304, b"")
    assert unchanged.headers["ETag"] == short.headers["ETag"]
    assert (await api.call("GET", "/web/words.js", headers=again)).code == 200

    zipped = await api.call("GET", "/web/client/dreamlog.js", headers={"Accept-Encoding": "br, gzip"})
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert zipped.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(zipped.body) == source
    assert len(zipped.body) < len(source) / 2
    icon = await api.call("GET", "/web/icon-192.png", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in icon.headers

    head = await api.call("HEAD", "/web/client/dreamlog.js")
    assert (head.code, head.body, head.headers["Content-Length"]) == (200, b"", str(len(source)))

    # The name that the first API gave the client library.
    first_name = await api.call("GET", "/web/frontend_example.js")
    assert (first_name.code, first_name.headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
    assert b"'./client/dreamlog.js'" in first_name.body

    for path in [
        "/web/nothing.js",
        "/web/",
        "/web/../server.py",
        "/web/..%2fserver.py",
        "/web/%2e%2e/config.yaml",
        "/web/0123456789abcdef/app.js",
        "/web//etc/passwd",
        "/web/views",
        "/web/.gitignore",
        "/web/app.js/",
        "/web/app.js%00",
        "/index.html",
        "/sw.js/",
        "/app.js",
    ]:
        answer = await api.call("GET", path)
        assert answer.code == 404, path
        assert b"There is nothing at this URL." in answer.body
        assert "html" not in answer.headers["Content-Type"]
    for path in ["/", "/web/app.js"]:
        wrong = await api.call("POST", path, b"")
        assert (wrong.code, wrong.body) == (405, b"Methods that are allowed here: GET, HEAD.\n")
        assert wrong.headers["Allow"] == "GET, HEAD"


def test_the_version_follows_every_file(tmp_path: Path) -> None:
    """URLs change with any byte or name of a file, and with nothing else."""
    (tmp_path / "views").mkdir()
    (tmp_path / "index.html").write_text('<script src="/web/app.js"></script>')
    (tmp_path / "views" / "list.js").write_text("export {}")
    first = Web(tmp_path)
    assert Web(tmp_path).version == first.version
    assert first.pages["index.html"].body.decode() == f'<script src="/web/{first.version}/app.js"></script>'
    (tmp_path / "views" / "list.js").write_text("export {};")
    changed = Web(tmp_path)
    assert changed.version != first.version
    assert changed.pages["index.html"].etag != first.pages["index.html"].etag
    (tmp_path / "views" / "list.js").rename(tmp_path / "views" / "lists.js")
    assert Web(tmp_path).version not in {first.version, changed.version}


def test_every_module_belongs_to_the_page() -> None:
    """`app.js` or the documentation imports every module, directly or not, except those on a short list."""
    starts = {"app.js", "docs/docs.js"}
    assert set(MODULES) - imported("app.js") - imported("docs/docs.js") - starts == NOT_IMPORTED


def test_the_browser_fetches_all_modules_at_once() -> None:
    """The page preloads exactly what `app.js` imports: one round instead of one for each step of imports."""
    preloaded = [values["href"] for _, values in index().tags if values.get("rel") == "modulepreload"]
    assert sorted(preloaded) == sorted(f"/web/{name}" for name in imported("app.js"))


def test_every_word_is_used() -> None:
    """The page uses every text, and each failure of an image has its sentence."""
    sources = {name: (WEB / name).read_text("utf-8") for name in MODULES}
    sources["words.js"] = sources["words.js"].partition("const LANGUAGES")[2]
    text = "".join(sources.values())
    said = set(re.findall(r"'(\w+)'", text))
    begun = tuple(re.findall(r"`(\w+_)\$\{", text))  # as `lucidity_${n}`
    left_over = {word for word in words("ENGLISH") if word not in said and not word.startswith(begun)}
    assert left_over - set(FAILURES) == set()
    assert set(FAILURES) <= set(words("ENGLISH"))


def test_both_languages_say_the_same() -> None:
    """Every text exists in both languages, with the same placeholders."""
    english, chinese = words("ENGLISH"), words("CHINESE")
    assert list(english) == list(chinese)
    assert len(english) > 100
    for name, text in english.items():
        places = sorted(re.findall(r"\{\w+\}", text))
        assert places == sorted(re.findall(r"\{\w+\}", chinese[name])), name
