"""Signed URLs of OSS objects, each with its own signature and expiry time.

Pure: it must not know the network, and the time is a parameter. oss2 can sign too, but always with the current time, so
that browsers would see a new URL each time. It also takes five times as long, and every dream needs many URLs.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote, urlencode


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of the signer; only temporary ones have a `token`."""

    key_id: str
    secret: str
    token: str = ""

    def __repr__(self) -> str:
        return "Credentials(***)"


def window(now: float, life: float) -> tuple[int, int]:
    """Begin and end (Unix s) of the validity of a URL made at `now`.

    URLs change every half of `life` seconds, and each one stays valid for at least that long.
    """
    step = max(1, int(life) // 2)
    begin = int(now) // step * step
    return begin, begin + 2 * step


def v4(credentials: Credentials, *, region: str, bucket: str, name: str, begin: int, end: int) -> str:
    """The query of a signed GET of the object, with OSS4-HMAC-SHA256."""
    moment = datetime.fromtimestamp(begin, UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{moment[:8]}/{region}/oss/aliyun_v4_request"
    query = {
        "x-oss-credential": f"{credentials.key_id}/{scope}",
        "x-oss-date": moment,
        "x-oss-expires": str(end - begin),
        **({"x-oss-security-token": credentials.token} if credentials.token else {}),
        "x-oss-signature-version": "OSS4-HMAC-SHA256",
    }
    encoded = urlencode(query, quote_via=quote, safe="")
    request = f"GET\n/{bucket}/{quote(name)}\n{encoded}\n\n\nUNSIGNED-PAYLOAD"
    to_sign = f"OSS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = _v4_key(credentials.secret, moment[:8], region)
    return f"{encoded}&x-oss-signature={hmac.digest(key, to_sign.encode(), 'sha256').hex()}"


@lru_cache(maxsize=16)  # one for each day
def _v4_key(secret: str, day: str, region: str) -> bytes:
    key = b"aliyun_v4" + secret.encode()
    for part in (day, region, "oss", "aliyun_v4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def v1(credentials: Credentials, *, bucket: str, name: str, end: int) -> str:
    """The query of a signed GET of the object, with HMAC-SHA1, for services without V4."""
    resource = f"/{bucket}/{name}" + (f"?security-token={credentials.token}" if credentials.token else "")
    digest = hmac.digest(credentials.secret.encode(), f"GET\n\n\n{end}\n{resource}".encode(), "sha1")
    query = {
        "OSSAccessKeyId": credentials.key_id,
        "Expires": str(end),
        "Signature": base64.b64encode(digest).decode(),
        **({"security-token": credentials.token} if credentials.token else {}),
    }
    return urlencode(query, quote_via=quote, safe="")
