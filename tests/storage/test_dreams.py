"""What people do with their dreams, in a real database."""

import asyncio
import base64
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from bson import ObjectId
from tornado.ioloop import IOLoop

from storage.dreams import MAX_KEYS, Dreams, InvalidCursor
from storage.errors import Conflict, NotFound, Unavailable
from storage.model import Draft, Dream, Image, State, Status
from storage.mongo import Mongo
from storage.references import References
from storage.writes import Writes
from tests.storage.conftest import ADA, BOB, DAY, Clock, Database, Published, document, profiled, upload, uploads

CHINA = timezone(timedelta(hours=8))
NEWFOUNDLAND = timezone(-timedelta(hours=3, minutes=30))
FULL = Draft(
    title="By the sea",
    content="我站在雨里。😴",
    dreamed_at=datetime(2026, 11, 22, 6, 10, 0, 999_999, tzinfo=CHINA),
    mood="calm",
    lucidity=0,
    tags=("sea", "海"),
)
NOBODYS = "665f0c2a9b1e8a0001a1b2c3"


def at(day: int, hour: int = 12, **fields: Any) -> Draft:
    return Draft(title=f"{day}/{hour}", dreamed_at=datetime(2026, 11, day, hour, tzinfo=UTC), **fields)


async def titles(dreams: Dreams, owner: str = ADA, **query: Any) -> list[str]:
    page, cursor = await dreams.find(owner, limit=100, **query)
    assert cursor is None
    return [dream.title for dream in page]


async def pages(dreams: Dreams, limit: int, **query: Any) -> list[list[str]]:
    """The ids of each page, from the first to the last."""
    found: list[list[str]] = []
    cursor = None
    while True:
        page, cursor = await dreams.find(ADA, limit=limit, cursor=cursor, **query)
        found.append([dream.id for dream in page])
        if cursor is None:
            return found


# ---- create and get


@pytest.mark.gen_test
async def test_what_create_returns_is_what_get_reads(dreams: Dreams, published: Published) -> None:
    """To the millisecond: what is published is what the database has."""
    made = await dreams.create(ADA, FULL, [upload(7), upload(0)])
    assert made == await dreams.get(ADA, made.id)
    assert repr(made.dreamed_at) == repr((await dreams.get(ADA, made.id)).dreamed_at)
    assert published == [(made, None)]


@pytest.mark.gen_test
async def test_a_dream_is_stored_as_it_was_given(dreams: Dreams, clock: Clock) -> None:
    """Every field, in milliseconds, with the dreamer's offset."""
    made = await dreams.create(ADA, FULL, [])
    assert (made.title, made.content, made.mood, made.lucidity) == ("By the sea", "我站在雨里。😴", "calm", 0)
    assert (made.tags, made.owner, made.revision, made.images) == (("sea", "海"), ADA, 1, ())
    assert made.dreamed_at.isoformat() == "2026-11-22T06:10:00.999000+08:00"
    assert made.created_at == made.updated_at == clock.now.replace(microsecond=123_000)
    assert (made.status, made.deleted, made.sweep) == (Status.COMPLETED, False, False)


@pytest.mark.gen_test
async def test_an_empty_draft_is_dreamed_now(dreams: Dreams, clock: Clock) -> None:
    """What a dream needs, others decide."""
    made = await dreams.create(ADA, Draft(), [])
    assert made.dreamed_at == made.created_at == clock.now.replace(microsecond=123_000)
    assert (made.title, made.content, made.mood, made.lucidity, made.tags) == ("", "", None, None, ())
    assert made == await dreams.get(ADA, made.id)


@pytest.mark.gen_test
async def test_images_of_a_new_dream_are_queued(dreams: Dreams) -> None:
    """Numbered as they came, each with its upload."""
    sent = [upload(3), upload(0), upload(99)]
    made = await dreams.create(ADA, Draft(content="abc"), sent)
    assert [(image.id, image.position) for image in made.images] == [(2, 0), (1, 3), (3, 3)]
    for number, one in enumerate(sent, 1):
        image = made.image(number)
        assert image is not None
        assert (image.staged, image.sha256, image.bytes, image.format) == (one.staged, one.sha256, one.bytes, "jpeg")
        assert (image.state, image.attempt, image.tries_left) == (State.QUEUED, 1, 3)
    assert made.waiting


@pytest.mark.gen_test
async def test_what_is_not_there_is_not_found(dreams: Dreams, published: Published) -> None:
    """By every method, also under an id that is none; nothing is published."""
    for dream_id in (NOBODYS, "", "x", "../", "665f0c", "梦" * 8, "\0", f"{NOBODYS}\n", "$" * 24):
        for call in (
            dreams.get(ADA, dream_id),
            dreams.update(ADA, dream_id, {"title": "x"}),
            dreams.delete(ADA, dream_id),
            dreams.add_images(ADA, dream_id, uploads(1), max_images=5),
            dreams.remove_image(ADA, dream_id, 1),
        ):
            with pytest.raises(NotFound, match="There is no such"):
                await call
    assert published == []


