"""Drafts survive everything until the user discards them, and changes can be undone."""

import os
import signal
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, Playwright, async_playwright, expect

from tests import photos
from tests.client import WITHIN, Api, Server, settings, until
from tests.web.browser import CHROMIUM, FLAGS, browsing, loaded, photo_file


async def begin(page: Page, title: str, photo: Path) -> None:
    """Write a draft with a picture in the middle of its text, and wait until it is saved."""
    await page.get_by_role("link", name="New dream").click()
    await page.get_by_label("Title").fill(title)
    text = page.get_by_label("What did you dream?")
    await text.fill("Before after")
    await text.evaluate("field => field.setSelectionRange(7, 7)")
    await page.locator("input[type=file]").first.set_input_files(photo)
    await is_there(page, title)
    await expect(page.get_by_text("Draft saved on this device")).to_be_visible()


async def is_there(page: Page, title: str) -> None:
    """The page shows the draft, with its picture at the same position."""
    await expect(page.get_by_label("Title")).to_have_value(title)
    await expect(page.get_by_label("What did you dream?")).to_have_value("Before ")
    await expect(page.get_by_label("Text after the picture")).to_have_value("after")
    picture = page.get_by_role("group", name="Picture 1").locator("img")
    await expect(picture).to_be_visible()
    await until(lambda: picture.evaluate("(image) => image.naturalWidth"), "the picture is shown")


async def sign_out(page: Page) -> None:
    await page.get_by_role("button", name="Settings").click()
    await page.get_by_role("button", name="Sign out").click()


@pytest.mark.gen_test
async def test_a_draft_survives_a_reload_a_sign_out_and_a_second_tab(
    data: Path, mongodb_uri: str, tmp_path: Path
) -> None:
    """A draft with a picture survives a reload, a second tab has its own, and discarding can be undone."""
    photo = photo_file(tmp_path, "a.jpg", photos.small_jpeg(1))
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        ada = await chromium.person()
        page = await ada.tab()
        await ada.sign_up(page)
        await begin(page, "First", photo)
        await page.reload()
        await is_there(page, "First")
        second = await ada.tab("#/write")
        await expect(second.get_by_label("Title")).to_have_value("")
        await second.get_by_label("Title").fill("Second")
        await expect(second.get_by_text("Draft saved on this device")).to_be_visible()
        await second.close()
        # A reload in the middle of a word, before the delay after which a draft is saved.
        await page.get_by_label("Title").fill("First of two")
        await page.reload()
        await is_there(page, "First of two")
        await sign_out(page)
        await ada.sign_in(page)
        await expect(page.get_by_role("heading", name="Second")).to_be_visible()
        await page.get_by_role("link", name="First of two").click()
        await is_there(page, "First of two")
        await page.get_by_role("button", name="Discard draft").click()
        await expect(page.get_by_role("heading", name="Second")).to_be_visible()
        await expect(page.get_by_role("heading", name="First of two")).to_have_count(0)
        await page.get_by_role("button", name="Undo").click()
        await is_there(page, "First of two")


async def profile(folder: Path, playwright: Playwright) -> BrowserContext:
    """A browser with a profile in this folder."""
    launch = playwright.chromium.launch_persistent_context
    context = await launch(folder, executable_path=CHROMIUM, args=FLAGS, locale="en-GB")
    context.set_default_timeout(1000 * WITHIN)
    return context


