"""Checks the fields of a dream that clients send, and turns them into values or into a list of mistakes.

Pure: it must not know Tornado or the database.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from msgspec import Struct

from handlers.bodies import CONTENT_LENGTH, LUCIDITY, MOOD_LENGTH, TAG_LENGTH, TAGS, TITLE_LENGTH
from handlers.problems import FieldError, Invalid
from handlers.requests import MAX_PAGE, MAX_REVISION, MAX_WAIT, PAGE, DreamsQuery, WaitQuery

YEARS = range(1000, 9000)  # far enough from the ends of the calendar for every offset
# Looser in that seconds may be missing, and a space may stand for the T. Python alone reads much more than this.
RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
NIGHT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

Errors = list[FieldError]


class _Mistake(Exception):
    """A mistake in one value: the name of a sentence and the values of its placeholders."""

    def __init__(self, name: str, **values: object) -> None:
        super().__init__(name)
        self.name = name
        self.values = values


def from_multipart(fields: Mapping[str, list[str]]) -> dict[str, Any]:
    """Form fields as the equivalent JSON."""
    raw: dict[str, Any] = {}
    errors: Errors = []
    for name, values in fields.items():
        # Browsers send each line break of a form as CRLF; positions were counted with one character for it.
        values = [value.replace("\r\n", "\n") for value in values]
        if name == "tags":
            raw[name] = [value for value in values if value]  # an empty input in a form is no tag
        elif name == "positions":
            raw[name] = values
        elif len(values) > 1:
            errors.append(FieldError(name, "only_once"))
        elif name == "lucidity" or (name in ("mood", "dreamed_at") and not values[0]):
            raw[name] = _number(values[0]) if values[0] else None
        else:
            raw[name] = values[0]
    if errors:
        raise Invalid(errors)
    return raw


def fields(raw: Any, *, also_allowed: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The fields of a dream in `raw`, checked; the caller checks the keys in `also_allowed`."""
    if not isinstance(raw, dict):
        raise Invalid([FieldError("body", "must_be_object")])
    values: dict[str, Any] = {}
    errors: Errors = []
    for name, value in raw.items():
        if name in also_allowed:
            continue
        if name not in _CHECKS:
            errors.append(FieldError(str(name), "unknown_field", allowed=[*_CHECKS, *sorted(also_allowed)]))
            continue
        try:
            values[name] = _CHECKS[name](value)
        except _Mistake as mistake:
            errors.append(FieldError(name, mistake.name, **mistake.values))
    if errors:
        raise Invalid(errors)
    return values


def positions(raw: list[Any], *, images: int, length: int) -> list[int]:
    """The n-th image's position, 0 to `length`: one for each image, or none at all, which means the end."""
    if not raw and images:
        return [length] * images
    if len(raw) != images:
        raise Invalid([FieldError("positions", "one_position_each", images=images, positions=len(raw))])
    return [_position(f"positions[{index}]", value, length) for index, value in enumerate(raw)]


def moved(raw: Any, *, length: int) -> dict[int, int]:
    """`[{id, position}]` as image id -> position."""
    if not isinstance(raw, list) or not all(isinstance(each, dict) and set(each) == {"id", "position"} for each in raw):
        raise Invalid([FieldError("images", "bad_moves")])
    ids = [_whole(each["id"]) for each in raw]
    if not all(type(each) is int for each in ids):
        raise Invalid([FieldError("images", "bad_image_id")])
    if len(set(ids)) < len(ids):
        raise Invalid([FieldError("images", "image_id_twice")])
    return {id: _position(f"images[{i}].position", raw[i]["position"], length) for i, id in enumerate(ids)}


def unknown_parameters(query: Mapping[str, str], kind: type[Struct]) -> Errors:
    """A mistake for each parameter that is no field of `kind`."""
    known = kind.__struct_encode_fields__
    return [FieldError(name, "unknown_parameter", allowed=known) for name in sorted(set(query) - set(known))]


