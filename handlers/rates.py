"""How often each key may do something: a rate limiter by GCRA, which keeps one number for each key.

Pure: it must not know the limited actions; the clock is a parameter.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

# The keys that one rate remembers: those used last. A client with more IP addresses than this can evade the limit.
MAX_KEYS = 100_000


class Rate:
    """Each key may do `most` things at once, and regains one every `seconds / most`; `most` 0 means no limit.

    This is GCRA (ITU-T I.371), a token bucket without a counter. For each key it keeps the moment at which the key will
    have regained everything. Over a long time a key gets `most` in each `seconds`, as with a sliding window. The
    difference shows in a single window: a key that has rested gets its `most` at once and up to `most` more while it
    regains them, so up to `2 * most` in `seconds`. In return a refused client waits for one place, not for the whole
    burst to age, and a key costs one float instead of a log.

    The library `limits` keeps every key for ever in memory, so that made-up names fill it, cannot say when several will
    fit, and reads the clock itself.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float]) -> None:
        self.most = most
        self.seconds = seconds
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()  # the key used last comes last

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._full_at)

    def take(self, key: str, count: int = 1) -> float:
        """0 when `count` more fit, which are then taken; else the seconds until they will, and nothing is taken.

        More than `most` at once never fit; the answer is then `seconds`.
        """
        if not self.most:
            return 0.0
        if count > self.most:
            return self.seconds
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + count * self.seconds / self.most
        # Rounded to milliseconds: sums of fractions must not refuse the last one that fits.
        wait = round(full_at - now - self.seconds, 3)
        if wait > 0:
            return wait
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        self._forget(now)
        return 0.0

    def give_back(self, key: str) -> None:
        """One that was taken does not count."""
        if key not in self._full_at:
            return
        self._full_at[key] -= self.seconds / self.most
        if self._full_at[key] <= self._clock():
            del self._full_at[key]

    def _forget(self, now: float) -> None:
        """Drop the keys that have regained everything, and the oldest ones beyond `MAX_KEYS`."""
        key, full_at = next(iter(self._full_at.items()))
        while full_at <= now or len(self._full_at) > MAX_KEYS:
            del self._full_at[key]
            key, full_at = next(iter(self._full_at.items()))


def network(ip: str) -> str:
    """The network that counts as one client: an IPv4 address, or the first 64 bits of an IPv6 address.

    A household gets that many bits of IPv6. Any other text is returned unchanged.
    """
    try:
        parsed = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
