"""The rates of the settings: who is let through, who waits, and exactly how long."""

import pytest

import config
from handlers.limits import RateLimits
from handlers.problems import Problem
from tests.handlers.test_rates import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def wait(problem: pytest.ExceptionInfo[Problem]) -> str:
    assert problem.value.status == 429
    return problem.value.headers["Retry-After"]


def test_a_guesser_gets_one_more_guess_at_a_time(clock: Clock) -> None:
    """After the last allowed wrong password even a right one waits; then one is checked every 100 s."""
    rates = RateLimits(config.Limits(login_failures=3), clock=clock)
    for _ in range(3):
        rates.sign_in("ann", "192.0.2.1")
        clock.now += 10
    with pytest.raises(Problem) as problem:
        rates.sign_in("ann", "192.0.2.1")
    assert wait(problem) == "70"
    clock.now += 69.9
    with pytest.raises(Problem) as problem:
        rates.sign_in("ann", "192.0.2.1")
    assert wait(problem) == "1"
    clock.now += 0.1
    rates.sign_in("ann", "192.0.2.1")
    with pytest.raises(Problem) as problem:
        rates.sign_in("ann", "192.0.2.1")
    assert wait(problem) == "100"


def test_right_passwords_do_not_count(clock: Clock) -> None:
    """Someone who signs in often is never taken for a guesser."""
    rates = RateLimits(config.Limits(login_failures=2), clock=clock)
    for _ in range(100):
        rates.sign_in("ann", "192.0.2.1")
        rates.signed_in("ANN", "192.0.2.1")


def test_guesses_all_at_once_do_not_slip_through(clock: Clock) -> None:
    """A guess counts while its password is still being checked."""
    rates = RateLimits(config.Limits(login_failures=2), clock=clock)
    rates.sign_in("ann", "192.0.2.1")
    rates.sign_in("ann", "192.0.2.1")
    with pytest.raises(Problem):
        rates.sign_in("ann", "192.0.2.1")


def test_a_guesser_hinders_nobody_else(clock: Clock) -> None:
    """The same name from elsewhere, and another name from the same place, are let through."""
    rates = RateLimits(config.Limits(login_failures=1), clock=clock)
    rates.sign_in("ann", "192.0.2.1")
    rates.sign_in("ann", "192.0.2.2")
    rates.sign_in("bob", "192.0.2.1")


def test_a_guesser_gains_nothing_by_spelling(clock: Clock) -> None:
    """Spellings of one name are one name, and IP addresses of one IPv6 household one client."""
    rates = RateLimits(config.Limits(login_failures=1), clock=clock)
    rates.sign_in("Ann", "2001:db8::1")
    with pytest.raises(Problem):
        rates.sign_in("ANN", "2001:db8::ffff:2")


def test_a_refusal_names_the_limit(clock: Clock) -> None:
    """The burst, what comes back after it, and the time to wait."""
    rates = RateLimits(config.Limits(registrations=2), clock=clock)
    rates.register("2001:db8::1")
    rates.register("2001:db8::1")
    with pytest.raises(Problem, match=r"at most 2 at once, and 2 every 60 minutes .* in 1800 seconds") as problem:
        rates.register("2001:db8::2")
    assert wait(problem) == "1800"
    rates.register("192.0.2.2")


def test_pictures_count_by_account(clock: Clock) -> None:
    """Several wait for as many places as they need; another account is not affected."""
    rates = RateLimits(config.Limits(images=10), clock=clock)
    rates.images("ann", 9)
    rates.images("ann")
    with pytest.raises(Problem) as problem:
        rates.images("ann", 4)
    assert wait(problem) == "1440"
    rates.images("bob", 10)
    clock.now += 1440
    rates.images("ann", 4)


def test_zero_turns_a_limit_off(clock: Clock) -> None:
    """With 0 anything goes, and nothing is remembered."""
    rates = RateLimits(config.Limits(login_failures=0, registrations=0, images=0), clock=clock)
    for _ in range(1000):
        rates.sign_in("ann", "192.0.2.1")
        rates.register("192.0.2.1")
        rates.images("ann", 1000)
    assert not rates._failures
    assert not rates._registrations
    assert not rates._images
