"""What the contract allows a client to send is what the checks accept."""

from typing import Any

import msgspec
import pytest

from handlers import forms
from handlers.problems import Invalid
from handlers.requests import DreamChangesBody, DreamFieldsBody, DreamsQuery, WaitQuery

TIME = "2026-11-22T06:10:00+08:00"


def allows(body: dict[str, Any]) -> bool:
    """Does the Struct that the contract publishes take this body?"""
    try:
        msgspec.convert(body, DreamFieldsBody)
    except msgspec.ValidationError:
        return False
    return True


def accepts(body: dict[str, Any]) -> bool:
    """Do the server's checks take this body?"""
    try:
        forms.fields(body)
    except Invalid:
        return False
    return True


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, True),
        ({"title": "x" * 200}, True),
        ({"title": "x" * 201}, False),
        ({"title": "😴" * 200}, True),
        ({"title": None}, False),
        ({"content": "x" * 100_000}, True),
        ({"content": "x" * 100_001}, False),
        ({"mood": "x" * 50}, True),
        ({"mood": "x" * 51}, False),
        ({"mood": None}, True),
        ({"lucidity": 0}, True),
        ({"lucidity": 5}, True),
        ({"lucidity": 6}, False),
        ({"lucidity": -1}, False),
        ({"lucidity": True}, False),
        ({"lucidity": None}, True),
        ({"tags": ["x"] * 20}, True),
        ({"tags": [str(number) for number in range(21)]}, False),
        ({"tags": ["x" * 50]}, True),
        ({"tags": ["x" * 51]}, False),
        ({"tags": [" "]}, False),
        ({"tags": None}, False),
        ({"dreamed_at": TIME}, True),
        ({"dreamed_at": None}, True),
        ({"dreamed_at": 5}, False),
        ({"unknown": 1}, False),
    ],
)
def test_the_contract_and_the_checks_agree(body: dict[str, Any], expected: bool) -> None:
    """At each limit, on both sides of it."""
    assert (allows(body), accepts(body)) == (expected, expected)


def test_changes_are_fields_and_moves() -> None:
    """A change may also name images."""
    assert set(DreamChangesBody.__struct_fields__) == {*DreamFieldsBody.__struct_fields__, "images"}


def test_parameters_have_the_names_of_the_protocol() -> None:
    """One of them is a word of Python's."""
    assert DreamsQuery.__struct_encode_fields__ == ("limit", "cursor", "q", "tag", "from", "to")
    assert WaitQuery.__struct_encode_fields__ == ("since", "wait")
