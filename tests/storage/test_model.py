"""What is kept, and the states an image goes through: values in, values out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from typing import Any

import pytest

from storage import model
from storage.model import FAILURES, MOVES, PAUSES, TRIES, Dream, IllegalMove, Image, State, Status, Variant

NOW = datetime(2026, 11, 22, 6, 10, 0, 123_000, tzinfo=UTC)

# The whole table, written down a second time: verb -> from -> to.
WAYS = {
    "claim": {"queued": "rendering"},
    "store": {"rendering": "storing"},
    "complete": {"storing": "completed"},
    "release": {"rendering": "queued", "storing": "queued"},
    "fail": {"rendering": "failed", "storing": "failed"},
    "retry": {"failed": "queued"},
}


def image_document(**fields: Any) -> dict[str, Any]:
    queued = {"id": 1, "position": 0, "state": "queued", "attempt": 1, "tries_left": 3, "staged": "aa", "sha256": "ff"}
    return queued | {"bytes": 9, "format": "jpeg"} | fields


def image(**fields: Any) -> Image:
    return Image.from_document(image_document(**fields))


def dream_document(*states: str, **fields: Any) -> dict[str, Any]:
    document = {
        "_id": "665f0c2a9b1e8a0001a1b2c3",
        "owner": "665f0c2a9b1e8a0001a1b2c4",
        "title": "",
        "content": "",
        "dreamed_at": NOW,
        "utc_offset": 0,
        "mood": None,
        "lucidity": None,
        "tags": [],
        "revision": 1,
        "created_at": NOW,
        "updated_at": NOW,
        "images": [image_document(id=number, state=state) for number, state in enumerate(states, 1)],
    }
    return document | fields


def dream(*states: str, **fields: Any) -> Dream:
    return Dream.from_document(dream_document(*states, **fields))


# ---- moves


@pytest.mark.parametrize(("verb", "state"), product(WAYS, State))
def test_every_move_leads_where_the_table_says_or_is_refused(verb: str, state: State) -> None:
    """Each verb from each state: the one state it leads to, or an error."""
    if state in WAYS[verb]:
        assert model.move(verb, state) is State(WAYS[verb][state])
    else:
        with pytest.raises(IllegalMove, match=f"{verb} from {state}"):
            model.move(verb, state)


def test_there_are_no_other_verbs() -> None:
    """A new one has to be thought about here too."""
    assert set(MOVES) == set(WAYS)
    with pytest.raises(KeyError):
        model.move("fly", State.QUEUED)


def test_only_completed_is_an_end() -> None:
    """From every other state there is a way on."""
    left = {state for origins, _ in MOVES.values() for state in origins}
    assert set(State) - left == {State.COMPLETED, State.UNKNOWN}


def test_leased_states_are_those_between_claim_and_end() -> None:
    """What a server has in hand is under a lease, and nothing else."""
    assert {State.RENDERING, State.STORING} == model.LEASED


# ---- statuses


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("queued", "processing"),
        ("rendering", "processing"),
        ("storing", "processing"),
        ("completed", "completed"),
        ("failed", "failed"),
    ],
)
def test_an_images_status_hides_the_inner_states(state: str, status: str) -> None:
    """From outside the first three are processing."""
    assert image(state=state).status is Status(status)


@pytest.mark.parametrize("states", [states for n in range(4) for states in product(State, repeat=n)])
def test_a_dreams_status_follows_from_its_images(states: tuple[State, ...]) -> None:
    """Processing while any is; then failed when all failed and there are some; else completed."""
    working = {State.QUEUED, State.RENDERING, State.STORING, State.UNKNOWN}
    if working & set(states):
        expected = Status.PROCESSING
    elif states and all(state is State.FAILED for state in states):
        expected = Status.FAILED
    else:
        expected = Status.COMPLETED
    assert dream(*states).status is expected


@pytest.mark.parametrize("state", State)
def test_a_dream_waits_while_an_image_is_queued(state: State) -> None:
    """What is in hand already does not wait."""
    assert dream("completed", state).waiting is (state is State.QUEUED)


# ---- failures


def test_failures_are_a_closed_list() -> None:
    """Clients switch on these codes: none goes, none changes whether trying again helps."""
    assert {code: retryable for code, (_, retryable) in FAILURES.items()} == {
        "corrupt": False,
        "too_many_pixels": False,
        "too_many_frames": False,
        "unsupported": False,
        "timed_out": True,
        "out_of_memory": True,
        "crashed": True,
        "storage_unavailable": True,
        "upload_lost": False,
    }


def test_each_failure_has_its_own_sentence() -> None:
    """For people: from a capital letter to a full stop."""
    sentences = [sentence for sentence, _ in FAILURES.values()]
    assert len(set(sentences)) == len(sentences)
    assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in sentences)


@pytest.mark.parametrize("code", FAILURES)
def test_pauses_grow_until_the_tries_are_used_up(code: str) -> None:
    """Three tries for what can pass, one for what cannot."""
    pauses = [model.next_pause(image(tries_left=left), code) for left in (3, 2, 1, 0)]
    assert pauses == ([*PAUSES, None, None] if FAILURES[code][1] else [None] * 4)


def test_there_is_a_longer_pause_after_each_try_but_the_last() -> None:
    """As many pauses as tries that can be followed by another."""
    assert len(PAUSES) == TRIES - 1
    assert list(PAUSES) == sorted(set(PAUSES))


def test_an_unknown_failure_is_an_error() -> None:
    """A code that is not in the list cannot get into the database."""
    with pytest.raises(KeyError):
        model.next_pause(image(), "bored")


# ---- records


def test_an_image_is_read_from_the_least_that_is_stored() -> None:
    """What is not known yet is None or empty."""
    found = image()
    assert (found.variants, found.keys, found.animated) == ({}, [], False)
    later = [found.original, found.recipe, found.folder, found.width, found.placeholder, found.error, found.lease_until]
    assert later == [None] * len(later)


def test_an_images_keys_are_each_file_once() -> None:
    """Variants of a small picture share a file; the original counts too."""
    variant = Variant("f/2048.jpg", "image/jpeg", 20, 10, 99)
    full = image(variants={"320": variant.document(), "2048": variant.document()}, original="f/original.png")
    assert full.keys == ["f/2048.jpg", "f/original.png"]
    assert full.variants["320"] == variant
    assert replace(full, original=None).keys == ["f/2048.jpg"]


def test_an_image_in_another_folder_has_the_same_names_there() -> None:
    """Nothing else of it changes; one without an original has none there."""
    variant = Variant("f/320.jpg", "image/jpeg", 4, 3, 9)
    moved = image(folder="f", variants={"320": variant.document()}, original="f/o.png").in_folder("oss/g")
    assert moved.keys == ["oss/g/320.jpg", "oss/g/o.png"]
    assert (moved.folder, moved.variants["320"]) == ("oss/g", replace(variant, key="oss/g/320.jpg"))
    assert image(folder="f").in_folder("g") == replace(image(), folder="g")


def test_images_stand_in_the_order_of_the_text() -> None:
    """By position; those at one position by age."""
    images = [image_document(id=number, position=position) for number, position in ((1, 5), (2, 0), (3, 5), (4, 0))]
    assert [each.id for each in dream(images=images).images] == [2, 4, 1, 3]


def test_an_image_is_found_by_its_id() -> None:
    """Or is None."""
    found = dream("queued", "failed")
    assert [image and image.state for image in map(found.image, (1, 2, 3, 0))] == ["queued", "failed", None, None]


def test_a_dream_stays_on_its_night() -> None:
    """Whatever the offset, the moment and the dreamer's clock are both kept."""
    found = dream(utc_offset=480).dreamed_at
    assert found == NOW
    assert found.isoformat() == "2026-11-22T14:10:00.123000+08:00"
    assert dream(utc_offset=-210).dreamed_at.isoformat() == "2026-11-22T02:40:00.123000-03:30"
    assert dream().dreamed_at.tzinfo is UTC