def processes_of(folder: Path) -> list[int]:
    """The browser's own process, by the profile in its command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:  # the process has ended
                continue
            if f"--user-data-dir={folder}".encode() in words:
                found.append(int(entry.name))
    return found


@pytest.mark.gen_test
async def test_a_draft_survives_a_dead_battery(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """After SIGKILL of the browser, the draft is there with its picture, and can be sent."""
    photo = photo_file(tmp_path, "a.jpg", photos.small_jpeg(1))
    async with Server(data, **settings(data, mongodb_uri)) as server, async_playwright() as playwright:
        context = await profile(tmp_path / "profile", playwright)
        page = await context.new_page()
        await page.goto(server.url)
        await page.get_by_role("button", name="New here? Create an account").click()
        await page.get_by_label("Username").fill("ada")
        await page.get_by_label("Password").fill("correct horse")
        await page.get_by_role("button", name="Create account").click()
        await begin(page, "Half a dream", photo)
        for pid in processes_of(tmp_path / "profile"):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not processes_of(tmp_path / "profile"), "the browser has ended")
        context = await profile(tmp_path / "profile", playwright)
        page = await context.new_page()
        await page.goto(server.url)
        # Chromium writes cookies every 30 s: a newer one is lost, and the user must sign in again.
        await expect(page.get_by_label("Username").or_(page.get_by_role("searchbox"))).to_be_visible()
        if await page.get_by_label("Username").is_visible():
            await page.get_by_label("Username").fill("ada")
            await page.get_by_label("Password").fill("correct horse")
            await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("link", name="Half a dream").click()
        await is_there(page, "Half a dream")
        await page.get_by_role("button", name="Save").click()
        await loaded(page, 1)
        await context.close()


@pytest.mark.gen_test
async def test_a_change_and_a_deletion_can_be_taken_back(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """Undo restores the text and the pictures; a page that closes within the time to undo still deletes."""
    photo = photo_file(tmp_path, "a.jpg", photos.small_jpeg(3))
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        before = await api.dream(
            photos.small_jpeg(1), photos.small_jpeg(2), title="As it was", content="🌊 one two", positions=[2, 6]
        )
        before = await api.finished(before["id"])
        ada = await chromium.person()
        ada.expected = ("404",)  # for the deleted dream
        page = await ada.tab()
        await ada.sign_in(page)
        await page.get_by_role("link", name="As it was").click()
        await loaded(page, 2)
        await page.get_by_role("link", name="Edit").click()
        await page.get_by_label("Title").fill("Changed")
        await page.get_by_role("button", name="Remove picture").first.click()
        await page.get_by_label("What did you dream?").fill("🌊 one more ")
        await page.locator("input[type=file]").first.set_input_files(photo)
        await expect(page.get_by_role("group", name="Picture 2")).to_be_visible()
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", name="Changed")).to_be_visible()
        await loaded(page, 2)

        async def changed() -> bool:
            return {image["id"] for image in (await api.get(before["id"]))["images"]} == {1, 2, 3}

        await until(changed, "the server has the new picture, and still the removed one")
        await page.locator(".toast").filter(has_text="Changes saved.").get_by_role("button", name="Undo").click()
        await expect(page.get_by_role("heading", name="As it was")).to_be_visible()
        await loaded(page, 2)

        async def as_before() -> bool:
            now = await api.get(before["id"])
            names = ("title", "content", "mood", "tags", "dreamed_at")
            places = [(image["id"], image["position"]) for image in now["images"]]
            return places == [(1, 2), (2, 6)] and all(now[name] == before[name] for name in names)

        await until(as_before, "the server has the old text and pictures")

        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_text("No dreams yet.")).to_be_visible()
        await page.locator(".toast").filter(has_text="Dream deleted.").get_by_role("button", name="Undo").click()
        # Closing another tab does not end the time to undo.
        second = await ada.tab()
        await expect(second.get_by_role("link", name="As it was")).to_be_visible()
        await page.get_by_role("link", name="As it was").click()
        await page.get_by_role("button", name="Delete").click()
        await expect(second.get_by_text("No dreams yet.")).to_be_visible()
        await second.close()
        await page.locator(".toast").filter(has_text="Dream deleted.").get_by_role("button", name="Undo").click()
        await page.get_by_role("link", name="As it was").click()
        await loaded(page, 2)
        await page.reload()
        await loaded(page, 2)
        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_text("Dream deleted.")).to_be_visible()
        await page.close()

        async def gone() -> bool:
            return (await api.call("GET", f"/api/dreams/{before['id']}")).code == 404

        await until(gone, "the server has deleted the dream", within=WITHIN)


@pytest.mark.gen_test
async def test_a_change_of_a_dream_that_is_gone_becomes_a_draft(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """If another device deletes a dream during a change, the change becomes the draft of a new dream."""
    photo = photo_file(tmp_path, "a.jpg", photos.small_jpeg(3))
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        dream = await api.dream(title="As it was", content="After", tags=["sea"])
        ada = await chromium.person("phone")
        ada.expected = ("404",)
        page = await ada.tab()
        await ada.sign_in(page)
        await page.get_by_role("link", name="As it was").click()
        await page.get_by_role("link", name="Edit").click()
        await page.get_by_label("Title").fill("In other words")
        text = page.get_by_label("What did you dream?")
        await text.fill("Before after")
        await text.evaluate("field => field.setSelectionRange(7, 7)")
        await page.locator("input[type=file]").first.set_input_files(photo)
        await is_there(page, "In other words")
        await api.json("DELETE", f"/api/dreams/{dream['id']}", status=204)
        await page.get_by_role("button", name="Save").click()
        # The text depends on which comes first, the HTTP answer or the WebSocket message.
        await expect(page.get_by_role("heading", name="deleted")).to_be_visible()
        await page.get_by_role("link", name="Journal").first.click()
        await page.get_by_role("list", name="Drafts").get_by_role("link", name="In other words").click()
        await is_there(page, "In other words")
        await page.get_by_role("button", name="Save").click()
        await loaded(page, 1)
        await expect(page.get_by_role("link", name="#sea")).to_be_visible()
        [now] = (await api.json("GET", "/api/dreams"))["items"]
        assert [now["content"], *(image["position"] for image in now["images"])] == ["Before after", 7]
