"""Accounts over HTTP: register, sign in, refresh tokens, sign out, read and delete the account.

It must not know how accounts are stored.
"""

import time
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from handlers import views
from handlers.base import ApiHandler
from handlers.bodies import SessionBody, TokensBody
from handlers.limits import RateLimits
from handlers.passwords import Passwords
from handlers.problems import CHALLENGE, FieldError, Invalid, Problem, unknown_fields
from handlers.requests import NAME_LENGTH, PASSWORD, LoginBody, RefreshBody
from handlers.tokens import InvalidToken
from storage.dreams import Dreams
from storage.errors import Unavailable
from storage.model import User
from storage.users import Users

SignedOut = Callable[[str, str | None], None]  # user, session; None: all of the user's sessions

COOKIE = "dreamlog_refresh"
COOKIE_PATH = "/api/auth"


class AuthHandler(ApiHandler):
    """A call that issues or revokes tokens."""

    users: Users

    def grant(self, user: str, session: str, number: int) -> TokensBody:
        """A pair of tokens; the refresh token also goes into a cookie, where scripts cannot read it."""
        now = time.time()
        refresh = self.tokens.refresh(user, session, number, now)
        self.keep_cookie(refresh)
        access = self.tokens.access(user, session, now)
        return TokensBody(access=access, refresh=refresh, expires_in=int(self.tokens.access_lifetime))

    async def sign_in(self, user: User) -> SessionBody:
        session = await self.users.begin_session(user.id, self.session_end())
        given = self.grant(user.id, session, 1)
        return SessionBody(
            access=given.access, refresh=given.refresh, expires_in=given.expires_in, user=views.user(user)
        )

    def session_end(self) -> datetime:
        # As late as its last token expires: the server remembers a revocation as long as the session's document.
        longest = max(self.tokens.refresh_lifetime, self.tokens.access_lifetime)
        return datetime.fromtimestamp(time.time() + longest, UTC)

    def keep_cookie(self, refresh: str) -> None:
        secure = self.access.base_url(self.request).startswith("https:")
        seconds = int(self.tokens.refresh_lifetime)
        # Strict: no foreign page can have a browser send it.
        self.set_cookie(
            COOKIE, refresh, path=COOKIE_PATH, max_age=seconds, httponly=True, samesite="Strict", secure=secure
        )


class RegisterHandler(AuthHandler):
    public = True

    def initialize(
        self, *, users: Users, passwords: Passwords, limits: RateLimits, registration_open: bool, **shared: Any
    ) -> None:
        super().initialize(**shared)
        self.users = users
        self.passwords = passwords
        self.limits = limits
        self.registration_open = registration_open

    async def begin(self) -> None:
        await super().begin()
        if not self.registration_open:
            raise Problem(403, "registration_closed")

    async def post(self) -> None:
        username, password = _new(self.read_json(dict))
        self.limits.register(self.access.client_ip(self.request))
        user = await self.users.create(username, await self.passwords.hash(password))
        self.answer(201, await self.sign_in(user))


class LoginHandler(AuthHandler):
    public = True

    def initialize(self, *, users: Users, passwords: Passwords, limits: RateLimits, **shared: Any) -> None:
        super().initialize(**shared)
        self.users = users
        self.passwords = passwords
        self.limits = limits

    async def post(self) -> None:
        username, password = _given(self.read_json(dict))
        if len(username) > NAME_LENGTH or len(password) > PASSWORD[-1]:
            raise _wrong()  # no account can have these
        ip = self.access.client_ip(self.request)
        self.limits.sign_in(username, ip)
        try:
            user = await self._verified(username, password)
        except Unavailable:
            self.limits.signed_in(username, ip)
            raise
        if user is None:
            self.limits.wrong_passwords += 1
            raise _wrong()
        self.limits.signed_in(username, ip)
        self.answer(200, await self.sign_in(user))

    async def _verified(self, username: str, password: str) -> User | None:
        user, hash = await self.users.find(username) or (None, None)
        right, better = await self.passwords.verify(hash, password)
        if user is None or hash is None or not right:
            return None
        if better is not None:
            await self.users.rehash(user.id, hash, better)
        return user


