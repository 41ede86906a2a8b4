"""The page takes the limits from the server, and keeps them for when the server is out of reach."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Route, expect

from tests.client import Server, settings
from tests.web.browser import browsing

SHORT = {"title_length": 12, "content_length": 20, "tag_length": 3, "tags": 2}


async def with_short_limits(route: Route) -> None:
    """The server's own answer, but with limits that a test can reach."""
    answer = await route.fetch()
    body: dict[str, Any] = await answer.json()
    body["limits"] |= SHORT
    await route.fulfill(response=answer, body=json.dumps(body))


@pytest.mark.gen_test
async def test_the_limits_are_those_of_the_server(data: Path, mongodb_uri: str) -> None:
    """Fields stop at the limits, and the page sends no longer text; offline, the last known limits apply."""
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        ada = await chromium.person()
        ada.expected = ("net::ERR_", "401")
        await ada.context.route("**/api/server", with_short_limits)
        page = await ada.tab()
        await ada.sign_up(page)
        await page.evaluate("navigator.serviceWorker.ready")
        await page.goto(f"{server.url}/#/write")
        await expect(page.get_by_label("Title")).to_have_attribute("maxlength", "12")

        await ada.context.unroute("**/api/server")
        await ada.context.set_offline(True)
        await page.reload()
        await expect(page.get_by_label("Title")).to_have_attribute("maxlength", "12")
        tags = page.get_by_role("combobox", name="Tags")
        await expect(tags).to_have_attribute("maxlength", "3")
        for tag in ("sea", "sky", "ice"):
            await tags.fill(tag)
            await tags.press("Enter")
        await expect(page.get_by_text("A dream can have up to 2 tags.")).to_be_visible()
        await page.get_by_label("What did you dream?").fill("x" * 21)
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("The text is too long: 21 characters, and the limit is 20.")).to_be_visible()


@pytest.mark.gen_test
async def test_a_closed_server_offers_no_accounts(data: Path, mongodb_uri: str) -> None:
    """When registration is closed, the page shows no form for a new account."""
    closed = settings(data, mongodb_uri, auth__registration="closed")
    async with Server(data, **closed) as server, browsing(server.url) as chromium:
        ada = await chromium.person()
        ada.expected = ("401",)
        page = await ada.tab()
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        await expect(page.get_by_role("button", name="New here? Create an account")).to_be_hidden()
