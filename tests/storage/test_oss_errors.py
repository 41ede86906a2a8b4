"""Errors of oss2 as the storage layer's: which ones pass with time, and what a host reads."""

import errno
import os

import pytest
import requests
from oss2.exceptions import ClientError, InconsistentError, RequestError, ServerError

from storage.errors import NotFound, Refused, Unavailable
from storage.oss_errors import REFUSALS, is_retryable, to_storage_error

NOW = 1_767_225_600.0  # 2026-01-01, 00:00 UTC


def answer(status: int, code: str = "", *, date: str = "", **details: str) -> ServerError:
    """What oss2 raises when OSS answers with this status and this body."""
    return ServerError(status, {"Date": date} if date else {}, b"", {"Code": code, "Message": "why"} | details)


@pytest.mark.parametrize(
    "error",
    [
        answer(500, "InternalError"),
        answer(503, "ServiceUnavailable"),
        answer(429, "TooManyRequests"),
        answer(400, "RequestTimeout"),
        answer(400, "InvalidDigest"),
        RequestError(requests.ConnectionError("no route")),
        requests.exceptions.ChunkedEncodingError("cut"),
    ],
)
def test_what_passes_with_time_is_tried_again(error: Exception) -> None:
    """After that it is unavailable, which lets the image wait instead of failing."""
    assert is_retryable(error)
    assert type(to_storage_error(error, NOW)) is Unavailable


@pytest.mark.parametrize(
    "error",
    [
        answer(400, "InvalidArgument"),
        answer(403, "AccessDenied"),
        answer(404, "NoSuchKey"),
        answer(499, "Anything"),
        ClientError("no credentials"),
        InconsistentError("the checksum differs"),
        OSError(errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_what_stays_is_not_tried_again(error: Exception) -> None:
    """Another request would only get the same answer."""
    assert not is_retryable(error)


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (answer(404, "NoSuchKey"), NotFound, "no such file"),
        (answer(404, "NoSuchUpload"), NotFound, "no such file"),
        (answer(404), NotFound, "no such file"),  # HEAD has no body, and so no code
        (answer(404, "NoSuchBucket"), Refused, REFUSALS["NoSuchBucket"]),
        (answer(403, "AccessDenied", Endpoint="oss-cn-x.example"), Refused, "oss-cn-x.example"),
        (answer(403, "SignatureDoesNotMatch"), Refused, "storage.access_key_id"),
        (answer(400, "InvalidArgument"), Refused, "InvalidArgument: why"),
        (answer(409), Refused, "409: why"),
        (answer(503), Unavailable, "503"),
        (RequestError(requests.ConnectionError("no route")), Unavailable, "(ConnectionError)"),
        (requests.exceptions.ReadTimeout("late"), Unavailable, "(ReadTimeout)"),
        (ClientError("none"), Refused, "storage.credentials"),
        (InconsistentError("the checksum differs"), Unavailable, "(InconsistentError)"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), Unavailable, "Input/output error"),
    ],
)
def test_a_host_reads_what_to_do(error: Exception, kind: type[Exception], sentence: str) -> None:
    """One error of the storage layer for each, with the reason in words."""
    found = to_storage_error(error, NOW)
    assert type(found) is kind
    assert sentence.lower() in str(found).lower()


@pytest.mark.parametrize(
    ("date", "sentence"),
    [
        ("Wed, 31 Dec 2025 23:40:00 GMT", "20 minutes ahead of OSS's"),
        ("Thu, 01 Jan 2026 01:30:00 GMT", "90 minutes behind OSS's"),
        ("yesterday", "too far off OSS's"),
        ("", "too far off OSS's"),
    ],
)
def test_a_wrong_clock_is_named_with_its_error(date: str, sentence: str) -> None:
    """OSS accepts signatures for 15 minutes, and every answer has its own time."""
    found = to_storage_error(answer(403, "RequestTimeTooSkewed", date=date), NOW)
    assert type(found) is Refused
    assert sentence in str(found)


def test_a_mistake_of_ours_is_not_translated() -> None:
    """It keeps its traceback."""
    with pytest.raises(KeyError):
        to_storage_error(KeyError("ours"), NOW)
