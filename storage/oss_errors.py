"""Errors of oss2 as errors of the storage layer, with a sentence for the administrator, and whether a retry can help.

It must not know what a request was for, and no sentence quotes a key, a signature or a name.
"""

from email.utils import parsedate_to_datetime

import requests
from oss2.exceptions import ClientError, OssError, RequestError, ServerError

from storage.errors import Error, NotFound, Refused, Unavailable
from storage.files import NO_FILE

TEMPORARY = {"RequestTimeout", "InvalidDigest"}  # the latter: the body was damaged on its way
ABSENT = {"NoSuchKey", "NoSuchUpload", "InvalidObjectName"}
REFUSALS = {
    "InvalidAccessKeyId": "OSS does not know the key in storage.access_key_id: it is wrong, disabled or deleted.",
    "SignatureDoesNotMatch": "storage.access_key_secret does not belong to storage.access_key_id, or storage.region is "
    "not that of storage.endpoint.",
    "NoSuchBucket": "There is no bucket with the name in storage.bucket at storage.endpoint.",
    "InvalidSecurityToken": "OSS rejects the token of the temporary credentials.",
    "SecurityTokenExpired": "The temporary credentials have expired.",
    "UserDisable": "OSS has suspended the account: its bill may be unpaid.",
}


def is_retryable(error: Exception) -> bool:
    """Can a retry in a moment help?"""
    match error:
        case ServerError():
            return error.status >= 500 or error.status == 429 or error.code in TEMPORARY
        case RequestError() | requests.RequestException():
            return True
        case _:
            return False


def to_storage_error(error: Exception, now: float) -> Error:
    """The error of the storage layer to raise. `now` (Unix s) is this machine's clock."""
    match error:
        case ServerError(code="RequestTimeTooSkewed"):
            return Refused(f"The clock of this machine is {_off(error, now)}. Set it, preferably with NTP.")
        case ServerError() if error.code in ABSENT or (error.status == 404 and not error.code):
            return NotFound(NO_FILE)
        case ServerError() if is_retryable(error):
            return Unavailable(f"The file storage, OSS, answers with status {error.status} at the moment.")
        case ServerError() if error.details.get("Endpoint"):
            return Refused(f"The bucket is not at storage.endpoint, but at {error.details['Endpoint']}.")
        case ServerError() if error.code in REFUSALS:
            return Refused(REFUSALS[error.code])
        case ServerError():
            return Refused(f"OSS refuses the request: {error.code or error.status}: {error.message}")
        case RequestError():
            return Unavailable(f"The file storage, OSS, cannot be reached ({type(error.exception).__name__}).")
        case requests.RequestException():
            return Unavailable(f"The file storage, OSS, broke off its answer ({type(error).__name__}).")
        case ClientError():
            return Refused("There are no credentials for OSS in the place that storage.credentials names.")
        case OssError():
            return Unavailable(f"The file storage, OSS, sends an unexpected answer ({type(error).__name__}).")
        case OSError():
            return Unavailable(f"A file to be stored on OSS cannot be read: {error.strerror}.")
        case _:
            raise error


def _off(error: OssError, now: float) -> str:
    """How far `now` is from the clock in OSS's answer."""
    try:
        ahead = now - parsedate_to_datetime(error.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return "too far off OSS's"
    return f"{abs(ahead) / 60:.0f} minutes {'ahead of' if ahead > 0 else 'behind'} OSS's"
