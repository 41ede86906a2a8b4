"""Accounts over HTTP: a real server and client, a real database, only the routes of accounts."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.cookies import Morsel, SimpleCookie
from typing import Any

import jwt
import pytest
from motor.motor_asyncio import AsyncIOMotorDatabase
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.ioloop import IOLoop
from tornado.web import Application

import config
from handlers.access import Access
from handlers.auth import LoginHandler, LogoutHandler, MeHandler, RefreshHandler, RegisterHandler
from handlers.cors import Cors
from handlers.inflight import InFlight
from handlers.limits import RateLimits
from handlers.passwords import Passwords
from handlers.tokens import Tokens
from storage.dreams import Dreams
from storage.errors import NotFound
from storage.model import Draft
from storage.users import Users
from storage.writes import Writes

ANN = {"username": "Ann", "password": "correct horse"}


class Clock:
    """The limits' clock, which a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Server:
    """The parts that a test looks into, and the routes over them."""

    users: Users
    dreams: Dreams
    passwords: Passwords
    tokens: Tokens
    clock: Clock = field(default_factory=Clock)
    ended: list[tuple[str, str | None]] = field(default_factory=list)  # the calls of signed_out

    def app(self, *, registration_open: bool = True) -> Application:
        access = Access(public_url="", trusted_proxies=("127.0.0.0/8", "::1"))
        cors = Cors(access, public_url="", allowed_origins=("https://app.example.org",))
        limits = RateLimits(config.Limits(registrations=20), clock=self.clock)
        shared: dict[str, Any] = {"access": access, "cors": cors, "in_flight": InFlight(), "tokens": self.tokens}
        shared["users"] = self.users
        entering = {**shared, "passwords": self.passwords, "limits": limits}
        leaving = {**shared, "signed_out": lambda user, session: self.ended.append((user, session))}
        return Application(
            [
                ("/api/auth/register", RegisterHandler, {**entering, "registration_open": registration_open}),
                ("/api/auth/login", LoginHandler, entering),
                ("/api/auth/refresh", RefreshHandler, leaving),
                ("/api/auth/logout", LogoutHandler, leaving),
                ("/api/me", MeHandler, {**leaving, "dreams": self.dreams}),
            ],
            log_function=lambda handler: None,
        )


@dataclass
class Client:
    """Calls the server, as seen from one address."""

    http: AsyncHTTPClient
    base: str
    address: str = "192.0.2.1"

    async def call(
        self, method: str, path: str, body: Any = None, *, token: str = "", cookie: str = "", **headers: str
    ) -> HTTPResponse:
        """`body` bytes as they are, anything else as JSON."""
        sent = {"X-Forwarded-For": self.address, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if cookie:
            sent["Cookie"] = f"dreamlog_refresh={cookie}"
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return await self.http.fetch(
            self.base + path,
            method=method,
            headers=sent,
            body=content,
            raise_error=False,
            allow_nonstandard_methods=True,
        )

    async def post(self, path: str, body: Any = b"", **rest: str) -> HTTPResponse:
        return await self.call("POST", path, body, **rest)

    async def register(self, credentials: dict[str, Any] = ANN) -> Any:
        response = await self.post("/api/auth/register", credentials)
        assert response.code == 201, response.body
        return json.loads(response.body)

    async def login(self, username: str = "Ann", password: str = "correct horse") -> HTTPResponse:
        return await self.post("/api/auth/login", {"username": username, "password": password})

    async def refresh(self, token: str) -> HTTPResponse:
        return await self.post("/api/auth/refresh", {"refresh": token})

    async def me(self, token: str) -> int:
        return (await self.call("GET", "/api/me", token=token)).code


@pytest.fixture(scope="module")
def passwords() -> Iterator[Passwords]:
    with Passwords() as passwords:
        yield passwords


@pytest.fixture
def server(database: AsyncIOMotorDatabase[dict[str, Any]], io_loop: IOLoop, passwords: Passwords) -> Server:
    users, dreams = Users(database), Dreams(database, writes=Writes(database, changed=lambda *_: None))
    io_loop.run_sync(users.indexes)
    io_loop.run_sync(dreams.indexes)
    return Server(users, dreams, passwords, Tokens(b"s" * 32, access_lifetime=900, refresh_lifetime=86_400))


@pytest.fixture
def app(server: Server, request: pytest.FixtureRequest) -> Application:
    """Its parameter, where a test gives one: is registration open?"""
    return server.app(registration_open=getattr(request, "param", True))


@pytest.fixture
def client(server: Server, http_client: AsyncHTTPClient, base_url: str) -> Client:
    return Client(http_client, base_url)


def problem(response: HTTPResponse, status: int) -> dict[str, Any]:
    assert response.code == status, response.body
    assert response.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(response.body)
    assert body["status"] == status
    assert body["detail"]
    return body


def refresh_cookie(response: HTTPResponse) -> Morsel[str]:
    return SimpleCookie(response.headers["Set-Cookie"])["dreamlog_refresh"]


# ---- registering


@pytest.mark.gen_test
async def test_registering_signs_in(client: Client) -> None:
    """A new account comes with tokens that open it at once."""
    body = await client.register({"username": "  Änn ", "password": "correct horse"})
    assert set(body) == {"user", "access", "refresh", "expires_in"}
    assert body["user"]["username"] == "Änn"
    assert body["expires_in"] == 900
    me = json.loads((await client.call("GET", "/api/me", token=body["access"])).body)
    assert {"id": me["id"], "username": "Änn"} == body["user"]
    assert abs(datetime.fromisoformat(me["created_at"]) - datetime.now(UTC)).total_seconds() < 60


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["username", "password"]),
        ({"username": 1, "password": None}, ["username", "password"]),
        ({"username": "  ", "password": "short"}, ["username", "password"]),
        ({"username": "a" * 65, "password": "p" * 1025}, ["username", "password"]),
        ({"username": "a\x07b", "password": "p" * 8}, ["username"]),
        ({"username": "a\x00b", "password": "p" * 8}, ["username"]),
        ({"username": "ann", "password": "🌙" * 7}, ["password"]),
        ({"username": "ann", "password": "p" * 8, "admin": True}, ["admin"]),
        ({"username": "", "admin": True, "more": 1}, ["admin", "more", "username", "password"]),
        ([], ["body"]),
    ],
)
async def test_every_wrong_field_is_named(client: Client, body: Any, fields: list[str]) -> None:
    """All mistakes of a registration are named at once, each with its field."""
    errors = problem(await client.post("/api/auth/register", body), 422)["errors"]
    assert [error["field"] for error in errors] == fields
    assert all(error["message"] for error in errors)