@pytest.mark.gen_test
async def test_owners_never_see_each_others_dreams(dreams: Dreams, published: Published) -> None:
    """Not yours looks like not there, in the same words, and stays as it was."""
    hers = await dreams.create(ADA, FULL, uploads(1), "key")
    published.clear()
    for others, absent in (
        (dreams.get(BOB, hers.id), dreams.get(BOB, NOBODYS)),
        (dreams.update(BOB, hers.id, {"title": "x"}), dreams.update(BOB, NOBODYS, {"title": "x"})),
        (dreams.delete(BOB, hers.id), dreams.delete(BOB, NOBODYS)),
        (
            dreams.add_images(BOB, hers.id, uploads(1), max_images=5),
            dreams.add_images(BOB, NOBODYS, uploads(1), max_images=5),
        ),
        (dreams.remove_image(BOB, hers.id, 1), dreams.remove_image(BOB, NOBODYS, 1)),
    ):
        messages = []
        for call in (others, absent):
            with pytest.raises(NotFound) as caught:
                await call
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
    assert await titles(dreams, BOB) == []
    assert await dreams.first_result(BOB, None, "key") is None
    await dreams.delete_all(BOB)
    assert await dreams.get(ADA, hers.id) == hers
    assert published == []


# ---- find


@pytest.mark.gen_test
async def test_pages_hold_every_dream_once_newest_first(dreams: Dreams) -> None:
    """Also where many were dreamed in the same moment; whatever the page's size."""
    made = [await dreams.create(ADA, at(day, 1 + number % 2), []) for day in (20, 22, 21) for number in range(4)]
    expected = [dream.id for dream in sorted(made, key=lambda dream: (dream.dreamed_at, dream.id), reverse=True)]
    for limit in (1, 2, 3, 5, 11, 12, 100):
        found = await pages(dreams, limit)
        assert [dream_id for page in found for dream_id in page] == expected
        assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
        assert found[-1]


@pytest.mark.gen_test
async def test_pages_hold_far_years(dreams: Dreams) -> None:
    """A millisecond is a millisecond also where a float of seconds is none any more."""
    moments = [
        datetime(year, 6, 1, 0, 0, 0, 123_000, tzinfo=UTC) for year in (1000, 1066, 1492, 1969, 2242, 5000, 8999)
    ]
    made = [(await dreams.create(ADA, Draft(dreamed_at=moment), [])).id for moment in moments for _ in range(3)]
    found = await pages(dreams, 1)
    assert sorted(dream_id for page in found for dream_id in page) == sorted(made)
    assert [(await dreams.get(ADA, page[0])).dreamed_at for page in found[::-3]] == moments


@pytest.mark.gen_test
async def test_a_dream_made_between_two_pages_moves_none(dreams: Dreams) -> None:
    """A cursor is a place, not a number."""
    made = [(await dreams.create(ADA, at(day), [])).id for day in (4, 3, 2, 1)]
    first, cursor = await dreams.find(ADA, limit=2)
    await dreams.create(ADA, at(9), [])
    await dreams.delete(ADA, made[1])
    second, end = await dreams.find(ADA, limit=2, cursor=cursor)
    assert [dream.id for dream in first + second] == made
    assert end is None


@pytest.mark.gen_test
async def test_a_cursor_of_one_owner_shows_another_nothing(dreams: Dreams) -> None:
    """It is a place in time, and each has their own dreams there."""
    for day in (1, 2, 3):
        await dreams.create(ADA, at(day), [])
    _, cursor = await dreams.find(ADA, limit=1)
    assert await dreams.find(BOB, limit=1, cursor=cursor) == ([], None)


@pytest.mark.gen_test
async def test_a_cursor_that_was_made_up_is_refused(dreams: Dreams) -> None:
    """Whatever is in it."""
    inside = ["", ":", "1", "1:", "1:x", f"x:{NOBODYS}", f":{NOBODYS}", "9" * 5000 + f":{NOBODYS}"]
    inside += [f"{number}:{NOBODYS}" for number in (-(10**17), 10**17, 10**30, 10**400)]
    cursors = [base64.urlsafe_b64encode(text.encode()).decode() for text in inside]
    cursors += ["", "x", "!!!", "梦", "\0", "\ud800", "A", "====", base64.b64encode(b"\xff\xfe").decode()]
    for cursor in cursors:
        with pytest.raises(InvalidCursor):
            await dreams.find(ADA, limit=1, cursor=cursor)


@pytest.mark.gen_test
async def test_a_deleted_dream_is_in_no_list(dreams: Dreams) -> None:
    """From the moment of its deletion."""
    made = await dreams.create(ADA, at(1), [])
    await dreams.create(ADA, at(2), [])
    await dreams.delete(ADA, made.id)
    assert await titles(dreams) == ["2/12"]


