"""Nights without a network: what was read opens, what is written is shown at once and sent later, exactly once."""

from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from tests import photos
from tests.client import Api, Server, settings, until
from tests.web.browser import browsing, loaded, photo_file

OFFLINE = ("ERR_INTERNET_DISCONNECTED", "ERR_FAILED", "ERR_CONNECTION")


async def write(page: Page, title: str, photo: Path | None = None) -> None:
    await page.get_by_role("link", name="Write a dream").click()
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
    """Dreams and pictures are read and searched; one is written, one changed, one deleted; all of it arrives."""
    photo = photo_file(tmp_path, "a.jpg", photos.small_jpeg(1))
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        answer = await api.sign_up()
        assert answer["user"]["username"] == "ada"
        read = await api.dream(photos.small_jpeg(2), title="Read before", dreamed_at="2026-11-22T06:10:00Z")
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
        await expect(page.get_by_text("Offline. You see")).to_be_visible()
        await expect(page.get_by_role("heading", level=2, name="offline")).to_have_count(2)
        await page.get_by_role("searchbox").fill("read bef")
        await expect(page.get_by_role("heading", level=2, name="offline")).to_have_count(0)
        await page.get_by_role("link", name="Read before").click()
        await loaded(page, 1)
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

        await until(arrived, "everything has been sent")
        await page.get_by_role("link", name="Written offline").click()
        await loaded(page, 1)
        await expect(page.locator(".banner")).to_be_hidden()


@pytest.mark.gen_test
async def test_an_answer_that_was_lost_makes_no_second_dream(data: Path, mongodb_uri: str) -> None:
    """The server had it and the network broke: it is sent again, by one of two tabs, and is there once."""
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        ada = await chromium.person()
        ada.expected = OFFLINE
        lost: list[int] = []

        async def lose(route: Route) -> None:
            if route.request.method != "POST" or lost:
                return await route.continue_()
            lost.append((await route.fetch()).status)
            await route.abort()

        await ada.context.route("**/api/dreams", lose)
        page = await ada.tab()
        await ada.sign_in(page)
        second = await ada.tab()
        await expect(second.get_by_role("searchbox")).to_be_visible()
        await write(page, "Once")
        await expect(page.get_by_role("link", name="Edit")).to_be_visible()
        assert lost == [201]
        await expect(second.get_by_role("heading", name="Once")).to_have_count(1)
        assert await titles(api) == ["Once"]


@pytest.mark.gen_test
async def test_an_upload_can_be_stopped_and_one_that_was_refused_is_not_lost(
    data: Path, mongodb_uri: str, tmp_path: Path
) -> None:
    """Stopped on its way, the dream is in the editor again with its picture; refused, it says why and waits for us."""
    photo = photo_file(tmp_path, "a.jpg", photos.phone_jpeg())
    small = settings(data, mongodb_uri, images__max_bytes=300_000)
    async with Server(data, **small) as server, browsing(server.url) as chromium:
        assert len(photos.phone_jpeg()) > 300_000
        ada = await chromium.person("phone")
        ada.expected = ("413",)
        page = await ada.tab()
        await ada.sign_up(page)
        await ada.slow(page, upload=50_000)
        await write(page, "Too much", photo)
        await expect(page.get_by_text("Uploading: ")).to_be_visible()
        await page.get_by_role("button", name="Stop, and edit again").click()
        await expect(page.get_by_label("Title")).to_have_value("Too much")
        await expect(page.get_by_role("group", name="Picture 1").locator("img")).to_be_visible()
        await ada.slow(page)
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Not sent: An image may have at most 300000 bytes.")).to_be_visible()
        await page.get_by_role("button", name="Try again").click()
        await expect(page.get_by_text("Not sent: An image may have at most 300000 bytes.")).to_be_visible()
        await page.get_by_role("button", name="Edit again").click()
        await page.get_by_role("button", name="Remove the picture").click()
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator(".banner")).to_be_hidden()
        await expect(page.get_by_role("link", name="Edit")).to_be_visible()
        await expect(page.get_by_role("heading", name="Too much")).to_be_visible()
