"""How long tests wait, and how much they do: one factor for slow machines, and the size and seed of campaigns.

Three variables of the environment set them: TEST_TIME_FACTOR, TEST_LONG and TEST_SEED. Their names do not begin with
DREAMLOG_, because the server takes every such name for a setting.
"""

import os
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

CALIBRATION = 5_000_000  # additions
QUIET = 0.086  # seconds that they take on the machine that the deadlines were made for, while nothing else runs on it
TIGHT = 1.5  # up to here the deadlines have room enough: they are far above what a test takes
MAX_SLOWNESS = 20.0


def _measure() -> float:
    """How many times longer than on a quiet machine the same work takes here and now, from 1 to `MAX_SLOWNESS`."""
    began = time.perf_counter()
    for _ in range(3):  # long enough for the scheduler to give other processes their turns
        sum(range(CALIBRATION))  # one call of C: coverage would trace a loop, and the machine would seem slow
    slowness = (time.perf_counter() - began) / (3 * QUIET)
    # Twice, because tests start processes, which wait for each other: delays add up.
    return 1.0 if slowness < TIGHT else min(MAX_SLOWNESS, round(2 * slowness, 1))


if "TEST_TIME_FACTOR" not in os.environ:
    # In the environment, because pytest-xdist's workers and Node inherit it: all of a run have the same deadlines.
    os.environ["TEST_TIME_FACTOR"] = str(_measure())
TIME_FACTOR = float(os.environ["TEST_TIME_FACTOR"])

LONG = os.environ.get("TEST_LONG", "") not in ("", "0")
# A sample is the same each time, so that nothing fails by chance. Each long run looks elsewhere, and says where.
SEED = int(os.environ.setdefault("TEST_SEED", str(secrets.randbelow(1_000_000)) if LONG else "1"))


def seconds(quiet: float) -> float:
    """A time that is enough on a quiet machine, stretched for this one."""
    return quiet * TIME_FACTOR


@dataclass(frozen=True)
class Campaign:
    """The same test again and again, each round with random numbers of its own.

    A run has all rounds (`whole`), or a `sample`. The random numbers depend on the seed of the run, the test and the
    round only, so a round that failed can be repeated.
    """

    name: str
    sample: int
    whole: int
    long: bool = LONG
    seed: int = SEED

    @property
    def count(self) -> int:
        return self.whole if self.long else self.sample

    def rounds(self) -> Iterator[random.Random]:
        for number in range(self.count):
            yield random.Random(f"{self.seed} {self.name} {number}")

    def __str__(self) -> str:
        return f"{self.name}: {self.count} of {self.whole} rounds, seed {self.seed}"
