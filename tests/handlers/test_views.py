"""What clients are shown: a dream as JSON, and the WebSocket's messages with exactly their fields."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from handlers import views
from handlers.sentences import failure
from storage.model import FAILURES, Dream, Image, State, User, Variant

ID = "665f0c2a9b1e8a0001a1b2c3"
CREATED = datetime(2026, 11, 22, 6, 10, tzinfo=UTC)
NOW = 1649154799.456


def url_for(key: str) -> str:
    return f"https://dreams.example.org/media/{key}"


def variant(number: int, size: str) -> Variant:
    return Variant(f"f{number}/{size}.jpg", "image/jpeg", 4, 3, 9)


def image(number: int, state: State, **fields: Any) -> Image:
    """As it is in the database after it has come so far."""
    rendered = {
        "variants": {size: variant(number, size).document() for size in ("320", "1024", "2048")},
        "width": 4032,
        "height": 3024,
        "placeholder": "data:image/webp;base64,AA",
    }
    document = {
        "id": number,
        "position": 10 * number,
        "state": state,
        "attempt": 1,
        "tries_left": 3,
        "staged": "secret-staging-name",
        "sha256": "secret-hash",
        "bytes": 15_000_000,
        "format": "jpeg",
        "error": "corrupt" if state is State.FAILED else None,
        "lease_owner": "secret-server/1",
        "original": "secret-original-key",
    }
    known = rendered if state in (State.STORING, State.COMPLETED) else {}
    return Image.from_document(document | known | fields)


def dream(*images: Image, **fields: Any) -> Dream:
    values: dict[str, Any] = {
        "id": ID,
        "owner": "secret-owner",
        "title": "By the sea",
        "content": "我站在雨里。",
        "dreamed_at": CREATED,
        "mood": "calm",
        "lucidity": 0,
        "tags": ("sea", "海"),
        "revision": 7,
        "created_at": CREATED,
        "updated_at": CREATED + timedelta(milliseconds=1),
        "images": images,
        "deleted": False,
        "sweep": False,
    }
    return Dream(**values | fields)


def encoded(message: msgspec.Struct) -> Any:
    """As clients read it."""
    return msgspec.json.decode(msgspec.json.encode(message))


# ---- times and people


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (CREATED, "2026-11-22T06:10:00.000Z"),
        (CREATED.replace(microsecond=999_999), "2026-11-22T06:10:00.999Z"),
        (CREATED.replace(tzinfo=timezone(timedelta(0))), "2026-11-22T06:10:00.000Z"),
        (CREATED.replace(tzinfo=timezone(timedelta(hours=8))), "2026-11-22T06:10:00.000+08:00"),
        (CREATED.replace(tzinfo=timezone(-timedelta(minutes=210))), "2026-11-22T06:10:00.000-03:30"),
        (datetime(1000, 1, 1, tzinfo=UTC), "1000-01-01T00:00:00.000Z"),
    ],
)
def test_times_are_rfc_3339(moment: datetime, text: str) -> None:
    """In milliseconds, with the offset they have; UTC as Z."""
    assert views.rfc3339(moment) == text


def test_a_user_is_shown_by_id_and_name() -> None:
    """Nothing else of the account."""
    assert encoded(views.user(User("1", "Ada", CREATED))) == {"id": "1", "username": "Ada"}


# ---- a dream


def test_a_dream_is_shown_in_full() -> None:
    """Exactly the fields of the contract."""
    assert encoded(views.dream(dream(image(1, State.QUEUED)), url_for)) == {
        "id": ID,
        "title": "By the sea",
        "content": "我站在雨里。",
        "dreamed_at": "2026-11-22T06:10:00.000Z",
        "tags": ["sea", "海"],
        "mood": "calm",
        "lucidity": 0,
        "status": "processing",
        "revision": 7,
        "created_at": "2026-11-22T06:10:00.000Z",
        "updated_at": "2026-11-22T06:10:00.001Z",
        "images": [
            {
                "id": 1,
                "position": 10,
                "status": "processing",
                "url": None,
                "variants": {},
                "width": None,
                "height": None,
                "animated": False,
                "placeholder": None,
                "attempt": 1,
                "error": None,
            }
        ],
    }


def test_a_completed_image_has_its_addresses() -> None:
    """Of each variant; `url` is the largest."""
    found = encoded(views.image(image(1, State.COMPLETED), url_for))
    names = ("320", "1024", "2048")
    assert found["url"] == "https://dreams.example.org/media/f1/2048.jpg"
    assert found["variants"] == {
        name: {"url": url_for(f"f1/{name}.jpg"), "type": "image/jpeg", "width": 4, "height": 3, "bytes": 9}
        for name in names
    }
    assert (found["width"], found["height"], found["status"]) == (4032, 3024, "completed")
    assert found["placeholder"] == "data:image/webp;base64,AA"


def test_no_address_is_shown_before_its_file_is_there() -> None:
    """While files are being stored they are named in the dream already; the placeholder can be shown."""
    found = encoded(views.image(image(1, State.STORING), url_for))
    assert (found["url"], found["variants"], found["status"]) == (None, {}, "processing")
    assert found["placeholder"] is not None


@pytest.mark.parametrize("code", FAILURES)
def test_a_failed_image_has_its_reason(code: str) -> None:
    """Code, sentence, and whether trying again can help."""
    found = encoded(views.image(image(1, State.FAILED, error=code), url_for))
    sentence, retryable = FAILURES[code]
    assert found["error"] == {"code": code, "message": sentence, "retryable": retryable}
    assert (found["status"], found["url"], found["variants"]) == ("failed", None, {})


def test_a_dream_keeps_the_dreamers_clock_and_shows_the_rest_in_utc() -> None:
    """Only `dreamed_at` has an offset."""
    zone = timezone(timedelta(hours=8))
    found = views.dream(
        dream(dreamed_at=CREATED.astimezone(zone), created_at=CREATED.astimezone(zone), updated_at=CREATED), url_for
    )
    assert found.dreamed_at == "2026-11-22T14:10:00.000+08:00"
    assert found.created_at == found.updated_at == "2026-11-22T06:10:00.000Z"


def test_nothing_of_the_inside_is_shown() -> None:
    """Owner, leases, hashes, names in staging, keys of originals."""
    shown = msgspec.json.encode(views.dream(dream(*(image(n, state) for n, state in enumerate(State))), url_for))
    assert b"secret" not in shown
    assert b"queued" not in shown


# ---- messages


@pytest.mark.parametrize(
    ("language", "text"),
    [("zh", "连接已建立，等待图片处理状态更新"), ("en", "Connected. Waiting for image updates.")],
)
def test_connection_established(language: str, text: str) -> None:
    """The origin's text to the letter, or English."""
    message = {"type": "connection_established", "dream_id": ID, "message": text}
    assert encoded(views.connection_established(ID, language)) == message


