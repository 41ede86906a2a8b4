"""Accessibility: axe-core finds no violation in any view, and the keyboard alone is enough."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import FileChooser, Page, Route, expect

from tests import photos
from tests.client import ROOT, Api, Server, settings, until
from tests.web.browser import SCREENS, browsing, held, photo_file

# For Page.evaluate: wait until animations have ended.
STILL = """Promise.all(
  document.getAnimations().map((each) => each.effect.getComputedTiming().iterations === 1 && each.finished)
)"""
# Records every announcement for screen readers.
HEAR = """() => {
  window.announced = []
  const spoken = document.getElementById('announcement')
  new MutationObserver(() => window.announced.push(spoken.textContent)).observe(spoken, { childList: true })
}"""
# All rules of axe-core, also the target size of WCAG 2.2, which is off by default.
RULES = "axe.run({ rules: { 'target-size': { enabled: true } } })"
AXE = ROOT / ".venv" / "node_modules" / "axe-core" / "axe.min.js"


class Judge:
    """Runs axe-core on each view in both themes, and collects the violations."""

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
            found: dict[str, Any] = await self._page.evaluate(RULES)
            self.objections += [
                f"{view}, {self._screen}, {theme}: {violation['id']}: {node['target']} {node['failureSummary']}"
                for violation in found["violations"]
                for node in violation["nodes"]
            ]
        await self._page.evaluate("document.documentElement.dataset.theme = ''")


@pytest.mark.gen_test
@pytest.mark.parametrize("screen", SCREENS)
async def test_axe_has_no_objection_to_any_view(screen: str, data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """Every view, dialog and failure, in both themes, has no violation."""
    good = photo_file(tmp_path, "good.jpg", photos.small_jpeg(1))
    bad = photo_file(tmp_path, "bad.jpg", photos.corrupt_jpeg())
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        # The policy of the page blocks axe-core, so this profile ignores it.
        ada = await chromium.person(screen, bypass_csp=True, reduced_motion="reduce")
        ada.expected = ("net::ERR_", "401", "404", "413")
        page = await ada.tab()
        judge = Judge(page, screen)
        await expect(page.get_by_label("Username")).to_be_visible()
        await judge.ask("signing in")
        await page.get_by_label("Username").fill("nobody")
        await page.get_by_label("Password").fill("wrong horse")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_text("Incorrect username or password.")).to_be_visible()
        await judge.ask("a wrong password")
        await page.get_by_role("button", name="New here? Create an account").click()
        await judge.ask("signing up")
        await page.get_by_role("button", name="Already have an account? Sign in").click()
        await ada.sign_up(page)
        await judge.ask("nothing written")
        await page.get_by_role("link", name="New dream").click()
        await page.get_by_label("Title").fill("By the sea")
        await page.get_by_label("What did you dream?").fill("I stood in the rain. 雨")
        await page.locator("input[type=file]").first.set_input_files([good, bad])
        await expect(page.get_by_role("group", name="Picture 2")).to_be_visible()
        await page.get_by_label("Calm").check()
        await page.get_by_label("Lucidity").select_option("3")
        await page.get_by_placeholder("Type a tag").fill("sea, rain,")
        await page.get_by_placeholder("Type a tag").press("Enter")
        await expect(page.get_by_text("Draft saved on this device")).to_be_visible()
        await judge.ask("writing")
        await page.get_by_role("link", name="Journal").click()
        await expect(page.get_by_role("list", name="Drafts")).to_be_visible()
        await judge.ask("a draft in the list")
        await page.get_by_role("link", name="By the sea").click()
        await page.get_by_role("button", name="Discard draft").click()
        await expect(page.get_by_text("Draft discarded.")).to_be_visible()
        await judge.ask("a draft that was given up")
        await page.get_by_role("button", name="Undo").click()
        await expect(page.get_by_role("group", name="Picture 2")).to_be_visible()

        problem = {"title": "Payload Too Large", "status": 413, "detail": "A dream may have at most 0 images."}
        kind = "application/problem+json"
        await page.route("**/api/dreams", lambda route: route.fulfill(status=413, content_type=kind, json=problem))
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Not sent: A dream may have at most 0 images.")).to_be_visible()
        await judge.ask("refused")
        await page.unroute("**/api/dreams")
        await page.get_by_role("button", name="Back to editing").click()
        await expect(page.get_by_role("group", name="Picture 2")).to_be_visible()
        async with held(server):
            await page.evaluate(HEAR)
            await page.get_by_role("button", name="Save").click()
            await expect(page.get_by_text("Processing pictures: 0 of 2 ready")).to_be_visible()
            await judge.ask("processing")
            assert await page.evaluate("document.getAnimations().length") == 0, "the reader prefers reduced motion"
        await expect(page.locator("#content").get_by_text("Picture 2 failed")).to_be_visible()
        await expect(page.locator(".picture[data-loaded]")).to_be_visible()
        announced = " ".join(await page.evaluate("window.announced"))
        assert "Picture 1 is ready." in announced
        assert "Picture 2 failed: The file is damaged and cannot be read." in announced
        assert "All pictures are ready." not in announced
        await judge.ask("reading")
        await page.get_by_role("button", name="Enlarge picture 1").click()
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
        await page.get_by_role("button", name="Delete account").click()
        await judge.ask("deleting the account")
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_role("link", name="By the sea").click()
        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("button", name="Undo")).to_be_visible()
        await judge.ask("deleted, with time to undo")
        await page.get_by_role("button", name="Undo").click()
        await ada.context.set_offline(True)
        await page.get_by_role("searchbox").fill("sea")
        await expect(page.get_by_text("Offline: showing")).to_be_visible()
        await judge.ask("offline")
        await ada.context.set_offline(False)
        await page.goto(f"{server.url}/#/dream/nothing")
        await expect(page.get_by_text("This dream does not exist.")).to_be_visible()
        await judge.ask("no such dream")
        assert judge.objections == []


async def focused(page: Page) -> str:
    """The accessible name of the focused element; fails when nothing is focused or the focus is invisible."""
    found: list[Any] = await page.evaluate("""() => {
      const element = document.activeElement
      const name = element.getAttribute('aria-label') ?? element.labels?.[0]?.innerText ??
        (element.matches('main') ? 'the view' : element.innerText)
      const outlined = [element, element.closest('.chip')].some((each) =>
        each?.matches(':focus-visible, :has(:focus-visible)') && getComputedStyle(each).outlineStyle !== 'none')
      // The whole view needs no sign; text that looks like paper has its cursor, and a date's parts show it themselves.
      const else_seen = 'main, dialog ul, .title, .editor textarea, [type=datetime-local]'
      return [element.tagName, name, outlined || element.matches(else_seen)]
    }""")
    tag, name, visible = found
    assert tag != "BODY", "no element has the focus"
    assert visible, f"the focus on {tag} {name!r} is invisible"
    return str(name or tag).strip()


async def tab_to(page: Page, name: str, *, back: bool = False, part: bool = False) -> None:
    """Press Tab until the element of this name, or of a name that contains it (`part`), has the focus."""
    for _ in range(60):
        now = await focused(page)
        if now.startswith(name) or (part and name in now):
            return
        await page.keyboard.press("Shift+Tab" if back else "Tab")
    raise AssertionError(f"Tab does not lead to {name!r}")


@pytest.mark.gen_test
async def test_everything_can_be_done_by_keyboard(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """The keyboard signs up, writes, moves a picture, enlarges it, and uses the calendar, settings, Delete and Undo."""
    pictures = [photo_file(tmp_path, f"{n}.jpg", photos.small_jpeg(n)) for n in (1, 2)]
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        ada = await chromium.person("desk")
        ada.expected = ("401",)
        page = await ada.tab()
        key = page.keyboard
        await expect(page.get_by_role("heading", name="Dreamlog")).to_be_visible()
        await tab_to(page, "Username")
        await key.type("ada")
        await tab_to(page, "Password")
        await key.type("correct horse")
        await tab_to(page, "Sign in")
        await key.press("Enter")
        await expect(page.get_by_text("Incorrect username or password.")).to_be_visible()
        assert await focused(page) == "Sign in"
        await tab_to(page, "New here?")
        await key.press("Enter")
        await tab_to(page, "Password", back=True)
        await key.press("Enter")
        await expect(page.get_by_text("No dreams yet.")).to_be_visible()
        await focused(page)
        await key.press("n")
        await expect(page.get_by_label("Title")).to_be_focused()
        await key.type("By the sea")
        await key.press("Enter")
        await expect(page.get_by_label("What did you dream?")).to_be_focused()
        await key.type("First line.\nSecond line.")
        chosen: asyncio.Future[FileChooser] = asyncio.get_running_loop().create_future()
        page.once("filechooser", lambda chooser: chosen.set_result(chooser))
        await tab_to(page, "Add pictures")
        await key.press("Enter")
        await (await chosen).set_files(pictures)
        await expect(page.get_by_label("Text after the picture").last).to_be_focused()
        await tab_to(page, "Move picture up", back=True)
        await tab_to(page, "Text after the picture", back=True)
        await key.press("Shift+Tab")
        await tab_to(page, "Move picture up", back=True)
        await key.press("Enter")
        await expect(page.get_by_label("What did you dream?")).to_have_value("First line.\n")
        assert (await focused(page)).startswith("Move picture up")
        await tab_to(page, "Calm")
        await key.press("Space")
        await tab_to(page, "Tags")
        await key.type("sea")
        await key.press("Enter")
        await tab_to(page, "Save")
        await key.press("Enter")
        await expect(page.locator(".picture[data-loaded]")).to_have_count(2)
        await expect(page.locator("#announcement")).to_contain_text("is ready.")
        await focused(page)

        await tab_to(page, "Enlarge picture 1")
        await key.press("Enter")
        large = page.get_by_role("dialog")
        await expect(large.get_by_text("1 / 2")).to_be_visible()
        await key.press("ArrowRight")
        await expect(large.get_by_text("2 / 2")).to_be_visible()
        await focused(page)
        await key.press("ArrowLeft")
        await expect(large.get_by_text("1 / 2")).to_be_visible()
        await tab_to(page, "Close")
        await key.press("Escape")
        await expect(large).not_to_be_visible()
        assert await focused(page) == "Enlarge picture 1"
        await key.press("Escape")
        await expect(page.get_by_role("searchbox")).to_be_visible()
        await focused(page)
        await key.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await tab_to(page, "Previous month")
        await key.press("Enter")
        assert await focused(page) == "Previous month"
        await tab_to(page, "Next month")
        await key.press("Enter")
        today = page.locator(".days button")
        await expect(today).to_have_count(1)
        name = str(await today.get_attribute("aria-label"))
        await tab_to(page, name)
        await key.press("Enter")
        await expect(page.get_by_text("Night of ")).to_be_visible()
        await expect(page.get_by_role("heading", name="By the sea")).to_be_visible()
        await focused(page)
        await tab_to(page, "Show all dreams")
        await key.press("Enter")
        await expect(page.get_by_text("Night of ")).to_be_hidden()
        await focused(page)

        await tab_to(page, "Settings", back=True)
        await key.press("Enter")
        await expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
        await tab_to(page, "Delete account")
        await key.press("Enter")
        await expect(page.get_by_role("dialog", name="Delete account")).to_be_visible()
        await focused(page)
        await key.press("Escape")
        assert await focused(page) == "Settings"
        await tab_to(page, "Skip to content", back=True)
        await key.press("Enter")
        await expect(page.locator("main")).to_be_focused()

        await tab_to(page, "By the sea", part=True)
        await key.press("Enter")
        await expect(page.get_by_role("link", name="Edit")).to_be_visible()
        await focused(page)
        await tab_to(page, "Delete")
        await key.press("Enter")
        await expect(page.get_by_text("Dream deleted.")).to_be_visible()
        await focused(page)
        await tab_to(page, "Undo")
        await key.press("Enter")
        await expect(page.get_by_role("heading", name="By the sea")).to_be_visible()
        await focused(page)


@pytest.mark.gen_test
async def test_the_keyboard_stays_where_it_is_when_something_changes(data: Path, mongodb_uri: str) -> None:
    """Updates of a dream leave the focus on its card, its buttons and its pictures."""
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        dream = await api.dream(title="A lake")
        ada = await chromium.person("desk")
        ada.expected = ("ERR_FAILED",)
        page = await ada.tab()
        await ada.sign_in(page)
        await tab_to(page, "A lake", part=True)
        await api.json("PATCH", f"/api/dreams/{dream['id']}", {"title": "A river"})
        await expect(page.get_by_role("heading", name="A river")).to_be_visible()
        assert "A river" in await focused(page)
        later = {"title": "Another night", "dreamed_at": "2100-01-01T00:00:00Z"}
        await api.json("POST", "/api/dreams", later, status=201)
        await page.evaluate("dispatchEvent(new Event('online'))")  # the list reloads, as after a time offline
        await expect(page.get_by_role("list", name="Journal").get_by_role("heading").first).to_have_text(
            "Another night"
        )
        assert "A river" in await focused(page)

        await page.keyboard.press("Enter")
        await tab_to(page, "Edit")
        await api.json("PATCH", f"/api/dreams/{dream['id']}", {"title": "A waterfall"})
        await expect(page.get_by_role("heading", name="A waterfall")).to_be_visible()
        assert await focused(page) == "Edit"
        await api.add(dream["id"], photos.corrupt_jpeg(), photos.small_jpeg(1))
        await expect(page.locator(".picture[data-loaded]")).to_be_visible()
        await expect(page.get_by_role("main").get_by_text("Picture 1 failed")).to_be_visible()
        assert await focused(page) == "Edit"
        await tab_to(page, "Remove picture", back=True)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("main").get_by_text("Picture 1 failed")).to_have_count(0)
        await focused(page)
        assert await page.evaluate("document.querySelector('main').contains(document.activeElement)")

        # After a failed action, its button keeps the focus.
        await page.evaluate("() => { IDBObjectStore.prototype.put = () => { throw new Error('no room') } }")
        await tab_to(page, "Edit")
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Title")).to_have_value("A waterfall")
        await tab_to(page, "Save")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Could not save the draft on this device.")).to_be_visible()
        assert await focused(page) == "Save"

        for n in range(20):
            await api.json("POST", "/api/dreams", {"title": f"Night {n}"}, status=201)
        asked: list[str] = []

        async def refuse(route: Route) -> None:
            asked.append(route.request.url)
            await route.abort()

        await page.route("**/api/dreams?*cursor=*", refuse)
        await page.goto(f"{ada.url}/")
        await expect(page.get_by_role("button", name="Show more")).to_be_visible()
        more = page.get_by_role("button", name="Show more")
        await more.focus()
        await until(lambda: len(asked) > 0, "the list has requested the next page by itself")
        await expect(more).to_have_text("Show more")
        assert len(asked) == 1
        await page.keyboard.press("Enter")
        await until(lambda: len(asked) == 2, "the list has sent a second request")
        await expect(more).to_have_text("Show more")
        assert await focused(page) == "Show more"
        assert len(asked) == 2


@pytest.mark.gen_test
async def test_a_narrow_screen_shows_everything_without_scrolling_sideways(data: Path, mongodb_uri: str) -> None:
    """The page fits 320 pixels, a desk screen at 400 % (WCAG 1.4.10), even with long words in a title and a tag."""
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
            await until(lambda: page.locator("main:not([aria-busy])").count(), "the view is loaded")
            await page.get_by_role("button", name="Settings").wait_for()
            assert await page.evaluate(wide) == 0, address
