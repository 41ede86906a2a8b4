"""GCRA: what fits at once, what comes back when, and how little is remembered."""

import random

import pytest

from handlers import rates
from handlers.rates import Rate, network


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_as_many_as_allowed_fit_at_once(clock: Clock) -> None:
    """The one after them waits until one has come back, and counts for nothing."""
    rate = Rate(3, 60, clock)
    assert [rate.take("ann") for _ in range(5)] == [0, 0, 0, 20, 20]
    clock.now += 19.9
    assert rate.take("ann") == 0.1
    clock.now += 0.1
    assert [rate.take("ann") for _ in range(2)] == [0, 20]


def test_what_is_not_used_comes_back_one_by_one(clock: Clock) -> None:
    """After half the time half of it, and never more than all of it."""
    rate = Rate(4, 60, clock)
    for rested, fit in [(0, 4), (30, 2), (60, 4), (6000, 4), (15, 1), (14, 0)]:
        clock.now += rested
        for _ in range(fit):
            assert rate.take("ann") == 0
        assert rate.take("ann") > 0


def test_several_are_taken_together_or_not_at_all(clock: Clock) -> None:
    """They wait until all of them fit, and the refusal takes nothing."""
    rate = Rate(10, 100, clock)
    assert rate.take("ann", 7) == 0
    assert rate.take("ann", 5) == 20
    assert rate.take("ann", 3) == 0
    clock.now += 20
    assert rate.take("ann", 3) == 10
    assert rate.take("ann", 2) == 0


def test_more_than_ever_fit_are_refused(clock: Clock) -> None:
    """More at once than the rate allows wait the whole time and take nothing; exactly as many fit."""
    rate = Rate(10, 100, clock)
    assert rate.take("ann", 11) == 100
    assert len(rate) == 0
    assert rate.take("ann", 10) == 0


def test_zero_is_no_limit(clock: Clock) -> None:
    """Everything is allowed, and nothing is remembered or returned."""
    rate = Rate(0, 60, clock)
    assert [rate.take("ann", 1000) for _ in range(3)] == [0, 0, 0]
    rate.give_back("ann")
    assert len(rate) == 0


@pytest.mark.parametrize("most", [1, 3, 7, 10, 11, 500, 600, 4999, 5000])
@pytest.mark.parametrize("start", [0.1, 1000 / 3, 9_876_543.21])
def test_fractions_do_not_refuse_the_last_one(clock: Clock, most: int, start: float) -> None:
    """However the interval rounds and however long the machine has run: all fit, and one more after the wait."""
    clock.now = start
    rate = Rate(most, 3600, clock)
    assert not any(rate.take("ann") for _ in range(most))
    wait = rate.take("ann")
    assert wait == pytest.approx(3600 / most, abs=0.01)
    clock.now += wait
    assert rate.take("ann") == 0
    assert rate.take("ann") > 0


@pytest.mark.parametrize("seed", range(20))
def test_the_wait_is_exact_and_the_rate_is_kept(clock: Clock, seed: int) -> None:
    """At random times: no sooner than the wait it fits, then it does, and in no window more than twice the rate."""
    chance = random.Random(seed)
    rate, taken = Rate(5, 60, clock), list[float]()
    for _ in range(300):
        clock.now += chance.expovariate(1 / 8)
        while wait := rate.take("ann"):
            clock.now += wait - 0.01
            assert rate.take("ann") == pytest.approx(0.01)
            clock.now += 0.01
        taken.append(clock.now)
    assert all(sum(start <= each < start + 60 for each in taken) <= 10 for start in taken)
    assert len(taken) <= 5 + (taken[-1] - taken[0]) / 12 + 1


def test_keys_do_not_share(clock: Clock) -> None:
    """Each has its own."""
    rate = Rate(1, 60, clock)
    assert [rate.take(key) for key in ("ann", "bob", "ann", "bob")] == [0, 0, 60, 60]


def test_what_is_given_back_fits_again(clock: Clock) -> None:
    """Exactly one for each time."""
    rate = Rate(3, 60, clock)
    assert rate.take("ann", 3) == 0
    rate.give_back("ann")
    assert [rate.take("ann") for _ in range(2)] == [0, 20]
    rate.give_back("ann")
    rate.give_back("ann")
    assert rate.take("ann", 2) == 0


def test_giving_back_leaves_nothing_behind(clock: Clock) -> None:
    """A returned use does not count, even if it is returned twice; an unknown key has none to return."""
    rate = Rate(2, 60, clock)
    rate.take("ann")
    clock.now += 1
    rate.give_back("ann")
    assert len(rate) == 0
    rate.give_back("ann")
    rate.give_back("bob")
    assert rate.take("ann", 2) == 0
    assert rate.take("ann") == 30


def test_giving_back_keeps_what_else_was_taken(clock: Clock) -> None:
    """A key is forgotten only when it has regained everything."""
    rate = Rate(2, 60, clock)
    rate.take("ann", 2)
    clock.now += 1
    rate.give_back("ann")
    assert len(rate) == 1
    assert rate.take("ann", 2) == 29


def test_old_keys_are_forgotten(clock: Clock) -> None:
    """Made-up names leave nothing behind once they have regained everything."""
    rate = Rate(1, 60, clock)
    for n in range(1000):
        rate.take(f"name {n}")
    clock.now += 59
    rate.take("ann")
    assert len(rate) == 1001
    clock.now += 1
    rate.take("bob")
    assert len(rate) == 2


def test_keys_are_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names and IP addresses come at once, only so many are remembered: those used last."""
    monkeypatch.setattr(rates, "MAX_KEYS", 10)
    rate = Rate(2, 60, clock)
    for n in range(1000):
        assert rate.take(f"name {n}") == 0
        assert len(rate) == min(n + 1, 10)
    assert [rate.take(f"name {n}", 2) for n in (999, 0)] == [30, 0]


def test_a_key_that_is_used_again_is_remembered_longer(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """It moves to the end of those that are to be forgotten."""
    monkeypatch.setattr(rates, "MAX_KEYS", 3)
    rate = Rate(2, 60, clock)
    for key in ("ann", "bob", "ann", "eve", "dan"):
        rate.take(key)
    assert rate.take("ann") > 0
    assert rate.take("bob", 2) == 0


@pytest.mark.parametrize(
    ("ip", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_an_ip_address_counts_as_its_network(ip: str, counted: str) -> None:
    """IPv4 counts by address, also when written as IPv6; IPv6 by the 64 bits that a household gets."""
    assert network(ip) == counted
