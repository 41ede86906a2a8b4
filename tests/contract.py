"""Holds the answers and messages of the whole suite against the contracts, and remembers which of them were seen.

What the contracts say is what a server publishes: `tests/handlers/test_contracts.py` compares the two.
"""

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import jsonschema_rs

from handlers.contracts import asyncapi, openapi

Json = dict[str, Any]

PROBLEM = "application/problem+json"
# Documented nowhere, because every call may answer so: a mistake of the server, of the method, or of HTTP itself.
ANYWHERE = {405, 500}
# Codes that no server sends: the connection was cut, or closed without a code.
NO_CODE = {None, 1005, 1006}

seen: set[str] = set()


def documented() -> set[str]:
    """Everything that a full run of the suite must have seen, as `answer`, `message` and `closed` write it."""
    answers = {
        f"{method.upper()} {path} {status}"
        for path, calls in openapi()["paths"].items()
        for method, call in calls.items()
        for status in call["responses"]
    }
    messages = {f"{channel} {kind}" for channel in asyncapi()["channels"] for kind in _messages(channel)}
    return answers | messages | {f"close {code}" for code in _close_codes()}


def never_seen() -> list[str]:
    """What of `documented` no test has seen so far."""
    return sorted(documented() - seen)


def answer(method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Fails when an answer to `method` at `path` (with or without a query) is not as documented."""
    found = _call(path.partition("?")[0])
    if found is None or method.lower() not in found[1]:
        return
    template, calls = found
    where = f"{method} {template} {status}"
    response = calls[method.lower()]["responses"].get(str(status))
    if response is None:
        assert status in ANYWHERE, f"{where} is not documented"
        response = {"content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for name in response.get("headers", {}):
        assert name in headers, f"{where} lacks {name}"
    _body(where, response.get("content", {}), headers, body)
    seen.add(where)


def message(channel: str, text: str | bytes) -> None:
    """Fails when a message of a server, or one that a client sent and a server takes, is not as documented."""
    value = json.loads(text)
    kind = str(value.get("type"))
    where = f"{channel} {kind}"
    assert kind in _messages(channel), f"{where} is not documented"
    _check(where, "asyncapi", _messages(channel)[kind], value)
    seen.add(where)


def sent(channel: str, text: str | bytes) -> None:
    """Remembers a message from a client that is as documented; others are sent to see them refused."""
    try:
        message(channel, text)
    except (AssertionError, AttributeError, ValueError):
        return


def channel(path: str) -> str:
    """The channel of messages that a path opens."""
    if not path.startswith("/ws/"):
        return "events"
    return "dream" if path.removeprefix("/ws/dream-images").strip("/") else "dreams"


def closed(code: int | None) -> None:
    """Fails when a WebSocket was closed with another code than those that are documented."""
    if code not in NO_CODE:
        assert code in _close_codes(), f"close code {code} is not documented"
        seen.add(f"close {code}")


# ---- inside


def _body(where: str, content: Json, headers: Mapping[str, str], body: bytes) -> None:
    kind = headers.get("Content-Type", "").partition(";")[0]
    if not content:
        assert body == b"", f"{where} has a body"
        return
    media = next((each for each in content if fnmatch.fnmatch(kind, each)), None)
    assert media is not None, f"{where} has the type {kind}, not one of {list(content)}"
    if media in ("application/json", PROBLEM) and content[media]["schema"] and "Content-Encoding" not in headers:
        _check(where, "openapi", content[media]["schema"], json.loads(body))


def _check(where: str, contract: str, schema: Json, value: Any) -> None:
    wrong = [each.message for each in _validator(contract, json.dumps(schema)).iter_errors(value)]
    assert wrong == [], f"{where}: {wrong}"


@cache
def _validator(contract: str, schema: str) -> Any:
    document = openapi() if contract == "openapi" else asyncapi()
    whole = {**json.loads(schema), "components": {"schemas": _closed(document["components"]["schemas"])}}
    return jsonschema_rs.validator_for(whole, validate_formats=True)


def _closed(schema: Any) -> Any:
    """The schema without the room for later fields: this server sends exactly the fields of its own contract."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _closed(each) for key, each in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        found.setdefault("additionalProperties", False)
    return found


def _call(path: str) -> tuple[str, Json] | None:
    """The documented path that this one is, and its calls."""
    paths: Json = openapi()["paths"]
    if path in paths:
        return path, paths[path]
    return next(((each, calls) for each, calls in paths.items() if _pattern(each).fullmatch(path)), None)


@cache
def _pattern(template: str) -> re.Pattern[str]:
    parts: Iterable[str] = re.split(r"\{(\w+)\}", template)
    kinds = {"image_id": r"\d{1,9}", "key": ".+", "path": ".+"}
    return re.compile("".join(kinds.get(part, "[^/]+") if n % 2 else re.escape(part) for n, part in enumerate(parts)))


@cache
def _messages(channel: str) -> dict[str, Json]:
    """The schema of each message of a channel, by its type."""
    components = asyncapi()["components"]["messages"]
    found = [components[name] for name in asyncapi()["channels"][channel]["messages"]]
    return {each["name"]: each["payload"] for each in found}


@cache
def _close_codes() -> set[int]:
    channels = asyncapi()["channels"].values()
    return {each["code"] for channel in channels for each in channel.get("x-close-codes", [])}
