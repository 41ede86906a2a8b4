"""A client uploads dreams with photos and receives notifications and pictures. The whole server, from outside."""

import asyncio
import io
from pathlib import Path

import pytest
from PIL import Image

from tests import photos
from tests.client import Api, Json, Server, Socket, settings, until

TYPES = {"JPEG": "image/jpeg", "WEBP": "image/webp", "PNG": "image/png", "AVIF": "image/avif"}


async def opened(api: Api, url: str) -> Image.Image:
    image = Image.open(io.BytesIO(await api.bytes(url)))
    image.load()
    return image


def has_no_metadata(image: Image.Image) -> bool:
    kept = {"exif", "xmp", "icc_profile", "comment", "photoshop", "XML:com.adobe.xmp"} & {
        name for name, value in image.info.items() if value
    }
    return not kept and not dict(image.getexif())


@pytest.mark.gen_test
async def test_every_kind_of_picture_goes_in_and_all_events_come_in_order(data: Path, mongodb_uri: str) -> None:
    """JPEG, HEIC, PNG, GIF, AVIF, CMYK, 16 bits, WebP, TIFF and BMP are announced one by one, then the whole dream."""
    uploads = [
        photos.phone_jpeg(),
        photos.heic(),
        photos.png_screenshot_alpha(),
        photos.animated_gif(),
        photos.avif(),
        photos.cmyk_jpeg(),
        photos.png16(),
        photos.animated_webp(),
        photos.tiff(),
        photos.bmp(),
    ]
    positions = [0, 3, 3, 5, 9, 12, 13, 13, 13, 13]
    async with Server(data, **settings(data, mongodb_uri)) as server:
        async with Api(server.url) as api:
            await api.sign_up()
            dream = await api.dream(*uploads, content="醒来时🌊在下雨, rain", positions=positions)
            assert dream["status"] == "processing"
            assert [image["status"] for image in dream["images"]] == ["processing"] * 10
            sizes = [(image["width"], image["height"]) for image in dream["images"]]
            async with Socket.of(api, dream["id"]) as socket:
                final = await socket.message("image_update", status="completed")
                messages = socket.messages
            dream = await api.get(dream["id"])
            check_events(messages, final, dream)
            assert [image["position"] for image in dream["images"]] == positions
            assert [(image["width"], image["height"]) for image in dream["images"]] == sizes, (
                "sizes come with the upload"
            )
            by_id = {image["id"]: image for image in dream["images"]}
            assert sorted(by_id) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
            for image in dream["images"]:
                await check_variants(api, image)
            phone = by_id[1]
            assert (phone["width"], phone["height"]) == (3024, 4032), "upright, although the sensor stored it sideways"
            upright = await opened(api, phone["url"])
            assert upright.size == (1512, 2016)
            photos.assert_corners(upright)
            assert (await opened(api, by_id[3]["url"])).mode == "RGBA", "transparency is kept"
            moving = await opened(api, by_id[4]["url"])
            assert by_id[4]["animated"]
            assert getattr(moving, "n_frames", 1) > 1


def check_events(messages: list[Json], final: Json, dream: Json) -> None:
    """Assert the order that the protocol promises, whatever happened before the connection."""
    assert messages[0] == {
        "type": "connection_established",
        "dream_id": dream["id"],
        "message": "连接已建立，等待图片处理状态更新",
    }
    assert messages[1]["type"] == "image_update"
    revisions = [message["revision"] for message in messages[1:]]
    assert revisions == sorted(revisions)
    progress = [message for message in messages if message["type"] == "image_progress"]
    dones = [message["done"] for message in progress]
    assert dones == sorted(set(dones))
    assert all(message["total"] == len(dream["images"]) for message in progress)
    assert messages[-1] == final
    shown = {image["id"]: image for image in dream["images"]}
    assert [message["image"] for message in progress] == [shown[message["image"]["id"]] for message in progress]
    assert final["images"] == [
        {"id": image["id"], "url": image["url"], "position": image["position"]} for image in dream["images"]
    ]
    assert final["failed_images"] == []


async def check_variants(api: Api, image: Json) -> None:
    assert image["status"] == "completed", image
    assert list(image["variants"]) == ["320", "1024", "2048"] or set(image["variants"]) == {"320", "1024", "2048"}
    assert image["url"] == image["variants"]["2048"]["url"]
    assert image["placeholder"].startswith("data:image/webp;base64,")
    assert len(image["placeholder"]) <= 400
    for name, variant in image["variants"].items():
        content = await api.bytes(variant["url"])
        assert len(content) == variant["bytes"]
        picture = Image.open(io.BytesIO(content))
        assert (picture.width, picture.height) == (variant["width"], variant["height"])
        assert TYPES[str(picture.format)] == variant["type"]
        assert max(picture.size) <= int(name)
        assert max(picture.size) <= max(image["width"], image["height"])
        assert has_no_metadata(picture)


