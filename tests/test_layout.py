"""The rules of the layout: what a module may import and load, where its tests are, what the documents name."""

import ast
import configparser
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.httputil import HTTPServerRequest, RequestStartLine
from tornado.routing import URLSpec
from tornado.web import Application

from config import Config
from handlers.access import Access
from handlers.routes import Parts, routes

ROOT = Path(__file__).parents[1]
# Each may import what stands left of it, and its own.
ORDER = ["version", "linux", "meters", "config", "storage", "processing", "handlers", "commands", "server"]
PURE = [
    "storage/model.py",
    "storage/errors.py",
    "storage/presign.py",
    "processing/formats.py",
    "processing/dimensions.py",
    "handlers/bodies.py",
    "handlers/messages.py",
    "handlers/requests.py",
    "handlers/operations.py",
    "handlers/schemas.py",
    "handlers/contracts.py",
    "handlers/typescript.py",
    "handlers/body.py",
    "handlers/forms.py",
    "handlers/language.py",
    "handlers/problems.py",
    "handlers/sentences.py",
    "handlers/rates.py",
    "handlers/limits.py",
    "handlers/views.py",
    "handlers/conversation.py",
    "handlers/subscribers.py",
    "handlers/tokens.py",
]
# These wait for each other's tasks, and reach nothing outside.
WITHOUT_MACHINERY = [*PURE, "storage/locks.py", "storage/coalescer.py"]
MACHINERY = {"motor", "pymongo", "bson", "tornado", "aiofiles", "oss2", "PIL"}

# Modules whose tests stand in another place.
ELSEWHERE = {
    "server.py": "journeys/test_stop.py",  # it only joins the others: what it promises shows on a whole server
    "handlers/answers.py": "handlers/test_dreams.py",
}
# What is loaded only by who uses it: the reason stands there.
LATE = {"storage/resources.py": ["storage.oss"]}


def modules() -> list[str]:
    found = [path for name in ORDER for path in (ROOT / f"{name}.py", *sorted((ROOT / name).glob("**/*.py")))]
    return [str(path.relative_to(ROOT)) for path in found if path.exists()]


def files_of_tests() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("**/*.py"))


def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text("utf-8"), module)


def imports(node: ast.AST) -> Iterator[str]:
    """The dotted names of what is imported anywhere below `node`."""
    for each in ast.walk(node):
        if isinstance(each, ast.Import):
            yield from (alias.name for alias in each.names)
        elif isinstance(each, ast.ImportFrom):
            assert each.level == 0, "imports are absolute"
            # `from processing import formats` is an import of processing.formats.
            whole = [f"{each.module}.{alias.name}" for alias in each.names] if each.module in ORDER else []
            yield from whole or [str(each.module)]


def roots(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(tree(module))}


def home(module: str) -> str:
    """The package, or the module that is one by itself."""
    return module.partition("/")[0].removesuffix(".py")


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_stands_left_of_it(module: str) -> None:
    """linux, config <- storage <- processing <- handlers <- commands <- server."""
    allowed = ORDER[: ORDER.index(home(module)) + 1]
    assert not (roots(module) & set(ORDER)) - set(allowed)


def test_nothing_imports_the_server() -> None:
    """Tests start it as a process, as a host does."""
    assert [module for module in modules() + files_of_tests() if "server" in roots(module)] == []


def test_no_two_modules_import_each_other() -> None:
    """The modules of a package have an order, too."""
    ours = {module.removesuffix(".py").replace("/", "."): module for module in modules()}
    left = {name: {found for found in imports(tree(module)) if found in ours} for name, module in ours.items()}
    while free := [name for name, needs in left.items() if not needs]:
        left = {name: needs - set(free) for name, needs in left.items() if name not in free}
    assert left == {}


SIDE_BY_SIDE = ["dreams", "events", "images", "websocket"]


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_handlers_stand_side_by_side(name: str) -> None:
    """Neither directly nor through other modules does one of these import another."""
    ours = {module.removesuffix(".py").replace("/", "."): module for module in modules()}
    found: set[str] = set()
    todo = {f"handlers.{name}"}
    while todo:
        todo = {each for module in todo for each in imports(tree(ours[module])) if each in ours} - found
        found |= todo
    assert found & {f"handlers.{each}" for each in SIDE_BY_SIDE} == set()


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_no_machinery(module: str) -> None:
    """No database, no web server, no files: values in, values out."""
    assert not roots(module) & (MACHINERY | {"asyncio", "socket"})


@pytest.mark.parametrize("module", WITHOUT_MACHINERY)
def test_a_pure_module_loads_no_machinery(module: str) -> None:
    """A fresh interpreter imports it alone, so that indirect imports show."""
    name = module.removesuffix(".py").replace("/", ".")
    code = f"import sys, {name}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert name in loaded.split()
    assert not {each.partition(".")[0] for each in loaded.split()} & MACHINERY


def test_no_two_public_classes_share_a_name() -> None:
    """One name means one thing in the whole tree."""
    classes = [
        (each.name, module)
        for module in modules()
        for each in ast.walk(tree(module))
        if isinstance(each, ast.ClassDef) and not each.name.startswith("_")
    ]
    counted = Counter(name for name, _ in classes)
    assert [each for each in classes if counted[each[0]] > 1] == []


# A handler only keeps its parts, except the access, which it asks for the host.
PARTS: dict[str, Any] = dict.fromkeys(
    (field.name for field in fields(Parts)), SimpleNamespace(origins=(), mailbox=lambda *_: None)
)
PARTS["access"] = Access(public_url="https://dreams.example.org", trusted_proxies=())
ROWS = routes(Config(), Parts(**PARTS))


