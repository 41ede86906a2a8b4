"""The language and the appearance of the page: their defaults, and that the page saves both choices."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests import photos
from tests.client import Api, Server, settings
from tests.web.browser import browsing, photo_file

# Every text and accessible name on the page, dialogs and toasts included.
TEXTS = """() => {
  const seen = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  const texts = []
  while (seen.nextNode()) if (!seen.currentNode.parentElement.closest('noscript')) texts.push(seen.currentNode.data)
  for (const each of document.querySelectorAll('*')) {
    for (const name of ['aria-label', 'title', 'placeholder', 'alt']) texts.push(each.getAttribute(name) ?? '')
  }
  return [document.title, ...texts].map((each) => each.trim()).filter(Boolean)
}"""
BACKGROUND = "getComputedStyle(document.documentElement).backgroundColor"
DARK, LIGHT = "rgb(18, 18, 31)", "rgb(246, 242, 234)"


async def english(page: Page) -> set[str]:
    """The texts of the page with Latin letters, which no Chinese text of ours needs."""
    texts: list[str] = await page.evaluate(TEXTS)
    ours = ("Dreamlog", "English", "ada", "By the sea", "sea")
    return {each for each in texts if re.search("[a-z]", re.sub("|".join(ours), "", each))}


@pytest.mark.gen_test
async def test_the_language_follows_the_browser_or_the_user(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """Every view is in Chinese, dates included; after a change of language it is in English, also after a reload."""
    photo = photo_file(tmp_path, "a.jpg", photos.small_jpeg(2))
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        ada = await chromium.person("phone", locale="zh-CN")
        ada.expected = ("401", "404", "409", "ERR_")
        page = await ada.tab()
        await expect(page.get_by_role("button", name="登录")).to_be_visible()
        assert await page.evaluate("document.documentElement.lang") == "zh-CN"
        assert await english(page) == set()
        await page.get_by_label("用户名").fill("ada")
        await page.get_by_label("密码").fill("wrong horse")
        await page.get_by_role("button", name="登录").click()
        await expect(page.get_by_text("用户名或密码错误。")).to_be_visible()
        await page.get_by_role("button", name="还没有账号？立即注册").click()
        assert await english(page) == set()
        await page.get_by_role("button", name="注册").click()
        await expect(page.get_by_text("该用户名已被占用，请换一个。")).to_be_visible()
        await page.get_by_role("button", name="已有账号？去登录").click()
        await page.get_by_label("密码").fill("correct horse")
        await page.get_by_role("button", name="登录").click()
        await expect(page.get_by_text("还没有记录过梦境。")).to_be_visible()
        assert await english(page) == set()

        # Writing, a draft that is discarded and restored, and one that waits for a connection.
        await page.get_by_role("link", name="记录梦境").click()
        await page.get_by_label("标题").fill("By the sea")
        await page.get_by_placeholder("输入标签，按回车添加").fill("sea,")
        await page.locator("input[type=file]").first.set_input_files(photo)
        await expect(page.get_by_role("group", name="图片 1").get_by_role("img")).to_be_visible()
        await expect(page.get_by_text("草稿已保存到本设备")).to_be_visible()
        assert await english(page) == set()
        await page.get_by_role("button", name="移除图片").click()
        await expect(page.get_by_text("图片已移除。")).to_be_visible()
        await page.get_by_role("button", name="放弃草稿").click()
        await expect(page.get_by_text("草稿已放弃。")).to_be_visible()
        assert await english(page) == set()
        await page.get_by_role("button", name="撤销").last.click()
        await expect(page.get_by_label("标题")).to_have_value("By the sea")
        await page.get_by_role("link", name="梦境日记").click()
        await expect(page.get_by_role("list", name="草稿")).to_be_visible()
        assert await english(page) == set()
        await page.get_by_role("link", name="By the sea").click()
        await page.route("**/api/dreams*", lambda route: route.abort())
        await page.get_by_role("button", name="保存").click()
        await expect(page.get_by_text("等待网络连接，恢复后自动发送。")).to_be_visible()
        assert await english(page) == set()
        await page.get_by_role("link", name="梦境日记").click()
        await expect(page.get_by_text("当前离线，")).to_be_visible()
        assert await english(page) == set()
        await page.get_by_role("link", name="By the sea").click()
        await page.unroute("**/api/dreams*")
        await expect(page.get_by_role("link", name="编辑")).to_be_visible()

        # Deleting; then a dream with a completed and a failed picture.
        await page.get_by_role("button", name="删除").click()
        await expect(page.get_by_text("梦境已删除。")).to_be_visible()
        assert await english(page) == set()
        await page.goto(f"{server.url}/#/dream/nothing")
        await expect(page.get_by_text("找不到这个梦，它可能已被删除。")).to_be_visible()
        assert await english(page) == set()
        pictures = [photos.small_jpeg(1), photos.corrupt_jpeg()]
        fields: dict[str, Any] = {"mood": "calm", "lucidity": 3, "dreamed_at": "2026-11-22T06:10:00+08:00"}
        dream = await api.dream(*pictures, title="By the sea", content="雨", tags=["sea"], **fields)
        await api.finished(dream["id"])
        await page.goto(f"{server.url}/#/?night=2026-11-22")
        await expect(page.get_by_text("11月22日周日")).to_be_visible()
        await expect(page.get_by_text("2026年11月22日的梦")).to_be_visible()
        assert await english(page) == set()
        await page.get_by_role("link", name="By the sea").click()
        await expect(page.get_by_text("2026年11月22日星期日 · 6:10")).to_be_visible()
        await expect(
            page.locator("#content").get_by_text("第 2 张图片处理失败：文件已损坏，无法读取。")
        ).to_be_visible()
        assert await english(page) == set()
        await page.get_by_role("button", name="放大第 1 张图片").click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        assert await english(page) == set()
        await page.keyboard.press("Escape")
        await page.get_by_role("link", name="编辑").click()
        await expect(page.get_by_role("group", name="图片 1")).to_be_visible()
        assert await english(page) == set()
        await page.get_by_role("button", name="取消").click()
        await page.get_by_role("button", name="设置").click()
        await page.get_by_role("button", name="注销账号").click()
        await expect(page.get_by_role("dialog", name="注销账号")).to_be_visible()
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
        # A change of language keeps the draft.
        await page.get_by_role("link", name="Edit").click()
        await page.get_by_label("Title").fill("By the lake")
        await page.get_by_role("button", name="Settings").click()
        await page.get_by_text("中文").click()
        await expect(page.get_by_label("标题")).to_have_value("By the lake")


@pytest.mark.gen_test
async def test_the_appearance_follows_the_system_or_the_user(data: Path, mongodb_uri: str) -> None:
    """The page follows the system until the user chooses; it saves the choice."""
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        for prefers, seen in (("dark", DARK), ("light", LIGHT)):
            somebody = await chromium.person("desk", color_scheme=prefers)
            page = await somebody.tab()
            await page.get_by_role("button", name="Sign in").wait_for()
            assert await page.evaluate(BACKGROUND) == seen, prefers
        for choice, seen in (("Dark", DARK), ("Light", LIGHT), ("System", LIGHT), ("Dark", DARK)):
            await page.get_by_role("button", name="Settings").click()
            await page.get_by_label(choice, exact=True).check()
            await page.keyboard.press("Escape")
            assert await page.evaluate(BACKGROUND) == seen, choice
        await page.reload()
        await page.get_by_role("button", name="Sign in").wait_for()
        assert await page.evaluate(BACKGROUND) == DARK
        colour = "document.querySelector('meta[name=theme-color]').content"
        assert await page.evaluate(colour) == "#12121f"


@pytest.mark.gen_test
async def test_singular_and_plural_and_the_language_of_the_server(data: Path, mongodb_uri: str) -> None:
    """Texts have singular and plural forms, and the page requests the answers of the server in its language."""
    for attempts, minutes in ((1, "5 minutes"), (5, "1 minute")):
        limited = settings(data / minutes, mongodb_uri, limits__login_failures=attempts)
        async with Server(data / minutes, **limited) as server, browsing(server.url) as chromium:
            ada = await chromium.person("phone", locale="en-GB")
            ada.expected = ("401", "429")
            page = await ada.tab()
            await page.get_by_label("Username").fill("ada")
            await page.get_by_label("Password").fill("wrong horse")
            for _ in range(attempts):
                async with page.expect_response("**/api/auth/login") as refused:
                    await page.get_by_role("button", name="Sign in").click()
                assert (await refused.value).status == 401
                await expect(page.get_by_text("Incorrect username or password.")).to_be_visible()
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.get_by_text(f"Too many attempts. Try again in {minutes}.")).to_be_visible()

            await page.get_by_role("button", name="Settings").click()
            await page.get_by_text("中文").click()
            await page.get_by_label("用户名").fill("ada")
            await page.get_by_label("密码").fill("wrong horse")
            async with page.expect_request("**/api/auth/login") as asked:
                await page.get_by_role("button", name="登录").click()
            assert (await asked.value).headers["accept-language"] == "zh"
            await expect(page.get_by_text("尝试次数过多")).to_be_visible()
