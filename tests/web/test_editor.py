"""Pictures in the editor: pasted, dropped, moved, removed, and their positions on the server."""

import base64
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests import photos
from tests.client import Api, Server, settings
from tests.web.browser import browsing, loaded, photo_file

# As after a screenshot: the clipboard holds a picture and no text.
PASTE = """(field, [content, type]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))
  const clipboardData = new DataTransfer()
  clipboardData.items.add(new File([bytes], 'image.png', { type }))
  field.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }))
}"""
# The screen position in front of this text.
PLACE = """(field, after) => {
  const pen = document.createElement('canvas').getContext('2d')
  const { font, paddingTop, lineHeight } = getComputedStyle(field)
  pen.font = font
  const lines = field.value.slice(0, field.value.indexOf(after)).split('\\n')
  const { left, top } = field.getBoundingClientRect()
  const y = top + parseFloat(paddingTop) + (lines.length - 0.5) * parseFloat(lineHeight)
  return [left + pen.measureText(lines.at(-1)).width, y]
}"""


async def drop(page: Page, text: str, file: Path) -> None:
    """Drop a file from the desktop in front of `text`, in the last text field."""
    field = page.locator(".editor textarea").last
    x, y = await field.evaluate(PLACE, text)
    devtools = await page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        await devtools.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})


async def layout(page: Page) -> list[str]:
    """The texts of the editor, and the width of each picture between them."""
    script = (
        """(all) => all.map((each) => each.value ?? `${each.querySelector('img')?.naturalWidth ?? 'no picture'}`)"""
    )
    found: list[str] = await page.locator(".editor > *").evaluate_all(script)
    return found


@pytest.mark.gen_test(timeout=180)
async def test_pictures_go_where_they_are_put(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """The server has each pasted, dropped or moved picture at the position that the editor showed."""
    text = "一只🦊 looked\nat me 👨‍👩‍👧 and\nwent on."
    small = [photo_file(tmp_path, f"{n}.jpg", photos.small_jpeg(n)) for n in range(3)]
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        ada = await chromium.person()
        page = await ada.tab()
        await ada.sign_in(page)
        await page.get_by_role("link", name="New dream").click()
        first = page.get_by_label("What did you dream?")
        await first.fill(text.replace("\n", "\r\n"))
        await first.evaluate("(field) => field.setSelectionRange(2, 2)")
        png = base64.b64encode(photos.png_screenshot_alpha()).decode()
        await first.evaluate(PASTE, [png, "image/png"])
        await expect(page.get_by_role("group", name="Picture 1").get_by_role("img")).to_be_visible()
        rest = text[2:]
        assert await layout(page) == ["一只", "1170", rest]

        await drop(page, "and\n", small[0])
        await expect(page.get_by_role("group", name="Picture 2").get_by_role("img")).to_be_visible()
        cut = rest.index("and")
        assert await layout(page) == ["一只", "1170", rest[:cut], "240", rest[cut:]]

        # Move one down a line, and another up over a picture.
        second = page.get_by_role("group", name="Picture 2")
        await second.get_by_role("button", name="Move picture down").click()
        line = rest.index("\nwent")
        assert await layout(page) == ["一只", "1170", rest[:line], "240", rest[line:]]
        for _ in range(3):
            await page.get_by_role("group", name="Picture 2").get_by_role("button", name="Move picture up").click()
        assert await layout(page) == ["一只", "240", "", "1170", rest]
        await expect(page.get_by_role("group", name="Picture 1").get_by_role("button").first).to_be_focused()

        await page.get_by_role("group", name="Picture 1").get_by_role("button", name="Remove picture").click()
        assert await layout(page) == ["一只", "1170", rest]
        await page.get_by_role("button", name="Undo").click()
        assert await layout(page) == ["一只", "240", "", "1170", rest]

        # Save with an unfinished tag and with photos that are still loading.
        await page.locator(".editor textarea").last.focus()
        await page.keyboard.press("ControlOrMeta+Home")
        await page.get_by_label("Tags").fill("fox")
        await page.locator("input[type=file]").first.set_input_files(photo_file(tmp_path, "p.jpg", photos.phone_jpeg()))
        await page.get_by_role("button", name="Save").click()
        await loaded(page, 3)
        await expect(page.get_by_role("link", name="#fox")).to_be_visible()
        pieces = await page.locator(".dream-text > .piece").all_inner_texts()
        assert "".join(pieces) == text

        [dream] = (await api.json("GET", "/api/dreams"))["items"]
        assert dream["content"] == text
        assert [(image["width"], image["position"]) for image in dream["images"]] == [(240, 2), (1170, 2), (3024, 2)]
        assert dream["tags"] == ["fox"]
