"""The contracts of the protocol for machines, made from the Structs and the table of operations: OpenAPI and AsyncAPI.

Pure: it must not know the handlers or the settings: every server of one version publishes the same contracts.
"""

from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

from handlers.bodies import DreamBody, ProblemBody
from handlers.conversation import ENDINGS
from handlers.messages import CLOSE_CODES
from handlers.operations import IMAGE, JSON, OPERATIONS, PROBLEM_TYPES, TEXT, Operation
from handlers.requests import KEY_LENGTH
from handlers.schemas import RECEIVED, RECEIVED_MANY, SENT, STREAMED, example, fields, name, ref, schemas, unions, used
from version import VERSION

Json = dict[str, Any]

DESCRIPTION = (
    "Dreamlog keeps dreams and their images. JSON in and out, UTF-8. Times are RFC 3339; the timestamps of messages "
    "are Unix seconds. Errors are RFC 9457 problems."
)
HTTP = (
    "\n\nThe access token stands in the header `Authorization`, never in a URL. Every answer under `/api/` has an "
    "`X-Request-Id`, under which the server's log has the request. A JSON body may have 1,000,000 bytes. Any call may "
    "answer 405, with the header `Allow`, and 500. JSON answers under `/api/` have no `ETag`.\n\nSentences for people "
    "follow `Accept-Language`: English or Chinese, English by default."
)
MESSAGES = (
    "\n\nThe access token stands in the header `Authorization`, or on a WebSocket in the first message "
    "(`authenticate`), never in a URL. The event stream takes only the header: browsers use `fetch`, because "
    "`EventSource` cannot send it.\n\nFor each dream come first `connection_established` (only on a WebSocket) and an "
    "`image_update` with its state, then the changes; the `revision` never falls.\n\nSentences for people follow "
    "`Accept-Language`: English or Chinese, Chinese by default, those about failed images English by default."
)
SECURITY = {
    "access": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The access token of `login`, `register` or `refresh`.",
    }
}
TAGS = {
    "Accounts": "Signing up, signing in, and the account.",
    "Dreams": "Recording, reading and changing dreams.",
    "Images": "The images of a dream.",
    "Server": "The server itself, its contracts and its page.",
}
PARAMETERS: dict[str, Json] = {
    "dream_id": {"type": "string", "description": "The dream's id.", "example": "665f0c2a9b1e8a0001a1b2c3"},
    "image_id": {
        "type": "integer",
        "minimum": 1,
        "maximum": 999_999_999,
        "description": "The image's id in its dream.",
    },
    "key": {"type": "string", "description": "The path of the file; part of the signed URL."},
    "path": {"type": "string", "description": "The path of the file."},
}
REQUEST_HEADERS = {
    "Idempotency-Key": "Any string, new for each dream or set of images. A repeated request with the same key stores "
    "nothing within a day: the answer is the dream as it is now.",
    "If-None-Match": "The `ETag` that the client has.",
    "If-Range": "The `ETag` for which the range holds.",
    "Last-Event-ID": "Allowed, without effect.",
    "Range": "One range of bytes, as `bytes=0-1023`.",
}
RETRY_AFTER = {"description": "Seconds after which to repeat the request.", "schema": {"type": "integer", "minimum": 0}}
SET_COOKIE = {
    "description": "The new refresh token in the cookie `dreamlog_refresh`, with `Path=/api/auth`, `HttpOnly`, "
    "`SameSite=Strict`, and `Secure` under https. It lasts as long as the token: 30 days by default.",
    "schema": {"type": "string"},
}
PART = {"images": IMAGE}  # repeated part of a form -> its media type, if not text
CHALLENGE = {"description": "How to authenticate.", "schema": {"const": "Bearer"}}
# Where an answer that shows a dream has the parameters of further calls.
LINKED = {"dream_id": "$response.body#/id", "image_id": "$response.body#/images/0/id"}
UNAUTHORIZED = {401: "The access token is missing, wrong, expired or revoked."}


# ---- OpenAPI


@cache
def openapi() -> Json:
    """OpenAPI 3.1 of every call in `OPERATIONS`."""
    paths: Json = {}
    for each in OPERATIONS:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {**_info("Dreamlog: HTTP", HTTP), "license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": text} for tag, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": used(paths),
            "securitySchemes": SECURITY,
        },
        "x-problem-types": [
            {"type": kind, "title": title, "description": text} for kind, (title, text) in PROBLEM_TYPES.items()
        ],
    }


