"""The rates of the settings: wrong passwords, new accounts and uploads.

Pure: it must not know HTTP beyond the problem that it raises; the clock is a parameter.
"""

import math
import time
from collections.abc import Callable

import config
from handlers.problems import Problem, too_many
from handlers.rates import Rate, network
from storage.model import same_name


class RateLimits:
    """Counts by account and by IP address. Each method raises a 429 with the seconds to wait."""

    def __init__(self, limits: config.Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures = Rate(limits.login_failures, 300, clock)
        self._registrations = Rate(limits.registrations, 3600, clock)
        self.wrong_passwords = 0  # since the server started
        self._images = Rate(limits.images, 3600, clock)

    def sign_in(self, username: str, ip: str) -> None:
        """Before a password is checked: counts as a failure until `signed_in`.

        Counting beforehand keeps guesses that are made all at once from slipping through while none has failed yet.
        """
        if wait := self._failures.take(_guesser(username, ip)):
            raise _over("too_many_failures", wait, self._failures)

    def signed_in(self, username: str, ip: str) -> None:
        """The password was right, or could not be checked: it does not count."""
        self._failures.give_back(_guesser(username, ip))

    def register(self, ip: str) -> None:
        if wait := self._registrations.take(network(ip)):
            raise _over("too_many_registrations", wait, self._registrations)

    def images(self, user: str, count: int = 1) -> None:
        if wait := self._images.take(user, count):
            raise _over("too_many_uploads", wait, self._images)


def _guesser(username: str, ip: str) -> str:
    return f"{network(ip)} {same_name(username)}"


def _over(name: str, wait: float, rate: Rate) -> Problem:
    seconds = math.ceil(wait)  # rounded up: a client that comes back then is let in
    return too_many(name, seconds, most=rate.most, minutes=round(rate.seconds / 60), seconds=seconds)
