"""Dreams over HTTP: real sockets, a real database and a real disk, but no pipeline."""

import re
import secrets
from typing import Any

import pytest

from storage.model import Dream
from tests import photos
from tests.client import MULTIPART, Json, multipart
from tests.handlers.conftest import MAX_IMAGES, Rest
from tests.storage.conftest import BOB

PHOTO = photos.small_jpeg(1)


def mistakes(answer: Any) -> list[str]:
    """The fields that a 422 names, in order."""
    return [each["field"] for each in answer["errors"]]


# ---- creating


@pytest.mark.gen_test
async def test_a_dream_is_created_from_json(rest: Rest) -> None:
    """The answer is the dream, as a read shows it; the log names it."""
    fields = {"title": "sea", "content": "waves", "mood": "calm", "lucidity": 2, "tags": ["water"]}
    dream = await rest.ada.json("POST", "/api/dreams", fields, status=201)
    assert {name: dream[name] for name in fields} == fields
    assert (dream["images"], dream["status"], dream["revision"]) == ([], "completed", 1)
    assert await rest.ada.get(dream["id"]) == dream
    assert rest.logged == [f"dream={dream['id']}"] * 2


@pytest.mark.gen_test
@pytest.mark.parametrize("fields", [{}, {"title": " ", "content": "\n"}, {"mood": "calm", "tags": ["x"]}])
async def test_an_empty_dream_is_refused(rest: Rest, fields: Json) -> None:
    """A dream needs a title, content or an image."""
    assert mistakes(await rest.ada.json("POST", "/api/dreams", fields, status=422)) == ["title"]
    body = multipart(**fields)
    assert mistakes(await rest.ada.json("POST", "/api/dreams", body, status=422, headers=MULTIPART)) == ["title"]


@pytest.mark.gen_test
async def test_a_dream_is_created_with_images(rest: Rest) -> None:
    """The images are queued at their positions, and their files stay in staging; an image alone is a dream."""
    dream = await rest.ada.dream(PHOTO, photos.small_jpeg(2), positions=[4, 0], title="", content="rain")
    assert [(each["id"], each["position"], each["status"]) for each in dream["images"]] == [
        (2, 0, "processing"),
        (1, 4, "processing"),
    ]
    assert rest.uploads() == 2
    assert len((await rest.ada.dream(PHOTO, title=""))["images"]) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"positions": [5]}, "positions[0]"),
        ({"positions": [0, 0]}, "positions"),
        ({"lucidity": 9}, "lucidity"),
        ({"positions": [0], "title": "x" * 201}, "title"),
    ],
)
async def test_a_wrong_field_beside_images_keeps_no_file(rest: Rest, fields: Json, field: str) -> None:
    """The answer names the field, and the uploads are deleted."""
    answer = await rest.ada.dream(PHOTO, status=422, content="rain", **fields)
    assert mistakes(answer) == [field]
    assert rest.uploads() == 0


@pytest.mark.gen_test
async def test_too_many_images_are_refused(rest: Rest) -> None:
    """A dream may have so many images, and no more; the refused uploads are deleted."""
    await rest.ada.dream(*[PHOTO] * (MAX_IMAGES + 1), status=413)
    assert rest.uploads() == 0
    await rest.ada.dream(*[PHOTO] * MAX_IMAGES)
    assert rest.uploads() == MAX_IMAGES


@pytest.mark.gen_test
async def test_a_repeated_key_returns_the_first_dream(rest: Rest) -> None:
    """As JSON and as a form: the body of the repetition is not stored."""
    first = await rest.ada.dream(PHOTO, key="k1")
    assert await rest.ada.dream(PHOTO, photos.small_jpeg(2), key="k1", title="other") == first
    key = {"Idempotency-Key": "k2"}
    second = await rest.ada.json("POST", "/api/dreams", {"title": "x"}, status=201, headers=key)
    assert await rest.ada.json("POST", "/api/dreams", {"title": "y"}, status=201, headers=key) == second
    assert (await rest.ada.json("GET", "/api/dreams"))["items"] == [second, first]
    assert rest.uploads() == 1


