"""schemathesis sends the server what its served contract allows, and what it forbids, with every check on.

`tests/beyond_schema.py` has the rules of the API that the contract cannot say.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import pace, photos
from tests.client import ROOT, Api, Server, settings

METRICS = "the token of the metrics"
# Limits are tested elsewhere. A token outlives the run.
OPEN: dict[str, object] = {
    "auth__access_lifetime": 86_400,
    "images__max_per_dream": 500,
    "limits__login_failures": 0,
    "limits__registrations": 0,
    "limits__images": 0,
    "limits__connections": 0,
    "server__metrics_token": METRICS,
}
ENDS_TOKEN = ("logout", "deleteMe", "refresh")  # each of these calls has an account of its own
# A stream never ends: its first event says enough. No answer above 499 is one that a request may expect.
CONFIG = """
max-stream-events = 1
continue-on-failure = true
color = false

[cache]
enabled = false

[generation]
database = "none"

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409]

[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 409, 413, 415, 416, 422]
"""
METERED = f"""
[[operations]]
include-operation-id = "metrics"
headers = {{ Authorization = "Bearer {METRICS}" }}
"""


class Run:
    """One run of schemathesis in a process of its own."""

    def __init__(self, folder: Path, server: Server, *, media: list[str]) -> None:
        self._folder = folder
        self._server = server
        self._media = media

    async def check(self, seed: int, examples: int, *arguments: str, config: str = "", sign_up: bool = False) -> int:
        """The number of requests. Fails when schemathesis finds anything. `examples` are random requests of a call."""
        settings = self._folder / "schemathesis.toml"
        settings.write_text(CONFIG + config)
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run"]
        command += [self._server.url + "/openapi.json", "--seed", str(seed), "--max-examples", str(examples)]
        process = await asyncio.create_subprocess_exec(
            *command,
            *arguments,
            cwd=self._folder,
            env=os.environ
            | {
                "PYTHONPATH": str(ROOT),
                "SCHEMATHESIS_HOOKS": "tests.beyond_schema",
                "TEST_SERVER": self._server.url,
                "TEST_MEDIA": json.dumps(self._media),
                "TEST_SIGN_UP": "1" if sign_up else "",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()
        assert process.returncode == 0, output
        assert "Traceback" not in self._server.output, self._server.output
        generated = re.search(r"(\d+) generated", output)
        assert generated is not None, output
        return int(generated[1])


def peers(folder: Path, **users: Api) -> str:
    """The configuration for users who must not see each other's data."""
    path = folder / "users.json"
    entries = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {user.access}"}]}
        for name, user in users.items()
    ]
    path.write_text(json.dumps({"auth": entries}))
    return f"\n[auth.wfc]\npath = {json.dumps(str(path))}\npeers = {json.dumps(list(users))}\n"


@pytest.mark.campaign(sample=1, whole=3)
@pytest.mark.gen_test(timeout=600)
async def test_the_contract_holds(
    data: Path,
    tmp_path: Path,
    mongodb_uri: str,
    campaign: pace.Campaign,
    record_property: Callable[[str, object], None],
) -> None:
    """schemathesis finds no violation with a token, without one, or in the calls that revoke a token."""
    examples = 50 if campaign.long else 4
    without = [part for name in ENDS_TOKEN for part in ("--exclude-operation-id", name)]
    only = [part for name in ENDS_TOKEN for part in ("--include-operation-id", name)]
    async with Server(data, **settings(data, mongodb_uri), **OPEN) as server, Api(server.url) as ada:
        async with Api(server.url) as bob:
            await ada.sign_up("ada")
            await bob.sign_up("bob")
            dream = await ada.finished((await ada.dream(photos.small_jpeg(1)))["id"])
            media = [each["url"].removeprefix(server.url) for each in dream["images"][0]["variants"].values()]
            run = Run(tmp_path, server, media=media)
            users = peers(tmp_path, ada=ada, bob=bob)
            for random in campaign.rounds():
                seed = random.randrange(1 << 31)
                requests = [
                    await run.check(seed, examples, *without, config=users),
                    await run.check(seed, examples, config=METERED),
                    await run.check(seed, examples, *only, "--phases", "examples,coverage,fuzzing", sign_up=True),
                ]
                record_property("campaign", f"{campaign.name}: requests {requests} with seed {seed}")