def test_milliseconds_are_cut_not_rounded() -> None:
    """As MongoDB cuts them, in whatever zone."""
    zone = timezone(timedelta(hours=8))
    moment = datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=zone)
    assert model.milliseconds(moment) == datetime(2026, 12, 31, 23, 59, 59, 999_000, tzinfo=zone)
    assert model.milliseconds(NOW) == NOW


# ---- documents of other versions


def test_unknown_fields_are_ignored() -> None:
    """Of a dream, an image and a variant: an older server reads what a newer one wrote."""
    file = {"key": "f/2048.jpg", "type": "image/jpeg", "width": 4, "height": 3, "bytes": 9}
    known = dream_document(images=[image_document(variants={"2048": file})])
    newer = dream_document(
        images=[image_document(variants={"2048": file | {"new": 1}}, new=[1])], new={"a": 1}, last="a 0 work b"
    )
    assert Dream.from_document(newer) == Dream.from_document(known)


def test_missing_fields_have_defaults() -> None:
    """Of a dream and an image that have nothing but their ids; null counts as missing."""
    ids = {"_id": "665f0c2a9b1e8a0001a1b2c3", "owner": "665f0c2a9b1e8a0001a1b2c4"}
    found = Dream.from_document(ids | {"images": [{"id": 7}]})
    assert (found.title, found.content, found.tags, found.mood, found.lucidity) == ("", "", (), None, None)
    assert found.created_at == found.updated_at == found.dreamed_at == datetime(1970, 1, 1, tzinfo=UTC)
    assert (found.revision, found.deleted, found.sweep) == (0, False, False)
    [image] = found.images
    assert (image.id, image.position, image.attempt, image.tries_left) == (7, 0, 1, TRIES)
    assert (image.state, image.status, image.variants, image.keys) == (State.UNKNOWN, Status.PROCESSING, {}, [])
    assert (image.staged, image.original, image.error, image.lease_owner, image.lease_until) == (None,) * 5
    nulls = (
        dict.fromkeys(dream_document(), None) | ids | {"images": [dict.fromkeys(image_document(), None) | {"id": 7}]}
    )
    assert Dream.from_document(nulls) == found
    assert Dream.from_document(ids).images == ()


