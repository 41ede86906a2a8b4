"""How often one may: wrong passwords, new accounts and uploads, by account and by address.

It must not know what is limited; the clock is a parameter.
"""

import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

import config
from handlers.base import Problem, too_many
from storage.model import same_name

# Keys that one window remembers, the latest. Who has more addresses than this is not stopped by counting them.
MOST_KEYS = 100_000


class Limits:
    """The rates of the settings. What is over one raises a 429 that says when to come back."""

    def __init__(self, limits: config.Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures = Window(limits.login_failures, 300, clock)
        self._registrations = Window(limits.registrations, 3600, clock)
        self._images = Window(limits.images, 3600, clock)

    def sign_in(self, username: str, address: str) -> None:
        """Before a password is checked: counts as a failure until `signed_in`.

        Counted beforehand, so that guesses made all at once cannot slip through while none has failed yet.
        """
        if wait := self._failures.take(_guesser(username, address)):
            raise _over("Too many wrong passwords", wait, self._failures)

    def signed_in(self, username: str, address: str) -> None:
        """The password was right, or could not be checked: it does not count."""
        self._failures.give_back(_guesser(username, address))

    def register(self, address: str) -> None:
        if wait := self._registrations.take(network(address)):
            raise _over("Too many new accounts from your network", wait, self._registrations)

    def images(self, user: str, count: int = 1) -> None:
        if wait := self._images.take(user, count):
            raise _over("Too many pictures", wait, self._images)


class Window:
    """At most `most` in any `seconds`, for each key; `most` 0 is no limit.

    The library `limits` has such a window, but its memory keeps every key for ever, so that made-up names fill it, it
    cannot say when several will fit again, and it reads the clock itself.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float]) -> None:
        self.most = most
        self.seconds = seconds
        self._clock = clock
        self._taken: OrderedDict[str, deque[tuple[float, int]]] = OrderedDict()  # the key used last comes last

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, key: str, count: int = 1) -> float:
        """0 when `count` more fit, which are then taken; else the seconds until they will."""
        if not self.most:
            return 0.0
        now = self._clock()
        self._forget(now)
        taken = self._taken.get(key, deque())
        while taken and self._remaining(taken[0], now) <= 0:
            taken.popleft()
        over = sum(each for _, each in taken) + count - self.most
        if over > 0:
            return self._wait(taken, over, now)
        taken.append((now, count))
        self._taken[key] = taken
        self._taken.move_to_end(key)
        return 0.0

    def give_back(self, key: str) -> None:
        """The newest that was taken does not count."""
        taken = self._taken.get(key)
        if taken:
            taken.pop()
        if not taken:
            self._taken.pop(key, None)

    def _wait(self, taken: deque[tuple[float, int]], over: int, now: float) -> float:
        for each in taken:
            over -= each[1]
            if over <= 0:
                return self._remaining(each, now)
        return self.seconds  # more at once than ever fit

    def _remaining(self, taken: tuple[float, int], now: float) -> float:
        return taken[0] + self.seconds - now

    def _forget(self, now: float) -> None:
        while self._taken:
            key, taken = next(iter(self._taken.items()))
            if self._remaining(taken[-1], now) > 0 and len(self._taken) < MOST_KEYS:
                return
            del self._taken[key]


def network(address: str) -> str:
    """What counts as one address: of IPv6 the first 64 bits, since that much is given to each household."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _guesser(username: str, address: str) -> str:
    return f"{network(address)} {same_name(username)}"


def _over(what: str, wait: float, window: Window) -> Problem:
    seconds = math.ceil(wait)  # rounded up: who comes back then is let in
    allowed = f"at most {window.most} in {window.seconds / 60:.0f} minutes are allowed"
    return too_many(f"{what}: {allowed}. Try again in {seconds} seconds.", seconds)