SEARCHED = [
    Draft(title="By the sea", content="我梦见大海和鲸鱼", tags=("travel", "海边")),
    Draft(title="Exam", content="2 + 2 = 4? (a.k.a. [maths]) ^$ {1,2} a|b a\\b *", tags=("school",)),
    Draft(title="夜", content="Grüße aus Köln\nΑΣΤΕΡΙ", mood="sea"),
    Draft(title="nul", content="a\0b"),
]


FOUND = {
    "": ["By the sea", "Exam", "nul", "夜"],
    "   ": ["By the sea", "Exam", "nul", "夜"],
    "海": ["By the sea"],
    "大海": ["By the sea"],
    "鲸鱼": ["By the sea"],
    "见大": ["By the sea"],
    "海大": [],
    "夜": ["夜"],
    "sea": ["By the sea"],
    "SEA": ["By the sea"],
    "GRÜSSE": [],
    "GRÜßE": ["夜"],
    "köln": ["夜"],
    "αστερι": ["夜"],
    "trav": ["By the sea"],
    "海边 sea 鲸": ["By the sea"],
    "sea school": [],
    ".": ["Exam"],
    ".*": [],
    "*": ["Exam"],
    "+": ["Exam"],
    "(": ["Exam"],
    "[maths])": ["Exam"],
    "[": ["Exam"],
    "^$": ["Exam"],
    "^Exam": [],
    "{1,2}": ["Exam"],
    "a|b": ["Exam"],
    "a\\b": ["Exam"],
    "\\b": ["Exam"],
    "\\": ["Exam"],
    "\\E": [],
    "?": ["Exam"],
    "a\0b": ["nul"],
    "\0": ["nul"],
    "$where": [],
    "(a+)+$": [],
}


@pytest.mark.gen_test
async def test_search_finds_parts_of_words_as_they_stand(dreams: Dreams) -> None:
    """In title, content and tags; Chinese has no spaces, and what is a sign of patterns elsewhere is just a sign."""
    for draft in SEARCHED:
        await dreams.create(ADA, draft, [])
    assert {words: sorted(await titles(dreams, words=words)) for words in FOUND} == FOUND


@pytest.mark.gen_test
async def test_a_tag_is_found_whole(dreams: Dreams) -> None:
    """Not a part of it, nor in another case; with words and pages like any search."""
    for draft in SEARCHED:
        await dreams.create(ADA, draft, [])
    assert await titles(dreams, tag="海边") == ["By the sea"]
    assert await titles(dreams, tag="海") == []
    assert await titles(dreams, tag="Travel") == []
    assert await titles(dreams, tag="travel", words="鲸") == ["By the sea"]
    assert await titles(dreams, tag="travel", words="exam") == []
    assert await titles(dreams, tag="$ne") == []


@pytest.mark.gen_test
async def test_nights_are_by_the_dreamers_own_clock(dreams: Dreams) -> None:
    """A dream of half past midnight in China is of that night, though it is the day before in UTC."""
    early = Draft(title="China", dreamed_at=datetime(2026, 11, 22, 0, 30, tzinfo=CHINA))
    late = Draft(title="Newfoundland", dreamed_at=datetime(2026, 11, 21, 23, 30, tzinfo=NEWFOUNDLAND))
    for draft in (early, late):
        await dreams.create(ADA, draft, [])
    assert late.dreamed_at is not None
    assert early.dreamed_at is not None
    assert early.dreamed_at < late.dreamed_at
    night = date(2026, 11, 22)
    assert await titles(dreams, since=night) == ["China"]
    assert await titles(dreams, until=night - DAY) == ["Newfoundland"]
    assert await titles(dreams, since=night, until=night) == ["China"]
    assert await titles(dreams, since=night - DAY, until=night) == ["Newfoundland", "China"]
    assert await titles(dreams, since=night + DAY) == []


@pytest.mark.gen_test
async def test_moments_bound_a_list_inclusively(dreams: Dreams) -> None:
    """A time with an offset is one moment, wherever the dreamer was; a night may be the other end."""
    for hour in (1, 2, 3):
        await dreams.create(ADA, at(22, hour), [])
    two = datetime(2026, 11, 22, 10, 0, tzinfo=CHINA)
    assert await titles(dreams, since=two) == ["22/3", "22/2"]
    assert await titles(dreams, until=two) == ["22/2", "22/1"]
    assert await titles(dreams, since=two, until=two) == ["22/2"]
    assert await titles(dreams, since=two, until=date(2026, 11, 22)) == ["22/3", "22/2"]


@pytest.mark.gen_test
async def test_pages_of_a_search_hold_what_it_finds(dreams: Dreams) -> None:
    """All conditions and the cursor together."""
    for day in range(1, 13):
        await dreams.create(ADA, at(day, content="海" if day % 2 else "山", tags=("t",)), [])
    query: dict[str, Any] = {"words": "海", "tag": "t", "since": date(2026, 11, 3), "until": date(2026, 11, 9)}
    found = [[(await dreams.get(ADA, one)).title for one in page] for page in await pages(dreams, 2, **query)]
    assert found == [["9/12", "7/12"], ["5/12", "3/12"]]


