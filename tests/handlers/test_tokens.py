"""Tokens: who gets in, for how long, and who no longer."""

import base64
import json
from typing import Any

import jwt
import pytest

from handlers.tokens import IN_THE_MAKING, Caller, InvalidToken, Refresh, Tokens

SECRET = b"a secret of more than 32 bytes, for tests"
NOW = 1_700_000_000.25


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(SECRET, access_lifetime=900, refresh_lifetime=86_400)


def refused(tokens: Tokens, token: str, now: float = NOW) -> str:
    with pytest.raises(InvalidToken) as refusal:
        tokens.caller(token, now)
    return str(refusal.value)


def claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def test_access_names_its_caller(tokens: Tokens) -> None:
    """An access token says whose it is, which session it belongs to and when it ends."""
    assert tokens.caller(tokens.access("ann", "s1", NOW), NOW) == Caller("ann", "s1", NOW + 900)


def test_access_runs_out_to_the_moment(tokens: Tokens) -> None:
    """An access token is good until its lifetime is over, and not a moment longer."""
    token = tokens.access("ann", "s1", NOW)
    assert tokens.caller(token, NOW + 899.999).user == "ann"
    assert "expired" in refused(tokens, token, NOW + 900)


def test_refresh_names_its_number(tokens: Tokens) -> None:
    """A refresh token says which of its session's it is."""
    assert tokens.read_refresh(tokens.refresh("ann", "s1", 3, NOW), NOW) == Refresh("ann", "s1", 3)


def test_refresh_runs_out(tokens: Tokens) -> None:
    """A refresh token ends when its own lifetime is over."""
    token = tokens.refresh("ann", "s1", 1, NOW)
    assert tokens.read_refresh(token, NOW + 86_399).number == 1
    with pytest.raises(InvalidToken, match="expired"):
        tokens.read_refresh(token, NOW + 86_400)


def test_one_kind_is_not_the_other(tokens: Tokens) -> None:
    """A refresh token opens nothing, and an access token fetches no new ones."""
    refused(tokens, tokens.refresh("ann", "s1", 1, NOW))
    with pytest.raises(InvalidToken):
        tokens.read_refresh(tokens.access("ann", "s1", NOW), NOW)


def test_other_secret_is_refused(tokens: Tokens) -> None:
    """What another server signed is worth nothing here."""
    other = Tokens(b"another secret of more than 32 bytes....", access_lifetime=900, refresh_lifetime=900)
    assert "not valid" in refused(tokens, other.access("ann", "s1", NOW))


def test_unsigned_is_refused(tokens: Tokens) -> None:
    """A token that says it needs no signature (alg=none) is refused, with a signature and without."""
    head, body, signature = tokens.access("ann", "s1", NOW).split(".")
    for algorithm in ("none", "None", "NONE"):
        unsigned = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()).rstrip(b"=").decode()
        refused(tokens, f"{unsigned}.{body}.")
        refused(tokens, f"{unsigned}.{body}.{signature}")
    refused(tokens, f"{head}.{body}.")


def test_other_algorithm_is_refused(tokens: Tokens) -> None:
    """The right key with another algorithm than ours is refused."""
    good = tokens.access("ann", "s1", NOW)
    stronger = jwt.encode(claims(good), tokens._key * 2, "HS512")
    refused(tokens, stronger)


def test_changed_claims_are_refused(tokens: Tokens) -> None:
    """Nobody can write another name into a token."""
    head, _, signature = tokens.access("ann", "s1", NOW).split(".")
    forged = tokens.access("eve", "s1", NOW).split(".")[1]
    refused(tokens, f"{head}.{forged}.{signature}")


@pytest.mark.parametrize("missing", ["kind", "sub", "sid", "exp"])
def test_every_claim_is_required(tokens: Tokens, missing: str) -> None:
    """A token without one of its claims is refused, even with the right signature."""
    less = {name: value for name, value in claims(tokens.access("ann", "s1", NOW)).items() if name != missing}
    refused(tokens, jwt.encode(less, tokens._key, "HS256"))


@pytest.mark.parametrize("rubbish", ["", ".", "..", "a.b.c", "é.é.é", "\x00", "null", "x" * 10_000])
def test_rubbish_is_refused(tokens: Tokens, rubbish: str) -> None:
    """Whatever is sent instead of a token is refused with a sentence."""
    assert refused(tokens, rubbish) == "The access token is not valid."


def test_secret_itself_signs_nothing(tokens: Tokens) -> None:
    """The secret has other uses, so a signature made with it directly is none of ours."""
    refused(tokens, jwt.encode(claims(tokens.access("ann", "s1", NOW)), SECRET, "HS256"))


@pytest.mark.parametrize("revoked", ["s1", "ann"])
def test_revoking_ends_access_now(tokens: Tokens, revoked: str) -> None:
    """Revoking a session, or its user, ends the access tokens that are out there; others keep theirs."""
    token, other = tokens.access("ann", "s1", NOW), tokens.access("bob", "s2", NOW)
    tokens.revoke(revoked, NOW)
    assert "signed out" in refused(tokens, token)
    assert tokens.caller(other, NOW).user == "bob"


def test_revoking_one_session_leaves_the_others(tokens: Tokens) -> None:
    """Who signs out on the phone stays signed in at the desk."""
    tokens.revoke("s1", NOW)
    assert tokens.caller(tokens.access("ann", "s2", NOW), NOW).session == "s2"


def test_a_caller_can_be_checked_again(tokens: Tokens) -> None:
    """A call that takes long can ask at its end whether its caller is still welcome."""
    caller = tokens.caller(tokens.access("ann", "s1", NOW), NOW)
    tokens.check(caller, NOW + 899)
    with pytest.raises(InvalidToken, match="expired"):
        tokens.check(caller, NOW + 900)
    tokens.revoke("ann", NOW)
    with pytest.raises(InvalidToken, match="signed out"):
        tokens.check(caller, NOW + 1)


def test_revocations_are_forgotten_with_their_tokens(tokens: Tokens) -> None:
    """A revocation is remembered until every token it concerns has run out, and no longer."""
    for n in range(1000):
        tokens.revoke(f"old{n}", NOW)
    late = tokens.access("ann", "old999", NOW + IN_THE_MAKING - 1)  # was just being made
    tokens.revoke("new", NOW + 900 + IN_THE_MAKING - 2)
    refused(tokens, late, NOW + 900 + IN_THE_MAKING - 2)
    assert len(tokens._revoked) == 1001
    tokens.revoke("newer", NOW + 900 + IN_THE_MAKING)
    assert set(tokens._revoked) == {"new", "newer"}


def test_revoking_again_counts_from_then(tokens: Tokens) -> None:
    """An id that is revoked twice is remembered from the second time on, and delays no other's end."""
    tokens.revoke("s1", NOW)
    tokens.revoke("s2", NOW)
    tokens.revoke("s1", NOW + 500)
    tokens.revoke("s3", NOW + 900 + IN_THE_MAKING)
    assert set(tokens._revoked) == {"s1", "s3"}