@pytest.mark.gen_test
async def test_a_deleted_dream_is_not_created_again(rest: Rest) -> None:
    """A key whose dream is gone is 404."""
    dream = await rest.ada.dream(key="k1")
    await rest.ada.json("DELETE", f"/api/dreams/{dream['id']}", status=204)
    await rest.ada.dream(key="k1", status=404)


@pytest.mark.gen_test
async def test_a_json_body_may_not_be_too_long(rest: Rest) -> None:
    """The server refuses it by its length, before it reads it."""
    await rest.ada.json("POST", "/api/dreams", b"x" * 1_000_001, status=413)


# ---- listing


@pytest.mark.gen_test
async def test_pages_follow_each_other(rest: Rest) -> None:
    """The newest dream comes first; `next_cursor` leads to the next page, and is null on the last."""
    made = [(await rest.ada.dream(title=str(number)))["id"] for number in range(3)]
    page = await rest.ada.json("GET", "/api/dreams?limit=2")
    assert [each["id"] for each in page["items"]] == made[:0:-1]
    last = await rest.ada.json("GET", f"/api/dreams?limit=2&cursor={page['next_cursor']}")
    assert [each["id"] for each in last["items"]] == made[:1]
    assert last["next_cursor"] is None
    assert (await rest.api(BOB).json("GET", "/api/dreams"))["items"] == []


@pytest.mark.gen_test
async def test_a_page_has_twenty_dreams_by_default(rest: Rest) -> None:
    """An empty `cursor` means the first page."""
    for number in range(21):
        await rest.ada.json("POST", "/api/dreams", {"title": str(number)}, status=201)
    page = await rest.ada.json("GET", "/api/dreams?cursor=")
    assert (len(page["items"]), page["next_cursor"] is None) == (20, False)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=sea", {"a"}),
        ("q=SEA+calm", {"a"}),
        ("q=", {"a", "b"}),
        ("tag=night", {"b"}),
        ("tag=", {"a", "b"}),
        ("from=2026-11-21", {"b"}),
        ("to=2026-11-20", {"a"}),
        ("from=2026-11-20T00:00:00Z&to=2026-11-21T23:00:00Z", {"a"}),
        ("from=&to=", {"a", "b"}),
        ("q=" + "x" * 200 + "y", {"b"}),
    ],
)
async def test_dreams_are_found(rest: Rest, query: str, found: set[str]) -> None:
    """By words, tag and night; an empty parameter is none, and words beyond 200 characters are ignored."""
    first = {"title": "a", "content": "The sea was calm.", "dreamed_at": "2026-11-20T06:00:00Z"}
    second = {"title": "b", "content": "x" * 200, "dreamed_at": "2026-11-21T23:30:00Z", "tags": ["night"]}
    for each in (first, second):
        await rest.ada.json("POST", "/api/dreams", each, status=201)
    assert {dream["title"] for dream in (await rest.ada.json("GET", f"/api/dreams?{query}"))["items"]} == found


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("limit=0", ["limit"]),
        ("limit=101", ["limit"]),
        ("cursor=x", ["cursor"]),
        ("from=yesterday", ["from"]),
        ("to=2026", ["to"]),
        ("page=2&tags=x", ["page", "tags"]),
        ("page=2&limit=0&to=x", ["page", "limit", "to"]),
        ("q=%ff&tag=%ff", ["q", "tag"]),
    ],
)
async def test_wrong_parameters_are_named(rest: Rest, query: str, fields: list[str]) -> None:
    """Each wrong or unknown parameter is named in a 422."""
    assert mistakes(await rest.ada.json("GET", f"/api/dreams?{query}", status=422)) == fields


# ---- one dream