@pytest.mark.parametrize("state", ["archived", "", None])
def test_an_unknown_state_counts_as_processing_and_is_left_alone(state: str | None) -> None:
    """Clients see a picture that is being processed; no verb moves it, and it is no work for this server."""
    [found] = Dream.from_document(dream_document(images=[image_document(state=state)])).images
    assert (found.state, found.status) == (State.UNKNOWN, Status.PROCESSING)
    assert not dream(images=[image_document(state=state)]).waiting
    assert found.state not in model.LEASED
    for verb in MOVES:
        with pytest.raises(IllegalMove):
            model.move(verb, found.state)


def test_an_unknown_code_is_a_failure_like_others() -> None:
    """The code stays as it was written; people read a general sentence, and may try again."""
    found = image(state="failed", error="eaten_by_moths")
    assert (found.error, found.failure) == ("eaten_by_moths", "crashed")
    assert image(state="failed", error="corrupt").failure == "corrupt"
    assert image().failure is None


def test_the_largest_variant_is_found_whatever_the_sizes_are() -> None:
    """By its name, else by its width; a variant without a key is no file."""
    files = {name: {"key": f"f/{name}.jpg", "width": int(name)} for name in ("320", "4096", "2048")}
    assert image(variants=files).largest == image(variants=files).variants["2048"]
    del files["2048"]
    found = image(variants=files | {"8192": {"width": 8192}})
    assert found.largest == Variant("f/4096.jpg", "application/octet-stream", 4096, 0, 0)
    assert image().largest is None
