"""In which language the page speaks and in which colours it is seen, and that both are remembered."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests import photos
from tests.client import Api, Server, settings
from tests.web.browser import browsing

# Everything that is read or heard of the page.
SAID = """() => {
  const seen = document.createTreeWalker(document.getElementById('app'), NodeFilter.SHOW_TEXT)
  const said = []
  while (seen.nextNode()) said.push(seen.currentNode.data)
  for (const each of document.querySelectorAll('*')) {
    for (const name of ['aria-label', 'title', 'placeholder', 'alt']) said.push(each.getAttribute(name) ?? '')
  }
  return [document.title, ...said].map((each) => each.trim()).filter(Boolean)
}"""
BACKGROUND = "getComputedStyle(document.documentElement).backgroundColor"
DARK, LIGHT = "rgb(18, 18, 31)", "rgb(246, 242, 234)"


async def english(page: Page) -> set[str]:
    """What is said on the page in letters that no Chinese text of ours needs."""
    said: list[str] = await page.evaluate(SAID)
    ours = ("Dreamlog", "English", "ada", "By the sea", "sea")
    return {each for each in said if re.search("[a-z]", re.sub("|".join(ours), "", each))}


@pytest.mark.gen_test
async def test_the_page_speaks_the_browsers_language_and_the_chosen_one(data: Path, mongodb_uri: str) -> None:
    """Chinese from the first word to the last, on every view; then English, also after a reload; dates too."""
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        pictures = [photos.small_jpeg(1), photos.corrupt_jpeg()]
        fields: dict[str, Any] = {"mood": "calm", "lucidity": 3, "dreamed_at": "2026-11-22T06:10:00+08:00"}
        dream = await api.dream(*pictures, title="By the sea", content="雨", tags=["sea"], **fields)
        await api.finished(dream["id"])
        ada = await chromium.person("phone", locale="zh-CN")
        page = await ada.tab()
        await expect(page.get_by_role("button", name="登录")).to_be_visible()
        assert await page.evaluate("document.documentElement.lang") == "zh-CN"
        assert await english(page) == set()
        await page.get_by_label("用户名").fill("ada")
        await page.get_by_label("密码").fill("wrong horse")
        ada.expected = ("401",)
        await page.get_by_role("button", name="登录").click()
        await expect(page.get_by_text("用户名或密码不正确。")).to_be_visible()
        await page.get_by_label("密码").fill("correct horse")
        await page.get_by_role("button", name="登录").click()
        await expect(page.get_by_text("11月22日周日")).to_be_visible()
        await page.get_by_role("button", name="日历").click()
        assert await english(page) == set()
        await page.get_by_role("link", name="By the sea").click()
        await expect(page.get_by_text("2026年11月22日星期日 · 6:10")).to_be_visible()
        await expect(page.locator("#content").get_by_text("第 2 张图片失败：文件已损坏，无法读取。")).to_be_visible()
        assert await english(page) == set()
        await page.get_by_role("link", name="编辑").click()
        await expect(page.get_by_role("group", name="图片 1")).to_be_visible()
        assert await english(page) == set()
        await page.get_by_role("button", name="取消").click()
        await page.get_by_role("button", name="设置").click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        assert await english(page) == set()
        await page.get_by_text("English").click()
        await expect(page.get_by_text("Sunday 22 November 2026").or_(page.get_by_text("Sunday, "))).to_be_visible()
        await page.reload()
        await expect(page.get_by_role("link", name="Edit")).to_be_visible()
        assert await page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.gen_test
async def test_it_is_dark_unless_one_likes_it_light(data: Path, mongodb_uri: str) -> None:
    """Light where the device says so; what is chosen wins, and is remembered."""
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        for prefers, seen in (("dark", DARK), ("light", LIGHT)):
            somebody = await chromium.person("desk", color_scheme=prefers)
            page = await somebody.tab()
            await page.get_by_role("button", name="Sign in").wait_for()
            assert await page.evaluate(BACKGROUND) == seen, prefers
        for choice, seen in (("Dark", DARK), ("Light", LIGHT), ("As on this device", LIGHT), ("Dark", DARK)):
            await page.get_by_role("button", name="Settings").click()
            await page.get_by_label(choice, exact=True).check()
            await page.keyboard.press("Escape")
            assert await page.evaluate(BACKGROUND) == seen, choice
        await page.reload()
        await page.get_by_role("button", name="Sign in").wait_for()
        assert await page.evaluate(BACKGROUND) == DARK
        colour = "document.querySelector('meta[name=theme-color]').content"
        assert await page.evaluate(colour) == "#12121f"
