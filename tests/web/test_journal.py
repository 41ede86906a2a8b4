"""Whole journeys through the page, on a phone and on a desk, with real photos."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, expect

from tests import photos
from tests.client import Api, Server, settings, until
from tests.web.browser import HALF_SENT, boxes, browsing, held, loaded, photo_file, shifts, watch_shifts

SHOWN = ".picture, .piece, .dream-head"


@pytest.mark.gen_test(timeout=180)
@pytest.mark.parametrize("screen", ["phone", "desk"])
async def test_first_dream(screen: str, data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """A new dream shows its text and photos in place at once, and nothing moves until all photos are ready."""
    portrait = photo_file(tmp_path, "portrait.jpg", photos.phone_jpeg())
    wide = photo_file(tmp_path, "wide.jpg", photos.phone_jpeg(orientation=1))
    film = photo_file(tmp_path, "film.gif", photos.animated_gif())
    async with (
        Server(data, **settings(data, mongodb_uri), images__workers=1) as server,
        browsing(server.url) as chromium,
    ):
        ada = await chromium.person(screen)
        page = await ada.tab()
        await ada.sign_up(page)
        await expect(page.get_by_text("No dreams yet.")).to_be_visible()

        await page.get_by_role("link", name="New dream").click()
        await page.get_by_label("Title").fill("By the sea 🌊")
        text = page.get_by_label("What did you dream?")
        await text.fill("🌊雨 before.\nAnd after.\nThe end.")
        await text.evaluate("field => field.setSelectionRange(11, 11)")
        await page.locator("input[type=file]").first.set_input_files(portrait)
        first = page.get_by_role("group", name="Picture 1")
        await expect(first.get_by_role("img")).to_have_js_property("naturalHeight", 4032)
        [(_, _, width, height)] = await boxes(page, ".editor .picture")
        assert width / height == pytest.approx(3 / 4, abs=0.01)
        after = page.get_by_label("Text after the picture")
        await expect(after).to_have_value("\nAnd after.\nThe end.")
        await after.evaluate("field => field.setSelectionRange(11, 11)")
        await page.locator("input[type=file]").first.set_input_files([wide, film])
        await expect(page.get_by_role("group", name="Picture 3").get_by_role("img")).to_be_visible()
        assert await fits(page)
        await page.get_by_role("radio", name="Calm").check()
        await page.get_by_label("Tags").fill("sea")
        await page.get_by_label("Tags").press("Enter")

        await ada.slow(page, upload=500_000)
        await watch_shifts(page)
        media: list[str] = []
        page.on("request", lambda request: media.append(urlsplit(request.url).path.rpartition("/")[2]))
        async with held(server):
            await page.get_by_role("button", name="Save").click()
            await expect(page.get_by_role("heading", name="By the sea 🌊")).to_be_visible()
            await expect(page.get_by_text("Uploading", exact=True)).to_have_count(3)
            await expect(page.locator(".under img")).to_have_count(3)
            at_once = await boxes(page, SHOWN)
            shapes = [width / height for _, _, width, height in await boxes(page, ".picture")]
            assert shapes == pytest.approx([3 / 4, 4 / 3, 3 / 2], rel=0.01)
            await expect(page.get_by_text("Uploading: ")).to_be_visible()
            await expect(page.get_by_role("progressbar")).to_be_visible()
            await page.wait_for_function(HALF_SENT)
            assert await boxes(page, SHOWN) == at_once
            await ada.slow(page)
            await expect(page.get_by_text("Processing pictures: 0 of 3 ready")).to_be_visible()
            await expect(page.get_by_text("Processing", exact=True)).to_have_count(3)
            assert await boxes(page, SHOWN) == at_once
        await loaded(page, 3)
        assert await boxes(page, SHOWN) == at_once
        assert await shifts(page) == []
        pieces = await page.locator(".dream-text > *").all_inner_texts()
        assert [piece.strip() for piece in pieces] == ["🌊雨 before.", "", "And after.", "", "The end."]
        await expect(page.get_by_role("link", name="#sea")).to_be_visible()
        # The pictures are 780 or 672 device pixels wide, so the 1024 variant is enough.
        assert {name for name in media if name.endswith(".jpg")} <= {"320.jpg", "1024.jpg"}

        await look_at_all(page, screen)
        await page.get_by_role("link", name="Journal").click()
        card = page.get_by_role("link", name="By the sea 🌊")
        await expect(card).to_contain_text("Calm · #sea")
        await expect(card.locator(".count")).to_have_text("3")
        await expect(card.locator("img")).to_have_js_property("naturalWidth", 240)
        assert await fits(page)


async def look_at_all(page: Page, screen: str) -> None:
    """The viewer shows one picture after another, and returns the focus."""
    opener = page.get_by_role("button", name="Enlarge picture 1")
    await opener.click()
    large = page.get_by_role("dialog")
    count = large.locator(".count")
    await expect(count).to_have_text("1 / 3")
    await expect(large.get_by_role("img", name="Picture 1 of 3")).to_be_in_viewport(ratio=0.9)
    if screen == "phone":
        await swipe(page, -300)
    else:
        await page.keyboard.press("ArrowRight")
    await expect(count).to_have_text("2 / 3")
    second = large.get_by_role("img", name="Picture 2 of 3")
    await expect(second).to_be_in_viewport(ratio=0.9)
    await expect(second).not_to_have_js_property("naturalWidth", 0)
    if screen == "phone":
        await swipe(page, 300)
    else:
        await page.keyboard.press("End")
        await expect(count).to_have_text("3 / 3")
        await expect(large.get_by_role("button", name="Next picture")).to_be_hidden()
        await page.keyboard.press("Home")
    await expect(count).to_have_text("1 / 3")
    await expect(large.get_by_role("img", name="Picture 1 of 3")).to_be_in_viewport(ratio=0.9)
    await page.keyboard.press("Escape")
    await expect(large).to_have_count(0)
    await expect(opener).to_be_focused()


async def swipe(page: Page, distance: int) -> None:
    """Swipe with one finger; a positive distance goes to the right."""
    devtools = await page.context.new_cdp_session(page)
    start = 195 - distance // 2
    for step in range(11):
        point = {"x": start + distance * step // 10, "y": 420}
        kind = "touchMove" if step else "touchStart"
        await devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    await devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


async def fits(page: Page) -> bool:
    """Nothing is wider than the screen."""
    wide: bool = await page.evaluate("() => document.documentElement.scrollWidth <= visualViewport.width")
    return wide


@pytest.mark.gen_test(timeout=180)
@pytest.mark.parametrize("screen", ["phone", "desk"])
async def test_many_nights(screen: str, data: Path, mongodb_uri: str) -> None:
    """The list is endless, newest first; search finds words, tags and nights; a deletion can be undone."""
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        now = datetime.now(UTC)
        for n in reversed(range(50)):
            night = (now - timedelta(days=n)).strftime("%Y-%m-%dT05:30:00Z")
            about = {"content": f"{'A lighthouse 灯塔' if n == 33 else 'Rain'} in night {n}.", "dreamed_at": night}
            tags = ["sea"] if n in (2, 40) else []
            await api.json("POST", "/api/dreams", {"title": f"Night {n:02}", "tags": tags, **about}, status=201)
        ada = await chromium.person(screen)
        page = await ada.tab()
        await ada.sign_in(page)
        titles = page.get_by_role("list", name="Journal").get_by_role("heading")
        every = [f"Night {n:02}" for n in range(50)]
        await expect(titles.nth(19)).to_have_text("Night 19")
        assert (await titles.all_inner_texts())[:20] == every[:20]
        assert await fits(page)

        async def at_the_end() -> bool:
            await page.mouse.wheel(0, 2000)
            return bool(await titles.last.is_visible() and await titles.last.inner_text() == "Night 49")

        await until(at_the_end, "all nights are listed")
        assert await titles.all_inner_texts() == every

        # After a look at a dream, the list is at the same scroll position.
        await titles.filter(has_text="Night 40").scroll_into_view_if_needed()
        before = await page.evaluate("scrollY")
        await titles.filter(has_text="Night 40").click()
        await expect(page.get_by_text("Rain in night 40.")).to_be_visible()
        await page.go_back()
        await expect(titles).to_have_text(every)
        assert await page.evaluate("scrollY") == pytest.approx(before, abs=2)

        search = page.get_by_role("searchbox")
        await search.fill("灯塔 night")
        await expect(titles).to_have_text(["Night 33"])
        await page.reload()
        await expect(titles).to_have_text(["Night 33"])
        await search.fill("submarine")
        await expect(page.get_by_text("No dreams match.")).to_be_visible()
        await page.get_by_role("button", name="Show all dreams").click()
        await expect(titles.nth(1)).to_have_text("Night 01")

        await titles.filter(has_text="Night 02").click()
        await page.get_by_role("link", name="#sea").click()
        await expect(titles).to_have_text(["Night 02", "Night 40"])
        await page.get_by_role("button", name="Show all dreams").click()
        await expect(titles.first).to_have_text("Night 00")

        if screen == "phone":
            await page.get_by_role("button", name="Calendar").click()
        day = f"{now.day} {now:%B %Y}"
        await page.get_by_role("button", name=f"{day}: 1 dream").click()
        await expect(titles).to_have_text(["Night 00"])
        await expect(page.get_by_text(f"Night of {day}")).to_be_visible()
        await page.get_by_role("button", name="Show all dreams").click()

        await titles.filter(has_text="Night 01").click()
        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_text("Dream deleted.")).to_be_visible()
        await expect(titles.nth(1)).to_have_text("Night 02")
        await page.get_by_role("button", name="Undo").click()
        await expect(titles.nth(1)).to_have_text("Night 01")
        assert len((await api.json("GET", "/api/dreams?limit=100"))["items"]) == 50


@pytest.mark.gen_test
async def test_dreams_without_a_title(data: Path, mongodb_uri: str) -> None:
    """In the list, a dream without a title begins with its first sentence; with only a picture it is untitled."""
    shown = {
        "🌊 I walked on glass.\n\nThen the tide came in.": ["🌊 I walked on glass.", "Then the tide came in."],
        "A river\nwith fish in it": ["A river", "with fish in it"],
        "我在飞。天空是紫色的。": ["我在飞。", "天空是紫色的。"],
        "Rain": ["Rain"],
        " ".join(["so"] * 50): [" ".join(["so"] * 27), " ".join(["so"] * 23)],
        "🌊" * 90: ["🌊" * 60, "🌊" * 30],
    }
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        for content in shown:
            await api.json("POST", "/api/dreams", {"content": content}, status=201)
        await api.dream(photos.small_jpeg(1), title="")
        ada = await chromium.person("desk")
        page = await ada.tab()
        await ada.sign_in(page)
        cards = page.get_by_role("list", name="Journal").get_by_role("link")
        await expect(cards).to_have_count(len(shown) + 1)
        said = [await card.locator("h2, .excerpt").all_inner_texts() for card in await cards.all()]
        assert said == [["Untitled"], *reversed(shown.values())]