def test_image_update_while_processing() -> None:
    """The origin's fields, no images yet, and the revision; also when some are completed."""
    for images in ([image(1, State.QUEUED)], [image(1, State.COMPLETED), image(2, State.RENDERING)]):
        assert encoded(views.image_update(dream(*images), url_for, NOW)) == {
            "type": "image_update",
            "dream_id": ID,
            "status": "processing",
            "images": [],
            "timestamp": NOW,
            "revision": 7,
        }


def test_image_update_when_completed() -> None:
    """The completed images by position, with exactly id, url and position; the failed ones in a list of their own."""
    images = [image(2, State.COMPLETED), image(1, State.FAILED), image(3, State.COMPLETED)]
    sentence, retryable = FAILURES["corrupt"]
    assert encoded(views.image_update(dream(*images), url_for, NOW)) == {
        "type": "image_update",
        "dream_id": ID,
        "status": "completed",
        "images": [
            {"id": 2, "url": url_for("f2/2048.jpg"), "position": 20},
            {"id": 3, "url": url_for("f3/2048.jpg"), "position": 30},
        ],
        "timestamp": NOW,
        "revision": 7,
        "failed_images": [
            {"id": 1, "position": 10, "error": {"code": "corrupt", "message": sentence, "retryable": retryable}}
        ],
    }