def listing(query: Mapping[str, str]) -> tuple[int, date | datetime | None, date | datetime | None]:
    """The number of dreams on a page, the first and the last night. Raises `Invalid` with every mistake."""
    errors = unknown_parameters(query, DreamsQuery)
    size = _number(query.get("limit", str(PAGE)))
    if not isinstance(size, int) or not 1 <= size <= MAX_PAGE:
        errors.append(FieldError("limit", "bad_limit", most=MAX_PAGE))
    nights: dict[str, date | datetime] = {}
    for name in ("from", "to"):
        try:
            if query.get(name):
                nights[name] = _night(query[name])
        except (_Mistake, ValueError):
            errors.append(FieldError(name, "bad_night"))
    if errors:
        raise Invalid(errors)
    return int(size), nights.get("from"), nights.get("to")


def waiting(query: Mapping[str, str]) -> tuple[int, int] | None:
    """The revision that the reader of a dream has, and the seconds to wait for a newer one; None: any will do."""
    errors = unknown_parameters(query, WaitQuery)
    since, wait = _number(query.get("since", "0")), _number(query.get("wait", "0"))
    if not isinstance(since, int) or not 0 <= since <= MAX_REVISION:
        errors.append(FieldError("since", "bad_since"))
    if not isinstance(wait, int) or not 0 <= wait <= MAX_WAIT:
        errors.append(FieldError("wait", "bad_wait", most=MAX_WAIT))
    if "wait" in query and "since" not in query:
        errors.append(FieldError("since", "since_is_missing"))
    if errors:
        raise Invalid(errors)
    return (int(since), int(wait)) if "since" in query else None


def _text(most: int, *, blank: bool = True) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise _Mistake("must_be_text")
        if len(value) > most:
            raise _Mistake("text_too_long", most=most, length=len(value))
        if not blank and not value.strip():
            raise _Mistake("must_not_be_empty")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Mistake("half_a_character") from None
        return value

    return check


def _mood(value: Any) -> str | None:
    return None if value is None else _text(MOOD_LENGTH)(value).strip() or None


def _lucidity(value: Any) -> int | None:
    if value is None:
        return None
    number = _whole(value)
    if type(number) is not int or number not in LUCIDITY:
        raise _Mistake("bad_lucidity", least=LUCIDITY[0], most=LUCIDITY[-1])
    return number


def _tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _Mistake("must_be_texts")
    tags = dict.fromkeys(_text(TAG_LENGTH, blank=False)(each).strip() for each in value)
    if len(tags) > TAGS:
        raise _Mistake("too_many_items", most=TAGS)
    return tuple(tags)


def _time(value: Any) -> datetime:
    if not isinstance(value, str) or RFC_3339.fullmatch(value) is None:
        raise _Mistake("bad_time")
    try:
        moment = datetime.fromisoformat(value.upper())
    except ValueError:
        raise _Mistake("bad_time") from None
    if moment.year not in YEARS:
        raise _Mistake("bad_time")
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)  # MongoDB keeps milliseconds


def _night(text: str) -> date | datetime:
    """A night as 2026-11-22, or a time as 2026-11-22T06:10:00Z. Raises `_Mistake` or `ValueError`."""
    return date.fromisoformat(text) if NIGHT.fullmatch(text) is not None else _time(text)


def _dreamed_at(value: Any) -> datetime | None:
    return None if value is None else _time(value)


def _number(text: str) -> int | str:
    """`text` as an integer where it is one, else as it was, for a check to refuse."""
    return int(text) if text.isascii() and text.removeprefix("-").isdecimal() and len(text) < 12 else text


def _whole(value: Any) -> Any:
    """`value` as an integer where JSON Schema calls it one, as it does 3.0, else as it was, for a check to refuse."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _position(field: str, value: Any, length: int) -> int:
    number = _number(value) if isinstance(value, str) else _whole(value)
    if type(number) is not int or not 0 <= number <= length:
        raise Invalid([FieldError(field, "bad_position", length=length)])
    return number


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "title": _text(TITLE_LENGTH),
    "content": _text(CONTENT_LENGTH),
    "dreamed_at": _dreamed_at,
    "mood": _mood,
    "lucidity": _lucidity,
    "tags": _tags,
}