@pytest.mark.gen_test
async def test_longest_name_and_password_are_accepted(client: Client) -> None:
    """64 characters of name and 1024 of password are fine, whatever bytes they take, and sign in."""
    longest = {"username": "夢" * 64, "password": "🌙" * 1024}
    await client.register(longest)
    assert (await client.login(**longest)).code == 200
    await client.register({"username": "a", "password": "12345678"})


@pytest.mark.gen_test
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", rb'{"username": "\ud800", "password": "12345678"}'])
async def test_what_is_not_json_is_refused(client: Client, body: bytes) -> None:
    """A body that is not JSON gets 400, with the reason."""
    problem(await client.post("/api/auth/register", body), 400)


@pytest.mark.gen_test
async def test_taken_name_is_refused(client: Client) -> None:
    """A name that someone has, in any spelling, cannot be taken again."""
    await client.register()
    assert "taken" in problem(await client.post("/api/auth/register", {**ANN, "username": "aNN"}), 409)["detail"]


@pytest.mark.gen_test
@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("app", [False], indirect=True)
async def test_closed_server_takes_nobody(client: Client) -> None:
    """Where registration is closed, nobody can make an account."""
    assert "no new accounts" in problem(await client.post("/api/auth/register", ANN), 403)["detail"]


@pytest.mark.gen_test
async def test_registrations_are_limited_by_address(client: Client) -> None:
    """One address makes only so many accounts in an hour; another is not affected."""
    for number in range(20):
        await client.register({**ANN, "username": f"ann {number}"})
    response = await client.post("/api/auth/register", ANN)
    problem(response, 429)
    assert response.headers["Retry-After"] == "180"
    client.address = "192.0.2.2"
    await client.register()


# ---- signing in


@pytest.mark.gen_test
async def test_login_answers_as_registering_does(client: Client) -> None:
    """Name, in any spelling, and password open the account, in a session of its own."""
    first = await client.register()
    response = await client.login(" ANN ")
    body = json.loads(response.body)
    assert response.code == 200
    assert body["user"] == first["user"]
    assert set(body) == set(first)
    assert body["refresh"] != first["refresh"]
    assert await client.me(body["access"]) == 200