@pytest.mark.gen_test
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.handler_class.__name__)
async def test_a_row_gives_its_handler_what_it_needs(row: URLSpec) -> None:
    """Tornado constructs a handler only when a request arrives, so a wrong row would not show at the start."""
    connection: Any = SimpleNamespace(set_close_callback=lambda callback: None)
    request = HTTPServerRequest(start_line=RequestStartLine("GET", "/", "HTTP/1.0"), connection=connection)
    row.handler_class(Application(), request, **(row.kwargs or {}))


def test_only_storage_knows_the_database() -> None:
    """Inside storage, only these modules import the driver."""
    knows = {module for module in modules() if roots(module) & {"motor", "pymongo", "bson"}}
    names = ("mongo", "mongod", "writes", "dreams", "jobs", "references", "users", "snapshot")
    assert knows == {f"storage/{name}.py" for name in names}


def test_only_one_module_updates_dreams() -> None:
    """So no change of a dream misses its lock, its revision, its `last` or its listeners."""
    calls = re.compile(r"_dreams\.(?:insert|update|replace|find_one_and|bulk_write)\w*\(")
    assert [module for module in modules() if calls.search((ROOT / module).read_text("utf-8"))] == ["storage/writes.py"]


def test_only_one_storage_knows_oss() -> None:
    """A server that stores on disk does not load the library."""
    knows = {module for module in modules() if roots(module) & {"oss2", "requests"}}
    assert knows == {"storage/oss.py", "storage/oss_errors.py"}


def test_only_handlers_and_the_server_know_the_web() -> None:
    """Storage and processing work without a web server."""
    assert {home(module) for module in modules() if "tornado" in roots(module)} <= {"handlers", "server"}


DECODERS = ["processing/child.py", "processing/png.py", "processing/render.py", "processing/resampling.py"]
CHILD = ["linux.py", *DECODERS]


def test_the_child_process_loads_little() -> None:
    """What each worker imports: the standard library, the decoders, and the list of formats."""
    found = {name for module in CHILD for name in imports(tree(module))}
    foreign = {name for name in found if name.partition(".")[0] not in sys.stdlib_module_names}
    own = {module.removesuffix(".py").replace("/", ".") for module in CHILD}
    assert foreign - own <= {"PIL", "pillow_heif", "isal", "cykooz_resizer", "processing.formats"}


def test_only_the_child_process_knows_decoders() -> None:
    """The server reads only the first bytes and the header of an image, without a decoder."""
    decoders = {"PIL", "pillow_heif", "isal", "cykooz_resizer"}
    assert [module for module in modules() if roots(module) & decoders] == DECODERS


@pytest.mark.parametrize("module", modules())
def test_imports_stand_at_the_top(module: str) -> None:
    """Only libraries that few servers need are imported inside a function."""
    functions = [each for each in ast.walk(tree(module)) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = [name for function in functions for name in imports(function)]
    assert found == LATE.get(module, [])


@pytest.mark.parametrize("module", modules() + [test for test in files_of_tests() if not test.endswith("__init__.py")])
def test_a_module_describes_its_purpose(module: str) -> None:
    """The first line of its docstring is a sentence."""
    docstring = ast.get_docstring(tree(module)) or ""
    assert docstring.partition("\n")[0].endswith((".", ":", "?"))


@pytest.mark.parametrize("module", [module for module in modules() if not module.endswith("__init__.py")])
def test_a_module_has_its_tests(module: str) -> None:
    """They stand in the same place under tests/, unless the list above names another."""
    folder, _, name = module.rpartition("/")
    expected = ELSEWHERE.get(module, f"{folder}/test_{name}")
    found = ROOT / "tests" / expected.lstrip("/")
    assert found.exists()
    assert "def test_" in found.read_text("utf-8")


def test_what_has_moved_is_not_looked_for_in_its_old_place() -> None:
    """The lists above name modules that exist."""
    assert set(ELSEWHERE) | set(PURE) <= set(modules())


def test_a_test_tests_something_that_is_there() -> None:
    """A test file of a module that was removed fails this test."""
    mirrored = [
        test
        for test in files_of_tests()
        if test.rpartition("/")[2].startswith("test_") and not {"journeys", "web"} & set(test.split("/"))
    ]
    sources = [test.removeprefix("tests/").replace("test_", "", 1) for test in mirrored]
    helpers = {test.removeprefix("tests/") for test in files_of_tests()}
    assert set(sources) - set(modules()) - helpers == {"layout.py"}


@pytest.mark.parametrize("module", [test for test in files_of_tests() if "/test_" in test])
def test_each_test_reads_as_a_sentence(module: str) -> None:
    """Its docstring is one line that ends like one."""
    for each in ast.walk(tree(module)):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name.startswith("test_"):
            docstring = ast.get_docstring(each) or ""
            assert docstring.endswith((".", "!", "?", "`", '"')), each.name
            assert "\n" not in docstring, each.name


def test_the_locks_are_up_to_date() -> None:
    """Every library of requirements.in and setup.cfg stands in its lock, in that version; else run `make lock`."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    pin = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", re.MULTILINE)
    for wanted, lock in (
        ((ROOT / "requirements.in").read_text("utf-8"), "requirements.txt"),
        (setup["options.extras_require"]["test"], "tests/requirements.txt"),
    ):
        names = [{(name.lower().replace("_", "-"), version) for name, version in pin.findall(text)}
                 for text in (wanted, (ROOT / lock).read_text("utf-8"))]  # fmt: skip
        assert names[0] - names[1] == set(), lock
