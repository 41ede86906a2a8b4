"""Signed tokens: access tokens, which name the caller, and refresh tokens, which are exchanged for new ones.

Pure: it must not know Tornado or the database; the time is always a parameter.
"""

import hmac
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar

import jwt
import msgspec

from handlers.sentences import Sentence

ALGORITHM = "HS256"
# A session can be revoked while one of its access tokens is just being made, which then outlives the revocation by as
# long as that call takes; the driver gives calls up after 30 s.
IN_THE_MAKING = 60.0  # seconds

MAX_CACHED = 1024  # access tokens whose signature is not verified again; half a kilobyte each


@dataclass(frozen=True, slots=True)
class Caller:
    """The user and session that an access token names."""

    user: str
    session: str
    expires: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class Refresh:
    """The `number`-th refresh token of a session."""

    user: str
    session: str
    number: int


class InvalidToken(Exception):
    """The token does not let its bearer in; carries the sentence that says why."""

    def __init__(self, name: str, **values: object) -> None:
        self.sentence = Sentence(name, **values)
        super().__init__(str(self.sentence))


class _Access(msgspec.Struct, frozen=True):
    """The claims of an access token. `kind` keeps one kind of token from passing for the other."""

    kind: Literal["access"]
    sub: str
    sid: str
    exp: float


class _Refresh(msgspec.Struct, frozen=True):
    kind: Literal["refresh"]
    sub: str
    sid: str
    exp: float
    number: int


Claims = TypeVar("Claims", _Access, _Refresh)


class Tokens:
    """Issues and verifies tokens, and remembers revocations until the revoked access tokens have expired."""

    def __init__(self, secret: bytes, *, access_lifetime: float, refresh_lifetime: float) -> None:
        # The secret also signs picture URLs. A derived key keeps a signature of one kind from serving as the other.
        self._key = hmac.digest(secret, b"dreamlog tokens", "sha256")
        self.access_lifetime = access_lifetime
        self.refresh_lifetime = refresh_lifetime
        self._known = lru_cache(MAX_CACHED)(self._access)
        self._revoked: dict[str, float] = {}  # a session's or user's id -> when to forget it; soonest first

    def access(self, user: str, session: str, now: float) -> str:
        return self._sign(_Access("access", user, session, now + self.access_lifetime))

    def caller(self, token: str, now: float) -> Caller:
        """The caller that `token` names. Raises `InvalidToken` when it is forged, expired or revoked."""
        caller = self._known(token)
        self.check(caller, now)
        return caller

    def check(self, caller: Caller, now: float) -> None:
        """Raises `InvalidToken` once the caller's token has expired or was revoked. For calls that take long."""
        if caller.session in self._revoked or caller.user in self._revoked:
            raise InvalidToken("signed_out")
        if caller.expires <= now:
            raise InvalidToken("access_token_expired")

    def refresh(self, user: str, session: str, number: int, now: float) -> str:
        return self._sign(_Refresh("refresh", user, session, now + self.refresh_lifetime, number))

    def read_refresh(self, token: str, now: float) -> Refresh:
        """The contents of `token`. Only the database knows whether its number is still the session's newest."""
        claims = self._read(token, _Refresh, "refresh")
        if claims.exp <= now:
            raise InvalidToken("refresh_token_expired")
        return Refresh(claims.sub, claims.sid, claims.number)

    def revoke(self, id: str, now: float) -> None:
        """End the access tokens of this session or user now. A revoked id must never be used again."""
        while self._revoked and (oldest := next(iter(self._revoked))) and self._revoked[oldest] <= now:
            del self._revoked[oldest]
        self._revoked.pop(id, None)
        self._revoked[id] = now + self.access_lifetime + IN_THE_MAKING

    def _access(self, token: str) -> Caller:
        claims = self._read(token, _Access, "access")
        return Caller(claims.sub, claims.sid, claims.exp)

    def _sign(self, claims: _Access | _Refresh) -> str:
        return jwt.encode(msgspec.to_builtins(claims), self._key, ALGORITHM)

    def _read(self, token: str, kind: type[Claims], name: str) -> Claims:
        ours: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}  # PyJWT would look at the clock
        try:
            return msgspec.convert(jwt.decode(token, self._key, [ALGORITHM], options=ours), kind)
        except (jwt.InvalidTokenError, msgspec.ValidationError) as error:
            raise InvalidToken(f"{name}_token_invalid") from error