def test_image_update_when_failed() -> None:
    """The origin API has no images then; another field gives the reason."""
    found = encoded(views.image_update(dream(image(1, State.FAILED)), url_for, NOW))
    assert (found["status"], found["images"]) == ("failed", [])
    assert [each["id"] for each in found["failed_images"]] == [1]
    assert set(found) == {"type", "dream_id", "status", "images", "timestamp", "revision", "failed_images"}


def test_image_update_of_a_dream_without_images() -> None:
    """Completed: there is nothing to wait for."""
    found = encoded(views.image_update(dream(), url_for, NOW))
    assert (found["status"], found["images"], found["failed_images"]) == ("completed", [], [])


def test_image_progress() -> None:
    """The image as the dream shows it, and how many are done, well or not."""
    images = [image(1, State.COMPLETED), image(2, State.FAILED), image(3, State.STORING), image(4, State.QUEUED)]
    found = dream(*images)
    assert encoded(views.image_progress(found, images[1], url_for, NOW)) == {
        "type": "image_progress",
        "dream_id": ID,
        "image": encoded(views.dream(found, url_for))["images"][1],
        "done": 2,
        "total": 4,
        "revision": 7,
        "timestamp": NOW,
    }


# ---- which messages a change causes


def updates(found: Dream, changed: Image | None) -> list[tuple[int, str, Any]]:
    messages = [(number, encoded(message)) for number, message in views.updates(found, changed, url_for, NOW)]
    assert all(message["timestamp"] == NOW and message["dream_id"] == ID for _, message in messages)
    return [(number, message["type"], message.get("status")) for number, message in messages]


@pytest.mark.parametrize("state", [State.QUEUED, State.RENDERING, State.STORING])
def test_an_image_in_progress_updates_the_dreams_state(state: State) -> None:
    """Claimed, stored, released, retried."""
    changed = image(2, state)
    assert updates(dream(image(1, State.COMPLETED), changed), changed) == [(0, "image_update", "processing")]


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED])
def test_the_end_of_one_of_several_images_is_its_progress(state: State) -> None:
    """Under its own number: it does not replace what waits of another image, nor of the dream."""
    changed = image(2, state)
    assert updates(dream(image(1, State.QUEUED), changed), changed) == [(2, "image_progress", None)]


@pytest.mark.parametrize(("state", "status"), [(State.COMPLETED, "completed"), (State.FAILED, "failed")])
def test_the_end_of_the_last_image_is_its_progress_and_then_the_state(state: State, status: str) -> None:
    """In this order, so that a client has a message for every image before the last one."""
    changed = image(1, state)
    assert updates(dream(changed), changed) == [(1, "image_progress", None), (0, "image_update", status)]


@pytest.mark.parametrize(
    ("images", "status"),
    [
        ((), "completed"),
        ((State.QUEUED,), "processing"),
        ((State.COMPLETED,), "completed"),
        ((State.FAILED,), "failed"),
    ],
)
def test_a_change_of_the_dream_itself_is_its_state(images: tuple[State, ...], status: str) -> None:
    """Made, changed, an image added or removed."""
    found = dream(*(image(number, state) for number, state in enumerate(images, 1)))
    assert updates(found, None) == [(0, "image_update", status)]


@pytest.mark.parametrize("state", State)
def test_a_deleted_dream_has_only_its_deletion(state: State) -> None:
    """Nothing else, whatever its images do."""
    changed = image(1, state)
    assert updates(dream(changed, deleted=True), None) == [(0, "dream_deleted", None)]
    assert updates(dream(changed, deleted=True), changed) == [(0, "dream_deleted", None)]


@pytest.mark.parametrize("code", FAILURES)
def test_a_failure_is_in_the_readers_language(code: str) -> None:
    """In a dream, and in the messages about it."""
    failed = image(1, State.FAILED, error=code)
    expected = failure(code, "zh")
    assert expected != failure(code, "en")
    assert encoded(views.dream(dream(failed), url_for, "zh"))["images"][0]["error"]["message"] == expected
    messages = [encoded(message) for _, message in views.updates(dream(failed), failed, url_for, NOW, "zh")]
    assert messages[0]["image"]["error"]["message"] == expected
    assert messages[1]["failed_images"][0]["error"]["message"] == expected
