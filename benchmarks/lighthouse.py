"""Runs Lighthouse on the page: performance, accessibility, best practices and SEO, each from 0 to 100.

    .venv/bin/python benchmarks/lighthouse.py [--rounds 3]

Needs `npx`. It measures a phone, throttled by Lighthouse, and a desktop: the sign-in page, the list with dreams, and a
dream with a picture, the last two for a returning visitor. It prints one line of JSON for each view, with the median of
each category.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from playwright.async_api import async_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests import photos
from tests.client import Api, Server
from tests.web.browser import CHROMIUM, FLAGS

LIGHTHOUSE = "lighthouse@12.8.2"


async def come_back(profile: Path, url: str) -> None:
    """Sign in with a browser of this profile, and close it."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch_persistent_context(profile, executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        await page.goto(url)
        await page.locator("[name=username]").fill("ada")
        await page.locator("[name=password]").fill("correct horse")
        await page.locator("form button.main").click()
        await page.locator("a.card").first.wait_for()
        await browser.close()


def judged(address: str, profile: Path, screen: str) -> dict[str, int]:
    """The score of each category."""
    # Lighthouse splits them at spaces, and the one that has one is not needed.
    flags = " ".join([flag for flag in FLAGS if " " not in flag] + ["--headless", f"--user-data-dir={profile}"])
    desk = ["--preset=desktop"] if screen == "desk" else []
    command = ["npx", "--yes", LIGHTHOUSE, address, "--quiet", "--output=json", "--disable-storage-reset", *desk]
    environment = os.environ | {"CHROME_PATH": CHROMIUM}
    done = subprocess.run([*command, f"--chrome-flags={flags}"], env=environment, check=True, capture_output=True)
    report: dict[str, Any] = json.loads(done.stdout)
    assert not report.get("runtimeError"), report["runtimeError"]
    return {name: round(100 * category["score"]) for name, category in report["categories"].items()}


async def measure(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Server(Path(folder) / "data") as server, Api(server.url) as api:
            await api.sign_up()
            for night in range(1, 10):
                moment = f"2026-11-{night:02}T06:10:00Z"
                dream = await api.dream(photos.phone_jpeg(), content="I stood in the rain.", dreamed_at=moment)
            await api.finished(dream["id"])
            nobody, ada = Path(folder) / "nobody", Path(folder) / "ada"
            await come_back(ada, server.url)
            views = {"sign in": ("", nobody), "list": ("", ada), "dream": (f"#/dream/{dream['id']}", ada)}
            for screen in ("phone", "desk"):
                for name, (address, profile) in views.items():
                    scores = [
                        await asyncio.to_thread(judged, f"{server.url}/{address}", profile, screen)
                        for _ in range(rounds)
                    ]
                    medians = {category: statistics.median(each[category] for each in scores) for category in scores[0]}
                    click.echo(json.dumps({"screen": screen, "view": name, **medians}))


@click.command()
@click.option("--rounds", default=3)
def main(rounds: int) -> None:
    """Print one line of JSON for each view."""
    asyncio.run(measure(rounds))


if __name__ == "__main__":
    main()