@pytest.mark.gen_test
async def test_composition_of_letters_makes_no_other_password(client: Client) -> None:
    """A password with an accent is right from every keyboard, whether it composes letters or not."""
    await client.register({**ANN, "password": "caf\u00e9 \u00e0 Paris"})
    assert (await client.login(password="cafe\u0301 a\u0300 Paris")).code == 200


@pytest.mark.gen_test
async def test_unknown_and_wrong_look_alike(client: Client) -> None:
    """The answer does not reveal whether a name exists, not even for a password that no account can have."""
    await client.register()
    answers = [
        await client.login("Ann", "wrong password"),
        await client.login("Bob", "wrong password"),
        await client.login("Ann", "x"),
        await client.login("Ann", ""),
        await client.login("", "wrong password"),
        await client.login("a" * 65, "wrong password"),
        await client.login("Ann", "p" * 1025),
    ]
    bodies = {json.dumps(problem(answer, 401)) for answer in answers}
    assert len(bodies) == 1
    assert all(answer.headers["WWW-Authenticate"] == "Bearer" for answer in answers)


@pytest.mark.gen_test
async def test_unknown_name_costs_as_much_as_a_wrong_password(client: Client, server: Server) -> None:
    """For an unknown name a password is verified all the same."""
    await client.register()
    verified: list[str] = []
    hasher = server.passwords._hasher

    class Counting:
        """The real hasher, which notes whose hash it is asked about."""

        def __getattr__(self, name: str) -> Any:
            return getattr(hasher, name)

        def verify(self, hash: str, password: str) -> bool:
            verified.append(hash)
            return hasher.verify(hash, password)

    server.passwords._hasher = Counting()  # type: ignore[assignment]
    try:
        await client.login("Bob", "wrong password")
        await client.login("Ann", "wrong password")
    finally:
        server.passwords._hasher = hasher
    unknown, known = verified
    assert unknown != known
    assert unknown.split("$")[:4] == known.split("$")[:4]


@pytest.mark.gen_test
async def test_missing_fields_of_a_login_are_named(client: Client) -> None:
    """A login without its fields is a mistake in the request, not a wrong password."""
    errors = problem(await client.post("/api/auth/login", {"username": None}), 422)["errors"]
    assert [(error["field"], error["message"]) for error in errors] == [
        ("username", "must be given"),
        ("password", "must be given"),
    ]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("login", {**ANN, "admin": True}, ["admin"]),
        ("login", {"password": 5, "admin": True}, ["admin", "username", "password"]),
        ("refresh", {"refresh": None, "cookie": ""}, ["cookie"]),
        ("refresh", {"refresh": 5, "cookie": ""}, ["cookie", "refresh"]),
    ],
)
async def test_an_unknown_field_is_named(client: Client, path: str, body: Any, fields: list[str]) -> None:
    """The server names it together with every other mistake."""
    errors = problem(await client.post(f"/api/auth/{path}", body), 422)["errors"]
    assert [error["field"] for error in errors] == fields


@pytest.mark.gen_test
async def test_after_ten_failures_even_the_right_password_waits(client: Client, server: Server) -> None:
    """Then one guess every 30 seconds is checked; another IP address, and another name, do not wait."""
    await client.register()
    await client.register({**ANN, "username": "Bob"})
    for _ in range(10):
        problem(await client.login(password="wrong password"), 401)
        server.clock.now += 1
    response = await client.login()
    assert "wrong passwords" in problem(response, 429)["detail"]
    assert response.headers["Retry-After"] == "20"
    assert (await client.login("Bob")).code == 200
    client.address = "192.0.2.2"
    assert (await client.login()).code == 200
    client.address = "192.0.2.1"
    server.clock.now += 19
    problem(await client.login(), 429)
    server.clock.now += 1
    assert (await client.login()).code == 200


@pytest.mark.gen_test
async def test_guesses_all_at_once_are_counted(client: Client) -> None:
    """Of thirty guesses sent together only ten are checked."""
    await client.register()
    answers = await asyncio.gather(*(client.login(password=f"wrong {n}") for n in range(30)))
    assert sorted(answer.code for answer in answers) == [401] * 10 + [429] * 20


@pytest.mark.gen_test
async def test_often_signing_in_is_no_guessing(client: Client) -> None:
    """Right passwords are not counted."""
    await client.register()
    for _ in range(12):
        assert (await client.login()).code == 200


@pytest.mark.gen_test
async def test_hash_follows_the_parameters(client: Client, server: Server) -> None:
    """A password that was hashed with weaker parameters is hashed anew when its owner signs in."""
    with Passwords(memory=8 * 1024, passes=1) as weak:
        await server.users.create("Ann", await weak.hash("correct horse"))
    assert (await client.login()).code == 200
    found = await server.users.find("Ann")
    assert found is not None
    assert found[1].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (await client.login()).code == 200


