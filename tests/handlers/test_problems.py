"""Errors become problems: a status, a sentence, headers; and nothing private."""

import msgspec
import pytest

from handlers.forms import Invalid
from handlers.problems import STATUSES, Problem, from_error, too_many
from handlers.tokens import InvalidToken
from storage import errors
from storage.errors import Conflict, Error, NoSpace, NotFound, Refused, Unavailable

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Error)]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not Error])
def test_each_error_of_the_storage_has_its_answer(kind: type[Error]) -> None:
    """None of them ends as "something went wrong"."""
    assert 400 <= STATUSES[kind] < 600
    assert STATUSES[kind] != 500


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (NotFound("There is none."), 404, {}),
        (Conflict("Not now."), 409, {}),
        (NoSpace("No room."), 507, {}),
        (Unavailable("Away."), 503, {"Retry-After": "2"}),
        (Refused("Refused."), 503, {"Retry-After": "2"}),
        (InvalidToken("No."), 401, {"WWW-Authenticate": "Bearer"}),
        (Problem(418, "A teapot."), 418, {}),
        (Invalid([{"field": "title", "message": "too long"}]), 422, {}),
    ],
)
def test_an_error_becomes_its_problem(error: Exception, status: int, headers: dict[str, str]) -> None:
    """Its sentence is the detail."""
    problem = from_error(error, "r1")
    assert (problem.status, problem.headers) == (status, headers)
    assert problem.body().detail == str(error)
    assert problem.body().status == status


@pytest.mark.parametrize("error", [None, KeyError("a secret"), Error("a secret")])
def test_an_unexpected_error_tells_nothing(error: Exception | None) -> None:
    """Only where the log says more."""
    body = msgspec.to_builtins(from_error(error, "r1").body())
    assert body["status"] == 500
    assert "r1" in body["detail"]
    assert "secret" not in str(body)


def test_a_problem_is_what_rfc_9457_says() -> None:
    """With the fields that were wrong, where there are some."""
    plain = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "There is none."}
    assert msgspec.to_builtins(Problem(404, "There is none.").body()) == plain
    wrong = [{"field": "title", "message": "too long"}]
    assert msgspec.to_builtins(Problem(422, "No.", errors=wrong).body())["errors"] == wrong


@pytest.mark.parametrize(("seconds", "header"), [(0.1, "1"), (0, "1"), (1, "1"), (1.01, "2"), (60, "60")])
def test_retry_after_is_in_whole_seconds(seconds: float, header: str) -> None:
    """Rounded up, and never 0: a client would come back at once."""
    problem = too_many("Too many.", seconds)
    assert (problem.status, problem.headers) == (429, {"Retry-After": header})