@pytest.mark.gen_test
async def test_nobody_is_ever_late(data: Path, mongodb_uri: str) -> None:
    """A client that connects before, during or after processing gets the current state, then all later updates."""
    async with Server(data, **settings(data, mongodb_uri)) as server:
        async with Api(server.url) as api:
            await api.sign_up()
            dream = await api.json("POST", "/api/dreams", {"title": "rain"}, status=201)
            assert dream["status"] == "completed"
            async with Socket.of(api, dream["id"]) as before:
                state = await before.message("image_update")
                assert (state["status"], state["images"]) == ("completed", [])
                await api.add(dream["id"], *(photos.phone_jpeg(orientation=o) for o in (1, 6, 8)))
                await before.message("image_progress", done=1)
                async with Socket.of(api, dream["id"]) as during:
                    state = await during.message("image_update")
                    last = await before.message("image_progress", done=3)
                    final = await before.message("image_update", status="completed", revision=last["revision"])
                    await during.message("image_update", status="completed", revision=last["revision"])
            async with Socket.of(api, dream["id"]) as after:
                state = await after.message("image_update")
                assert state["status"] == "completed"
                assert state["images"] == final["images"]
                assert after.types() == ["connection_established", "image_update"]


@pytest.mark.gen_test
async def test_200_clients_at_once_lose_no_event(data: Path, mongodb_uri: str) -> None:
    """With 200 clients that each upload and listen at once, every client receives the end of its dream."""
    tiny = [photos.small_jpeg(seed) for seed in range(200)]
    async with Server(data, **settings(data, mongodb_uri)) as server:
        async with Api(server.url) as api:
            await api.sign_up()

            async def journey(image: bytes) -> list[Json]:
                dream = await api.dream(image)
                async with Socket.of(api, dream["id"]) as socket:
                    await socket.message("image_update", status="completed")
                    return socket.messages

            for messages in await asyncio.gather(*map(journey, tiny)):
                assert [each["type"] for each in messages[:2]] == ["connection_established", "image_update"]
                assert messages[-1]["status"] == "completed"
                if messages[1]["status"] == "processing":
                    assert "image_progress" in [each["type"] for each in messages]


@pytest.mark.gen_test
async def test_the_same_bytes_again_are_not_rendered_again(data: Path, mongodb_uri: str) -> None:
    """Equal uploads of one owner share files until the last one is deleted; those of another owner have their own."""
    photo = photos.small_jpeg(1)
    async with Server(data, **settings(data, mongodb_uri)) as server:
        async with Api(server.url) as ada, Api(server.url) as bob:
            await ada.sign_up("ada")
            await bob.sign_up("bob")
            first = await ada.finished((await ada.dream(photo))["id"])
            files = pictures(server)
            second = await ada.finished((await ada.dream(photo))["id"])
            assert pictures(server) == files
            assert second["images"][0]["url"] == first["images"][0]["url"]
            theirs = await bob.finished((await bob.dream(photo))["id"])
            assert theirs["images"][0]["url"] != first["images"][0]["url"]
            assert len(pictures(server)) == 2 * len(files)

            await ada.json("DELETE", f"/api/dreams/{first['id']}", status=204)
            await bob.json("DELETE", f"/api/dreams/{theirs['id']}", status=204)
            await until_files(server, files)
            await ada.bytes(second["images"][0]["url"])
            await ada.json("DELETE", f"/api/dreams/{second['id']}", status=204)
            await until_files(server, set())


def pictures(server: Server) -> set[str]:
    """Wait until exactly these files are stored. An upload leaves staging just after its picture is announced."""
    return {name for name in server.files() if name.startswith("media")}


async def until_files(server: Server, wanted: set[str]) -> None:
    await until(lambda: server.files() == wanted, f"the stored files are {wanted}")


@pytest.mark.gen_test
async def test_a_failed_picture_has_a_reason_and_can_be_retried(data: Path, mongodb_uri: str) -> None:
    """An unreadable picture fails alone and with a reason; a retry is a new attempt."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.dream(photos.corrupt_jpeg(), photos.small_jpeg(2), content="ab", positions=[1, 2])
        async with Socket.of(api, dream["id"]) as socket:
            final = await socket.message("image_update", status="completed")
        assert [image["id"] for image in final["images"]] == [2]
        (failed,) = final["failed_images"]
        assert (failed["id"], failed["position"]) == (1, 1)
        assert failed["error"]["code"] == "corrupt"
        assert failed["error"]["message"].endswith(".")
        assert failed["error"]["retryable"] is False
        retry = f"/api/dreams/{dream['id']}/images/1/retry"
        retried = await api.json("POST", retry, b"", status=202)
        assert retried["images"][0]["attempt"] == 2
        assert retried["status"] == "processing"
        await api.json("POST", f"/api/dreams/{dream['id']}/images/2/retry", b"", status=409)
        again = await api.finished(dream["id"])
        assert again["images"][0]["error"]["code"] == "corrupt"

        alone = await api.finished((await api.dream(photos.corrupt_jpeg()))["id"])
        assert alone["status"] == "failed"
        assert await api.call("GET", f"/api/dreams/{alone['id']}/images/1/original"), "the upload is kept for a retry"


@pytest.mark.gen_test
async def test_people_take_turns(data: Path, mongodb_uri: str) -> None:
    """One person's thirty photos do not delay another person's single one."""
    many = [photos.phone_jpeg(size=(4032, 3000 - n)) for n in range(30)]
    async with (
        Server(data, **settings(data, mongodb_uri), images__workers=1) as server,
        Api(server.url) as ada,
        Api(server.url) as bob,
    ):
        await ada.sign_up("ada")
        await bob.sign_up("bob")
        album = await ada.dream(*many)
        single = await bob.dream(photos.small_jpeg(1))
        async with Socket.of(bob, single["id"]) as socket:
            await socket.message("image_update", status="completed")
        done = [image["status"] for image in (await ada.get(album["id"]))["images"]].count("completed")
        assert done < 30, "the album is still being processed"
        assert (await ada.finished(album["id"]))["status"] == "completed"
