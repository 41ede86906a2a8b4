"""Errors become problems: a status, a sentence in the reader's language, headers; and nothing private."""

import msgspec
import pytest

from handlers.problems import STATUSES, FieldError, Invalid, Problem, from_error, too_many
from handlers.tokens import InvalidToken
from storage import errors
from storage.errors import Conflict, Error, NoSpace, NotFound, Refused, Unavailable

# `Error` has no status of its own, and `Incompatible` ends the start, before there is anybody to answer.
NOT_ANSWERED = (Error, errors.Incompatible)
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Error)]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NOT_ANSWERED])
def test_each_error_of_the_storage_has_its_answer(kind: type[Error]) -> None:
    """None of them ends as "something went wrong", and each says something in both languages."""
    problem = from_error(kind("Something for the log."), "r1")
    assert problem.status == STATUSES[kind] != 500
    assert problem.detail("en") != problem.detail("zh")
    assert "for the log" not in problem.detail("en")


@pytest.mark.parametrize(
    ("error", "status", "headers", "detail"),
    [
        (NotFound("", code="no_dream"), 404, {}, "There is no such dream."),
        (
            Conflict("", code="dream_full", most=3, images=2),
            409,
            {},
            "A dream may have at most 3 images; this one has 2.",
        ),
        (NoSpace(""), 507, {}, "There is no room left on the server's disk."),
        (
            Unavailable("", code="database_unavailable"),
            503,
            {"Retry-After": "2"},
            "The database does not answer just now. Try again in a moment.",
        ),
        (
            Refused(""),
            503,
            {"Retry-After": "2"},
            "The file storage refuses this server. Its administrator has to change a setting.",
        ),
        (
            InvalidToken("signed_out"),
            401,
            {"WWW-Authenticate": "Bearer"},
            "This session has been signed out. Sign in again.",
        ),
        (Problem(404, "no_original"), 404, {}, "The server did not keep the original."),
    ],
)
def test_an_error_becomes_its_problem(error: Exception, status: int, headers: dict[str, str], detail: str) -> None:
    """With the sentence of its code."""
    problem = from_error(error, "r1")
    assert (problem.status, problem.headers, str(problem)) == (status, headers, detail)


@pytest.mark.parametrize("error", [None, KeyError("a secret"), Error("a secret")])
def test_an_unexpected_error_reveals_nothing(error: Exception | None) -> None:
    """Only where the log says more."""
    body = from_error(error, "r1").body("en")
    assert body.status == 500
    assert "r1" in body.detail
    assert "secret" not in str(body)


def test_a_problem_is_what_rfc_9457_says() -> None:
    """In the reader's language, and with `errors` only where fields were wrong."""
    problem = Problem(404, "no_original")
    english = {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "The server did not keep the original.",
    }
    chinese = {"type": "about:blank", "title": "未找到", "status": 404, "detail": "原图没有保留。"}
    assert msgspec.to_builtins(problem.body("en")) == english
    assert msgspec.to_builtins(problem.body("zh")) == chinese


def test_every_mistake_is_named() -> None:
    """In `errors` one by one, and in the detail all together."""
    invalid = Invalid([FieldError("title", "text_too_long", most=200, length=201), FieldError("tags", "must_be_texts")])
    assert str(invalid) == "title: may have at most 200 characters; this has 201; tags: must be a list of texts"
    body = msgspec.to_builtins(invalid.body("zh"))
    assert body["detail"] == "title：最多 200 个字符，现有 201 个；tags：必须是文本列表"
    assert body["errors"] == [
        {"field": "title", "message": "最多 200 个字符，现有 201 个"},
        {"field": "tags", "message": "必须是文本列表"},
    ]


@pytest.mark.parametrize(("seconds", "header"), [(0.1, "1"), (0, "1"), (1, "1"), (1.01, "2"), (60, "60")])
def test_retry_after_is_in_whole_seconds(seconds: float, header: str) -> None:
    """Rounded up, and never 0: a client would come back at once."""
    problem = too_many("too_many_connections", seconds, most=3)
    assert (problem.status, problem.headers) == (429, {"Retry-After": header})
    assert "at most 3" in str(problem)
