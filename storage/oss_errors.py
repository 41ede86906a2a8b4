"""Errors of oss2 as errors of the storage layer: can another try help, and what does the host read?

It must not know what was asked for, and quotes no key, signature or name.
"""

from email.utils import parsedate_to_datetime

import requests
from oss2.exceptions import ClientError, OssError, RequestError, ServerError

from storage.errors import Error, NotFound, Refused, Unavailable
from storage.files import NO_FILE

PASSING = {"RequestTimeout", "InvalidDigest"}  # the latter: what arrived is not what was sent
ABSENT = {"NoSuchKey", "NoSuchUpload", "InvalidObjectName"}
REFUSALS = {
    "InvalidAccessKeyId": "OSS does not know the key in storage.access_key_id: it is wrong, disabled or deleted.",
    "SignatureDoesNotMatch": "storage.access_key_secret does not belong to storage.access_key_id, or storage.region is "
    "not that of storage.endpoint.",
    "NoSuchBucket": "There is no bucket of the name in storage.bucket at storage.endpoint.",
    "InvalidSecurityToken": "OSS does not accept the temporary credentials' token.",
    "SecurityTokenExpired": "The temporary credentials have run out.",
    "UserDisable": "OSS has suspended the account: its bill may be unpaid.",
}


def is_retryable(error: Exception) -> bool:
    """Can another try in a moment help?"""
    match error:
        case ServerError():
            return error.status >= 500 or error.status == 429 or error.code in PASSING
        case RequestError() | requests.RequestException():
            return True
        case _:
            return False


def to_storage_error(error: Exception, now: float) -> Error:
    """The error of the storage layer to raise. `now` (Unix s) is this machine's clock."""
    match error:
        case ServerError(code="RequestTimeTooSkewed"):
            return Refused(f"The clock of this machine is {_off(error, now)}: set it, best by NTP.")
        case ServerError() if error.code in ABSENT or (error.status == 404 and not error.code):
            return NotFound(NO_FILE)
        case ServerError() if is_retryable(error):
            return Unavailable(f"The pictures' storage, OSS, answers {error.status} just now.")
        case ServerError() if error.details.get("Endpoint"):
            return Refused(f"The bucket is not at storage.endpoint, but at {error.details['Endpoint']}.")
        case ServerError() if error.code in REFUSALS:
            return Refused(REFUSALS[error.code])
        case ServerError():
            return Refused(f"OSS refuses: {error.code or error.status}: {error.message}")
        case RequestError():
            return Unavailable(f"The pictures' storage, OSS, cannot be reached ({type(error.exception).__name__}).")
        case requests.RequestException():
            return Unavailable(f"The pictures' storage, OSS, broke off its answer ({type(error).__name__}).")
        case ClientError():
            return Refused("There are no credentials for OSS where storage.credentials says they are.")
        case OssError():
            return Unavailable(f"The pictures' storage, OSS, does not answer as it should ({type(error).__name__}).")
        case OSError():
            return Unavailable(f"A file on its way to OSS cannot be read: {error.strerror}.")
        case _:
            raise error


def _off(error: OssError, now: float) -> str:
    """How far `now` is from the clock in OSS's answer."""
    try:
        ahead = now - parsedate_to_datetime(error.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return "too far off OSS's"
    return f"{abs(ahead) / 60:.0f} minutes {'ahead of' if ahead > 0 else 'behind'} OSS's"
