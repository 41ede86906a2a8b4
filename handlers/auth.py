"""Accounts over HTTP: register, sign in, get fresh tokens, sign out, see and delete the account.

It must not know how accounts are kept.
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
from handlers.problems import CHALLENGE, Problem
from handlers.requests import NAME_LENGTH, PASSWORD, LoginBody, RefreshBody
from handlers.tokens import SIGNED_OUT, InvalidToken
from storage.dreams import Dreams
from storage.errors import Unavailable
from storage.model import User
from storage.users import Users

SignedOut = Callable[[str, str | None], None]  # user, session; None: all of the user's sessions

COOKIE = "dreamlog_refresh"
COOKIE_PATH = "/api/auth"


class AuthHandler(ApiHandler):
    """What hands out tokens, or takes them back."""

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
        # Not before its tokens: a revoked session is remembered for as long as it is kept.
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
            raise Problem(403, "This server takes no new accounts.")

    async def post(self) -> None:
        username, password = _checked(self.read_json(LoginBody), name_mistake, password_mistake)
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
        username, password = _checked(self.read_json(LoginBody), _not_text, _not_text)
        if len(username) > NAME_LENGTH or len(password) > PASSWORD[-1]:
            raise _wrong()  # nobody's: no account could have been made with them
        ip = self.access.client_ip(self.request)
        self.limits.sign_in(username, ip)
        try:
            user = await self._verified(username, password)
        except Unavailable:
            self.limits.signed_in(username, ip)
            raise
        if user is None:
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
        given = self.read_json(RefreshBody).refresh if self._body else None
        token = given or self.get_cookie(COOKIE)
        if not token:
            raise InvalidToken(f"This needs a refresh token: in the body as `refresh`, or in the cookie `{COOKIE}`.")
        old = self.tokens.read_refresh(token, time.time())
        if not await self.users.rotate(old.session, old.number, self.session_end()):
            self.tokens.revoke(old.session, time.time())
            self.signed_out(old.user, old.session)
            raise InvalidToken(SIGNED_OUT)
        if await self.users.get(old.user) is None:  # deleted while it was just signing in
            raise InvalidToken(SIGNED_OUT)
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
            raise InvalidToken(SIGNED_OUT)
        self.answer(200, views.account(user))

    async def delete(self) -> None:
        """First nobody may come in, then the dreams go, the account last: if that fails half-way, its owner can sign
        in and delete it again."""
        user = self.caller.user
        for session in await self.users.revoke_all(user):
            self.tokens.revoke(session, time.time())
        self.signed_out(user, None)
        await self.dreams.delete_all(user)
        await self.users.delete(user)
        self.tokens.revoke(user, time.time())  # who signed in meanwhile
        self.clear_cookie(COOKIE, path=COOKIE_PATH)
        self.set_status(204)


# ---- what a name and a password may be


def name_mistake(value: Any) -> str | None:
    if not isinstance(value, str):
        return _not_text(value)
    if not 1 <= len(value.strip()) <= NAME_LENGTH:
        return f"Must have 1 to {NAME_LENGTH} characters."
    if any(unicodedata.category(character) == "Cc" for character in value.strip()):
        return "Must not have control characters."
    return None


def password_mistake(value: Any) -> str | None:
    if not isinstance(value, str):
        return _not_text(value)
    return None if len(value) in PASSWORD else f"Must have {PASSWORD[0]} to {PASSWORD[-1]} characters."


def _not_text(value: Any) -> str | None:
    return None if isinstance(value, str) else "Must be given, as text."


def _checked(
    given: LoginBody, name: Callable[[Any], str | None], password: Callable[[Any], str | None]
) -> tuple[str, str]:
    """The trimmed name and the password; raises a 422 that names everything that is wrong with them."""
    found = {"username": name(given.username), "password": password(given.password)}
    errors = [{"field": field, "message": message} for field, message in found.items() if message]
    if errors:
        detail = " ".join(f"{each['field']}: {each['message']}" for each in errors)
        raise Problem(422, detail, errors=errors)
    return given.username.strip(), given.password


def _wrong() -> Problem:
    return Problem(401, "The user name or the password is wrong.", headers=CHALLENGE)
