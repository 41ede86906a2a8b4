"""The schemas have natural names, whole descriptions and examples that are made of their parts."""

from typing import Any

import pytest

from handlers.bodies import ImageBody
from handlers.conversation import ENDINGS
from handlers.messages import ERRORS, ErrorMessage, PingMessage
from handlers.schemas import STAYS_OPEN, example, name, ref, schemas, used


@pytest.mark.parametrize(
    ("kind", "expected"), [(ImageBody, "Image"), (PingMessage, "Ping"), (ErrorMessage, "ErrorMessage")]
)
def test_names_are_natural(kind: type, expected: str) -> None:
    """Without the tag that distinguishes our classes."""
    assert name(kind.__name__) == expected
    assert expected in schemas()


def test_nothing_of_python_shows() -> None:
    """No titles, no names of classes, no indentation, no mark of ours."""

    def look(schema: Any) -> None:
        if isinstance(schema, list):
            for each in schema:
                look(each)
        if isinstance(schema, dict):
            assert not isinstance(schema.get("title"), str) or "description" not in schema
            assert "\n  " not in str(schema.get("description", ""))
            assert not str(schema.get("$ref", "")).endswith(("Body", "Message")) or "Error" in schema["$ref"]
            for each in schema.values():
                look(each)

    look(schemas())


def test_required_fields_are_those_that_always_come() -> None:
    """A constant always comes, and a field that may be absent has no default that a generator takes for one."""
    assert schemas()["Login"]["required"] == ["username", "password"]
    assert {"name", "version"} <= set(schemas()["Server"]["required"])
    assert schemas()["Health"]["required"] == ["status"]
    assert schemas()["Refresh"]["required"] == []
    assert "default" not in schemas()["Refresh"]["properties"]["refresh"]


def test_the_schemas_that_are_used_come_with_theirs() -> None:
    """Also through others."""
    assert set(used(ref(ImageBody))) == {"FailureCode", "Image", "ImageError", "Status", "Variant"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"examples": [5, 6]}, 5),
        ({"const": "x"}, "x"),
        ({"enum": ["a", "b"]}, "a"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        ({"type": "integer", "minimum": 0}, 0),
        ({"type": "boolean"}, False),
        ({"type": "array", "items": {"const": 1}}, [1]),
        ({"type": "object", "properties": {"a": {"const": 1}}}, {"a": 1}),
        ({"type": "string"}, "..."),
        ({"$ref": "#/components/schemas/Status"}, "completed"),
    ],
)
def test_an_example_is_made_of_its_parts(schema: dict[str, Any], value: Any) -> None:
    """A field's own example comes first."""
    assert example(schema) == value


def test_codes_are_schemas_with_what_follows() -> None:
    """A client can name their types, and knows after which the connection closes."""
    assert schemas()["ErrorMessage"]["properties"]["code"] == {"$ref": "#/components/schemas/ErrorCode"}
    assert schemas()["ImageError"]["properties"]["code"] == {"$ref": "#/components/schemas/FailureCode"}
    described = schemas()["ErrorCode"]["description"]
    for text in ("`signed_out` (4401)", "`restarting` (1012 without an `error`)", "`too_many_dreams` (stays open)"):
        assert text in described


def test_every_error_code_says_what_follows() -> None:
    """The connection closes or stays open."""
    assert set(ERRORS) <= set(ENDINGS) | set(STAYS_OPEN)


def test_the_example_of_an_error_is_one_that_comes() -> None:
    """Not every field fits every code."""
    assert set(example(ref(ErrorMessage))) == {"type", "code", "message", "retry_after"}