def _operation(each: Operation) -> Json:
    found: Json = {"operationId": each.id, "tags": [each.tag], "summary": each.summary}
    if each.description:
        found["description"] = each.description
    found["security"] = [] if each.public else [{"access": []}]
    if parameters := [*_path_parameters(each.path), *_query_parameters(each.query), *_header_parameters(each)]:
        found["parameters"] = parameters
    if each.bodies:
        content = {media: _body(media, kind) for media, kind in each.bodies.items()}
        found["requestBody"] = {"required": each.body_required, "content": content}
    found["responses"] = _responses(each)
    return found


def _path_parameters(path: str) -> Iterable[Json]:
    for part in path.split("{")[1:]:
        field = part.partition("}")[0]
        schema = dict(PARAMETERS[field])
        described = {"description": schema.pop("description")}
        if "example" in schema:
            described["example"] = schema.pop("example")
        yield {"name": field, "in": "path", "required": True, **described, "schema": schema}


def _query_parameters(query: type[Struct] | None) -> Iterable[Json]:
    if query is None:
        return
    required = {field.encode_name for field in msgspec.structs.fields(query) if field.required}
    for field, schema in fields(query).items():
        described = {"description": schema.pop("description")} if "description" in schema else {}
        needed = {"required": True} if field in required else {}
        yield {"name": field, "in": "query", **needed, **described, "schema": schema}


def _header_parameters(each: Operation) -> Iterable[Json]:
    if each.idempotent:
        yield _header("Idempotency-Key", {"type": "string", "minLength": 1, "maxLength": KEY_LENGTH})
    for header in each.headers:
        yield _header(header, {"type": "string"})


def _header(header: str, schema: Json) -> Json:
    return {"name": header, "in": "header", "description": REQUEST_HEADERS[header], "schema": schema}


def _body(media: str, kind: type[Struct]) -> Json:
    content: Json = {"schema": ref(kind)}
    if media == JSON:
        content["example"] = example(ref(kind))
    elif repeated := {field for field, each in fields(kind).items() if each.get("type") == "array"}:
        # One part for each value, by name; the default for a list of numbers would be one part with JSON.
        content["encoding"] = {field: {"contentType": PART.get(field, TEXT)} for field in sorted(repeated)}
    return content


def _responses(each: Operation) -> Json:
    found: Json = {str(each.success): _success(each, _meaning(each))}
    for status, text in each.statuses.items():
        found[str(status)] = _success(each, text) if status < 300 else {"description": text}
    problems = each.problems if each.public else UNAUTHORIZED | each.problems
    for status, text in problems.items():
        answer: Json = {"description": text}
        if headers := _problem_headers(each, status):
            answer["headers"] = headers
        if each.method != "HEAD":
            answer["content"] = {each.problem_media: {"schema": _problem_schema(each)}}
        found[str(status)] = answer
    return dict(sorted(found.items()))


def _meaning(each: Operation) -> str:
    """What a success brings."""
    if each.answer is not None:
        return str(schemas()[name(each.answer.__name__)]["description"]).partition("\n")[0]
    return f"{each.summary}." if each.media else "Done."


def _success(each: Operation, text: str) -> Json:
    answer: Json = {"description": text}
    if each.method == "HEAD":
        return answer
    if each.answer is not None:
        answer["content"] = {JSON: {"schema": ref(each.answer), "example": example(ref(each.answer))}}
    elif each.media:
        answer["content"] = {media: {"schema": {}} for media in each.media}
    if each.sets_cookie:
        answer["headers"] = {"Set-Cookie": SET_COOKIE}
    if links := _links(each):
        answer["links"] = links
    return answer


def _links(each: Operation) -> Json:
    """From a new dream to the calls on it, and from new images to the calls on one of them."""
    if each.success != HTTPStatus.CREATED or each.answer is not DreamBody:
        return {}
    field = "image_id" if "{dream_id}" in each.path else "dream_id"
    return {
        other.id: {
            "operationId": other.id,
            "parameters": {name: where for name, where in LINKED.items() if f"{{{name}}}" in other.path},
        }
        for other in OPERATIONS
        if f"{{{field}}}" in other.path
    }


def _problem_schema(each: Operation) -> Json:
    if each.problem_media == "application/problem+json":
        return ref(ProblemBody)
    return {"type": "string"} if each.answer is None else ref(each.answer)


def _problem_headers(each: Operation, status: int) -> Json:
    if each.problem_media != "application/problem+json":
        return {}
    if status == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": CHALLENGE}
    return {"Retry-After": RETRY_AFTER} if status in (429, 503) else {}


# ---- AsyncAPI


