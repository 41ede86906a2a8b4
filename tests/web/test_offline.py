"""Offline, saved dreams open, and changes show at once; the page sends them later, exactly once."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, Route, expect

from tests import photos
from tests.client import Api, Server, settings, until
from tests.web.browser import HALF_SENT, browsing, loaded, photo_file

OFFLINE = ("ERR_INTERNET_DISCONNECTED", "ERR_FAILED", "ERR_CONNECTION", "WebSocket connection to")


async def write(page: Page, title: str, photo: Path | None = None) -> None:
    await page.get_by_role("link", name="New dream").click()
    await page.get_by_label("Title").fill(title)
    if photo is not None:
        await page.locator("input[type=file]").first.set_input_files(photo)
        await expect(page.get_by_role("group", name="Picture 1")).to_be_visible()
    await page.get_by_role("button", name="Save").click()


async def go_back(page: Page) -> None:
    await page.get_by_role("link", name="Journal").click()
    await expect(page.get_by_role("searchbox")).to_be_visible()


async def titles(api: Api) -> list[str]:
    page = await api.json("GET", "/api/dreams")
    return sorted(dream["title"] for dream in page["items"])


@pytest.mark.gen_test
async def test_a_night_without_a_network(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """Reading, searching, writing, changing and deleting work offline; the server gets every change later."""
    photo = photo_file(tmp_path, "a.jpg", photos.small_jpeg(1))
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        answer = await api.sign_up()
        assert answer["user"]["username"] == "ada"
        read = await api.dream(photos.phone_jpeg(), title="Read before", dreamed_at="2026-11-22T06:10:00Z")
        await api.dream(title="Changed offline", dreamed_at="2026-11-21T06:10:00Z")
        await api.dream(title="Deleted offline", dreamed_at="2026-11-20T06:10:00Z")
        await api.finished(read["id"])
        ada = await chromium.person("phone")
        ada.expected = OFFLINE
        page = await ada.tab()
        await ada.sign_in(page)
        await page.wait_for_function("navigator.serviceWorker.controller !== null")
        await page.get_by_role("link", name="Read before").click()
        await loaded(page, 1)
        await ada.context.set_offline(True)
        await page.goto(server.url)
        await expect(page.get_by_text("Offline: showing")).to_be_visible()
        await expect(page.get_by_role("heading", level=2, name="offline")).to_have_count(2)
        await page.get_by_role("searchbox").fill("read bef")
        await expect(page.get_by_role("heading", level=2, name="offline")).to_have_count(0)
        await page.get_by_role("link", name="Read before").click()
        await loaded(page, 1)
        # In landscape, the phone requests a variant that is not cached; a smaller one takes its place.
        await page.set_viewport_size({"width": 844, "height": 390})
        await page.get_by_role("button", name="Enlarge picture 1").click()
        large = page.get_by_role("dialog").get_by_role("img")
        await expect(large).not_to_have_js_property("naturalWidth", 0)
        assert "/2048.jpg" in await large.evaluate("(image) => image.currentSrc")
        await page.keyboard.press("Escape")
        await page.set_viewport_size({"width": 390, "height": 844})
        await page.goto(f"{server.url}/#/")

        await write(page, "Written offline", photo)
        await expect(page.get_by_text("Waiting for a connection.")).to_be_visible()
        await expect(page.locator(".picture .under img")).to_be_visible()
        await page.reload()
        await expect(page.get_by_role("heading", name="Written offline")).to_be_visible()
        await expect(page.locator(".picture .under img")).to_be_visible()
        await go_back(page)
        await page.get_by_role("link", name="Changed offline").click()
        await page.get_by_role("link", name="Edit").click()
        await page.get_by_label("Title").fill("Now with another title")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", name="Now with another title")).to_be_visible()
        await go_back(page)
        await page.get_by_role("link", name="Deleted offline").click()
        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("heading", name="Now with another title")).to_be_visible()
        await expect(page.get_by_role("heading", name="Deleted offline")).to_have_count(0)

        await ada.context.set_offline(False)

        async def arrived() -> bool:
            return await titles(api) == ["Now with another title", "Read before", "Written offline"]

        await until(arrived, "the page has sent every entry")
        await page.get_by_role("link", name="Written offline").click()
        await loaded(page, 1)
        await expect(page.locator(".banner")).to_be_hidden()

        # If only the server was down, no `online` event tells the page that it is back.
        await go_back(page)
        server.port = urlsplit(server.url).port or 0
        server.kill()
        await page.get_by_role("searchbox").fill("written")
        await expect(page.get_by_text("Offline: showing")).to_be_visible()
        await server.restart()
        await expect(page.get_by_text("Offline: showing")).to_be_hidden()


@pytest.mark.gen_test
async def test_two_tabs_send_everything_once(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """Dreams of two tabs arrive once each, even when an answer is lost; a tab sends the entries of a closed one."""
    photo = photo_file(tmp_path, "a.jpg", photos.small_jpeg(1))
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        ada = await chromium.person()
        ada.expected = OFFLINE
        sent: list[str] = []
        lost: list[int] = []
        refuse = True  # routes answer offline too

        async def lose(route: Route) -> None:
            if route.request.method != "POST":
                return await route.continue_()
            if refuse:
                return await route.abort()
            sent.append(route.request.headers["idempotency-key"])
            if lost:
                return await route.continue_()
            lost.append((await route.fetch()).status)
            await route.abort()

        await ada.context.route("**/api/dreams", lose)
        one = await ada.tab()
        await ada.sign_in(one)
        two = await ada.tab()
        await expect(two.get_by_role("searchbox")).to_be_visible()
        await ada.context.set_offline(True)
        await write(one, "From the first")
        await write(two, "From the second", photo)
        for tab in (one, two):
            await expect(tab.get_by_text("Waiting for a connection.")).to_be_visible()
        await go_back(two)
        for title in ("From the first", "From the second"):
            await expect(two.get_by_role("heading", name=title)).to_have_count(1)
        refuse = False
        await ada.context.set_offline(False)
        await until(lambda: len(sent) == 3, "the tab has sent the second dream, and the first one again")
        assert lost == [201]
        assert len(set(sent)) == 2
        await expect(one.get_by_role("link", name="Edit")).to_be_visible()
        await expect(two.locator(".card .about")).to_have_count(0)
        for title in ("From the first", "From the second"):
            await expect(two.get_by_role("heading", name=title)).to_have_count(1)
        page = await api.json("GET", "/api/dreams")
        assert sorted(dream["title"] for dream in page["items"]) == ["From the first", "From the second"]
        assert sum(len(dream["images"]) for dream in page["items"]) == 1

        refuse = True
        await write(two, "Left behind")
        await expect(two.get_by_text("Waiting for a connection.")).to_be_visible()
        await go_back(one)
        await expect(one.get_by_role("heading", name="Left behind")).to_be_visible()
        await two.close()
        refuse = False

        async def sent_by_the_other() -> bool:
            return "Left behind" in await titles(api)

        await until(sent_by_the_other, "the open tab has sent the entry of the closed one")
        await expect(one.locator(".card .about")).to_have_count(0)


async def press_slowly(page: Page, name: str) -> None:
    """Press a button slowly, so that upload progress arrives between mouse down and mouse up."""
    await page.get_by_role("button", name=name).hover()
    before = await page.locator("progress").evaluate("(bar) => bar.value")
    await page.mouse.down()
    await page.wait_for_function("(before) => document.querySelector('progress').value > before", arg=before)
    await page.mouse.up()


@pytest.mark.gen_test
async def test_an_upload_can_be_stopped_and_one_that_was_refused_is_not_lost(
    data: Path, mongodb_uri: str, tmp_path: Path
) -> None:
    """A stopped upload returns to the editor with its picture; a rejected one shows the reason and waits."""
    photo = photo_file(tmp_path, "a.jpg", photos.phone_jpeg())
    small = settings(data, mongodb_uri, images__max_bytes=300_000)
    async with Server(data, **small) as server, browsing(server.url) as chromium:
        assert len(photos.phone_jpeg()) > 300_000
        ada = await chromium.person("phone")
        ada.expected = ("413", "507")
        page = await ada.tab()
        await ada.sign_up(page)
        await ada.slow(page, upload=50_000)
        await write(page, "Too much", photo)
        await page.wait_for_function(HALF_SENT)
        await press_slowly(page, "Stop and edit")
        await expect(page.get_by_label("Title")).to_have_value("Too much")
        await expect(page.get_by_role("group", name="Picture 1").locator("img")).to_be_visible()
        await ada.slow(page)
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Not sent: An image may have at most 300000 bytes.")).to_be_visible()
        await page.get_by_role("button", name="Try again").click()
        await expect(page.get_by_text("Not sent: An image may have at most 300000 bytes.")).to_be_visible()
        await page.get_by_role("button", name="Back to editing").click()
        await page.get_by_role("button", name="Remove picture").click()

        async def full(route: Route) -> None:
            problem = {"title": "Insufficient Storage", "status": 507, "detail": "There is no room on the disk."}
            await route.fulfill(status=507, content_type="application/problem+json", json=problem)

        await page.route("**/api/dreams", full)
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Not sent: There is no room on the disk.")).to_be_visible()
        await page.reload()
        await expect(page.get_by_text("Not sent: There is no room on the disk.")).to_be_visible()
        await page.unroute("**/api/dreams")
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator(".banner")).to_be_hidden()
        await expect(page.get_by_role("link", name="Edit")).to_be_visible()
        await expect(page.get_by_role("heading", name="Too much")).to_be_visible()
