"""When answers of the server get lost, the page asks again, and never in a tight loop."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Route, WebSocket, expect

from tests import photos
from tests.client import Api, Server, settings, until
from tests.web.browser import browsing, loaded, photo_file


@pytest.mark.gen_test(timeout=180)
async def test_a_dream_that_has_changed_is_fetched_until_it_comes(data: Path, mongodb_uri: str) -> None:
    """The server announces a revision once; if fetching it fails, the view and the list fetch it again."""
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        dream = await api.dream(content="A gate.")
        ada = await chromium.person()
        ada.expected = ("net::ERR_",)
        page = await ada.tab()
        await ada.sign_in(page)
        await page.get_by_role("link", name="A gate.").click()
        await expect(page.get_by_role("link", name="Edit")).to_be_visible()
        losses = 0

        async def lose(route: Route) -> None:
            nonlocal losses
            if losses > 0:
                losses -= 1
                await route.abort()
            else:
                await route.continue_()

        await ada.context.route(f"**/api/dreams/{dream['id']}", lose)

        async def seen(title: str, *, lost: int) -> None:
            nonlocal losses
            losses = lost
            await api.json("PATCH", f"/api/dreams/{dream['id']}", {"title": title})
            await expect(page.get_by_role("heading", name=title)).to_be_visible()
            assert losses == 0

        # The request of a view that opens may return the first change, but no later one.
        await seen("In the dream", lost=0)
        await seen("Again in the dream", lost=2)
        await page.get_by_role("link", name="Journal").click()
        await expect(page.get_by_role("searchbox")).to_be_visible()
        await seen("In the list", lost=0)
        await seen("Again in the list", lost=2)


@pytest.mark.gen_test(timeout=180)
async def test_a_picture_whose_file_is_out_of_reach(data: Path, mongodb_uri: str) -> None:
    """The page reports it after a second attempt; Try again and a reconnection load the picture."""
    media, away = data / "media", data / "away"
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        server.port = urlsplit(server.url).port or 0
        await api.sign_up()
        first, second = [(await api.dream(photos.small_jpeg(number)))["id"] for number in range(2)]
        for dream in (first, second):
            await api.finished(dream)
        media.rename(away)  # before the browser loads them in the list
        ada = await chromium.person()
        ada.expected = ("404", "net::ERR_", "WebSocket connection to")
        page = await ada.tab()
        await ada.sign_in(page)
        sorry = page.get_by_text("This picture cannot be loaded right now.")
        again = page.get_by_role("button", name="Try again")

        await page.goto(f"{server.url}/#/dream/{first}")
        await expect(sorry).to_be_visible()
        await again.evaluate("(button) => button.id = 'before'")
        await again.click()
        await expect(page.locator("#before")).to_be_hidden()
        await expect(again).to_be_visible()
        away.rename(media)
        await again.click()
        await loaded(page, 1)

        media.rename(away)
        await page.goto(f"{server.url}/#/dream/{second}")
        await expect(sorry).to_be_visible()
        away.rename(media)
        server.kill()
        await server.restart()
        await loaded(page, 1)


@pytest.mark.gen_test(timeout=180)
async def test_a_large_picture_whose_address_has_run_out(data: Path, mongodb_uri: str) -> None:
    """The page fetches new URLs once, and reports an error if the picture still does not load."""
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        dream = await api.finished((await api.dream(photos.phone_jpeg()))["id"])
        [large] = (data / "media").glob("*/2048.jpg")
        away = data / "away"
        ada = await chromium.person()
        ada.expected = ("404",)
        page = await ada.tab()
        await ada.sign_in(page)
        await page.goto(f"{server.url}/#/dream/{dream['id']}")
        await loaded(page, 1)
        opener = page.get_by_role("button", name="Enlarge picture 1")
        dialog = page.get_by_role("dialog")

        large.rename(away)
        await opener.click()
        await expect(dialog.get_by_text("This picture cannot be loaded right now.")).to_be_visible()
        await page.keyboard.press("Escape")

        async def found(route: Route) -> None:
            away.rename(large)
            await route.continue_()

        await page.route(f"**/api/dreams/{dream['id']}", found, times=1)
        await opener.click()
        await expect(dialog.get_by_role("img")).not_to_have_js_property("naturalWidth", 0)


@pytest.mark.gen_test(timeout=180)
async def test_a_network_that_swallows_everything(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """A request fails after a minute, an upload after three without progress; the entry is sent again."""
    photo = photo_file(tmp_path, "a.jpg", photos.small_jpeg(1))
    async with (
        Server(data, **settings(data, mongodb_uri)) as server,
        Api(server.url) as api,
        browsing(server.url) as chromium,
    ):
        await api.sign_up()
        ada = await chromium.person()
        ada.expected = ("net::ERR_",)
        page = await ada.tab()
        await page.clock.install()
        await page.reload()
        await ada.sign_in(page)
        await expect(page.get_by_text("No dreams yet.")).to_be_visible()
        dream = await api.dream()  # not on this device
        network = "dead"
        swallowed: list[Route] = []

        async def carry(route: Route) -> None:
            if network == "dead":
                swallowed.append(route)
            else:
                await (route.abort() if network == "away" else route.continue_())

        async def is_swallowed(method: str) -> None:
            asked = f"the page has asked with {method}"
            await until(lambda: any(route.request.method == method for route in swallowed), asked)

        await page.route(f"**/api/dreams/{dream['id']}", carry)
        await page.goto(f"{server.url}/#/dream/{dream['id']}")
        await is_swallowed("GET")
        await page.clock.fast_forward(60_000)
        await expect(page.get_by_text("This dream is not saved on this device")).to_be_visible()

        await page.route("**/api/dreams", carry)
        await page.goto(f"{server.url}/#/write")
        await page.get_by_label("Title").fill("Sent twice")
        await page.locator("input[type=file]").first.set_input_files(photo)
        await expect(page.get_by_role("group", name="Picture 1")).to_be_visible()
        await page.get_by_role("button", name="Save").click()
        await is_swallowed("POST")
        network = "away"
        await page.clock.fast_forward(180_000)
        await expect(page.get_by_text("Waiting for a connection. This is sent automatically.")).to_be_visible()
        network = "there"
        await page.clock.fast_forward(60_000)
        await loaded(page, 1)
        for route in swallowed:
            await route.abort()


@pytest.mark.gen_test(timeout=180)
async def test_a_list_that_is_left_while_it_loads_gets_no_update(data: Path, mongodb_uri: str) -> None:
    """Each view has one connection, and closes it when the user leaves the view."""
    async with Server(data, **settings(data, mongodb_uri)) as server, browsing(server.url) as chromium:
        ada = await chromium.person()
        page = await ada.tab()
        await ada.sign_up(page)
        await expect(page.get_by_text("No dreams yet.")).to_be_visible()
        held: list[Route] = []

        async def hold(route: Route) -> None:
            held.append(route)

        await page.route("**/api/dreams?*tag=sea*", hold)
        sockets: list[WebSocket] = []
        page.on("websocket", lambda socket: sockets.append(socket))
        await page.goto(f"{server.url}/#/?tag=sea")
        await until(lambda: held, "the page has requested the first list")
        await page.goto(f"{server.url}/#/?tag=lake")
        await expect(page.get_by_text("#lake")).to_be_visible()
        await until(lambda: sockets, "the second list has a WebSocket")
        await page.goto(f"{server.url}/#/write")
        await until(lambda: all(socket.is_closed() for socket in sockets), "all WebSockets are closed")
        await held[0].abort()
