"""A real browser for the page: Debian's Chromium, driven by Playwright.

A test fails if the browser logs an unexpected error, or blocks something because of the page's own policy.
"""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

from tests.client import WITHIN, Server, until

CHROMIUM = "/usr/bin/chromium"
# Chromium runs as root and without internet access; by default it contacts Google's hosts at every start.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# A host other than localhost: over plain http, browsers give such pages no locks and no service worker.
HOUSE = "dreams.test"
FLAGS.append(f"--host-resolver-rules=MAP {HOUSE} 127.0.0.1")
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 860}}
SCREENS = {"phone": PHONE, "desk": DESK}

expect.set_options(timeout=1000 * WITHIN)


class Person:
    """One browser profile: its cookies, its database, its tabs."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.complaints: list[str] = []  # what the browser logged as errors
        self.expected: tuple[str, ...] = ()  # substrings of the errors that the test expects

    async def tab(self, address: str = "") -> Page:
        """A new tab; `address` is a hash such as `#/write`."""
        page = await self.context.new_page()
        page.set_default_timeout(1000 * WITHIN)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"{error}"))
        await page.goto(f"{self.url}/{address}")
        return page

    async def sign_in(self, page: Page, name: str = "ada", password: str = "correct horse") -> None:
        await page.get_by_label("Username").fill(name)
        await page.get_by_label("Password").fill(password)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("searchbox")).to_be_visible()

    async def sign_up(self, page: Page, name: str = "ada", password: str = "correct horse") -> None:
        """Create an account in the sign-in view."""
        await page.get_by_role("button", name="New here? Create an account").click()
        await page.get_by_label("Username").fill(name)
        await page.get_by_label("Password").fill(password)
        await page.get_by_role("button", name="Create account").click()
        await expect(page.get_by_role("searchbox")).to_be_visible()

    async def slow(self, page: Page, *, upload: int = -1) -> None:
        """Limit the upload rate of this tab to so many bytes per second; -1 removes the limit."""
        devtools = await self.context.new_cdp_session(page)
        limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": upload}
        await devtools.send("Network.emulateNetworkConditions", limits)

    def unexpected(self) -> list[str]:
        return [each for each in self.complaints if not any(part in each for part in self.expected)]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location['url']})")


class Browsing:
    """Chromium, and the people who use it."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url
        self.people: list[Person] = []

    async def person(self, screen: str = "desk", **more: Any) -> Person:
        """A new profile; `more` are options of a Playwright context, such as `locale="zh-CN"`."""
        options = SCREENS[screen] | {"locale": "en-GB", "color_scheme": "dark"} | more
        person = Person(await self._browser.new_context(**options), self._url)
        self.people.append(person)
        return person


@asynccontextmanager
async def browsing(url: str) -> AsyncIterator[Browsing]:
    """A browser for the server at `url`. Fails at the end if the browser has logged an unexpected error."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            here = Browsing(browser, url)
            yield here
            complaints = [complaint for person in here.people for complaint in person.unexpected()]
            assert not complaints, complaints
        finally:
            await browser.close()


# Records every layout shift, also those after a click, which the Cumulative Layout Shift leaves out.
WATCH = """
  window.shifts = []
  const rect = ({ x, y, width, height }) => [x, y, width, height].map(Math.round).join(' ')
  const part = ({ node, previousRect, currentRect }) =>
    `${node?.nodeName}.${node?.className}: ${rect(previousRect)} to ${rect(currentRect)}`
  const seen = (list) => {
    for (const { value, sources } of list.getEntries()) window.shifts.push({ value, parts: sources.map(part) })
  }
  new PerformanceObserver(seen).observe({ type: 'layout-shift' })
"""

# After two frames, earlier changes are laid out and their shifts are recorded.
LAID_OUT = "() => new Promise((seen) => requestAnimationFrame(() => requestAnimationFrame(seen)))"

# For Page.wait_for_function: a progress bar shows a partial upload.
HALF_SENT = "() => [...document.querySelectorAll('progress')].some(({ value, max }) => 0 < value && value < max)"


async def watch_shifts(page: Page) -> None:
    """Record layout shifts from now on, for `shifts`."""
    await page.evaluate(LAID_OUT)
    await page.evaluate(f"() => {{ {WATCH} }}")


async def shifts(page: Page) -> list[Any]:
    """The layout shifts since `watch_shifts`: the value and the parts of each."""
    await page.evaluate(LAID_OUT)
    found: list[Any] = await page.evaluate("() => window.shifts")
    return found


async def boxes(page: Page, selector: str) -> list[tuple[float, ...]]:
    """Left, top, width and height on the page of each element."""
    script = """(all) => all.map((each) => each.getBoundingClientRect())
      .map(({ left, top, width, height }) => [left + scrollX, top + scrollY, width, height])"""
    return [tuple(each) for each in await page.locator(selector).evaluate_all(script)]


async def loaded(page: Page, count: int) -> None:
    """Wait until so many pictures of the dream have loaded."""
    await expect(page.locator(".picture[data-loaded]")).to_have_count(count)
    widths = await page.locator(".picture .open img").evaluate_all("(all) => all.map((each) => each.naturalWidth)")
    assert len(widths) == count
    assert all(widths)


@asynccontextmanager
async def held(server: Server) -> AsyncIterator[None]:
    """Pause the render processes, so that no picture becomes ready."""
    workers = await until(lambda: server.descendants("multiprocessing.forkserver")[1:], "the workers have started")
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def photo_file(folder: Path, name: str, content: bytes) -> Path:
    """A picture as a file, for file inputs."""
    path = folder / name
    path.write_bytes(content)
    return path