class RefreshHandler(AuthHandler):
    public = True

    def initialize(self, *, users: Users, signed_out: SignedOut, **shared: Any) -> None:
        super().initialize(**shared)
        self.users = users
        self.signed_out = signed_out

    async def post(self) -> None:
        given = self.read_json(RefreshBody).refresh if self._received else None
        token = given or self.get_cookie(COOKIE)
        if not token:
            raise InvalidToken("no_refresh_token", cookie=COOKIE)
        old = self.tokens.read_refresh(token, time.time())
        if not await self.users.rotate(old.session, old.number, self.session_end()):
            self.tokens.revoke(old.session, time.time())
            self.signed_out(old.user, old.session)
            raise InvalidToken("signed_out")
        if await self.users.get(old.user) is None:  # the account was deleted during this sign-in
            raise InvalidToken("signed_out")
        self.answer(200, self.grant(old.user, old.session, old.number + 1))


class LogoutHandler(AuthHandler):
    def initialize(self, *, users: Users, signed_out: SignedOut, **shared: Any) -> None:
        super().initialize(**shared)
        self.users = users
        self.signed_out = signed_out

    async def post(self) -> None:
        await self.users.revoke(self.caller.session)
        self.tokens.revoke(self.caller.session, time.time())
        self.signed_out(self.caller.user, self.caller.session)
        self.clear_cookie(COOKIE, path=COOKIE_PATH)
        self.set_status(204)


class MeHandler(AuthHandler):
    def initialize(self, *, users: Users, dreams: Dreams, signed_out: SignedOut, **shared: Any) -> None:
        super().initialize(**shared)
        self.users = users
        self.dreams = dreams
        self.signed_out = signed_out

    async def get(self) -> None:
        user = await self.users.get(self.caller.user)
        if user is None:
            raise InvalidToken("signed_out")
        self.answer(200, views.account(user))

    async def delete(self) -> None:
        """End all sessions, then delete the dreams, and the account last.

        After a failure half-way, the owner can sign in and delete it again.
        """
        user = self.caller.user
        for session in await self.users.revoke_all(user):
            self.tokens.revoke(session, time.time())
        self.signed_out(user, None)
        await self.dreams.delete_all(user)
        await self.users.delete(user)
        self.tokens.revoke(user, time.time())  # sessions that began meanwhile
        self.clear_cookie(COOKIE, path=COOKIE_PATH)
        self.set_status(204)


# ---- what a name and a password may be


def name_mistake(value: Any) -> FieldError | None:
    if not isinstance(value, str):
        return _no_text("username", value)
    if not 1 <= len(value.strip()) <= NAME_LENGTH:
        return FieldError("username", "wrong_length", least=1, most=NAME_LENGTH)
    if any(unicodedata.category(character) == "Cc" for character in value.strip()):
        return FieldError("username", "control_characters")
    return None


def password_mistake(value: Any) -> FieldError | None:
    if not isinstance(value, str):
        return _no_text("password", value)
    if len(value) not in PASSWORD:
        return FieldError("password", "wrong_length", least=PASSWORD[0], most=PASSWORD[-1])
    return None


def _no_text(field: str, value: Any) -> FieldError:
    return FieldError(field, "must_be_given") if value is None else FieldError(field, "must_be_text")


def _new(raw: dict[str, Any]) -> tuple[str, str]:
    """The trimmed name and the password of a new account. Raises `Invalid` with every mistake."""
    name, password = raw.get("username"), raw.get("password")
    _raise(raw, name_mistake(name), password_mistake(password))
    return str(name).strip(), str(password)


def _given(raw: dict[str, Any]) -> tuple[str, str]:
    """The trimmed name and the password, which may be any texts. Raises `Invalid` with every mistake."""
    name, password = raw.get("username"), raw.get("password")
    found = {"username": name, "password": password}
    _raise(raw, *(_no_text(each, value) for each, value in found.items() if not isinstance(value, str)))
    return str(name).strip(), str(password)


def _raise(raw: dict[str, Any], *mistakes: FieldError | None) -> None:
    """Raise `Invalid` when there are mistakes, or unknown fields."""
    if errors := [*unknown_fields(raw, LoginBody), *(each for each in mistakes if each)]:
        raise Invalid(errors)


def _wrong() -> Problem:
    return Problem(401, "wrong_password", headers=CHALLENGE)
