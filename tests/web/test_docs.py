"""The documentation page: complete, searchable, in both languages, and accessible."""

import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from handlers.contracts import asyncapi, openapi
from handlers.messages import CLOSE_CODES
from handlers.operations import OPERATIONS, PROBLEM_TYPES
from tests.client import ROOT, Server, settings
from tests.web.browser import SCREENS, browsing
from tests.web.test_access import Judge

WORDS = (ROOT / "web" / "docs" / "words.js").read_text("utf-8")


@pytest.mark.gen_test
async def test_everything_of_the_contracts_has_its_section(data: Path, mongodb_uri: str) -> None:
    """Each call, channel, message, close code, problem and shape can be linked to, and every link leads somewhere."""
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        ada = await chromium.person()
        page = await ada.tab("docs#close-4129")
        await expect(page.locator("[id='close-4129']")).to_be_focused()
        found = set(await page.locator("article").evaluate_all("(all) => all.map(({ id }) => id)"))
        assert {each.id for each in OPERATIONS} <= found
        assert {f"channel-{name}" for name in asyncapi()["channels"]} <= found
        assert {f"message-{name}" for name in asyncapi()["components"]["messages"]} <= found
        assert {f"close-{code}" for code in CLOSE_CODES} <= found
        assert {kind.removeprefix("/") for kind in PROBLEM_TYPES} | {"about:blank"} <= found
        messages = set(asyncapi()["components"]["messages"])
        assert set(openapi()["components"]["schemas"]) - messages <= found
        links = await page.locator("a[href^='#']").evaluate_all("(all) => all.map((each) => each.hash.slice(1))")
        assert set(links) - found == {"content"}


@pytest.mark.gen_test
async def test_rows_say_what_must_be_given_and_which_statuses_are_errors(data: Path, mongodb_uri: str) -> None:
    """A parameter of a path is required, one of a query may be absent; only statuses from 400 are red."""
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        ada = await chromium.person()
        page = await ada.tab("docs")
        read = page.locator("article#getDream")
        rows = read.locator(".row")
        await expect(rows.filter(has_text="in the path").locator(".facts")).to_contain_text("required")
        await expect(rows.filter(has_text="in the query").first.locator(".facts")).to_contain_text("may be absent")
        for status, kind in (("200", "good"), ("304", "good"), ("404", "status")):
            await expect(read.locator(".answers dt code", has_text=status)).to_have_class(kind)


@pytest.mark.gen_test
async def test_search_leaves_what_has_all_words(data: Path, mongodb_uri: str) -> None:
    """The key `/` focuses the search field, and the list follows each letter."""
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        ada = await chromium.person()
        page = await ada.tab("docs")
        await expect(page.get_by_role("heading", name="POST /api/dreams", exact=False).first).to_be_visible()
        await page.keyboard.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await page.keyboard.type("expired session 4101")
        await expect(page.locator("article:visible")).to_have_count(1)
        await expect(page.get_by_role("status")).to_have_text("Entries found: 1.")
        await expect(page.get_by_role("navigation").get_by_role("link")).to_have_text(["4101"])
        await page.get_by_role("searchbox").fill("nothing has these words")
        await expect(page.get_by_role("status")).to_have_text("Nothing matches. Try fewer or shorter words.")
        await page.get_by_role("searchbox").fill("")
        assert await page.locator("article:visible").count() > 50


@pytest.mark.gen_test
async def test_the_documentation_has_both_languages(data: Path, mongodb_uri: str) -> None:
    """The language is that of the browser, until the reader chooses one, here or in the journal."""
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        ada = await chromium.person(locale="zh-CN")
        page = await ada.tab("docs")
        await expect(page.get_by_role("heading", name="关闭代码")).to_have_count(2)
        assert await page.locator("html").get_attribute("lang") == "zh"
        await page.get_by_role("button", name="English").click()
        await expect(page.get_by_role("heading", name="Close codes")).to_have_count(2)
        await expect(page.get_by_role("button", name="English")).to_be_focused()
        await page.reload()
        await expect(page.get_by_role("heading", name="Close codes")).to_have_count(2)


@pytest.mark.gen_test
@pytest.mark.parametrize("screen", SCREENS)
async def test_axe_has_no_objection_to_the_documentation(screen: str, data: Path, mongodb_uri: str) -> None:
    """The sections on images, which contain every kind of element, pass in both languages and themes."""
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        ada = await chromium.person(screen, bypass_csp=True, reduced_motion="reduce")
        page = await ada.tab("docs")
        judge = Judge(page, screen)
        for language in ("English", "中文"):
            await page.get_by_role("button", name=language).click()
            await page.get_by_role("searchbox").fill("retry")
            assert 5 < await page.locator("article:visible").count() < 40
            width, room = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert width <= room
            await judge.ask(f"the documentation, {language}")
        assert judge.objections == []


def test_both_languages_have_the_same_words() -> None:
    """Each text has the same placeholders in both languages."""
    english, chinese = WORDS.split("const CHINESE")
    pairs = [
        dict(re.findall(r"^  (\w+):\s+('.*'|\".*\"),$", block.partition("\n}")[0], re.MULTILINE))
        for block in (english, chinese)
    ]
    assert set(pairs[0]) == set(pairs[1])
    assert len(pairs[0]) > 30
    for word, text in pairs[0].items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", pairs[1][word])), word