@pytest.mark.gen_test
async def test_a_page_is_read_by_an_index_in_its_order(dreams: Dreams, database: Database) -> None:
    """No sort of all dreams for each page, nor a look at another's."""
    for owner in (ADA, BOB):
        for day in range(1, 29):
            await dreams.create(owner, at(day), [])
    _, cursor = await dreams.find(ADA, limit=5)
    record = await profiled(database, "find", lambda: dreams.find(ADA, limit=5, cursor=cursor))
    assert record["planSummary"].startswith("IXSCAN { owner: 1, dreamed_at: -1")
    assert not record.get("hasSortStage")
    assert record["docsExamined"] <= 12


# ---- update


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"title": "Inland"}, {"title": "Inland"}),
        ({"content": "$title"}, {"content": "$title"}),
        ({"mood": None, "lucidity": None}, {"mood": None, "lucidity": None}),
        ({"lucidity": 5}, {"lucidity": 5}),
        ({"tags": ()}, {"tags": ()}),
        ({"tags": ("b", "a")}, {"tags": ("b", "a")}),
        ({}, {}),
        (
            {"dreamed_at": datetime(2026, 1, 1, 0, 0, 0, 1_999, tzinfo=NEWFOUNDLAND)},
            {"dreamed_at": datetime(2026, 1, 1, 0, 0, 0, 1_000, tzinfo=NEWFOUNDLAND)},
        ),
    ],
)
async def test_a_change_changes_what_it_names(
    dreams: Dreams, clock: Clock, published: Published, changes: dict[str, Any], shown: dict[str, Any]
) -> None:
    """The rest stays, the revision grows, and the dream is published once as it is now."""
    made = await dreams.create(ADA, FULL, [upload(0)])
    published.clear()
    clock.now += timedelta(minutes=1)
    changed = await dreams.update(ADA, made.id, changes)
    now = clock.now.replace(microsecond=123_000)
    assert changed == replace(made, **shown, revision=2, updated_at=now)
    assert changed.dreamed_at.utcoffset() == shown.get("dreamed_at", made.dreamed_at).utcoffset()
    assert changed == await dreams.get(ADA, made.id)
    assert published == [(changed, None)]


@pytest.mark.gen_test
async def test_a_changed_time_changes_the_night(dreams: Dreams) -> None:
    """Lists by night find it on the new one."""
    made = await dreams.create(ADA, at(1), [])
    await dreams.update(ADA, made.id, {"dreamed_at": datetime(2026, 11, 5, 0, 30, tzinfo=CHINA)})
    assert await titles(dreams, since=date(2026, 11, 5), until=date(2026, 11, 5)) == ["1/12"]
    assert await titles(dreams, until=date(2026, 11, 4)) == []


@pytest.mark.gen_test
async def test_a_shorter_text_takes_its_images_along(dreams: Dreams) -> None:
    """What would lie behind its end lies at its end; the others stay."""
    made = await dreams.create(ADA, Draft(content="0123456789"), [upload(p) for p in (0, 3, 4, 10)])
    changed = await dreams.update(ADA, made.id, {"content": "😴海c"})
    assert [(image.id, image.position) for image in changed.images] == [(1, 0), (2, 3), (3, 3), (4, 3)]
    assert [image.position for image in (await dreams.update(ADA, made.id, {"content": ""})).images] == [0, 0, 0, 0]


@pytest.mark.gen_test
async def test_images_are_moved_within_the_new_text(dreams: Dreams) -> None:
    """In the same step as the text; those that are not named are only kept inside."""
    made = await dreams.create(ADA, Draft(content="0123456789"), [upload(p) for p in (1, 9, 10)])
    changed = await dreams.update(ADA, made.id, {"content": "01234"}, {1: 5, 3: 0})
    assert {image.id: image.position for image in changed.images} == {1: 5, 2: 5, 3: 0}
    changed = await dreams.update(ADA, made.id, {}, {2: 2})
    assert {image.id: image.position for image in changed.images} == {1: 5, 2: 2, 3: 0}
    assert [image.id for image in changed.images] == [3, 2, 1]


@pytest.mark.gen_test
async def test_a_move_that_cannot_be_changes_nothing(dreams: Dreams, published: Published) -> None:
    """An image that is not there, or a place behind the end: neither text nor other images change."""
    made = await dreams.create(ADA, Draft(content="0123"), [upload(1), upload(2)])
    published.clear()
    with pytest.raises(NotFound, match="no image 3 "):
        await dreams.update(ADA, made.id, {"title": "x"}, {1: 0, 3: 0})
    with pytest.raises(Conflict, match="Position 3 lies behind the end of the content, 2 characters"):
        await dreams.update(ADA, made.id, {"content": "01"}, {1: 0, 2: 3})
    assert await dreams.get(ADA, made.id) == made
    assert published == []


