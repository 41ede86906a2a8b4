"""The deadlines of slow machines, and campaigns."""

import json
import os
import subprocess
import sys

import pytest

from tests.client import ROOT
from tests.pace import MAX_SLOWNESS, TIME_FACTOR, Campaign, seconds


def paced(**environment: str) -> list[float]:
    """Factor and seed in a process with these variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TEST_")}
    code = "import json; from tests import pace; print(json.dumps([pace.TIME_FACTOR, pace.SEED]))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=clean | environment, capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


def test_deadlines_grow_with_the_factor() -> None:
    """The factor of the environment counts; without one, the machine is measured."""
    assert seconds(10) == 10 * TIME_FACTOR
    assert paced(TEST_TIME_FACTOR="7.5")[0] == 7.5
    assert 1 <= paced()[0] <= MAX_SLOWNESS


def test_a_sample_is_always_the_same_and_a_long_run_is_not() -> None:
    """A seed in the environment repeats what was seen."""
    factor = {"TEST_TIME_FACTOR": "1"}
    assert paced(**factor)[1] == 1
    assert len({paced(**factor, TEST_LONG="1")[1] for _ in range(3)}) > 1
    assert paced(**factor, TEST_LONG="1", TEST_SEED="42")[1] == 42


@pytest.mark.parametrize(("long", "count"), [(False, 2), (True, 5)])
def test_the_rounds_of_a_campaign_differ_and_can_be_repeated(long: bool, count: int) -> None:
    """The sample is the beginning of the whole."""
    campaign = Campaign("a test", sample=2, whole=5, long=long, seed=3)
    numbers = [each.random() for each in campaign.rounds()]
    assert len(set(numbers)) == count
    assert numbers == [each.random() for each in campaign.rounds()]
    assert numbers[:2] == [each.random() for each in Campaign("a test", 2, 5, long=False, seed=3).rounds()]
    assert str(campaign) == f"a test: {count} of 5 rounds, seed 3"


@pytest.mark.campaign(sample=2, whole=3)
def test_a_campaign_runs_its_rounds(campaign: Campaign) -> None:
    """The marker says how many, and the end of the run names every campaign."""
    assert len(list(campaign.rounds())) == campaign.count
    assert (campaign.sample, campaign.whole) == (2, 3)


COUNT_EVENTS = """
import sys
from tests import pace

events = []

def tracer(*event):
    events.append(event)
    return tracer

sys.settrace(tracer)
pace._measure()
sys.settrace(None)
print(len(events))
"""


def test_coverage_does_not_make_the_machine_seem_slow() -> None:
    """Coverage is called for every line that runs; the measured work has nearly none."""
    done = subprocess.run([sys.executable, "-c", COUNT_EVENTS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30
