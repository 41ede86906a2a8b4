"""Answers are encoded as the protocol writes them."""

import msgspec

from handlers import bodies
from handlers.bodies import AccountBody, FieldErrorBody, ProblemBody, SessionBody, UserBody


def test_a_session_is_tokens_and_a_user() -> None:
    """The order of fields does not matter to clients, their names do."""
    session = SessionBody(access="a", refresh="r", expires_in=900, user=UserBody("1", "ada"))
    assert msgspec.to_builtins(session) == {
        "access": "a",
        "refresh": "r",
        "expires_in": 900,
        "user": {"id": "1", "username": "ada"},
    }


def test_an_account_is_a_user_with_a_date() -> None:
    """Nothing else of the account."""
    account = AccountBody("1", "ada", "2026-11-22T06:10:00.000Z")
    assert msgspec.to_builtins(account) == {"id": "1", "username": "ada", "created_at": "2026-11-22T06:10:00.000Z"}


def test_a_problem_names_fields_only_where_fields_were_wrong() -> None:
    """`errors` is absent otherwise."""
    problem = ProblemBody("about:blank", "Not Found", 404, "There is no such dream.")
    assert set(msgspec.to_builtins(problem)) == {"type", "title", "status", "detail"}
    problem.errors = [FieldErrorBody("title", "must not be empty")]
    assert msgspec.to_builtins(problem)["errors"] == [{"field": "title", "message": "must not be empty"}]


def test_every_body_has_a_description() -> None:
    """The contracts take descriptions from the docstrings."""
    kinds = [each for each in vars(bodies).values() if isinstance(each, type) and each.__module__ == bodies.__name__]
    assert all(kind.__doc__ and kind.__doc__.rstrip().endswith(".") for kind in kinds)
