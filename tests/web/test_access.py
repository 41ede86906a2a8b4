"""Who can use the page: nothing that axe-core objects to on any view, and everything by keyboard."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import FileChooser, Page, expect

from tests import photos
from tests.client import ROOT, Api, Server, settings, until
from tests.web.browser import SCREENS, browsing, held, photo_file

# For Page.evaluate: what fades in is judged when it is there.
STILL = """Promise.all(
  document.getAnimations().map((each) => each.effect.getComputedTiming().iterations === 1 && each.finished)
)"""
AXE = ROOT / ".venv" / "node_modules" / "axe-core" / "axe.min.js"


class Judge:
    """Asks axe-core about one view after the other, in both themes, and keeps what it objects to."""

    def __init__(self, page: Page, screen: str) -> None:
        self._page = page
        self._screen = screen
        self.objections: list[str] = []

    async def ask(self, view: str) -> None:
        for theme in ("dark", "light"):
            await self._page.evaluate(f"document.documentElement.dataset.theme = {json.dumps(theme)}")
            if not await self._page.evaluate("'axe' in window"):
                await self._page.evaluate(AXE.read_text("utf-8"))
            await self._page.evaluate(STILL)
            found: dict[str, Any] = await self._page.evaluate("axe.run()")
            self.objections += [
                f"{view}, {self._screen}, {theme}: {violation['id']}: {node['target']} {node['failureSummary']}"
                for violation in found["violations"]
                for node in violation["nodes"]
            ]
        await self._page.evaluate("document.documentElement.dataset.theme = ''")


@pytest.mark.gen_test
@pytest.mark.parametrize("screen", SCREENS)
async def test_axe_has_no_objection_to_any_view(screen: str, data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """Signing in, the list, writing, reading, a failure, what lies over the page, in both themes."""
    good = photo_file(tmp_path, "good.jpg", photos.small_jpeg(1))
    bad = photo_file(tmp_path, "bad.jpg", photos.corrupt_jpeg())
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        # The page lets no script in that is not its own: the judge comes in where the policy is switched off.
        ada = await chromium.person(screen, bypass_csp=True, reduced_motion="reduce")
        ada.expected = ("net::ERR_INTERNET_DISCONNECTED",)
        page = await ada.tab()
        judge = Judge(page, screen)
        await judge.ask("signing in")
        await page.get_by_role("button", name="New here? Create an account").click()
        await judge.ask("signing up")
        await page.get_by_role("button", name="Have an account? Sign in").click()
        await ada.sign_up(page)
        await judge.ask("nothing written")
        await page.get_by_role("link", name="Write a dream").click()
        await page.get_by_label("Title").fill("By the sea")
        await page.get_by_label("What did you dream?").fill("I stood in the rain. 雨")
        await page.locator("input[type=file]").first.set_input_files([good, bad])
        await expect(page.get_by_role("group", name="Picture 2")).to_be_visible()
        await page.get_by_label("Calm").check()
        await page.get_by_label("How lucid").select_option("3")
        await page.get_by_placeholder("Add a tag").fill("sea, rain,")
        await page.get_by_placeholder("Add a tag").press("Enter")
        await expect(page.get_by_text("Draft kept on this device")).to_be_visible()
        await judge.ask("writing")
        async with held(server):
            await page.get_by_role("button", name="Save").click()
            await expect(page.get_by_text("Processing pictures: 0 of 2 ready")).to_be_visible()
            await judge.ask("processing")
        await expect(page.locator("#content").get_by_text("Picture 2 has failed")).to_be_visible()
        await expect(page.locator(".picture[data-loaded]")).to_be_visible()
        await judge.ask("reading")
        await page.get_by_role("button", name="Show picture 1 large").click()
        await judge.ask("large")
        await page.keyboard.press("Escape")
        await page.get_by_role("link", name="Edit").click()
        await expect(page.get_by_role("group", name="Picture 1")).to_be_visible()
        await judge.ask("editing")
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_role("link", name="#sea").click()
        await expect(page.get_by_role("heading", name="By the sea")).to_be_visible()
        await judge.ask("a tag's dreams")
        if screen == "phone":
            await page.get_by_role("button", name="Calendar").click()
        await judge.ask("the calendar")
        await page.get_by_role("button", name="Settings").click()
        await judge.ask("settings")
        await page.get_by_role("button", name="Delete the account").click()
        await judge.ask("deleting the account")
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_role("link", name="By the sea").click()
        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("button", name="Undo")).to_be_visible()
        await judge.ask("deleted, with time to undo")
        await page.get_by_role("button", name="Undo").click()
        await ada.context.set_offline(True)
        await page.get_by_role("searchbox").fill("sea")
        await expect(page.get_by_text("Offline. You see")).to_be_visible()
        await judge.ask("offline")
        assert judge.objections == []


async def focused(page: Page) -> str:
    """What has the focus, as it is announced; fails when nothing has it, or when it cannot be seen to have it."""
    found: list[Any] = await page.evaluate("""() => {
      const element = document.activeElement
      const { outlineStyle, caretColor } = getComputedStyle(element)
      const writes = element.matches('input, textarea, select')
      const name = element.getAttribute('aria-label') ?? element.labels?.[0]?.innerText ?? element.innerText
      return [element.tagName, name, outlineStyle !== 'none' || writes || element.matches('main, ul')]
    }""")
    tag, name, visible = found
    assert tag != "BODY", "nothing has the focus"
    assert visible, f"the focus on {tag} {name!r} is not seen"
    return str(name or tag).strip()


async def tab_to(page: Page, name: str, *, back: bool = False) -> None:
    """Press Tab until what has this name has the focus."""
    for _ in range(60):
        if (await focused(page)).startswith(name):
            return
        await page.keyboard.press("Shift+Tab" if back else "Tab")
    raise AssertionError(f"Tab does not lead to {name!r}")


@pytest.mark.gen_test
async def test_everything_can_be_done_by_keyboard(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """Signing up, writing with a picture, moving it, looking at it large, the calendar, settings, deleting, undoing."""
    picture = photo_file(tmp_path, "a.jpg", photos.small_jpeg(1))
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        ada = await chromium.person("desk")
        page = await ada.tab()
        key = page.keyboard
        await expect(page.get_by_role("heading", name="Dreamlog")).to_be_visible()
        await tab_to(page, "New here?")
        await key.press("Enter")
        await tab_to(page, "User name", back=True)
        await key.type("ada")
        await tab_to(page, "Password")
        await key.type("correct horse")
        await key.press("Enter")
        await expect(page.get_by_text("No dream is written here yet.")).to_be_visible()
        await focused(page)
        await key.press("n")
        await expect(page.get_by_label("Title")).to_be_focused()
        await key.type("By the sea")
        await key.press("Enter")
        await expect(page.get_by_label("What did you dream?")).to_be_focused()
        await key.type("First line.\nSecond line.")
        chosen: asyncio.Future[FileChooser] = asyncio.get_running_loop().create_future()
        page.once("filechooser", lambda chooser: chosen.set_result(chooser))
        await tab_to(page, "Add pictures here")
        await key.press("Enter")
        await (await chosen).set_files(picture)
        await expect(page.get_by_label("Text after the picture")).to_be_focused()
        await tab_to(page, "Move the picture up", back=True)
        await key.press("Enter")
        await expect(page.get_by_label("What did you dream?")).to_have_value("First line.\n")
        assert (await focused(page)).startswith("Move the picture up")
        await tab_to(page, "Calm")
        await key.press("Space")
        await tab_to(page, "Tags")
        await key.type("sea")
        await key.press("Enter")
        await tab_to(page, "Save")
        await key.press("Enter")
        await expect(page.locator(".picture[data-loaded]")).to_be_visible()
        await expect(page.locator("#spoken")).to_have_text("Picture 1 is ready.")
        await focused(page)
        await tab_to(page, "Show picture 1 large")
        await key.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await key.press("Escape")
        await expect(page.get_by_role("dialog")).not_to_be_visible()
        assert await focused(page) == "Show picture 1 large"
        await key.press("Escape")
        await expect(page.get_by_role("searchbox")).to_be_visible()
        await focused(page)
        await key.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await tab_to(page, "Previous month")
        await key.press("Enter")
        assert await focused(page) == "Previous month"
        await tab_to(page, "Settings", back=True)
        await key.press("Enter")
        await expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
        await key.press("Escape")
        assert await focused(page) == "Settings"
        await page.get_by_role("heading", name="By the sea").wait_for()
        card = page.get_by_role("link", name="By the sea")
        await card.focus()
        await key.press("Enter")
        await expect(page.get_by_role("heading", name="By the sea")).to_be_visible()
        await tab_to(page, "Delete")
        await key.press("Enter")
        await expect(page.get_by_text("Dream deleted.")).to_be_visible()
        await focused(page)
        await tab_to(page, "Undo")
        await key.press("Enter")
        await expect(card).to_be_visible()
        await focused(page)


@pytest.mark.gen_test
async def test_a_narrow_screen_shows_everything_without_scrolling_sideways(data: Path, mongodb_uri: str) -> None:
    """320 pixels wide, as a desk's screen at 400 per cent (WCAG 1.4.10), with a title and a tag of one long word."""
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        word = "Donaudampfschifffahrtsgesellschaft" * 2
        dream = await api.dream(photos.small_jpeg(1), title=word, content=word * 3, tags=[word[:50]], mood=word[:50])
        await api.finished(dream["id"])
        ada = await chromium.person("phone", viewport={"width": 320, "height": 640})
        page = await ada.tab()
        await ada.sign_in(page)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        for address in ("", f"#/dream/{dream['id']}", f"#/edit/{dream['id']}", "#/write"):
            await page.evaluate(f"location.hash = {json.dumps(address)}")
            await until(lambda: page.locator("main:not([aria-busy])").count(), "the view is there")
            await page.get_by_role("button", name="Settings").wait_for()
            assert await page.evaluate(wide) == 0, address
