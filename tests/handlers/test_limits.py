"""Limits: who is let through, who waits, and exactly how long."""

import pytest

import config
from handlers import limits
from handlers.base import Problem
from handlers.limits import Limits, Window, network


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def wait(problem: pytest.ExceptionInfo[Problem]) -> str:
    assert problem.value.status == 429
    return problem.value.headers["Retry-After"]


def test_guesser_waits_until_the_first_failure_is_five_minutes_old(clock: Clock) -> None:
    """After the last allowed wrong password, even a right one waits: exactly until the oldest has aged."""
    rates = Limits(config.Limits(login_failures=3), clock=clock)
    for _ in range(3):
        rates.sign_in("ann", "192.0.2.1")
        clock.now += 10
    with pytest.raises(Problem) as problem:
        rates.sign_in("ann", "192.0.2.1")
    assert wait(problem) == "270"
    clock.now += 269.9
    with pytest.raises(Problem) as problem:
        rates.sign_in("ann", "192.0.2.1")
    assert wait(problem) == "1"
    clock.now += 0.1
    rates.sign_in("ann", "192.0.2.1")


def test_right_passwords_do_not_count(clock: Clock) -> None:
    """Someone who signs in often is never taken for a guesser."""
    rates = Limits(config.Limits(login_failures=2), clock=clock)
    for _ in range(100):
        rates.sign_in("ann", "192.0.2.1")
        rates.signed_in("ann", "192.0.2.1")


def test_guesses_all_at_once_do_not_slip_through(clock: Clock) -> None:
    """A guess counts while its password is still being checked."""
    rates = Limits(config.Limits(login_failures=2), clock=clock)
    rates.sign_in("ann", "192.0.2.1")
    rates.sign_in("ann", "192.0.2.1")
    with pytest.raises(Problem):
        rates.sign_in("ann", "192.0.2.1")


def test_guesser_hinders_nobody_else(clock: Clock) -> None:
    """The same name from elsewhere, and another name from the same place, are let through."""
    rates = Limits(config.Limits(login_failures=1), clock=clock)
    rates.sign_in("ann", "192.0.2.1")
    rates.sign_in("ann", "192.0.2.2")
    rates.sign_in("bob", "192.0.2.1")


def test_guesser_gains_nothing_by_spelling(clock: Clock) -> None:
    """Spellings of one name are one name, and addresses of one IPv6 household one address."""
    rates = Limits(config.Limits(login_failures=1), clock=clock)
    rates.sign_in("Ann", "2001:db8::1")
    with pytest.raises(Problem):
        rates.sign_in("ANN", "2001:db8::ffff:2")


def test_refusal_says_what_is_allowed(clock: Clock) -> None:
    """Who is refused reads the limit and the time to wait."""
    rates = Limits(config.Limits(registrations=1), clock=clock)
    rates.register("192.0.2.1")
    with pytest.raises(Problem, match=r"at most 1 in 60 minutes .* in 3600 seconds") as problem:
        rates.register("192.0.2.1")
    assert wait(problem) == "3600"
    rates.register("192.0.2.2")


def test_pictures_wait_until_all_of_them_fit(clock: Clock) -> None:
    """Several pictures wait for as many places as they need, not only for the first."""
    rates = Limits(config.Limits(images=10), clock=clock)
    rates.images("ann", 4)
    clock.now += 100
    rates.images("ann", 6)
    with pytest.raises(Problem) as problem:
        rates.images("ann", 4)
    assert wait(problem) == "3500"
    with pytest.raises(Problem) as problem:
        rates.images("ann", 5)
    assert wait(problem) == "3600"
    clock.now += 3500
    rates.images("ann", 4)
    rates.images("bob", 10)


def test_more_pictures_than_ever_fit_are_refused(clock: Clock) -> None:
    """More at once than the rate allows in all is refused and takes nothing."""
    rates = Limits(config.Limits(images=10), clock=clock)
    with pytest.raises(Problem) as problem:
        rates.images("ann", 11)
    assert wait(problem) == "3600"
    rates.images("ann", 10)


def test_zero_turns_a_limit_off(clock: Clock) -> None:
    """With 0 anything goes, and nothing is remembered."""
    rates = Limits(config.Limits(login_failures=0, registrations=0, images=0), clock=clock)
    for _ in range(1000):
        rates.sign_in("ann", "192.0.2.1")
        rates.register("192.0.2.1")
        rates.images("ann", 1000)
    assert not rates._failures
    assert not rates._registrations
    assert not rates._images


def test_refused_tries_do_not_prolong_the_wait(clock: Clock) -> None:
    """Knocking again does not make the wait longer."""
    window = Window(1, 60, clock)
    assert window.take("ann") == 0
    clock.now += 30
    assert [window.take("ann") for _ in range(5)] == [30.0] * 5


def test_old_keys_are_forgotten(clock: Clock) -> None:
    """Made-up names leave nothing behind once their time is over."""
    window = Window(1, 60, clock)
    for n in range(1000):
        window.take(f"name {n}")
    clock.now += 60
    window.take("ann")
    assert len(window) == 1


def test_keys_are_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names and addresses come at once, only so many are remembered: the latest."""
    monkeypatch.setattr(limits, "MOST_KEYS", 10)
    window = Window(1, 60, clock)
    for n in range(1000):
        window.take(f"name {n}")
    assert len(window) == 10
    assert window.take("name 999") == 60


def test_giving_back_leaves_nothing_behind(clock: Clock) -> None:
    """What is given back, even twice, was never there."""
    window = Window(1, 60, clock)
    window.take("ann")
    window.give_back("ann")
    window.give_back("ann")
    assert len(window) == 0
    assert window.take("ann") == 0


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_address_counts_as_its_network(address: str, counted: str) -> None:
    """IPv4 counts by address, also when written as IPv6; IPv6 by the 64 bits a household gets."""
    assert network(address) == counted
