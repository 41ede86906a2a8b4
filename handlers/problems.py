"""Error answers as RFC 9457 problems, and the table that turns errors into them.

Pure: it must not know Tornado or the database. A problem carries the names of its sentences; `body` writes them in the
reader's language.
"""

import math
from collections.abc import Sequence

from msgspec import Struct

from handlers.bodies import FieldErrorBody, ProblemBody
from handlers.language import Language
from handlers.sentences import Sentence, title
from handlers.tokens import InvalidToken
from storage.errors import Conflict, Error, NoSpace, NotFound, Refused, Unavailable

CHALLENGE = {"WWW-Authenticate": "Bearer"}
RETRY_UNAVAILABLE = 2  # seconds: most outages are a restart of the database

STATUSES: dict[type[Error], int] = {NotFound: 404, Conflict: 409, NoSpace: 507, Unavailable: 503, Refused: 503}


class Problem(Exception):
    """A status, a sentence for people, and headers."""

    def __init__(
        self, status: int, sentence: str | Sentence, *, headers: dict[str, str] | None = None, **values: object
    ) -> None:
        """`sentence` is one of `SENTENCES`, or its name; then `values` are those of its placeholders."""
        self._sentence = sentence if isinstance(sentence, Sentence) else Sentence(sentence, **values)
        super().__init__(self._sentence.name)
        self.status = status
        self.headers = headers or {}

    def __str__(self) -> str:
        return self.detail("en")

    def detail(self, language: Language) -> str:
        return self._sentence.in_language(language)

    def body(self, language: Language) -> ProblemBody:
        return ProblemBody("about:blank", title(self.status, language), self.status, self.detail(language))


class FieldError:
    """One mistake in what the client sent: the field, the name of a sentence and the values of its placeholders."""

    __slots__ = ("field", "message")

    def __init__(self, field: str, name: str, **values: object) -> None:
        self.field = field
        self.message = Sentence(name, **values)


class Invalid(Problem):
    """A 422 for input with mistakes, one at least."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(422, errors[0].message)
        self.errors = errors

    def detail(self, language: Language) -> str:
        colon, semicolon = {"en": (": ", "; "), "zh": ("：", "；")}[language]
        return semicolon.join(f"{each.field}{colon}{each.message.in_language(language)}" for each in self.errors)

    def body(self, language: Language) -> ProblemBody:
        body = super().body(language)
        body.errors = [FieldErrorBody(each.field, each.message.in_language(language)) for each in self.errors]
        return body


def unknown_fields(raw: object, kind: type) -> list[FieldError]:
    """A mistake for each field of the JSON object `raw` that the Struct `kind` lacks; none for anything else."""
    if not isinstance(raw, dict) or not issubclass(kind, Struct):
        return []
    known = kind.__struct_encode_fields__
    return [FieldError(field, "unknown_field", allowed=known) for field in raw if field not in known]


def too_many(name: str, retry_after: float, **values: object) -> Problem:
    """A 429; `retry_after` in seconds."""
    return Problem(429, name, headers={"Retry-After": str(max(1, math.ceil(retry_after)))}, **values)


def from_error(error: BaseException | None, request_id: str) -> Problem:
    """The answer to a request that `error` has ended; a 500 for an unexpected error."""
    match error:
        case Problem():
            return error
        case InvalidToken():
            return Problem(401, error.sentence, headers=CHALLENGE)
        case Error() if type(error) in STATUSES:
            status = STATUSES[type(error)]
            later = {"Retry-After": str(RETRY_UNAVAILABLE)} if status == 503 else None
            return Problem(status, Sentence(error.code, **error.values), headers=later)
        case _:
            return Problem(500, "failed", request_id=request_id)
