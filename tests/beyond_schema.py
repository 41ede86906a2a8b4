"""The rules of the API that JSON Schema cannot say, each with its reason, as hooks for schemathesis.

schemathesis loads this module in a process of its own (`journeys/test_contract.py`). Where a request fits the contract,
the hook makes it obey the rules too, so that the server has to accept it. Requests that break the contract on purpose
stay as they are. It must not know how the server checks the rules.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import requests
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.generation.modes import GenerationMode
from schemathesis.transport.requests import REQUESTS_TRANSPORT, multipart_serializer

from tests import photos

Json = dict[str, Any]
Case = schemathesis.Case[Any]
Rule = Callable[[Json, Case], None]  # changes a body or query that the contract allows

URL = os.environ["TEST_SERVER"]
MEDIA = json.loads(os.environ["TEST_MEDIA"])  # signed URLs of rendered images
PICTURES = {
    "a photo": photos.small_jpeg(1),
    "another": photos.small_jpeg(2),
    "a broken one": photos.corrupt_jpeg(),
    "one that moves": photos.animated_gif(2),
}
FORM = "multipart/form-data"
TIME = "2026-11-22T06:10:00Z"
CALENDAR = re.compile(r"[1-8][0-9]{3}-")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def dream(body: Json, case: Case) -> None:
    # A text of spaces is empty, and the rule is about three fields together.
    if not (str(body.get("title", "")).strip() or str(body.get("content", "")).strip() or body.get("images")):
        body["title"] = "a dream"


def times(body: Json, case: Case) -> None:
    # `date-time` allows leap seconds and the first and last years of the calendar; databases and offsets do not.
    for field in {"dreamed_at", "from", "to"} & set(body):
        if body[field] is not None and not (CALENDAR.match(body[field]) and ":60" not in body[field]):
            body[field] = TIME


def pictures(body: Json, case: Case) -> None:
    # A schema does not know the first bytes of a picture. How many images a dream has is a setting.
    if "images" in body:
        names = list(PICTURES)
        body["images"] = [names[len(each) % len(names)] for each in body["images"][:3]]


def positions(body: Json, case: Case) -> None:
    # One for each image, and none behind the end of the content, which may be that of a dream on the server.
    if "positions" in body:
        length = len(str(body.get("content", "")).replace("\r\n", "\n"))
        given = [min(each, length) for each in body["positions"]]
        count = len(body.get("images", []))
        body["positions"] = (given + [0] * count)[:count]


def moves(body: Json, case: Case) -> None:
    # Images that the dream has, each once, and within its content: the new one, else that on the server.
    if "images" not in body:
        return
    path = f"/api/dreams/{quote(str(case.path_parameters['dream_id']), safe='')}"
    dream = called("GET", path, headers={"Authorization": case.headers.get("Authorization", "")})
    length = len(str(body.get("content", dream.get("content", ""))))
    ids = [each["id"] for each in dream.get("images", [])]
    places = [min(each["position"], length) for each in body["images"]]
    body["images"] = [{"id": id, "position": place} for id, place in zip(ids, places, strict=False)]


def account(body: Json, case: Case) -> None:
    # Control characters are a class of Unicode, and spaces around a name do not count. A name can be taken only once.
    name = CONTROL.sub("", body["username"])[:50].strip()
    body["username"] = f"{name} {token_hex(4)}".strip()


def refresh(body: Json, case: Case) -> None:
    # A token is a secret of the server: no schema makes one up. Each works once.
    if body.get("refresh") is not None:
        body["refresh"] = signed_up()["refresh"]


def page(query: Json, case: Case) -> None:
    # Cursors come from the server, or are left out.
    if "cursor" in query:
        first = called("GET", "/api/dreams?limit=1", headers={"Authorization": case.headers.get("Authorization", "")})
        query["cursor"] = first.get("next_cursor") or ""
    times(query, case)


def waiting(query: Json, case: Case) -> None:
    # One parameter needs another.
    if "wait" in query:
        query.setdefault("since", 0)


def media(query: Json, case: Case) -> None:
    # The server signs these URLs. Half of the requests have one, the others are refused.
    if MEDIA and len(case.path_parameters["key"]) % 2:
        url = urlsplit(MEDIA[len(query["s"]) % len(MEDIA)])
        case.path_parameters["key"] = url.path.removeprefix("/media/")
        query.update(parse_qsl(url.query))


def page_file(query: Json, case: Case) -> None:
    # Names of files. Half of the requests have one.
    if len(case.path_parameters["path"]) % 2:
        case.path_parameters["path"] = "client/dreamlog.js"


BODIES: dict[str, tuple[Rule, ...]] = {
    "register": (account,),
    "refresh": (refresh,),
    "createDream": (times, pictures, positions, dream),
    "changeDream": (times, moves),
    "addImages": (pictures, positions),
}
QUERIES: dict[str, tuple[Rule, ...]] = {
    "listDreams": (page,),
    "getDream": (waiting,),
    "getMedia": (media,),
    "headMedia": (media,),
    "getPageFile": (page_file,),
    "headPageFile": (page_file,),
}


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: Case, kwargs: Json) -> None:
    name = str(case.operation.definition.raw.get("operationId"))
    if 0 < len(key := str(case.headers.get("Idempotency-Key", ""))) <= 255:
        # With a key that it knows, the server answers with the first result, whatever the body is.
        case.headers["Idempotency-Key"] = key[:239] + token_hex(8)
    if name == "getDream" and isinstance(case.query, dict) and str(case.query.get("wait", "")).isdecimal():
        # Minutes of silence say nothing new. Values out of range stay.
        case.query["wait"] = 0 if int(case.query["wait"]) <= 60 else case.query["wait"]
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    for rule in BODIES.get(name, ()):
        if isinstance(case.body, dict):
            rule(case.body, case)
    for rule in QUERIES.get(name, ()):
        rule(case.query, case)


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext, failure: Failure, case: Case, response: schemathesis.Response
) -> bool:
    # A form has parts of text and no types: whatever stands in place of a list of tags arrives as one tag.
    is_one_tag = isinstance(case.body, dict) and not isinstance(case.body.get("tags", []), list)
    return not (isinstance(failure, AcceptedNegativeData) and case.media_type == FORM and is_one_tag)


@REQUESTS_TRANSPORT.serializer(FORM)
def form(context: schemathesis.SerializationContext, body: Any) -> Json:
    """The form with the bytes of its pictures, which are no text and have names until here."""
    if isinstance(body, dict) and isinstance(body.get("images"), list):
        body = {
            **body,
            "images": [PICTURES.get(each, each) if isinstance(each, str) else each for each in body["images"]],
        }
    return multipart_serializer(context, body)


def signed_up() -> Json:
    """The answer to a new account."""
    return called("POST", "/api/auth/register", {"username": token_hex(8), "password": token_hex(8)})


def called(method: str, path: str, body: Json | None = None, *, headers: Mapping[str, str] | None = None) -> Json:
    """The JSON of an answer; empty when the call is refused."""
    response = requests.request(method, URL + path, json=body, headers=headers, timeout=60)
    answer: Json = response.json() if response.ok else {}
    return answer


if os.environ.get("TEST_SIGN_UP"):

    @schemathesis.auth(refresh_interval=None)
    class NewAccount:
        """For calls that end the token: each comes from an account of its own."""

        def get(self, case: Case, context: schemathesis.AuthContext) -> str:
            return str(signed_up()["access"])

        def set(self, case: Case, data: str, context: schemathesis.AuthContext) -> None:
            case.headers["Authorization"] = f"Bearer {data}"
