"""What the parts of the server count about themselves, as plain numbers.

Each part owns its meters, and `handlers/metrics.py` reads them. Counting must cost next to nothing, because it happens
for every message and image; so this must not know Prometheus.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

# Seconds. From a cached read to a slow upload: each bound is about twice the one before.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Durations:
    """How many things took how long."""

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        self.total = 0.0  # seconds, of all of them together
        self._counts = [0] * (len(BOUNDS) + 1)  # by the first bound that is not exceeded; the last has no bound

    def observe(self, seconds: float) -> None:
        self.total += seconds
        self._counts[bisect_left(BOUNDS, seconds)] += 1

    @property
    def count(self) -> int:
        return sum(self._counts)

    def cumulative(self) -> list[int]:
        """For each bound, and then for no bound at all: how many took so long at most."""
        return list(accumulate(self._counts))


class RequestMeters:
    """Requests since the server started."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str, int]] = Counter()  # by method, route and status
        self.durations: dict[tuple[str, str], Durations] = {}  # by method and route

    def observe(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count a request; `seconds` is None if it stayed open for updates, because its duration says nothing."""
        self.ended[method, route, status] += 1
        if seconds is None:
            return
        durations = self.durations.get((method, route))
        if durations is None:
            durations = self.durations[method, route] = Durations()
        durations.observe(seconds)


class PipelineMeters:
    """Images since the server started."""

    def __init__(self) -> None:
        self.completed = 0
        self.failed: Counter[str] = Counter()  # for good, by code
        self.retried: Counter[str] = Counter()  # tries that failed and are followed by another, by code
        self.render = Durations()  # of the images that were rendered and not taken from an equal one
        self.store = Durations()


class DeliveryMeters:
    """Messages to all listeners since the server started."""

    __slots__ = ("coalesced", "delivered", "dropped")

    def __init__(self) -> None:
        self.delivered = 0  # handed to the connection
        self.coalesced = 0  # replaced by a newer message while they waited
        self.dropped = 0  # still waiting when their connection ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """The meters of all parts, and what else the server knows about itself at one moment."""

    requests: RequestMeters
    pipeline: PipelineMeters
    rendering: int
    storing: int
    queued: int | None  # None: the database does not answer
    oldest: float  # seconds
    workers_replaced: Mapping[str, int]
    listeners: Mapping[str, int]
    deliveries: DeliveryMeters
    closes: Mapping[int, int]
    received: int  # bytes
    wrong_passwords: int
    parts: Mapping[str, bool]
    free: int  # bytes
