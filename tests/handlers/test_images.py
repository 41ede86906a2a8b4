"""The images of a dream over HTTP: real sockets, a real database and a real disk, but no pipeline."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from storage.files import CHUNK
from tests import photos
from tests.client import MULTIPART, Json, multipart
from tests.handlers.conftest import MAX_IMAGES, MAX_UPLOADS, Rest
from tests.handlers.test_dreams import PHOTO, mistakes
from tests.storage.conftest import BOB

NO_ID = "0" * 24


# ---- adding


@pytest.mark.gen_test
@pytest.mark.parametrize("added", [False, True])
async def test_images_are_refused_in_a_form_that_cannot_be_read(rest: Rest, added: bool) -> None:
    """In a new dream and in one that exists: no form is 400, and a file of no accepted format is 415."""
    path = f"/api/dreams/{(await rest.ada.dream())['id']}/images" if added else "/api/dreams"
    await rest.ada.json("POST", path, b"no form", status=400, headers=MULTIPART)
    await rest.ada.json("POST", path, multipart(b"no image"), status=415, headers=MULTIPART)
    assert rest.uploads() == 0


@pytest.mark.gen_test
async def test_an_account_uploads_so_many_images_an_hour(rest: Rest) -> None:
    """However they come; the answer says when to come back."""
    for _ in range(MAX_UPLOADS // 2):
        dream = await rest.ada.dream(PHOTO, photos.small_jpeg(2))
    uploads = rest.uploads()
    for path in ("/api/dreams", f"/api/dreams/{dream['id']}/images"):
        answer = await rest.ada.call("POST", path, multipart(PHOTO), headers=MULTIPART)
        assert (answer.code, int(answer.headers["Retry-After"]) > 0) == (429, True)
    assert rest.uploads() == uploads


@pytest.mark.gen_test
async def test_images_are_added(rest: Rest) -> None:
    """They are numbered on and queued at their positions, or at the end when none are given."""
    dream = await rest.ada.dream(PHOTO, positions=[0], content="rain")
    await rest.ada.add(dream["id"], photos.small_jpeg(2), positions=[2])
    changed = await rest.ada.add(dream["id"], photos.small_jpeg(3))
    assert [(each["id"], each["position"]) for each in changed["images"]] == [(1, 0), (2, 2), (3, 4)]
    assert await rest.ada.get(dream["id"]) == changed
    assert rest.uploads() == 3


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("fields", "images", "field"),
    [
        ({"positions": [5]}, 1, "positions[0]"),
        ({"positions": [0]}, 2, "positions"),
        ({"title": "x"}, 1, "title"),
        ({"tags": ["x"], "mood": "x"}, 1, "mood"),
        ({}, 0, "images"),
    ],
)
async def test_a_wrong_form_adds_nothing(rest: Rest, fields: Json, images: int, field: str) -> None:
    """The answer names the field first in the alphabet, and the uploads are deleted."""
    dream = await rest.ada.dream(content="rain")
    answer = await rest.ada.add(dream["id"], *[PHOTO] * images, status=422, **fields)
    assert mistakes(answer)[0] == field
    assert await rest.ada.get(dream["id"]) == dream
    assert rest.uploads() == 0


@pytest.mark.gen_test
async def test_images_come_as_a_form(rest: Rest) -> None:
    """JSON is refused, since it cannot carry an image."""
    dream = await rest.ada.dream()
    answer = await rest.ada.json("POST", f"/api/dreams/{dream['id']}/images", {"images": []}, status=415)
    assert "multipart/form-data" in answer["detail"]


@pytest.mark.gen_test
@pytest.mark.parametrize("images", [1, MAX_IMAGES + 1])
async def test_images_for_no_dream_are_refused_unread(rest: Rest, images: int) -> None:
    """Another user's dream and a missing one are 404, before any upload is written."""
    dream = await rest.ada.dream()
    await rest.ada.add(NO_ID, *[PHOTO] * images, status=404)
    await rest.api(BOB).add(dream["id"], *[PHOTO] * images, status=404)
    assert not rest.staged.exists() or rest.uploads() == 0


@pytest.mark.gen_test
async def test_a_full_dream_takes_no_image(rest: Rest) -> None:
    """The images that it has count too; the refused uploads are deleted."""
    dream = await rest.ada.dream(PHOTO, photos.small_jpeg(2))
    await rest.ada.add(dream["id"], *[PHOTO] * (MAX_IMAGES - 1), status=413)
    assert rest.uploads() == 2
    await rest.ada.add(dream["id"], *[PHOTO] * (MAX_IMAGES - 2))
    await rest.ada.add(dream["id"], PHOTO, status=413)
    assert rest.uploads() == MAX_IMAGES


@pytest.mark.gen_test
async def test_parallel_uploads_do_not_overfill_a_dream(rest: Rest) -> None:
    """Each of two requests fits alone; one of them gets 409, and its uploads are deleted."""
    dream = await rest.ada.dream(PHOTO)
    path, body = f"/api/dreams/{dream['id']}/images", multipart(PHOTO, PHOTO)
    answers = await asyncio.gather(*[rest.ada.call("POST", path, body, headers=MULTIPART) for _ in range(2)])
    assert sorted(answer.code for answer in answers) in ([201, 409], [201, 413])
    assert len((await rest.ada.get(dream["id"]))["images"]) == MAX_IMAGES
    assert rest.uploads() == MAX_IMAGES


