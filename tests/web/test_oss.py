"""The page with pictures on OSS, which is another origin."""

from pathlib import Path

import pytest

from tests import photos
from tests.client import Server, settings
from tests.oss_server import OssServer
from tests.web.browser import browsing, loaded, photo_file


@pytest.mark.gen_test
async def test_pictures_on_oss_are_seen(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """The policy allows the host of the bucket, also for the service worker, and no CORS rule is needed."""
    photo = photo_file(tmp_path, "a.jpg", photos.small_jpeg(1))
    with OssServer() as oss:
        async with Server(data, **settings(data, mongodb_uri), **oss.settings()) as server:
            async with browsing(server.url) as chromium:
                ada = await chromium.person()
                ada.expected = (
                    "CORS policy",
                    "ERR_FAILED",
                )  # without CORS, the service worker does not cache the pictures
                page = await ada.tab()
                await ada.sign_up(page)
                await page.get_by_role("link", name="New dream").click()
                await page.locator("input[type=file]").first.set_input_files(photo)
                await page.get_by_role("button", name="Save").click()
                await loaded(page, 1)
                await page.wait_for_function("navigator.serviceWorker.controller !== null")
                await page.reload()
                await loaded(page, 1)
                address = await page.locator(".picture .open img").get_attribute("src")
                assert address is not None
                assert not address.startswith(server.url)
