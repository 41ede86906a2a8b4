"""One mongod for the session, a fresh database for each test; deadlines and campaigns as `tests.pace` says."""

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorDatabase
from tornado.httpclient import AsyncHTTPClient
from tornado.ioloop import IOLoop

from storage.mongo import Mongo
from storage.mongod import Mongod
from tests import contract, pace
from tests.client import CheckedClient

AsyncHTTPClient.configure(CheckedClient)
NEVER_SEEN = pytest.StashKey[list[str]]()


def pytest_report_header() -> str:
    size = "whole" if pace.LONG else "sampled"
    return f"time factor {pace.TIME_FACTOR}; campaigns are {size}, with seed {pace.SEED}"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Stretch the timeout of an asynchronous test for this machine, and for the rounds of its campaign."""
    marker, campaign = item.get_closest_marker("gen_test"), _campaign(item)
    if marker is not None:
        timeout = marker.kwargs.get("timeout", item.config.getoption("async_test_timeout"))
        rounds = campaign.count / campaign.sample if campaign is not None else 1
        item.add_marker(pytest.mark.gen_test(timeout=pace.seconds(timeout) * rounds), append=False)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker process has ended: what it saw of the contracts counts here too."""
    contract.seen.update(getattr(node, "workeroutput", {}).get("contract", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Pass on what a worker process saw of the contracts; fail a whole run that did not see everything.

    A run with a failure sees less, and has failed already.
    """
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["contract"] = sorted(contract.seen)
    elif session.exitstatus == pytest.ExitCode.OK and _is_whole(session.config):
        session.config.stash[NEVER_SEEN] = contract.never_seen()
        if session.config.stash[NEVER_SEEN]:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _is_whole(config: pytest.Config) -> bool:
    """Does the run have every test, rather than some that its command line chose?"""
    choices = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "collectonly")
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not any(map(config.getoption, choices))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What a whole run never saw, and what the campaigns did, so that a log shows it and a failure can be repeated."""
    if never_seen := config.stash.get(NEVER_SEEN, []):
        terminalreporter.section("FAILED: documented, but never seen in this run", red=True)
        terminalreporter.write_line("\n".join(never_seen))
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.getreports(kind)]
    found = [value for report in reports for name, value in report.user_properties if name == "campaign"]
    if found:
        terminalreporter.section(f"campaigns, {'whole' if pace.LONG else 'sampled'}")
        terminalreporter.write_line("\n".join(sorted(map(str, found))))


def _campaign(item: pytest.Item) -> pace.Campaign | None:
    marker = item.get_closest_marker("campaign")
    return pace.Campaign(item.nodeid.rpartition("/")[2], **marker.kwargs) if marker is not None else None


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> pace.Campaign:
    """The rounds that this test is to make, as its marker `campaign(sample, whole)` says."""
    campaign = _campaign(request.node)
    assert campaign is not None, "a test with a campaign has its marker"
    request.node.user_properties.append(("campaign", str(campaign)))
    return campaign


@pytest.fixture(scope="session")
def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real mongod that all tests share."""
    with asyncio.Runner() as runner:
        mongod = Mongod(tmp_path_factory.mktemp("mongodb"))
        runner.run(mongod.__aenter__())
        yield mongod.uri
        runner.run(mongod.__aexit__(None, None, None))


@pytest.fixture(scope="session", autouse=True)
def _first(mongodb_uri: str) -> None:
    """Before any test's own loop: a Runner that starts later would make its loop the current one."""


@pytest.fixture
def database(mongodb_uri: str, io_loop: IOLoop) -> Iterator[AsyncIOMotorDatabase[dict[str, Any]]]:
    """A database of this test's own; gone afterwards. Await on it inside `io_loop`."""
    mongo = Mongo(mongodb_uri, f"test_{secrets.token_hex(6)}")
    io_loop.run_sync(mongo.__aenter__)

    async def drop() -> None:
        await mongo.database.client.drop_database(mongo.database.name)
        await mongo.__aexit__()

    yield mongo.database
    io_loop.run_sync(drop)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"
