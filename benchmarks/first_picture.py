"""Measures what a person waits for in the browser: from the last uploaded byte of a photo until the picture is visible,
and how far anything moves meanwhile.

    .venv/bin/python benchmarks/first_picture.py [--photos FOLDER] [--rounds 9]

For each screen, one person writes a dream with one photo, `rounds` times, with Chromium and the server on this machine.
The clock starts when the browser has handed the last byte of the upload to the network. It stops at the first frame
after the `load` event of the finished picture; the preview before it does not count. The shift is the sum of all
`layout-shift` entries (the score of the Layout Instability API) from saving to the end, with or without recent input. A
second device has the same dream open meanwhile, and its shift counts too.
"""

import asyncio
import json
import re
import statistics
import sys
import tempfile
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests import photos
from tests.client import Server
from tests.web.browser import Person, browsing, photo_file

WATCH = """
  globalThis.shift = 0
  new PerformanceObserver((list) => {
    for (const { value } of list.getEntries()) globalThis.shift += value
  }).observe({ type: 'layout-shift', buffered: true })
  const open = XMLHttpRequest.prototype.open
  XMLHttpRequest.prototype.open = function (...args) {
    this.upload.addEventListener('load', () => (globalThis.uploaded = performance.now()))
    return open.apply(this, args)
  }
  globalThis.seen = new Promise((resolve) => {
    new MutationObserver(() => {
      if (!document.querySelector('.picture[data-loaded]')) return
      requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - globalThis.uploaded)))
    }).observe(document, { subtree: true, attributes: true, childList: true })
  })
"""


async def one(person: Person, other: Person, photo: Path) -> tuple[float, float]:
    """Milliseconds, and the layout shift on both devices."""
    watching = await other.tab()
    page = await person.tab("#/write")
    await page.get_by_label("Title").fill("By the sea")
    await page.get_by_label("What did you dream?").fill("I stood in the rain.")
    await page.locator("input[type=file]").first.set_input_files(photo)
    await page.get_by_role("group", name="Picture 1").wait_for()
    await page.evaluate("globalThis.shift = 0")
    await page.get_by_role("button", name="Save").click()
    await page.wait_for_url(re.compile("#/dream/(?!local-)"))
    await watching.evaluate(f"location.hash = {json.dumps('#' + page.url.partition('#')[2])}")
    await watching.get_by_role("heading", name="By the sea").wait_for()
    await watching.evaluate("globalThis.shift = 0")
    milliseconds = await page.evaluate("globalThis.seen")
    await watching.locator(".picture[data-loaded]").wait_for()
    shift = sum([await each.evaluate("globalThis.shift") for each in (page, watching)])
    await page.close()
    await watching.close()
    return milliseconds, shift


async def measure(screen: str, files: list[Path], rounds: int) -> dict[str, float | str]:
    with tempfile.TemporaryDirectory() as folder:
        async with Server(Path(folder)) as server, browsing(server.url) as chromium:
            people = [await chromium.person(screen), await chromium.person(screen)]
            for person in people:
                await person.context.add_init_script(WATCH)
            first, second = [await person.tab() for person in people]
            await people[0].sign_up(first)
            await second.get_by_label("User name").fill("ada")
            await second.get_by_label("Password").fill("correct horse")
            await second.get_by_role("button", name="Sign in").click()
            await second.get_by_role("searchbox").wait_for()
            await first.close()
            results = [await one(*people, files[n % len(files)]) for n in range(rounds + 1)][1:]  # the first warms up
    waits = [milliseconds for milliseconds, _ in results]
    return {
        "screen": screen,
        "last_byte_to_picture_ms": round(statistics.median(waits)),
        "fastest_ms": round(min(waits)),
        "slowest_ms": round(max(waits)),
        "layout_shift": round(sum(shift for _, shift in results), 6),
    }


@click.command()
@click.option("--photos", "folder", type=click.Path(path_type=Path, file_okay=False, exists=True), help="JPEGs.")
@click.option("--rounds", default=9)
def main(folder: Path | None, rounds: int) -> None:
    """Print one line of JSON for each screen."""
    with tempfile.TemporaryDirectory() as made:
        files = sorted(folder.glob("*.jpg")) if folder else [photo_file(Path(made), "a.jpg", photos.phone_jpeg())]
        for screen in ("phone", "desk"):
            click.echo(json.dumps(asyncio.run(measure(screen, files, rounds))))


if __name__ == "__main__":
    main()