@pytest.mark.gen_test
async def test_changes_at_once_are_all_made(dreams: Dreams, published: Published) -> None:
    """Each of another field; each raises the revision, and they are published in order."""
    made = await dreams.create(ADA, Draft(content="0123456789"), [upload(n) for n in range(5)])
    published.clear()
    changes: list[tuple[dict[str, Any], dict[int, int]]] = [
        ({"title": "t"}, {}),
        ({"mood": "m"}, {}),
        ({"lucidity": 3}, {}),
        ({"tags": ("a",)}, {}),
        *(({}, {number: 9}) for number in range(1, 6)),
        ({"content": "9876543210"}, {}),
    ]
    await asyncio.gather(*(dreams.update(ADA, made.id, *change) for change in changes))
    found = await dreams.get(ADA, made.id)
    assert (found.title, found.mood, found.lucidity, found.tags) == ("t", "m", 3, ("a",))
    assert (found.content, [image.position for image in found.images]) == ("9876543210", [9] * 5)
    assert found.revision == 1 + len(changes)
    assert [dream.revision for dream, _ in published] == list(range(2, 2 + len(changes)))


@pytest.mark.gen_test
async def test_no_image_ever_lies_behind_the_end(dreams: Dreams) -> None:
    """However texts get shorter and images move at once."""
    made = await dreams.create(ADA, Draft(content="x" * 30), [upload(30), upload(30)])
    calls = [dreams.update(ADA, made.id, {"content": "x" * length}) for length in range(0, 30, 3)]
    calls += [dreams.update(ADA, made.id, {}, {1: position}) for position in range(0, 30, 3)]
    calls += [dreams.add_images(ADA, made.id, [upload(position)], max_images=50) for position in range(0, 30, 3)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} <= {Dream, Conflict}
    for dream in results:
        if isinstance(dream, Dream):
            assert all(image.position <= len(dream.content) for image in dream.images)
    assert len((await dreams.get(ADA, made.id)).images) == 12


@pytest.mark.gen_test
async def test_an_image_is_moved_or_found_missing(dreams: Dreams) -> None:
    """If it is removed at the same moment, a successful move came first."""
    for _ in range(10):
        made = await dreams.create(ADA, Draft(content="x"), uploads(2))
        moved, removed = await asyncio.gather(
            dreams.update(ADA, made.id, {}, {1: 1}), dreams.remove_image(ADA, made.id, 1), return_exceptions=True
        )
        assert isinstance(removed, Dream)
        if isinstance(moved, Dream):
            assert moved.image(1) is not None
            assert moved.revision < removed.revision
        else:
            assert isinstance(moved, NotFound)


# ---- delete


@pytest.mark.gen_test
async def test_a_deleted_dream_is_gone_for_its_readers_at_once(dreams: Dreams, published: Published) -> None:
    """Also for a second deletion; one deletion is published."""
    made = await dreams.create(ADA, FULL, uploads(1))
    published.clear()
    await dreams.delete(ADA, made.id)
    [(gone, image)] = published
    assert (gone.id, gone.deleted, gone.sweep, gone.revision, image) == (made.id, True, True, 2, None)
    for call in (
        dreams.get(ADA, made.id),
        dreams.delete(ADA, made.id),
        dreams.update(ADA, made.id, {"title": "x"}),
        dreams.add_images(ADA, made.id, uploads(1), max_images=9),
        dreams.remove_image(ADA, made.id, 1),
    ):
        with pytest.raises(NotFound):
            await call
    assert len(published) == 1


@pytest.mark.gen_test
async def test_of_many_deletions_at_once_one_is_published(dreams: Dreams, published: Published) -> None:
    """The others find nothing to delete."""
    made = await dreams.create(ADA, FULL, [])
    published.clear()
    results = await asyncio.gather(*(dreams.delete(ADA, made.id) for _ in range(8)), return_exceptions=True)
    assert sorted(map(str, results)) == ["None"] + ["There is no such dream."] * 7
    assert len(published) == 1


@pytest.mark.gen_test
async def test_delete_all_deletes_each_of_one_owner(dreams: Dreams, published: Published) -> None:
    """Each deletion is published; the dreams of other owners stay."""
    hers = {(await dreams.create(ADA, at(day), [])).id for day in (1, 2, 3)}
    await dreams.create(BOB, at(4), [])
    published.clear()
    await asyncio.gather(dreams.delete_all(ADA), dreams.delete_all(ADA))
    assert await titles(dreams) == []
    assert await titles(dreams, BOB) == ["4/12"]
    assert sorted(dream.id for dream, _ in published) == sorted(hers)


# ---- images


@pytest.mark.gen_test
async def test_added_images_are_queued_behind_the_others(dreams: Dreams, clock: Clock, published: Published) -> None:
    """With the next numbers; a position behind the end means the end."""
    made = await dreams.create(ADA, Draft(content="海😴"), [upload(1)])
    published.clear()
    clock.now += timedelta(minutes=1)
    sent = [upload(2), upload(100)]
    found = await dreams.add_images(ADA, made.id, sent, max_images=3)
    assert [(image.id, image.position) for image in found.images] == [(1, 1), (2, 2), (3, 2)]
    assert [image.staged for image in found.images[1:]] == [one.staged for one in sent]
    assert (found.revision, found.updated_at) == (2, clock.now.replace(microsecond=123_000))
    assert found == await dreams.get(ADA, made.id)
    assert published == [(found, None)]


