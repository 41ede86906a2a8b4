"""The contracts are valid, complete, and served so that tools can keep them."""

import asyncio
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from handlers import forms
from handlers.contracts import asyncapi, openapi
from handlers.conversation import ENDINGS
from handlers.problems import Invalid
from handlers.schemas import SENT
from tests import contract
from tests.client import ROOT, WITHIN, Api, Server, settings
from version import VERSION

MODULES = ROOT / ".venv" / "node_modules"


def errors(document: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    """What is wrong with `value` by a schema of this document."""
    validator = jsonschema_rs.validator_for({**schema, "components": document["components"]}, validate_formats=True)
    return [error.message for error in validator.iter_errors(value)]


def test_the_contract_of_the_calls_is_valid() -> None:
    """By the schema of OpenAPI 3.1, and with defaults that fit."""
    assert [str(error) for error in OpenAPIV31SpecValidator(openapi()).iter_errors()] == []


@pytest.mark.gen_test
async def test_the_contract_of_the_messages_is_valid() -> None:
    """AsyncAPI's own parser has no error, no warning and no hint."""
    parser = await asyncio.create_subprocess_exec(
        "node",
        str(Path(__file__).with_name("asyncapi.mjs")),
        str(MODULES) + "/",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    found, _ = await asyncio.wait_for(parser.communicate(json.dumps(asyncapi()).encode()), WITHIN)
    assert (found.decode(), parser.returncode) == ("", 0)


def test_the_contracts_name_their_version() -> None:
    """That of the server."""
    assert openapi()["info"]["version"] == asyncapi()["info"]["version"] == VERSION


def test_every_example_fits_its_schema() -> None:
    """Of bodies, answers and messages."""
    answers = [
        content
        for path in openapi()["paths"].values()
        for call in path.values()
        for part in (call.get("requestBody", {}), *call["responses"].values())
        for content in part.get("content", {}).values()
        if "example" in content
    ]
    assert len(answers) > 10
    for each in answers:
        assert errors(openapi(), each["schema"], each["example"]) == []
    for message in asyncapi()["components"]["messages"].values():
        assert errors(asyncapi(), message["payload"], message["examples"][0]["payload"]) == []


def test_the_schemas_refuse_what_is_wrong() -> None:
    """A limit, a missing field and an unknown one are errors."""
    login = {"$ref": "#/components/schemas/Login"}
    assert errors(openapi(), login, {"username": "ada", "password": "correct horse"}) == []
    for wrong in ({"username": "ada"}, {"username": "ada", "password": "short"}, {"username": 5, "password": "x" * 8}):
        assert errors(openapi(), login, wrong) != []
    fields = {"$ref": "#/components/schemas/DreamFields"}
    assert errors(openapi(), fields, {"title": "x" * 201}) != []
    assert errors(openapi(), fields, {"unknown": 1}) != []


def test_a_form_says_nothing_by_an_empty_part() -> None:
    """Browsers send one for each empty input. A form has no null."""
    form = {"$ref": "#/components/schemas/DreamForm"}
    assert errors(openapi(), form, {"dreamed_at": "", "mood": "", "tags": [""]}) == []
    for wrong in ({"dreamed_at": "yesterday"}, {"dreamed_at": None}, {"mood": None}, {"tags": [" "]}):
        assert errors(openapi(), form, wrong) != []


@pytest.mark.parametrize("tag", [" ", "\t\n", "\u00a0\u3000", "\x1c", "\x1f", "\x85", "\ufeff", "x", " x ", "\x1dx"])
def test_the_contract_and_the_server_agree_on_what_a_space_is(tag: str) -> None:
    """JavaScript's regular expressions, which JSON Schema uses, have other spaces than Python."""
    wrong = errors(openapi(), {"$ref": "#/components/schemas/DreamFields"}, {"tags": [tag]})
    try:
        forms.fields({"tags": [tag]})
    except Invalid:
        assert wrong != []
    else:
        assert wrong == []


def test_bounds_are_nights_or_times() -> None:
    """Or empty, as from an empty input."""
    parameters = {each["name"]: each["schema"] for each in openapi()["paths"]["/api/dreams"]["get"]["parameters"]}
    for name in ("from", "to"):
        for right in ("2026-11-22", "2026-11-22T06:10:00Z", ""):
            assert errors(openapi(), parameters[name], right) == []
        assert errors(openapi(), parameters[name], "yesterday") != []


def test_the_parts_of_a_signed_url_are_documented() -> None:
    """Its time and its signature are needed."""
    for call in openapi()["paths"]["/media/{key}"].values():
        needed = {each["name"] for each in call["parameters"] if each.get("required")}
        assert needed == {"key", "e", "s"}


def test_new_dreams_and_images_lead_to_the_calls_on_them() -> None:
    """With the ids of the answer."""
    paths = openapi()["paths"]
    made = paths["/api/dreams"]["post"]["responses"]["201"]["links"]
    assert {"getDream", "changeDream", "deleteDream", "addImages"} <= set(made)
    assert made["getDream"]["parameters"] == {"dream_id": "$response.body#/id"}
    added = paths["/api/dreams/{dream_id}/images"]["post"]["responses"]["201"]["links"]
    assert set(added) == {"deleteImage", "retryImage", "originalImage"}
    assert added["deleteImage"]["parameters"]["image_id"] == "$response.body#/images/0/id"


def test_a_body_that_is_no_json_has_no_schema() -> None:
    """Neither the manifest, which is an object, nor a stream of events is one text."""
    for path in ("/manifest.webmanifest", "/api/dreams/{dream_id}/events"):
        (content,) = openapi()["paths"][path]["get"]["responses"]["200"]["content"].values()
        assert content == {"schema": {}}


def test_the_parts_of_a_form_are_described() -> None:
    """Each repeated part is one value of its own media type."""
    form = openapi()["paths"]["/api/dreams"]["post"]["requestBody"]["content"]["multipart/form-data"]
    types = {field: each["contentType"] for field, each in form["encoding"].items()}
    assert types == {"images": "image/*", "positions": "text/plain", "tags": "text/plain"}


def test_the_messages_have_unions() -> None:
    """One for each direction, which generated clients take."""
    schemas = asyncapi()["components"]["schemas"]
    assert len(schemas["ServerMessage"]["oneOf"]) == len(SENT)
    assert errors(asyncapi(), schemas["ClientMessage"], {"type": "ping", "timestamp": 1}) == []
    assert errors(asyncapi(), schemas["ClientMessage"], {"type": "pong", "timestamp": 1}) != []


def test_every_channel_has_its_messages_and_close_codes() -> None:
    """Both WebSockets send all messages and close with all codes; the stream leaves out what it cannot answer."""
    channels = asyncapi()["channels"]
    for name in ("dream", "dreams"):
        assert {each["code"] for each in channels[name]["x-close-codes"]} == {code for code, _ in ENDINGS.values()}
        assert len(channels[name]["messages"]) >= len(SENT)
    assert {"ConnectionEstablished", "Pong"} & set(channels["events"]["messages"]) == set()
    codes = {each["code"]: each["then"] for each in channels["dream"]["x-close-codes"]}
    assert (codes[1000], codes[1012], codes[4101], codes[4400], codes[4403]) == (
        "stop",
        "reconnect",
        "reconnect",
        "stop",
        "stop",
    )


@pytest.mark.gen_test
async def test_the_contracts_are_served(data: Path, mongodb_uri: str) -> None:
    """To anybody, compressed, and again only after a change."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        for path, contract in (("/openapi.json", openapi()), ("/asyncapi.json", asyncapi())):
            answer = await api.call("GET", path)
            assert (answer.code, answer.headers["Content-Type"]) == (200, "application/json")
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert json.loads(answer.body) == contract
            zipped = await api.call("GET", path, headers={"Accept-Encoding": "gzip"})
            assert json.loads(gzip.decompress(zipped.body)) == contract
            again = await api.call("GET", path, headers={"If-None-Match": answer.headers["ETag"]})
            assert (again.code, again.body) == (304, b"")
            head = await api.call("HEAD", path)
            assert (head.code, head.body, head.headers["ETag"]) == (200, b"", answer.headers["ETag"])


PROBLEM = {"Content-Type": "application/problem+json"}
MISSING = b'{"type": "about:blank", "title": "Not Found", "status": 404, "detail": "There is none."}'


@pytest.mark.parametrize(
    ("method", "path", "status", "headers", "body"),
    [
        ("GET", "/api/dreams/1", 418, PROBLEM, MISSING),
        ("GET", "/api/dreams/1", 404, {"Content-Type": "text/html"}, MISSING),
        ("GET", "/api/dreams/1", 404, PROBLEM, b'{"status": 404}'),
        ("GET", "/api/dreams/1?since=1", 404, PROBLEM, MISSING[:-1] + b', "more": 1}'),
        ("GET", "/api/dreams/1", 503, PROBLEM, MISSING),
        ("DELETE", "/api/dreams/1", 204, {}, b"gone"),
    ],
    ids=["status", "type", "field", "more", "header", "body"],
)
def test_the_suite_notices_an_answer_that_is_not_documented(
    method: str, path: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    """Another status or media type, a missing or unknown field, a missing header, a body where there is none."""
    with pytest.raises(AssertionError):
        contract.answer(method, path, status, headers, body)


def test_the_suite_remembers_what_is_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by the name under which the contracts have it."""
    monkeypatch.setattr(contract, "seen", set())
    contract.answer("GET", "/api/dreams/1?since=5", 404, PROBLEM, MISSING)
    contract.message("events", '{"type": "heartbeat", "dream_id": "1", "revision": 2, "timestamp": 1.5}')
    contract.sent("dream", '{"type": "ping", "timestamp": 1}')
    contract.sent("dream", '{"type": "ping", "timestamp": "1"}')
    contract.sent("dream", "no JSON")
    contract.closed(4403)
    contract.closed(1006)
    expected = {"GET /api/dreams/{dream_id} 404", "events heartbeat", "dream ping", "close 4403"}
    assert contract.seen == expected <= contract.documented()


@pytest.mark.parametrize(
    "text", ['{"type": "news"}', '{"type": "pong", "timestamp": "1"}', '{"type": "pong", "timestamp": 1, "more": 1}']
)
def test_the_suite_notices_a_message_that_is_not_documented(text: str) -> None:
    """An unknown type, a wrong value, an unknown field."""
    with pytest.raises(AssertionError):
        contract.message("dream", text)


def test_the_suite_notices_a_close_code_that_is_not_documented() -> None:
    """A client could not know what to do."""
    with pytest.raises(AssertionError):
        contract.closed(4999)


@pytest.mark.parametrize(
    ("seen", "options", "status", "missing"),
    [
        ("documented()", ["--numprocesses=2"], 0, []),
        ("documented() - {'GET / 304', 'close 4102'}", ["--numprocesses=2"], 1, ["GET / 304", "close 4102"]),
        ("documented() - {'events error'}", [], 1, ["events error"]),
        ("set()", ["tests"], 0, []),
        ("set()", ["-k", "sees"], 0, []),
    ],
    ids=["all", "processes", "one", "path", "keyword"],
)
def test_a_whole_run_that_does_not_see_everything_fails(
    tmp_path: Path, seen: str, options: list[str], status: int, missing: list[str]
) -> None:
    """It names what it did not see; a run of chosen tests does not."""
    (tmp_path / "setup.cfg").write_text("[tool:pytest]\ntestpaths = tests\n")
    (tmp_path / "tests").mkdir()
    source = f"from tests.contract import documented, seen\n\ndef test_sees():\n    seen.update({seen})\n"
    (tmp_path / "tests" / "test_one.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(ROOT)
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=WITHIN)
    assert found.returncode == status, found.stdout + found.stderr
    listed = found.stdout.partition("never seen in this run")[2].split("\n")[1:]
    assert [line for line in listed if line and not line.startswith("=")] == missing
