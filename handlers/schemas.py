"""The JSON Schemas of every body and message, made from their Structs.

Pure: it must not know which contract publishes them.
"""

import inspect
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

from handlers.bodies import ProblemBody
from handlers.conversation import ENDINGS
from handlers.messages import (
    ERRORS,
    SENTENCES,
    AuthenticateMessage,
    ConnectionEstablishedMessage,
    DreamDeletedMessage,
    ErrorMessage,
    HeartbeatMessage,
    ImageProgressMessage,
    ImageUpdateMessage,
    PingMessage,
    PongMessage,
    SubscribeMessage,
    TokenExpiringMessage,
    UnsubscribeMessage,
    error_message,
)
from handlers.operations import OPERATIONS
from storage.model import FAILURES

Json = dict[str, Any]
ROOT = "#/components/schemas/"

STREAMED = (
    ImageUpdateMessage,
    ImageProgressMessage,
    HeartbeatMessage,
    DreamDeletedMessage,
    TokenExpiringMessage,
    ErrorMessage,
)
SENT = (ConnectionEstablishedMessage, *STREAMED, PongMessage)
RECEIVED = (AuthenticateMessage, PingMessage)
RECEIVED_MANY = (*RECEIVED, SubscribeMessage, UnsubscribeMessage)


# What follows an `error` of a code, where the code alone does not say it.
STAYS_OPEN = {
    "bad_message": "stays open; the fifth closes with 4400",
    "not_found": "4403 on the channel of one dream, stays open on that of many",
    "too_many_dreams": "stays open",
}


def _follows(code: str) -> str:
    close, announced = ENDINGS.get(code, (0, True))
    return STAYS_OPEN.get(code) or (f"{close}" if announced else f"{close} without an `error`")


# Schemas that no Struct has.
CODES: Json = {
    "ErrorCode": {
        "type": "string",
        "enum": list(ERRORS),
        "description": "Why the server sends an `error`. In brackets: what the WebSocket does next. The event "
        "stream ends after each.\n\n"
        + "\n\n".join(f"`{code}` ({_follows(code)}): {SENTENCES['en'][code]}" for code in ERRORS),
    },
    "FailureCode": {
        "type": "string",
        "enum": list(FAILURES),
        "description": "Why an image has failed.\n\n"
        + "\n\n".join(f"`{code}`: {text}" for code, (text, _) in FAILURES.items()),
    },
}
EXAMPLES: Json = {"ErrorMessage": msgspec.to_builtins(error_message("rate_limited", "en", retry_after=30))}


def ref(kind: type[Struct]) -> Json:
    """A reference to a Struct's schema."""
    return {"$ref": ROOT + name(kind.__name__)}


def name(kind: str) -> str:
    """What a Struct of this name is called in the contracts. `Error` would hide JavaScript's own."""
    return kind if kind == ErrorMessage.__name__ else kind.removesuffix("Body").removesuffix("Message")


@cache
def schemas() -> Json:
    """The JSON Schema of every body and message, by name."""
    kinds = {kind for each in OPERATIONS for kind in (each.answer, *each.bodies.values()) if kind is not None}
    kinds |= {ProblemBody, *SENT, *RECEIVED_MANY}
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    _, found = msgspec.json.schema_components(ordered, ref_template=ROOT + "{name}")
    made = {name(kind): _polished(schema) for kind, schema in found.items()}
    for each, value in EXAMPLES.items():
        made[each]["examples"] = [value]
    return dict(sorted((made | CODES | unions()).items()))


def unions() -> Json:
    """Every message that a server sends, and every message that a client sends."""
    return {
        union: {"description": text, "oneOf": [ref(kind) for kind in kinds], "discriminator": "type"}
        for union, text, kinds in (
            ("ServerMessage", "Any message from the server.", SENT),
            ("ClientMessage", "Any message from a client.", RECEIVED_MANY),
        )
    }


def fields(kind: type[Struct]) -> dict[str, Json]:
    """The schema of each field of a Struct that has no references."""
    _, found = msgspec.json.schema_components([kind])
    properties: dict[str, Json] = _polished(found[kind.__name__])["properties"]
    return properties


def used(tree: Any) -> Json:
    """The schemas that `tree` refers to, also through others."""
    found: set[str] = set()
    todo = [tree]
    while todo:
        each = todo.pop()
        if isinstance(each, list):
            todo += each
        elif isinstance(each, dict):
            todo += each.values()
            reached = str(each.get("$ref", "")).removeprefix(ROOT)
            if reached in schemas() and reached not in found:
                found.add(reached)
                todo.append(schemas()[reached])
    return {each: schemas()[each] for each in sorted(found)}


def example(schema: Json) -> Any:
    """A value that fits the schema: its own example, or one made of its parts' examples."""
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "$ref" in schema:
        return example(schemas()[schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return example(schema["anyOf"][0])
    match schema.get("type"):
        case "object":
            return {field: example(each) for field, each in schema.get("properties", {}).items()}
        case "array":
            return [example(schema["items"])]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
    return "..."


def _polished(schema: Any) -> Any:
    """The schema under the contracts' names: without Python's titles and indentation, and with `const`."""
    if isinstance(schema, list):
        return [_polished(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _polished(each) for key, each in schema.items() if not (key == "title" and isinstance(each, str))}
    if isinstance(text := found.get("description"), str):
        found["description"] = inspect.cleandoc(text)
    if isinstance(target := found.get("$ref"), str):
        found.pop("type", None)
        found["$ref"] = ROOT + name(target.rpartition("/")[2])
    if isinstance(values := found.get("enum"), list):
        found["type"] = "string"
        if len(values) == 1:
            found["const"] = found.pop("enum")[0]
    if found.get("default", ...) is None:  # a field that may be absent; generators take one with a default as required
        del found["default"]
    return found