# ---- cookies


@pytest.mark.gen_test
async def test_refresh_token_comes_in_a_cookie_too(client: Client) -> None:
    """Registering, signing in and refreshing set the cookie, out of reach of scripts and other sites."""
    registered = await client.post("/api/auth/register", ANN)
    signed_in = await client.login()
    refreshed = await client.refresh(json.loads(signed_in.body)["refresh"])
    for response in (registered, signed_in, refreshed):
        cookie = refresh_cookie(response)
        assert cookie.value == json.loads(response.body)["refresh"]
        assert (cookie["path"], cookie["max-age"], cookie["samesite"]) == ("/api/auth", "86400", "Strict")
        assert cookie["httponly"]
        assert not cookie["secure"]


@pytest.mark.gen_test
async def test_cookie_of_https_stays_on_https(client: Client) -> None:
    """Behind a proxy with https, the cookie is never sent over http."""
    response = await client.call("POST", "/api/auth/register", ANN, X_Forwarded_Proto="https")
    assert refresh_cookie(response)["secure"]


@pytest.mark.gen_test
async def test_cookie_alone_refreshes(client: Client) -> None:
    """A page needs no body: the cookie is enough. What stands in the body goes before it."""
    body = await client.register()
    first = await client.post("/api/auth/refresh", cookie=body["refresh"])
    assert first.code == 200
    second = await client.post("/api/auth/refresh", {}, cookie=json.loads(first.body)["refresh"])
    assert second.code == 200
    problem(await client.post("/api/auth/refresh", {"refresh": "x"}, cookie=json.loads(second.body)["refresh"]), 401)


# ---- refreshing


@pytest.mark.gen_test
async def test_refreshing_gives_a_new_pair(client: Client) -> None:
    """A refresh token is exchanged for a pair that works, and so on."""
    token = (await client.register())["refresh"]
    for _ in range(3):
        response = await client.refresh(token)
        body = json.loads(response.body)
        assert response.code == 200
        assert set(body) == {"access", "refresh", "expires_in"}
        assert await client.me(body["access"]) == 200
        assert body["refresh"] != token
        token = body["refresh"]


@pytest.mark.gen_test
async def test_reused_token_ends_its_session(client: Client, server: Server) -> None:
    """A refresh token that comes twice ends all tokens of its session, and its connections, but no other session."""
    body = await client.register()
    other = json.loads((await client.login()).body)
    newer = json.loads((await client.refresh(body["refresh"])).body)
    problem(await client.refresh(body["refresh"]), 401)
    problem(await client.refresh(newer["refresh"]), 401)
    assert [await client.me(token) for token in (body["access"], newer["access"])] == [401, 401]
    session = server.tokens.read_refresh(newer["refresh"], time.time()).session
    assert server.ended[0] == (body["user"]["id"], session)
    assert await client.me(other["access"]) == 200
    assert (await client.refresh(other["refresh"])).code == 200


@pytest.mark.gen_test
async def test_of_two_refreshes_at_once_exactly_one_wins(client: Client) -> None:
    """The same token, twice in the same moment, is honoured once."""
    token = (await client.register())["refresh"]
    answers = await asyncio.gather(client.refresh(token), client.refresh(token))
    assert sorted(answer.code for answer in answers) == [200, 401]


@pytest.mark.gen_test
async def test_wrong_refresh_tokens_are_refused(client: Client, server: Server) -> None:
    """None, rubbish, one that has run out, an access token, an unsigned one: all are refused."""
    body = await client.register()
    user, session = body["user"]["id"], server.tokens.read_refresh(body["refresh"], time.time()).session
    claims = jwt.decode(body["refresh"], options={"verify_signature": False})
    wrong = [
        "rubbish",
        body["access"],
        server.tokens.refresh(user, session, 1, time.time() - 86_401),
        jwt.encode(claims, "", "none"),
        jwt.encode(claims, b"e" * 32, "HS256"),
    ]
    for token in wrong:
        response = await client.refresh(token)
        problem(response, 401)
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert "Set-Cookie" not in response.headers
    problem(await client.post("/api/auth/refresh"), 401)
    problem(await client.post("/api/auth/refresh", {"refresh": 5}), 422)
    assert (await client.refresh(body["refresh"])).code == 200  # none of them did harm


# ---- signing out


