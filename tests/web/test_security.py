"""The page runs no text as code, stores no tokens, and leaves no dreams to the next user."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, Request, expect

from tests import photos
from tests.client import Api, Server, settings, until
from tests.web.browser import HOUSE, Person, browsing, photo_file

EVIL = """<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"""

# Everything in the storage of the page as one text, without the bytes of pictures.
KEPT = """async () => {
  const found = [JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie, location.href]
  for (const name of await caches.keys()) {
    for (const request of await (await caches.open(name)).keys()) found.push(request.url)
  }
  for (const { name } of await indexedDB.databases()) {
    const db = await new Promise((done) => (indexedDB.open(name).onsuccess = ({ target }) => done(target.result)))
    for (const store of db.objectStoreNames) {
      const all = await new Promise((done) => {
        db.transaction(store).objectStore(store).getAll().onsuccess = ({ target }) => done(target.result)
      })
      found.push(`${store}: ${JSON.stringify(all)}`)
    }
    db.close()
  }
  return found.join('\\n')
}"""
VIOLATIONS = """
  window.violations = []
  document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) =>
    window.violations.push(`${violatedDirective} ${blockedURI}`))
"""


async def write(page: Page, title: str, photo: Path) -> None:
    await page.get_by_role("link", name="New dream").click()
    await page.get_by_label("Title").fill(title)
    await page.locator("input[type=file]").first.set_input_files(photo)
    await expect(page.get_by_role("group", name="Picture 1")).to_be_visible()
    await expect(page.get_by_text("Draft saved on this device")).to_be_visible()


async def sign_out(page: Page) -> None:
    await page.get_by_role("button", name="Settings").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("button", name="Sign in")).to_be_visible()


@pytest.mark.gen_test
async def test_text_is_never_anything_but_text(data: Path, mongodb_uri: str) -> None:
    """HTML in any field appears as text, and the policy blocks nothing."""
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        name = "<b onclick=alert(1)>"
        await api.sign_up(name)
        fields: dict[str, Any] = {"title": EVIL, "content": EVIL, "tags": ["<i>tag</i>"], "mood": "<u>mood</u>"}
        dream = await api.dream(photos.small_jpeg(1), **fields)
        await api.finished(dream["id"])
        somebody = await chromium.person()
        await somebody.context.add_init_script(VIOLATIONS)
        page = await somebody.tab()
        await somebody.sign_in(page, name)
        await expect(page.get_by_role("heading", name=EVIL)).to_be_visible()
        await expect(page.get_by_text("<u>mood</u> · #<i>tag</i>")).to_be_visible()
        await page.get_by_role("link", name=EVIL).click()
        await expect(page.locator(".piece")).to_have_text(EVIL)
        await expect(page.locator(".picture[data-loaded]")).to_be_visible()
        await page.get_by_role("link", name="Edit").click()
        await expect(page.get_by_label("Title")).to_have_value(EVIL)
        await expect(page.get_by_label("<u>mood</u>")).to_be_checked()
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_role("link", name="#<i>tag</i>").click()
        await expect(page.locator(".filter")).to_contain_text("#<i>tag</i>")
        await page.get_by_role("button", name="Settings").click()
        await expect(page.get_by_role("heading", name=name)).to_be_visible()
        assert await page.evaluate("[window.hacked ?? null, window.violations]") == [None, []]


@pytest.mark.gen_test
async def test_tokens_are_nowhere_that_a_script_could_read_later(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """Storage and URLs contain no token; the refresh token is in a cookie for its own path."""
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        ada = await chromium.person()
        page = await ada.tab()
        addresses: list[str] = []
        tokens: list[str] = []

        async def note(request: Request) -> None:
            addresses.append(request.url)
            response = await request.response()
            if response is not None and "/api/auth/" in request.url:
                answer = await response.json()
                tokens.extend((answer["access"], answer["refresh"]))

        page.on("requestfinished", note)
        await ada.sign_up(page)
        await write(page, "By the sea", photo_file(tmp_path, "a.jpg", photos.small_jpeg(1)))
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator(".picture[data-loaded]")).to_be_visible()
        await page.reload()
        await expect(page.locator(".picture[data-loaded]")).to_be_visible()
        await until(lambda: len(tokens) >= 4, "the test has the tokens of signing up and of the reload")
        kept = await page.evaluate(KEPT) + "\n".join(addresses)
        assert [token for token in tokens if token in kept or token.split(".")[2] in kept] == []
        assert "By the sea" in kept, "the dump includes saved dreams"
        cookies = await ada.context.cookies(f"{server.url}/api/auth/refresh")
        assert [(each["name"], each["httpOnly"], each["sameSite"], each["path"]) for each in cookies] == [
            ("dreamlog_refresh", True, "Strict", "/api/auth")
        ]


async def signed_up_with_a_dream_and_a_draft(person: Person, page: Page, photo: Path) -> None:
    await person.sign_up(page)
    await write(page, "Seen by ada alone", photo)
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".picture[data-loaded]")).to_be_visible()
    await page.get_by_role("link", name="Journal").click()
    await write(page, "Half a dream", photo)


@pytest.mark.gen_test
async def test_who_signs_out_leaves_no_dreams_behind(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """Signing out deletes saved dreams and hides drafts; deleting the account deletes the drafts too."""
    photo = photo_file(tmp_path, "a.jpg", photos.small_jpeg(1))
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        ours = await chromium.person()
        page = await ours.tab()
        await signed_up_with_a_dream_and_a_draft(ours, page, photo)
        assert "/media/" in await page.evaluate(KEPT), "pictures that were shown are cached"
        await sign_out(page)
        kept = await page.evaluate(KEPT)
        assert "Seen by ada alone" not in kept
        assert "/media/" not in kept
        assert "Half a dream" in kept
        assert "ada" not in (await page.inner_text("body"))
        await ours.sign_up(page, "bob")
        await expect(page.get_by_text("No dreams yet.")).to_be_visible()
        await page.get_by_role("link", name="New dream").click()
        await expect(page.get_by_label("Title")).to_have_value("")
        await sign_out(page)
        await ours.sign_in(page)
        await expect(page.get_by_role("heading", name="Half a dream")).to_be_visible()
        # Deleting the account deletes unsent entries too.
        ours.expected = ("ERR_FAILED",)
        await page.route("**/api/dreams", lambda route: route.abort())
        await write(page, "Not sent", photo)
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Waiting for a connection.")).to_be_visible()
        await page.get_by_role("button", name="Settings").click()
        await expect(page.get_by_text("Unsent changes stay on this device")).to_be_visible()
        await page.get_by_role("button", name="Delete account").click()
        await page.get_by_role("dialog").get_by_label("Username").fill("ada")
        await page.get_by_role("dialog").get_by_role("button", name="Delete account").click()
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        kept = await page.evaluate(KEPT)
        assert "Half a dream" not in kept
        assert "Not sent" not in kept
        for store in ("drafts", "outbox", "dreams", "photos"):
            assert f"{store}: []" in kept


async def end_session(person: Person) -> None:
    """A refresh token that another client has used ends the session of the page."""
    [cookie] = await person.context.cookies(f"{person.url}/api/auth/refresh")
    async with Api(person.url) as thief:
        for status in (200, 401):
            await thief.json("POST", "/api/auth/refresh", {"refresh": cookie["value"]}, status=status)


async def sign_in_again(page: Page) -> None:
    await page.get_by_label("Username").fill("ada")
    await page.get_by_label("Password").fill("correct horse")
    await page.get_by_role("button", name="Sign in").click()


@pytest.mark.gen_test
async def test_a_session_that_was_ended_elsewhere_asks_to_sign_in_and_keeps_the_draft(
    data: Path, mongodb_uri: str, tmp_path: Path
) -> None:
    """When the session ends remotely, saved dreams are deleted and drafts stay, whatever the page is doing."""
    photo = photo_file(tmp_path, "a.jpg", photos.small_jpeg(1))
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        ada = await chromium.person()
        ada.expected = ("401", "ERR_INTERNET_DISCONNECTED", "WebSocket connection to")
        page = await ada.tab()
        await ada.sign_up(page)
        await write(page, "Half a dream", photo)
        await end_session(ada)
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        await sign_in_again(page)
        await expect(page.get_by_role("heading", name="Half a dream")).to_be_visible()
        await expect(page.locator(".picture[data-loaded]")).to_be_visible()
        await page.get_by_role("link", name="Journal").click()
        await write(page, "The other half", photo)
        await page.close()

        await end_session(ada)
        page = await ada.tab()
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        kept = await page.evaluate(KEPT)
        assert "Half a dream" not in kept
        assert "/media/" not in kept
        assert "The other half" in kept
        await sign_in_again(page)
        await expect(page.get_by_role("heading", name="Half a dream")).to_be_visible()
        await expect(page.get_by_role("heading", name="The other half")).to_be_visible()

        await page.wait_for_function("navigator.serviceWorker.controller !== null")
        await ada.context.set_offline(True)
        await page.reload()
        await expect(page.get_by_text("Offline: showing")).to_be_visible()
        await end_session(ada)
        await ada.context.set_offline(False)
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        assert "Half a dream" not in await page.evaluate(KEPT)
        assert "Half a dream" not in await page.inner_text("body")


@pytest.mark.gen_test
async def test_a_page_without_https_lacks_nothing_but_the_offline_shell(
    data: Path, mongodb_uri: str, tmp_path: Path
) -> None:
    """Over plain http, without locks and service worker, a user can sign up, write with a picture, and reload."""
    photo = photo_file(tmp_path, "a.jpg", photos.small_jpeg(1))
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        browsing(server.url.replace("127.0.0.1", HOUSE)) as chromium,
    ):
        ada = await chromium.person("phone")
        ada.expected = ("Cross-Origin-Opener-Policy header has been ignored",)  # it needs https
        page = await ada.tab()
        missing = "['locks' in navigator, 'serviceWorker' in navigator, 'randomUUID' in crypto, 'caches' in globalThis]"
        assert await page.evaluate(missing) == [False] * 4
        await ada.sign_up(page)
        await write(page, "By the sea", photo)
        # The reloaded tab itself holds the lock of the draft.
        await page.reload()
        await expect(page.get_by_label("Title")).to_have_value("By the sea")
        await expect(page.get_by_role("group", name="Picture 1").locator("img")).to_be_visible()
        second = await ada.tab("#/write")
        await expect(second.get_by_label("Title")).to_be_visible()
        await expect(second.get_by_label("Title")).to_have_value("")
        await second.close()
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator(".picture[data-loaded]")).to_be_visible()
        await page.reload()
        await expect(page.locator(".picture[data-loaded]")).to_be_visible()
        await sign_out(page)
        assert "By the sea" not in await page.inner_text("body")