@pytest.mark.gen_test
async def test_an_image_has_the_size_of_its_header(dreams: Dreams) -> None:
    """From the start, in a new dream and in an old one; None if the header has no size."""
    sent = [replace(upload(), width=4032, height=3024), upload()]
    made = await dreams.create(ADA, Draft(), sent)
    assert [(image.width, image.height) for image in made.images] == [(4032, 3024), (None, None)]
    found = await dreams.add_images(ADA, made.id, sent, max_images=4)
    assert [(image.width, image.height) for image in found.images] == [(4032, 3024), (None, None)] * 2
    assert found == await dreams.get(ADA, made.id)


@pytest.mark.gen_test
async def test_a_dream_has_no_more_images_than_it_may(dreams: Dreams, published: Published) -> None:
    """All of one call or none; removed ones make room."""
    made = await dreams.create(ADA, Draft(), uploads(2))
    published.clear()
    with pytest.raises(Conflict, match="at most 3 images; this one has 2"):
        await dreams.add_images(ADA, made.id, uploads(2), max_images=3)
    assert await dreams.get(ADA, made.id) == made
    assert published == []
    await dreams.remove_image(ADA, made.id, 1)
    found = await dreams.add_images(ADA, made.id, uploads(2), max_images=3)
    assert [image.id for image in found.images] == [2, 3, 4]


@pytest.mark.gen_test
async def test_images_added_at_once_stay_within_the_limit(dreams: Dreams) -> None:
    """As many calls succeed as there is room for, and each image has a number of its own."""
    made = await dreams.create(ADA, Draft(), uploads(2))
    calls = [dreams.add_images(ADA, made.id, uploads(3), max_images=20) for _ in range(10)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, Dream) for result in results) == 6
    assert sum(isinstance(result, Conflict) for result in results) == 4
    found = await dreams.get(ADA, made.id)
    assert sorted(image.id for image in found.images) == list(range(1, 21))
    assert found.revision == 7


@pytest.mark.gen_test
async def test_an_images_number_is_never_used_again(dreams: Dreams) -> None:
    """Neither the last one's nor, when all are gone, the first one's."""
    made = await dreams.create(ADA, Draft(), uploads(2))
    for number in (2, 1):
        await dreams.remove_image(ADA, made.id, number)
    assert [image.id for image in (await dreams.add_images(ADA, made.id, uploads(1), max_images=9)).images] == [3]
    empty = await dreams.create(ADA, Draft(), [])
    assert [image.id for image in (await dreams.add_images(ADA, empty.id, uploads(1), max_images=9)).images] == [1]


@pytest.mark.gen_test
async def test_a_removed_image_is_let_go_of(
    dreams: Dreams, clock: Clock, published: Published, database: Database
) -> None:
    """The dream lacks it; its files and its upload are pending deletions."""
    sent = uploads(3)
    made = await dreams.create(ADA, FULL, sent)
    published.clear()
    clock.now += timedelta(minutes=1)
    found = await dreams.remove_image(ADA, made.id, 2)
    assert [image.id for image in found.images] == [1, 3]
    assert (found.revision, found.sweep, found.updated_at) == (2, True, clock.now.replace(microsecond=123_000))
    assert found == await dreams.get(ADA, made.id)
    assert published == [(found, None)]
    assert [each["staged"] for each in (await document(database, made))["trash"]] == [sent[1].staged]
    with pytest.raises(NotFound, match="no such image"):
        await dreams.remove_image(ADA, made.id, 2)
    assert len(published) == 1


@pytest.mark.gen_test
async def test_of_many_removals_at_once_one_succeeds(dreams: Dreams, database: Database) -> None:
    """The image's files are a pending deletion once."""
    made = await dreams.create(ADA, Draft(), uploads(2))
    calls = (dreams.remove_image(ADA, made.id, 1) for _ in range(8))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, Dream) for result in results) == 1
    assert len((await document(database, made))["trash"]) == 1


# ---- Idempotency-Key


@pytest.mark.gen_test
async def test_the_same_key_makes_one_dream(dreams: Dreams, published: Published) -> None:
    """The second request is answered with the first one's dream, as it is now; its upload is not in it."""
    made = await dreams.create(ADA, FULL, uploads(1), "key")
    changed = await dreams.update(ADA, made.id, {"title": "changed"})
    published.clear()
    assert await dreams.create(ADA, Draft(title="other"), uploads(2), "key") == changed
    assert await dreams.first_result(ADA, None, "key") == changed
    assert await titles(dreams) == ["changed"]
    assert published == []