@cache
def asyncapi() -> Json:
    """AsyncAPI 3.1.0 of both WebSockets and of the event stream."""
    messages = {name(kind.__name__): _message(kind) for kind in (*SENT, *RECEIVED_MANY)}
    channels = {
        "dream": _socket("/ws/dream-images/{dream_id}/", "One dream", (*SENT, *RECEIVED), ONE),
        "dreams": _socket("/ws/dream-images/", "Many dreams on one connection", (*SENT, *RECEIVED_MANY), MANY),
        "events": _channel("/api/dreams/{dream_id}/events", "One dream, as server-sent events", STREAMED)
        | {"description": EVENTS_END},
    }
    return {
        "asyncapi": "3.1.0",
        "id": "urn:dreamlog",
        "info": {
            **_info("Dreamlog: WebSocket and event stream", MESSAGES),
            "license": {"name": "MIT", "url": "https://opensource.org/license/mit"},
            "tags": [{"name": "WebSocket"}, {"name": "Server-sent events"}],
        },
        "defaultContentType": JSON,
        "servers": {
            protocol: {"host": "{host}", "protocol": protocol, "variables": {"host": HOST}}
            for protocol in ("ws", "wss", "http", "https")
        },
        "channels": channels,
        "operations": {
            "sendToDream": _traffic("send", "dream", SENT, "What the server sends"),
            "receiveFromDream": _traffic("receive", "dream", RECEIVED, "What a client sends"),
            "sendToDreams": _traffic("send", "dreams", SENT, "What the server sends"),
            "receiveFromDreams": _traffic("receive", "dreams", RECEIVED_MANY, "What a client sends"),
            "sendEvents": _traffic("send", "events", STREAMED, "What the server sends"),
        },
        "components": {
            "messages": messages,
            "schemas": used([messages, unions()]) | unions(),
            "securitySchemes": SECURITY,
        },
    }


HOST = {"default": "localhost:8000", "description": "The host that serves this document, with its port."}
EVENTS_END = (
    "Each message is the `data:` of one event, in one line. The stream ends after `dream_deleted`, or after an `error` "
    "that says why: `restarting`: reconnect after the milliseconds of `retry:`; `token_expired`, "
    "`signed_out_elsewhere`: reconnect with a new token; `signed_out`: stop. A stream that ends with neither was cut "
    "off: reconnect."
)


ONE = (
    "\n\nAfter the token the server sends `connection_established` and the dream's state. Every `error` except "
    "`bad_message` is followed by a close, and the fifth `bad_message` is too."
)
MANY = (
    "\n\nSend `subscribe` at once after `authenticate`, which has no answer of its own. Every `error` except "
    "`bad_message`, `not_found` and `too_many_dreams` is followed by a close, and the fifth `bad_message` is too."
)


def _message(kind: type[Struct]) -> Json:
    schema = schemas()[name(kind.__name__)]
    kind_name = schema["properties"]["type"]["const"]
    return {
        "name": kind_name,
        "title": kind_name,
        "summary": schema["description"].partition("\n")[0],
        "contentType": JSON,
        "payload": ref(kind),
        "examples": [{"name": "example", "payload": example(schema)}],
    }


def _channel(path: str, title: str, kinds: tuple[type[Struct], ...]) -> Json:
    channel: Json = {
        "address": path,
        "title": title,
        "servers": [{"$ref": f"#/servers/{s}"} for s in ("http", "https")],
    }
    if "{dream_id}" in path:
        channel["parameters"] = {"dream_id": {"description": PARAMETERS["dream_id"]["description"]}}
    return channel | {
        "messages": {name(kind.__name__): {"$ref": f"#/components/messages/{name(kind.__name__)}"} for kind in kinds}
    }


def _socket(path: str, title: str, kinds: tuple[type[Struct], ...], more: str) -> Json:
    return _channel(path, title, kinds) | {
        "description": "Text frames of one JSON object each; any other frame is a `bad_message`. Messages are state, "
        "not a queue: a slow reader gets only the newest of each image and of each dream. The path may lack its last "
        "slash. The reason of a close is a sentence for people: programs read the code." + more,
        "servers": [{"$ref": "#/servers/ws"}, {"$ref": "#/servers/wss"}],
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
        "x-close-codes": [
            {
                "code": code,
                "meaning": text,
                "then": "reconnect" if code < 4400 and code != 1000 else "stop",
                "errors": [name for name, (each, announced) in ENDINGS.items() if each == code and announced],
            }
            for code, text in CLOSE_CODES.items()
        ],
        "x-close-code-rule": "Below 4400 a client reconnects, from 4400 it stops. 1000 is the regular end.",
    }


def _traffic(action: str, channel: str, kinds: tuple[type[Struct], ...], title: str) -> Json:
    return {
        "action": action,
        "title": title,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name(kind.__name__)}"} for kind in kinds],
        "security": [{"$ref": "#/components/securitySchemes/access"}],
    }


# ---- inside


def _info(title: str, more: str) -> Json:
    return {"title": title, "version": VERSION, "description": DESCRIPTION + more}
