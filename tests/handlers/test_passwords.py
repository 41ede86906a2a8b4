"""Passwords are hashed in threads of their own, and never by more people than can be served."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from handlers.passwords import Passwords
from storage.errors import Unavailable

QUICK = {"memory": 64, "passes": 1}


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    with Passwords(**QUICK) as passwords:
        yield passwords


@pytest.mark.gen_test
async def test_hashing_never_holds_up_the_loop(passwords: Passwords) -> None:
    """Passwords are hashed in threads of their own, two at a time."""
    seen: set[str] = set()

    def note() -> None:
        seen.add(threading.current_thread().name)

    await asyncio.gather(*(passwords._run(note) for _ in range(20)))
    assert all(name.startswith("passwords") for name in seen)
    assert len(seen) <= 2


@pytest.mark.gen_test
async def test_a_crowd_is_asked_to_come_back(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    """People who would wait too long hear so at once; the others are served."""
    monkeypatch.setattr(Passwords, "MAX_WAITING", 3)
    results = await asyncio.gather(*(passwords.hash("correct horse") for _ in range(5)), return_exceptions=True)
    assert [isinstance(result, Unavailable) for result in results] == [False] * 3 + [True] * 2
    assert await passwords.verify(await passwords.hash("correct horse"), "correct horse") == (True, None)


@pytest.mark.gen_test
async def test_only_the_right_password_is_right(passwords: Passwords) -> None:
    """Neither another one, nor any where there is no account; how an accent was typed does not matter."""
    kept = await passwords.hash("caf\u00e9 \u00e0 Paris")
    assert await passwords.verify(kept, "cafe\u0301 a\u0300 Paris") == (True, None)
    assert await passwords.verify(kept, "cafe a Paris") == (False, None)
    assert await passwords.verify(None, "cafe a Paris") == (False, None)


@pytest.mark.gen_test
async def test_a_hash_of_other_parameters_is_replaced(passwords: Passwords) -> None:
    """A right password comes with the hash to keep from now on; a wrong one does not."""
    with Passwords(memory=128, passes=1) as other:
        kept = await other.hash("correct horse")
    right, better = await passwords.verify(kept, "correct horse")
    assert right
    assert better is not None
    assert "m=64," in better
    assert await passwords.verify(better, "correct horse") == (True, None)
    assert await passwords.verify(kept, "wrong horse") == (False, None)


def test_the_parameters_are_those_that_owasp_recommends() -> None:
    """19 MiB, 2 passes, 1 lane of Argon2id."""
    with Passwords() as passwords:
        assert passwords._nobodys.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
