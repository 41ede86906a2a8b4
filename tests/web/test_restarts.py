"""The server is killed during an upload or during processing, and the page completes both without a reload."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import expect

from tests import photos
from tests.client import Api, Server, settings
from tests.web.browser import HALF_SENT, boxes, browsing, held, loaded, photo_file, shifts, watch_shifts


@pytest.mark.gen_test(timeout=180)
async def test_kill_9_in_the_middle(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """After two kills of the server, during the upload and during processing, each picture arrives once."""
    pictures = [photo_file(tmp_path, f"{n}.jpg", photos.phone_jpeg(orientation=n)) for n in (1, 6)]
    async with (
        Server(data, **settings(data, mongodb_uri), images__workers=1) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        server.port = urlsplit(server.url).port or 0
        await api.sign_up()
        ada = await chromium.person("phone")
        ada.expected = ("net::ERR_", "WebSocket connection to", "503 (")
        page = await ada.tab()
        await ada.sign_in(page)
        await page.get_by_role("link", name="New dream").click()
        await page.get_by_label("Title").fill("A storm")
        await page.locator("input[type=file]").first.set_input_files(pictures)
        await expect(page.get_by_role("group", name="Picture 2")).to_be_visible()

        await ada.slow(page, upload=200_000)
        await watch_shifts(page)
        await page.get_by_role("button", name="Save").click()
        await page.wait_for_function(HALF_SENT)
        at_once = await boxes(page, ".picture")
        server.kill()
        await expect(page.get_by_text("Waiting for a connection. This is sent automatically.")).to_be_visible()
        assert await boxes(page, ".picture") == at_once
        await ada.slow(page)
        await server.restart()
        async with held(server):
            await expect(page.get_by_text("Processing pictures: 0 of 2 ready")).to_be_visible()
            server.kill()
        await server.restart()
        await loaded(page, 2)
        await expect(page.get_by_text("Processing pictures")).to_be_hidden()
        assert await boxes(page, ".picture") == at_once
        assert await shifts(page) == []
        [dream] = (await api.json("GET", "/api/dreams"))["items"]
        assert [image["status"] for image in dream["images"]] == ["completed"] * 2


@pytest.mark.gen_test(timeout=180)
async def test_a_picture_that_fails(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """A failed picture shows its reason, and a button to try again or to remove it."""
    broken = photo_file(tmp_path, "broken.jpg", photos.corrupt_jpeg())
    async with (
        Server(data, **settings(data, mongodb_uri), images__workers=1, images__time_limit=0.2) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        server.port = urlsplit(server.url).port or 0
        await api.sign_up()
        ada = await chromium.person()
        ada.expected = ("net::ERR_", "WebSocket connection to")
        page = await ada.tab()
        await ada.sign_in(page)
        await page.get_by_role("link", name="New dream").click()
        await page.get_by_label("What did you dream?").fill("A stair.")
        await page.locator("input[type=file]").first.set_input_files(broken)
        await expect(page.get_by_role("group", name="Picture 1").get_by_text("Picture 1 of 1")).to_be_visible()
        async with held(server):
            await page.get_by_role("button", name="Save").click()
            await expect(page.get_by_text("Processing", exact=True)).to_be_visible()
            await watch_shifts(page)
        failed = page.get_by_role("main").get_by_text("Picture 1 failed: ")
        await expect(failed).to_have_text("Picture 1 failed: The file is damaged and cannot be read.")
        assert await shifts(page) == []
        await expect(page.get_by_role("button", name="Try again")).to_be_hidden()
        await page.get_by_role("button", name="Remove picture").click()
        await expect(page.locator(".picture")).to_have_count(0)
        await expect(page.get_by_text("A stair.")).to_be_visible()
        [dream] = (await api.json("GET", "/api/dreams"))["items"]
        assert dream["images"] == []

        await api.add(dream["id"], photos.slow_png(), positions=[8])
        await expect(failed).to_have_text("Picture 1 failed: Processing took too long.")
        server.kill()
        server.settings["images__time_limit"] = 60
        await server.restart()
        await page.get_by_role("button", name="Try again").click()
        await expect(page.get_by_text("Processing", exact=True)).to_be_visible()
        await loaded(page, 1)
