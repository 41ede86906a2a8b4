"""Changes in one tab or on one device appear in the others."""

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests import photos
from tests.client import Api, Server, settings
from tests.pace import seconds
from tests.web.browser import HOUSE, boxes, browsing, held, loaded, photo_file, shifts, watch_shifts


async def write(page: Page, title: str, *pictures: Path) -> None:
    await page.get_by_role("link", name="New dream").click()
    await page.get_by_label("Title").fill(title)
    await page.get_by_label("What did you dream?").fill("A door.")
    if pictures:
        await page.locator("input[type=file]").first.set_input_files(pictures)
        await expect(page.get_by_role("group", name=f"Picture {len(pictures)}")).to_be_visible()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", name=title)).to_be_visible()


@pytest.mark.gen_test(timeout=180)
async def test_a_dream_in_two_tabs(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """Creating, editing, deleting and signing out in one tab appear in the other."""
    wide = photo_file(tmp_path, "wide.jpg", photos.phone_jpeg(orientation=1))
    async with (
        Server(data, **settings(data, mongodb_uri), images__workers=1) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        ada = await chromium.person()
        one = await ada.tab()
        await ada.sign_in(one)
        two = await ada.tab()
        await expect(two.get_by_text("No dreams yet.")).to_be_visible()

        async with held(server):
            await ada.slow(one, upload=500_000)
            await write(one, "A green door", wide)
            card = two.get_by_role("link", name="A green door")
            await expect(card).to_contain_text("Uploading")
            await expect(card.locator("img")).to_be_visible()
            await card.click()
            await expect(two.get_by_text("Uploading: ")).to_be_visible()
            at_once = await boxes(two, ".picture, .piece")
            await watch_shifts(two)
            await ada.slow(one)
            await expect(one.get_by_text("Processing the picture…")).to_be_visible()
            await expect(two.get_by_text("Processing the picture…")).to_be_visible()
        await loaded(one, 1)
        await loaded(two, 1)
        assert await boxes(two, ".picture, .piece") == at_once
        assert await shifts(two) == []

        await one.get_by_role("link", name="Edit").click()
        await one.get_by_label("Title").fill("A blue door")
        await one.get_by_role("button", name="Save").click()
        await expect(two.get_by_role("heading", name="A blue door")).to_be_visible()
        await two.get_by_role("link", name="Journal").click()
        await expect(two.get_by_role("link", name="A blue door")).to_be_visible()

        await one.get_by_role("button", name="Delete").click()
        await expect(two.get_by_text("No dreams yet.")).to_be_visible()
        await expect(two.get_by_role("link", name="A blue door")).to_have_count(0)

        await one.get_by_role("button", name="Settings").click()
        await one.get_by_role("button", name="Sign out").click()
        for tab in (one, two):
            await expect(tab.get_by_role("button", name="Sign in")).to_be_visible()


@pytest.mark.gen_test(timeout=180)
async def test_a_dream_on_two_devices(data: Path, mongodb_uri: str) -> None:
    """Pictures appear one by one on another device while they are processed, and nothing moves."""
    upright, wide = photos.phone_jpeg(), photos.phone_jpeg(orientation=1)
    async with (
        Server(data, **settings(data, mongodb_uri), images__workers=1) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        ada = await chromium.person("phone")
        ada.expected = ("404",)  # the page may request the dream after its deletion
        async with held(server):
            content = "A door.\n\nA stair.\n\nA window."
            dream = await api.dream(wide, upright, upright, content=content, positions=[7, 17, 17])
            page = await ada.tab(f"#/dream/{dream['id']}")
            await page.get_by_label("Username").fill("ada")
            await page.get_by_label("Password").fill("correct horse")
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.get_by_text("Processing pictures: 0 of 3 ready")).to_be_visible()
            at_once = await boxes(page, ".picture, .piece")
            await watch_shifts(page)
        await loaded(page, 3)
        assert await boxes(page, ".picture, .piece") == at_once
        assert await shifts(page) == []

        await api.json("PATCH", f"/api/dreams/{dream['id']}", {"content": "A gate."})
        await expect(page.get_by_text("A gate.")).to_be_visible()
        await page.get_by_role("link", name="Journal").click()
        await expect(page.get_by_text("A gate.")).to_be_visible()
        await api.json("PATCH", f"/api/dreams/{dream['id']}", {"title": "The way out"})
        await expect(page.get_by_role("heading", name="The way out")).to_be_visible()
        await page.get_by_role("link", name="The way out").click()
        await expect(page.get_by_text("A gate.")).to_be_visible()
        await api.json("DELETE", f"/api/dreams/{dream['id']}", status=204)
        await expect(page.get_by_text("This dream was deleted on another device.")).to_be_visible()


async def search(tab: Page) -> None:
    """Both tabs send requests to the server."""
    await tab.get_by_role("searchbox").fill("submarine")
    await expect(tab.get_by_text("No dreams match.")).to_be_visible()
    await tab.get_by_role("searchbox").fill("")
    await expect(tab.get_by_text("No dreams yet.")).to_be_visible()


@pytest.mark.gen_test(timeout=180)
@pytest.mark.parametrize("host", ["127.0.0.1", HOUSE])
async def test_tabs_refresh_their_tokens_together(host: str, data: Path, mongodb_uri: str) -> None:
    """Tabs share a refresh token that is valid once, and none is signed out, also over plain http without locks."""
    short = {"auth__access_lifetime": seconds(2)}  # the page uses a token for half of that time
    async with (
        Server(data, **settings(data, mongodb_uri), **short) as server,
        Api(server.url) as api,
        browsing(server.url.replace("127.0.0.1", host)) as chromium,
    ):
        await api.sign_up()
        ada = await chromium.person()
        tabs = [await ada.tab()]
        await ada.sign_in(tabs[0])
        assert await tabs[0].evaluate("'locks' in navigator") is (host != HOUSE)
        ada.expected = ("Cross-Origin-Opener-Policy header has been ignored",)  # it needs https
        refreshed: list[int] = []
        for _ in range(2):
            tabs.append(await ada.tab())
        for tab in tabs:
            tab.on("response", lambda answer: refreshed.append(answer.status) if "refresh" in answer.url else None)
        for _ in range(2):
            await asyncio.gather(*(tab.reload() for tab in tabs))
        for tab in tabs:
            await expect(tab.get_by_text("No dreams yet.")).to_be_visible()
        while len(refreshed) < 4 * len(tabs):
            await asyncio.gather(*(search(tab) for tab in tabs))
        assert refreshed == [200] * len(refreshed)
