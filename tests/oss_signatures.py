"""The signatures of Aliyun OSS, written from its documentation and sharing nothing with the server or with oss2.

A request has a method, a bucket, a name, a query and headers (names in lower case). This module computes the signature
that the request must have, and compares. It must not know sockets.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from string import ascii_letters, digits

SKEW = 900.0  # seconds that a request's clock may be off
WEEK = 604_800
# The parameters that OSS signs in V1, as far as this server understands them.
SUBRESOURCES = {
    *("uploads", "uploadId", "partNumber", "delete", "objectMeta", "security-token", "continuation-token"),
    *("response-content-type", "response-cache-control", "response-content-disposition", "acl"),
}


class Refusal(Exception):
    """A refusal with OSS's own code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Request:
    method: str
    bucket: str
    name: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


def check(request: Request, secrets: Mapping[str, str], region: str, now: float) -> bool:
    """True for a valid signature, False for none; raises `Refusal` for a wrong one."""
    authorization = request.headers.get("authorization", "")
    if authorization.startswith("OSS4-HMAC-SHA256 "):
        _check_v4_header(request, authorization, secrets, region, now)
    elif authorization.startswith("OSS "):
        _check_v1_header(request, authorization, secrets, now)
    elif "x-oss-signature-version" in request.query:
        _check_v4_query(request, secrets, region, now)
    elif "Signature" in request.query:
        _check_v1_query(request, secrets, now)
    elif authorization:
        raise Refusal("AccessDenied", "The authorization is of no known kind.")
    else:
        return False
    return True


# ---- V4


def v4_signature(
    request: Request, *, query: Mapping[str, str], secret: str, moment: str, region: str, additional: list[str]
) -> str:
    signed = {"content-type", "content-md5", *additional}
    kept = {n: v for n, v in request.headers.items() if n in signed or n.startswith("x-oss-")}
    canonical = [
        request.method,
        _encoded(f"/{request.bucket}/{request.name}" if request.bucket else "/", keep="/"),
        "&".join(f"{n}={v}" if v else n for n, v in sorted((_encoded(n), _encoded(v)) for n, v in query.items())),
        "".join(f"{name}:{value.strip()}\n" for name, value in sorted(kept.items())),
        ";".join(additional),
        request.headers.get("x-oss-content-sha256", "UNSIGNED-PAYLOAD"),
    ]
    scope = f"{moment[:8]}/{region}/oss/aliyun_v4_request"
    hashed = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    key = f"aliyun_v4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, f"OSS4-HMAC-SHA256\n{moment}\n{scope}\n{hashed}".encode(), hashlib.sha256).hexdigest()


def _check_v4_header(request: Request, authorization: str, secrets: Mapping[str, str], region: str, now: float) -> None:
    fields = dict(part.strip().split("=", 1) for part in authorization.partition(" ")[2].split(","))
    moment = request.headers.get("x-oss-date", "")
    _check_clock(_unix(moment), now)
    secret = _secret(_scoped_key(fields["Credential"], moment, region), secrets)
    additional = fields["AdditionalHeaders"].split(";") if "AdditionalHeaders" in fields else []
    expected = v4_signature(
        request, query=request.query, secret=secret, moment=moment, region=region, additional=additional
    )
    _compare(fields["Signature"], expected)


def _check_v4_query(request: Request, secrets: Mapping[str, str], region: str, now: float) -> None:
    if request.query["x-oss-signature-version"] != "OSS4-HMAC-SHA256":
        raise Refusal("AccessDenied", "There is no such signature version.")
    moment, life = request.query.get("x-oss-date", ""), request.query.get("x-oss-expires", "")
    if not life.isdecimal() or not 0 < int(life) <= WEEK:
        raise Refusal("AccessDenied", "x-oss-expires must be between 1 and 604800.")
    secret = _secret(_scoped_key(request.query.get("x-oss-credential", ""), moment, region), secrets)
    query = {name: value for name, value in request.query.items() if name != "x-oss-signature"}
    additional = request.query.get("x-oss-additional-headers", "").split(";")
    expected = v4_signature(
        request, query=query, secret=secret, moment=moment, region=region, additional=[n for n in additional if n]
    )
    _compare(request.query.get("x-oss-signature", ""), expected)
    begins = _unix(moment)
    if now < begins - SKEW:
        raise Refusal("AccessDenied", "Request is not yet valid.")
    if now >= begins + int(life):
        raise Refusal("AccessDenied", "Request has expired.")


def _scoped_key(credential: str, moment: str, region: str) -> str:
    key_id, _, scope = credential.partition("/")
    if scope != f"{moment[:8]}/{region}/oss/aliyun_v4_request":
        raise Refusal("InvalidArgument", "Invalid signing region or date in the credential.")
    return key_id


def _encoded(text: str, keep: str = "") -> str:
    plain = set((ascii_letters + digits + "-_.~" + keep).encode())
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in text.encode())


# ---- V1


def v1_signature(request: Request, secret: str, date: str) -> str:
    ours = sorted((n, v) for n, v in request.query.items() if n in SUBRESOURCES)
    resource = f"/{request.bucket}/{request.name}" if request.bucket else "/"
    if ours:
        resource += "?" + "&".join(f"{n}={v}" if v else n for n, v in ours)
    headers = "".join(f"{n}:{v.strip()}\n" for n, v in sorted(request.headers.items()) if n.startswith("x-oss-"))
    lines = [request.method, request.headers.get("content-md5", ""), request.headers.get("content-type", ""), date]
    text = "\n".join(lines) + "\n" + headers + resource
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()).decode()


def _check_v1_header(request: Request, authorization: str, secrets: Mapping[str, str], now: float) -> None:
    key_id, _, signature = authorization.removeprefix("OSS ").partition(":")
    date = request.headers.get("date", "")
    try:
        _check_clock(parsedate_to_datetime(date).timestamp(), now)
    except (TypeError, ValueError):
        raise Refusal("AccessDenied", "The request has no valid date.") from None
    _compare(signature, v1_signature(request, _secret(key_id, secrets), request.headers.get("x-oss-date") or date))


def _check_v1_query(request: Request, secrets: Mapping[str, str], now: float) -> None:
    ends = request.query.get("Expires", "")
    if not ends.isdecimal():
        raise Refusal("AccessDenied", "Expires must be a number.")
    secret = _secret(request.query.get("OSSAccessKeyId", ""), secrets)
    _compare(request.query["Signature"], v1_signature(request, secret, ends))
    if now >= int(ends):
        raise Refusal("AccessDenied", "Request has expired.")


# ---- both


def _secret(key_id: str, secrets: Mapping[str, str]) -> str:
    if key_id not in secrets:
        raise Refusal("InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist in our records.")
    return secrets[key_id]


def _compare(given: str, expected: str) -> None:
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise Refusal("SignatureDoesNotMatch", "The request signature we calculated does not match the one provided.")


def _check_clock(moment: float, now: float) -> None:
    if abs(moment - now) > SKEW:
        raise Refusal(
            "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."
        )


def _unix(moment: str) -> float:
    try:
        return time.mktime(time.strptime(moment, "%Y%m%dT%H%M%SZ")) - time.timezone
    except ValueError:
        raise Refusal("AccessDenied", "The request has no valid date.") from None
