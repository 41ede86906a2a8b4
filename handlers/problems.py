"""Every answer that is not the one asked for, as an RFC 9457 problem, and the table that turns errors into them.

Pure: it must not know Tornado or the database.
"""

import math
from http import HTTPStatus

from msgspec import UNSET

from handlers.bodies import FieldErrorBody, ProblemBody
from handlers.forms import Invalid
from handlers.tokens import InvalidToken
from storage.errors import Conflict, Error, NoSpace, NotFound, Refused, Unavailable

CHALLENGE = {"WWW-Authenticate": "Bearer"}
RETRY_UNAVAILABLE = 2  # seconds: most outages are a restart of the database

STATUSES: dict[type[Error], int] = {NotFound: 404, Conflict: 409, NoSpace: 507, Unavailable: 503, Refused: 503}


class Problem(Exception):
    """A status, a sentence for people, and the fields that were wrong."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}

    def body(self) -> ProblemBody:
        errors = UNSET if self.errors is None else [FieldErrorBody(**error) for error in self.errors]
        return ProblemBody("about:blank", HTTPStatus(self.status).phrase, self.status, self.detail, errors)


def too_many(detail: str, retry_after: float) -> Problem:
    """A 429; `retry_after` in seconds."""
    return Problem(429, detail, headers={"Retry-After": str(max(1, math.ceil(retry_after)))})


def from_error(error: BaseException | None, request_id: str) -> Problem:
    """The answer to a request that `error` has ended; a 500 for all that is not an answer by intent."""
    match error:
        case Problem():
            return error
        case Invalid():
            return Problem(422, str(error), errors=error.errors)
        case InvalidToken():
            return Problem(401, str(error), headers=CHALLENGE)
        case Error() if type(error) in STATUSES:
            status = STATUSES[type(error)]
            later = {"Retry-After": str(RETRY_UNAVAILABLE)} if status == 503 else None
            return Problem(status, str(error), headers=later)
        case _:
            return Problem(500, f"Something went wrong on the server. Its log says more under {request_id}.")