@pytest.mark.gen_test
async def test_a_repeated_key_adds_nothing(rest: Rest) -> None:
    """The answer shows the dream, also when the first request has filled it; another key adds."""
    dream = await rest.ada.dream(PHOTO)
    path = f"/api/dreams/{dream['id']}/images"

    async def add(key: str) -> Any:
        body = multipart(photos.small_jpeg(2))
        return await rest.ada.json("POST", path, body, status=201, headers=MULTIPART | {"Idempotency-Key": key})

    first = await add("k1")
    assert await add("k1") == first
    assert len((await add("k2"))["images"]) == MAX_IMAGES
    assert len((await add("k2"))["images"]) == MAX_IMAGES
    assert rest.uploads() == MAX_IMAGES


# ---- removing and retrying


@pytest.mark.gen_test
async def test_an_image_is_removed(rest: Rest) -> None:
    """The answer is 204, then 404; the log names the image, and the others keep their numbers."""
    dream = await rest.ada.dream(PHOTO, photos.small_jpeg(2))
    path = f"/api/dreams/{dream['id']}/images/1"
    assert (await rest.ada.call("DELETE", path)).code == 204
    assert rest.logged[-1] == f"dream={dream['id']} image=1"
    assert [each["id"] for each in (await rest.ada.get(dream["id"]))["images"]] == [2]
    await rest.ada.json("DELETE", path, status=404)
    await rest.api(BOB).json("DELETE", f"/api/dreams/{dream['id']}/images/2", status=404)


@pytest.mark.gen_test
async def test_a_failed_image_is_retried(rest: Rest) -> None:
    """The answer is 202 with the image queued again; an image that has not failed is 409."""
    dream = await rest.ada.dream(PHOTO)
    path = f"/api/dreams/{dream['id']}/images/1/retry"
    await rest.ada.json("POST", path, status=409)
    await rest.fail()
    assert (await rest.ada.get(dream["id"]))["images"][0]["status"] == "failed"
    retried = await rest.ada.json("POST", path, status=202)
    assert (retried["images"][0]["status"], retried["images"][0]["attempt"]) == ("processing", 2)
    await rest.ada.json("POST", path, status=409)


@pytest.mark.gen_test
@pytest.mark.parametrize(("method", "call"), [("POST", "retry"), ("GET", "original")])
async def test_a_missing_image_is_not_found(rest: Rest, method: str, call: str) -> None:
    """Another number, another dream and another user are all 404."""
    dream = await rest.ada.dream(PHOTO)
    await rest.fail()
    await rest.ada.json(method, f"/api/dreams/{dream['id']}/images/2/{call}", status=404)
    await rest.ada.json(method, f"/api/dreams/{NO_ID}/images/1/{call}", status=404)
    await rest.api(BOB).json(method, f"/api/dreams/{dream['id']}/images/1/{call}", status=404)


# ---- the original


@pytest.mark.gen_test
async def test_the_original_is_there_from_the_start(rest: Rest) -> None:
    """While an image is processed its owner can download the upload, byte for byte, under a name of its own."""
    dream = await rest.ada.dream(PHOTO)
    answer = await rest.ada.call("GET", f"/api/dreams/{dream['id']}/images/1/original")
    assert (answer.code, answer.body) == (200, PHOTO)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Content-Length"] == str(len(PHOTO))
    assert answer.headers["Content-Disposition"] == f'attachment; filename="dream-{dream["id"]}-1.jpg"'
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.gen_test
async def test_a_large_original_comes_in_pieces(rest: Rest) -> None:
    """Also one of several reads arrives whole."""
    photo = PHOTO + os.urandom(2 * CHUNK)
    dream = await rest.ada.dream(photo)
    assert (await rest.ada.call("GET", f"/api/dreams/{dream['id']}/images/1/original")).body == photo


@pytest.mark.gen_test
async def test_a_kept_original_comes_from_the_storage(rest: Rest, tmp_path: Path) -> None:
    """Once the image is completed, its upload in staging is no longer needed."""
    (tmp_path / "original").write_bytes(PHOTO)
    dream = await rest.ada.dream(PHOTO)
    await rest.complete(original=tmp_path / "original")
    for path in rest.staged.iterdir():
        path.unlink()
    answer = await rest.ada.call("GET", f"/api/dreams/{dream['id']}/images/1/original")
    assert (answer.code, answer.body) == (200, PHOTO)


@pytest.mark.gen_test
async def test_an_original_may_move_while_its_download_begins(
    rest: Rest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image is completed between the read of the dream and the opening of its upload: the storage has the file."""
    (tmp_path / "original").write_bytes(PHOTO)
    dream = await rest.ada.dream(PHOTO)
    read = rest.staging.read

    async def read_too_late(name: str) -> AsyncIterator[bytes]:
        await rest.complete(original=tmp_path / "original")
        rest.staging.remove(name)
        async for piece in read(name):
            yield piece

    monkeypatch.setattr(rest.staging, "read", read_too_late)
    answer = await rest.ada.call("GET", f"/api/dreams/{dream['id']}/images/1/original")
    assert (answer.code, answer.body) == (200, PHOTO)


@pytest.mark.gen_test
async def test_an_original_that_was_not_kept_is_not_found(rest: Rest) -> None:
    """With `keep_originals` off, a completed image has none."""
    dream = await rest.ada.dream(PHOTO)
    await rest.complete()
    answer = await rest.ada.json("GET", f"/api/dreams/{dream['id']}/images/1/original", status=404)
    assert answer["detail"] == "The server did not keep the original."


@pytest.mark.gen_test
async def test_a_lost_upload_is_not_found(rest: Rest) -> None:
    """Somebody deleted the file by hand: the answer is 404, before any header of a download."""
    dream = await rest.ada.dream(PHOTO)
    for path in rest.staged.iterdir():
        path.unlink()
    answer = await rest.ada.json("GET", f"/api/dreams/{dream['id']}/images/1/original", status=404)
    assert answer["detail"] == "The uploaded file is no longer on the server."