@pytest.mark.gen_test
async def test_a_dream_is_changed(rest: Rest) -> None:
    """Only the named fields change, and images move."""
    dream = await rest.ada.dream(PHOTO, content="rain", mood="calm")
    changes = {"title": "x", "content": "raindrops", "images": [{"id": 1, "position": 9}]}
    changed = await rest.ada.json("PATCH", f"/api/dreams/{dream['id']}", changes)
    assert (changed["title"], changed["content"], changed["mood"], changed["revision"]) == ("x", "raindrops", "calm", 2)
    assert changed["images"][0]["position"] == 9
    moved = await rest.ada.json("PATCH", f"/api/dreams/{dream['id']}", {"images": [{"id": 1, "position": 0}]})
    assert (moved["images"][0]["position"], moved["content"]) == (0, "raindrops")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"images": [{"id": 1, "position": 5}]}, "images[0].position"),
        ({"content": "x", "images": [{"id": 1, "position": 2}]}, "images[0].position"),
        ({"images": "all"}, "images"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_change_changes_nothing(rest: Rest, changes: Json, field: str) -> None:
    """A position is checked against the new content where there is one, else against the old."""
    dream = await rest.ada.dream(PHOTO, content="rain")
    assert mistakes(await rest.ada.json("PATCH", f"/api/dreams/{dream['id']}", changes, status=422)) == [field]
    assert await rest.ada.get(dream["id"]) == dream


@pytest.mark.gen_test
async def test_a_position_may_lie_behind_a_content_that_became_shorter(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the check and the change: the change is refused as a whole."""
    dream = await rest.ada.dream(PHOTO, content="rain")
    read = rest.dreams.get

    async def read_before_it_is_shortened(owner: str, dream_id: str) -> Dream:
        before = await read(owner, dream_id)
        await rest.dreams.update(owner, dream_id, {"content": "r"})
        return before

    monkeypatch.setattr(rest.dreams, "get", read_before_it_is_shortened)
    changes = {"title": "x", "images": [{"id": 1, "position": 3}]}
    await rest.ada.json("PATCH", f"/api/dreams/{dream['id']}", changes, status=409)
    monkeypatch.undo()
    after = await rest.ada.get(dream["id"])
    assert (after["title"], after["content"], after["images"][0]["position"]) == (dream["title"], "r", 1)


@pytest.mark.gen_test
async def test_a_deleted_dream_is_gone(rest: Rest) -> None:
    """The answer is 204 without a body; every later call is 404."""
    dream = await rest.ada.dream()
    path = f"/api/dreams/{dream['id']}"
    assert (await rest.ada.call("DELETE", path)).body == b""
    assert rest.logged[-1] == f"dream={dream['id']}"
    for method, body in [("GET", None), ("PATCH", {"title": "x"}), ("DELETE", None)]:
        await rest.ada.json(method, path, body, status=404)


@pytest.mark.gen_test
async def test_a_dream_belongs_to_its_owner(rest: Rest) -> None:
    """Another user gets the same 404 as for a dream that does not exist."""
    dream, bob = await rest.ada.dream(), rest.api(BOB)
    for method, body in [("GET", None), ("PATCH", {"title": "x"}), ("DELETE", None)]:
        theirs = await bob.json(method, f"/api/dreams/{dream['id']}", body, status=404)
        assert theirs == await bob.json(method, f"/api/dreams/{secrets.token_hex(12)}", body, status=404)
    assert await rest.ada.get(dream["id"]) == dream


@pytest.mark.gen_test
async def test_json_has_no_etag(rest: Rest) -> None:
    """A dream and the list answer 200 again; only `since` gives 304."""
    dream = await rest.ada.dream()
    for path in ("/api/dreams", f"/api/dreams/{dream['id']}"):
        answer = await rest.ada.call("GET", path, headers={"If-None-Match": "*"})
        assert (answer.code, answer.headers.get("ETag")) == (200, None)


@pytest.mark.gen_test
async def test_a_long_poll_gives_304_or_the_dream(rest: Rest) -> None:
    """A client that has the newest revision gets 304, which the log names too; any other gets the dream."""
    dream = await rest.ada.dream()
    path = f"/api/dreams/{dream['id']}"
    assert (await rest.ada.call("GET", f"{path}?since=1")).code == 304
    assert rest.logged[-1] == f"dream={dream['id']}"
    assert await rest.ada.json("GET", f"{path}?since=0") == dream


@pytest.mark.gen_test
async def test_urls_begin_with_the_host_that_the_client_used(rest: Rest) -> None:
    """In the answer to a creation, in a list and in a single dream."""
    dream = await rest.ada.dream(PHOTO)
    await rest.complete()
    listed = (await rest.ada.json("GET", "/api/dreams"))["items"][0]
    shown = await rest.ada.get(dream["id"])
    assert listed == shown
    assert re.fullmatch(re.escape(rest.ada.url) + "/media/.+", shown["images"][0]["url"])