@pytest.mark.gen_test
async def test_logging_out_ends_the_session(client: Client, server: Server) -> None:
    """After signing out neither token of the session works; the cookie goes; another session goes on."""
    body, other = await client.register(), json.loads((await client.login()).body)
    response = await client.post("/api/auth/logout", token=body["access"])
    assert response.code == 204
    assert not response.body
    cookie = refresh_cookie(response)
    assert (cookie.value, cookie["path"]) == ("", "/api/auth")
    assert parsed(cookie["expires"]) < datetime.now(UTC)
    assert [await client.me(token) for token in (body["access"], other["access"])] == [401, 200]
    session = server.tokens.read_refresh(body["refresh"], time.time()).session
    assert server.ended == [(body["user"]["id"], session)]
    problem(await client.refresh(body["refresh"]), 401)


@pytest.mark.gen_test
async def test_revocations_survive_a_restart(client: Client, server: Server) -> None:
    """A new process that has read the recently revoked sessions refuses their access tokens too."""
    body = await client.register()
    await client.post("/api/auth/logout", token=body["access"])
    now = time.time()
    server.tokens._revoked.clear()  # what a new process knows
    assert await client.me(body["access"]) == 200
    for session in await server.users.recently_revoked(datetime.fromtimestamp(now - 900, UTC)):
        server.tokens.revoke(session, now)
    assert await client.me(body["access"]) == 401


@pytest.mark.gen_test
@pytest.mark.parametrize(("method", "path"), [("GET", "/api/me"), ("DELETE", "/api/me"), ("POST", "/api/auth/logout")])
async def test_nobody_gets_in_without_a_token(client: Client, server: Server, method: str, path: str) -> None:
    """Without a good access token the account stays shut: none, forged, unsigned, run out, or of the other kind."""
    body = await client.register()
    user, session = body["user"]["id"], server.tokens.read_refresh(body["refresh"], time.time()).session
    claims = jwt.decode(body["access"], options={"verify_signature": False})
    wrong = [
        "",
        "rubbish",
        body["refresh"],
        jwt.encode(claims, "", "none"),
        jwt.encode(claims, b"e" * 32, "HS256"),
        server.tokens.access(user, session, time.time() - 901),
    ]
    for token in wrong:
        response = await client.call(method, path, token=token)
        problem(response, 401)
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert await client.me(body["access"]) == 200


# ---- deleting the account


@pytest.mark.gen_test
async def test_deleted_account_is_gone_everywhere(client: Client, server: Server) -> None:
    """Deleting the account ends every session, deletes the dreams, and frees the name; others keep theirs."""
    body, other = await client.register(), json.loads((await client.login()).body)
    bob = await client.register({**ANN, "username": "Bob"})
    user = body["user"]["id"]
    dream = await server.dreams.create(user, Draft(title="the sea"), [])
    his = await server.dreams.create(bob["user"]["id"], Draft(title="a house"), [])

    response = await client.call("DELETE", "/api/me", token=body["access"])
    assert response.code == 204
    assert not response.body
    assert refresh_cookie(response).value == ""
    assert server.ended == [(user, None)]
    assert [await client.me(token) for token in (body["access"], other["access"])] == [401, 401]
    for token in (body["refresh"], other["refresh"]):
        problem(await client.refresh(token), 401)
    problem(await client.login(), 401)
    with pytest.raises(NotFound):
        await server.dreams.get(user, dream.id)

    assert await client.me(bob["access"]) == 200
    assert (await server.dreams.get(bob["user"]["id"], his.id)).title == "a house"
    assert (await client.register())["user"]["id"] != user


@pytest.mark.gen_test
async def test_signing_in_during_the_deletion_is_in_vain(client: Client, server: Server) -> None:
    """A session that began while its account was being deleted gets in nowhere and is not prolonged."""
    body = await client.register()
    user = body["user"]["id"]
    await client.call("DELETE", "/api/me", token=body["access"])
    now = time.time()
    session = await server.users.begin_session(user, datetime.fromtimestamp(now + 900, UTC))
    assert await client.me(server.tokens.access(user, session, now)) == 401
    problem(await client.refresh(server.tokens.refresh(user, session, 1, now)), 401)


@pytest.mark.gen_test
async def test_account_that_is_gone_is_not_shown(client: Client, server: Server) -> None:
    """A token that is still good shows no account that another server has deleted."""
    body = await client.register()
    await server.users.delete(body["user"]["id"])
    assert await client.me(body["access"]) == 401


def parsed(http_date: str) -> datetime:
    return datetime.strptime(http_date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