@pytest.mark.gen_test
async def test_the_same_key_at_once_makes_one_dream(dreams: Dreams, published: Published) -> None:
    """All get the same answer, and one creation is published."""
    made = await asyncio.gather(*(dreams.create(ADA, Draft(title=str(n)), uploads(1), "key") for n in range(10)))
    assert len({dream.id for dream in made}) == 1
    assert await titles(dreams) == [made[0].title]
    assert len(published) == 1


@pytest.mark.gen_test
async def test_a_key_belongs_to_its_owner(dreams: Dreams) -> None:
    """Two people who chose the same one have a dream each."""
    hers, his = await dreams.create(ADA, FULL, [], "key"), await dreams.create(BOB, FULL, [], "key")
    assert hers.id != his.id
    assert (await dreams.create(ADA, FULL, [], "key")).id == hers.id
    assert (await dreams.create(BOB, FULL, [], "key")).id == his.id


@pytest.mark.gen_test
async def test_keys_are_compared_exactly(dreams: Dreams) -> None:
    """Whatever is in them; no key at all is never the same."""
    keys = ["a", "A", "a ", " ", "$x", "é", "e\u0301", ":", NOBODYS, f"{NOBODYS}:key", "x" * 254, "x" * 255]
    made = {key: (await dreams.create(ADA, FULL, [], key)).id for key in keys}
    assert {key: (await dreams.create(ADA, FULL, [], key)).id for key in keys} == made
    unkeyed = [(await dreams.create(ADA, FULL, [])).id for _ in range(2)]
    assert len({*made.values(), *unkeyed}) == len(keys) + 2


@pytest.mark.gen_test
async def test_a_key_is_free_after_a_day(dreams: Dreams, clock: Clock) -> None:
    """Until then it is not."""
    first = await dreams.create(ADA, FULL, [], "key")
    clock.now += DAY - timedelta(seconds=1)
    assert (await dreams.create(ADA, FULL, [], "key")).id == first.id
    clock.now += timedelta(seconds=1)
    second = await dreams.create(ADA, FULL, [], "key")
    assert second.id != first.id
    assert (await dreams.create(ADA, FULL, [], "key")).id == second.id
    assert await dreams.get(ADA, first.id) == first


@pytest.mark.gen_test
async def test_a_key_that_is_free_again_makes_one_dream(dreams: Dreams, clock: Clock) -> None:
    """Also for ten requests at once: none takes the key from the one that has just taken it."""
    for round_number in range(1, 6):
        made = await asyncio.gather(*(dreams.create(ADA, FULL, [], "key") for _ in range(10)))
        assert len({dream.id for dream in made}) == 1
        assert len(await titles(dreams)) == round_number
        clock.now += DAY


@pytest.mark.gen_test
async def test_freeing_an_old_key_takes_no_new_one(dreams: Dreams, clock: Clock, database: Database) -> None:
    """A slow request that read the old use of a key finds a new one, and leaves it."""
    made = await dreams.create(ADA, FULL, [], "key")
    clock.now += DAY

    class Slow(Clock):
        """Between reading the key and freeing it, somebody else frees and takes it."""

        def __call__(self) -> datetime:
            fresh = {"key": ":key", "at": clock.now}
            database.delegate["dreams"].update_one({"_id": ObjectId(made.id)}, {"$set": {"keys": [fresh]}})
            return clock.now

    slow = Dreams(database, writes=Writes(database, changed=lambda *_: None, clock=Slow()))
    assert await slow.first_result(ADA, None, "key") is None
    assert await dreams.first_result(ADA, None, "key") == made


@pytest.mark.gen_test
async def test_a_clock_that_jumped_back_frees_no_key(dreams: Dreams, clock: Clock) -> None:
    """A use in the future is a use."""
    made = await dreams.create(ADA, FULL, [], "key")
    clock.now -= timedelta(hours=1)
    assert (await dreams.create(ADA, FULL, [], "key")).id == made.id


@pytest.mark.gen_test
async def test_the_same_key_adds_images_once(dreams: Dreams, published: Published) -> None:
    """One after the other or at once, also where the first request has filled the dream."""
    made = await dreams.create(ADA, Draft(), uploads(1))
    published.clear()
    calls = (dreams.add_images(ADA, made.id, uploads(2), max_images=3, key="key") for _ in range(8))
    results = await asyncio.gather(*calls)
    assert {len(dream.images) for dream in results} == {3}
    again = await dreams.add_images(ADA, made.id, uploads(2), max_images=3, key="key")
    assert again == await dreams.get(ADA, made.id) == await dreams.first_result(ADA, made.id, "key")
    assert (again.revision, len(published)) == (2, 1)


@pytest.mark.gen_test
async def test_a_key_counts_for_one_call(dreams: Dreams) -> None:
    """The same one may make a dream, and add images to this one and to another."""
    first, second = [await dreams.create(ADA, Draft(), [], key) for key in ("key", "other")]
    for dream in (first, second):
        found = await dreams.add_images(ADA, dream.id, uploads(1), max_images=9, key="key")
        assert (found.id, len(found.images)) == (dream.id, 1)
    assert (await dreams.create(ADA, Draft(), [], "key")).id == first.id


@pytest.mark.gen_test
async def test_a_key_of_images_is_free_after_a_day(dreams: Dreams, clock: Clock) -> None:
    """Then it adds again."""
    made = await dreams.create(ADA, Draft(), [])
    for number in (1, 2):
        await dreams.add_images(ADA, made.id, uploads(1), max_images=9, key="key")
        assert len((await dreams.add_images(ADA, made.id, uploads(1), max_images=9, key="key")).images) == number
        clock.now += DAY


@pytest.mark.gen_test
async def test_keys_do_not_let_a_dream_grow_without_end(dreams: Dreams, database: Database) -> None:
    """The newest are kept."""
    made = await dreams.create(ADA, Draft(), [])
    old = [{"key": f"{made.id}:{number}", "at": made.created_at} for number in range(MAX_KEYS)]
    await database["dreams"].update_one({"_id": ObjectId(made.id)}, {"$set": {"keys": old}})
    await dreams.add_images(ADA, made.id, uploads(1), max_images=9, key="new")
    keys = [each["key"] for each in (await document(database, made))["keys"]]
    assert keys == [each["key"] for each in old[1:]] + [f"{made.id}:new"]


@pytest.mark.gen_test
async def test_a_key_of_a_deleted_dream_makes_no_other(
    dreams: Dreams, references: References, published: Published, clock: Clock
) -> None:
    """Within its day: a late repetition does not bring back a deleted dream, removed or not."""
    made = await dreams.create(ADA, FULL, uploads(1), "key")
    await dreams.delete(ADA, made.id)
    published.clear()
    for _ in range(2):
        with pytest.raises(NotFound, match="has been deleted"):
            await dreams.create(ADA, FULL, [], "key")
        with pytest.raises(NotFound, match="has been deleted"):
            await dreams.first_result(ADA, None, "key")
        async for dream, images in references.pending_deletes():
            await references.confirm_deletes(dream, images)
    assert published == []
    clock.now += DAY
    assert (await dreams.create(ADA, FULL, [], "key")).id != made.id


# ---- revisions and notices


@pytest.mark.gen_test
async def test_every_write_raises_the_revision_and_is_published_once(dreams: Dreams, published: Published) -> None:
    """With what the update returned; reads publish nothing."""
    made = await dreams.create(ADA, Draft(content="abc"), uploads(1))
    await dreams.update(ADA, made.id, {"title": "x"})
    await dreams.update(ADA, made.id, {}, {1: 2})
    await dreams.add_images(ADA, made.id, uploads(1), max_images=9, key="key")
    await dreams.add_images(ADA, made.id, uploads(1), max_images=9, key="key")
    await dreams.remove_image(ADA, made.id, 1)
    await dreams.find(ADA, limit=9, words="x")
    await dreams.get(ADA, made.id)
    await dreams.delete(ADA, made.id)
    assert [(dream.id, dream.revision, image) for dream, image in published] == [
        (made.id, number, None) for number in range(1, 7)
    ]


@pytest.mark.gen_test
async def test_a_write_that_fails_is_not_published(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here because the database is down."""
    monkeypatch.setattr("storage.mongo.SELECTION_TIMEOUT", 50)

    def changed(dream: Dream, image: Image | None) -> None:
        published.append((dream, image))

    async with Mongo("mongodb://127.0.0.1:1", "away") as mongo:
        away = Dreams(mongo.database, writes=Writes(mongo.database, changed=changed))
        results = await asyncio.gather(
            away.create(ADA, FULL, []),
            away.first_result(ADA, None, "key"),
            away.get(ADA, NOBODYS),
            away.find(ADA, limit=1),
            away.update(ADA, NOBODYS, {}),
            away.delete(ADA, NOBODYS),
            away.delete_all(ADA),
            away.add_images(ADA, NOBODYS, uploads(1), max_images=9),
            away.remove_image(ADA, NOBODYS, 1),
            away.indexes(),
            return_exceptions=True,
        )
    assert {type(result) for result in results} == {Unavailable}
    assert published == []


@pytest.mark.gen_test
async def test_indexes_may_be_made_again(dreams: Dreams, database: Database) -> None:
    """At each start; MongoDB removes the keys of removed dreams by itself."""
    await dreams.indexes()
    indexes = await database["dreams"].index_information()
    assert indexes["expires_at_1"]["expireAfterSeconds"] == 0
    assert indexes["owner_1_keys.key_1"]["unique"]


def test_the_real_clock_is_the_default(database: Database, io_loop: IOLoop) -> None:
    """In UTC."""
    dreams = Dreams(database, writes=Writes(database, changed=lambda *_: None))
    before = datetime.now(UTC) - timedelta(seconds=1)
    made = io_loop.run_sync(lambda: dreams.create(ADA, Draft(), []))
    assert made is not None
    assert before < made.created_at <= datetime.now(UTC)
