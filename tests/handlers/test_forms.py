"""What clients send of a dream: every field's limits, and the sentence for each mistake."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from handlers import forms
from handlers.problems import Invalid
from handlers.requests import WaitQuery
from handlers.schemas import fields

CHINESE = "我梦见大海"
FAMILY = "👨‍👩‍👧"  # one picture on the screen, five code points
TIME = "must be a time with its offset, as 2026-11-22T06:10:00Z or 2026-11-22T06:10:00+08:00"
WHOLE = "must be a whole number from 0 (not lucid) to 5"


def refused(check: Any, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        check(*args, **kwargs)
    return [(each.field, str(each.message)) for each in caught.value.errors]


# ---- fields


def test_a_full_dream_is_taken_as_it_is() -> None:
    """Each field, and nothing else."""
    raw = {
        "title": "By the sea",
        "content": "I stood in the rain.",
        "dreamed_at": "2026-11-22T06:10:00Z",
        "mood": "calm",
        "lucidity": 5,
        "tags": ["sea", "rain"],
    }
    assert forms.fields(raw) == raw | {
        "dreamed_at": datetime(2026, 11, 22, 6, 10, tzinfo=UTC),
        "tags": ("sea", "rain"),
    }


def test_only_what_was_sent_is_there() -> None:
    """A change of one field is no change of the others."""
    assert forms.fields({}) == {}
    assert forms.fields({"mood": None}) == {"mood": None}


@pytest.mark.parametrize("raw", [None, [], "text", 5, True, 1.5])
def test_a_body_that_is_no_object_is_refused(raw: Any) -> None:
    """Whatever else JSON can be."""
    assert refused(forms.fields, raw) == [("body", "must be an object")]


@pytest.mark.parametrize(("field", "most"), [("title", 200), ("content", 100_000), ("mood", 50)])
@pytest.mark.parametrize("character", ["x", "梦", "😴", "\u0301"])
def test_a_text_may_be_as_long_as_its_limit(field: str, most: int, character: str) -> None:
    """Counted in code points, whatever they take in UTF-8 or UTF-16."""
    assert forms.fields({field: character * most}) == {field: character * most}
    expected = [(field, f"may have at most {most} characters; this has {most + 1}")]
    assert refused(forms.fields, {field: character * (most + 1)}) == expected


@pytest.mark.parametrize("field", ["title", "content"])
@pytest.mark.parametrize(
    "text", ["", "  spaces\tstay ", "two\nlines", "two\r\nlines", FAMILY, "\0", "<b>&amp;</b>", "$x"]
)
def test_a_text_is_kept_as_it_is(field: str, text: str) -> None:
    """Nothing is trimmed or escaped: positions count in it."""
    assert forms.fields({field: text}) == {field: text}


@pytest.mark.parametrize("field", ["title", "content"])
@pytest.mark.parametrize("value", [None, 5, True, [], {}, 1.5])
def test_a_text_is_a_text(field: str, value: Any) -> None:
    """Null neither: an empty text says the same."""
    assert refused(forms.fields, {field: value}) == [(field, "must be a text")]


@pytest.mark.parametrize("half", ["\ud83d", "a\udfffb"])
@pytest.mark.parametrize("field", ["title", "content", "mood", "tags"])
def test_half_a_surrogate_pair_is_refused(field: str, half: str) -> None:
    """A text cut in the middle of an emoji, which UTF-8 and MongoDB cannot hold."""
    value = [half] if field == "tags" else half
    assert refused(forms.fields, {field: value}) == [(field, "has half of a surrogate pair, which is no character")]


@pytest.mark.parametrize(("value", "mood"), [(None, None), ("", None), ("  ", None), (" calm ", "calm"), ("喜", "喜")])
def test_a_mood_is_a_word_or_nothing(value: Any, mood: str | None) -> None:
    """Spaces around it don't count."""
    assert forms.fields({"mood": value}) == {"mood": mood}


@pytest.mark.parametrize("value", [5, False, ["calm"], {}])
def test_a_mood_is_a_text(value: Any) -> None:
    """No number, no list."""
    assert refused(forms.fields, {"mood": value}) == [("mood", "must be a text")]


@pytest.mark.parametrize("value", [None, 0, 1, 2, 3, 4, 5])
def test_lucidity_goes_from_0_to_5(value: Any) -> None:
    """And null, which is not said."""
    assert forms.fields({"lucidity": value}) == {"lucidity": value}


@pytest.mark.parametrize(
    "value", [-1, 6, 10**30, -(10**30), True, False, 6.0, 2.5, float("nan"), float("inf"), "3", "", [], {}]
)
def test_other_lucidity_is_refused(value: Any) -> None:
    """Neither true, nor a fraction, nor NaN, nor a text that looks like a number."""
    assert refused(forms.fields, {"lucidity": value}) == [("lucidity", WHOLE)]


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ([], ()),
        (["sea"], ("sea",)),
        ([" sea ", "sea", "rain", "sea"], ("sea", "rain")),
        (["海", "😴" * 50], ("海", "😴" * 50)),
        ([f"t{n}" for n in range(20)], tuple(f"t{n}" for n in range(20))),
        (["same"] * 1000, ("same",)),
    ],
)
def test_tags_are_trimmed_and_each_is_there_once(value: Any, tags: tuple[str, ...]) -> None:
    """In the order in which they were given."""
    assert forms.fields({"tags": value}) == {"tags": tags}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "must be a list of texts"),
        ("sea", "must be a list of texts"),
        ({"sea": 1}, "must be a list of texts"),
        ([5], "must be a text"),
        ([None], "must be a text"),
        ([["sea"]], "must be a text"),
        ([""], "must not be empty"),
        (["  "], "must not be empty"),
        (["x" * 51], "may have at most 50 characters; this has 51"),
        ([f"t{n}" for n in range(21)], "there may be at most 20"),
    ],
)
def test_other_tags_are_refused(value: Any, message: str) -> None:
    """At most 20 different ones, of 50 characters."""
    assert refused(forms.fields, {"tags": value}) == [("tags", message)]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T06:10:00Z", datetime(2026, 11, 22, 6, 10, tzinfo=UTC)),
        ("2026-11-22T06:10:00+00:00", datetime(2026, 11, 22, 6, 10, tzinfo=UTC)),
        ("2026-11-22T06:10:00+08:00", datetime(2026, 11, 22, 6, 10, tzinfo=timezone(timedelta(hours=8)))),
        ("2026-11-22T06:10:00-03:30", datetime(2026, 11, 22, 6, 10, tzinfo=timezone(-timedelta(hours=3, minutes=30)))),
        ("2026-11-22T06:10:00.1239Z", datetime(2026, 11, 22, 6, 10, 0, 123_000, tzinfo=UTC)),
        ("2026-11-22T06:10:00.999999999Z", datetime(2026, 11, 22, 6, 10, 0, 999_000, tzinfo=UTC)),
        ("2026-11-22T06:10Z", datetime(2026, 11, 22, 6, 10, tzinfo=UTC)),
        ("2026-11-22t06:10:00z", datetime(2026, 11, 22, 6, 10, tzinfo=UTC)),
        ("2026-11-22 06:10:00Z", datetime(2026, 11, 22, 6, 10, tzinfo=UTC)),
        ("1000-01-01T00:00:00+23:59", datetime(1000, 1, 1, tzinfo=timezone(timedelta(hours=23, minutes=59)))),
        ("8999-12-31T23:59:59-23:59", datetime(8999, 12, 31, 23, 59, 59, tzinfo=timezone(-timedelta(minutes=1439)))),
    ],
)
def test_a_time_keeps_its_offset_and_its_milliseconds(text: str, moment: datetime) -> None:
    """So that a dream stays on its night, and is read as it was written."""
    value = forms.fields({"dreamed_at": text})["dreamed_at"]
    assert value == moment
    assert value.utcoffset() == moment.utcoffset()


def test_no_time_is_no_time() -> None:
    """Null says what leaving it out says."""
    assert forms.fields({"dreamed_at": None}) == {"dreamed_at": None}


@pytest.mark.parametrize(
    "value",
    [
        *("", "yesterday", "2026-11-22", "2026-11-22T06:10:00", "06:10:00Z", "2026-13-22T06:10:00Z"),
        *("2026-02-29T06:10:00Z", "2026-11-22T25:10:00Z", "2026-11-22T06:10:00+24:00", "0999-12-31T23:59:59Z"),
        *("9000-01-01T00:00:00Z", "12026-11-22T06:10:00Z", "-2026-11-22T06:10:00Z", "2026-11-22T06:10:00+08:05:43"),
        *("2026-W47-7T06:10:00Z", "20261122T061000Z", "2026-11-22T06:10:00+08", "2026-11-22T06:10:60Z"),
        *(
            "2026-11-22T06:10:00 08:00",
            "2026-11-22T06:10:00Z\0",
            "２０２６-11-22T06:10:00Z",
            "2026\ud800",
            "1764000000",
        ),
        *(1764000000, 1.5, True, [], {}, float("nan")),
    ],
)
def test_what_is_no_time_with_an_offset_is_refused(value: Any) -> None:
    """A night without an offset could be either of two."""
    assert refused(forms.fields, {"dreamed_at": value}) == [("dreamed_at", TIME)]


def test_unknown_fields_are_named_with_those_that_exist() -> None:
    """A typing error must not lose a text silently."""
    known = "title, content, dreamed_at, mood, lucidity, tags"
    assert refused(forms.fields, {"titel": "x", "": 1}) == [
        ("titel", f"unknown field; allowed are {known}"),
        ("", f"unknown field; allowed are {known}"),
    ]
    also_allowed = frozenset({"positions", "images"})
    expected = [("titel", f"unknown field; allowed are {known}, images, positions")]
    assert refused(forms.fields, {"titel": "x", "images": 5}, also_allowed=also_allowed) == expected


def test_fields_that_are_somebody_elses_are_left_to_them() -> None:
    """They are neither checked nor passed on."""
    assert forms.fields({"title": "t", "images": object()}, also_allowed=frozenset({"images"})) == {"title": "t"}


def test_all_mistakes_are_named_at_once() -> None:
    """In the order of the fields."""
    found = refused(forms.fields, {"title": 5, "lucidity": 6, "colour": "red", "mood": "calm", "tags": [""]})
    assert [field for field, _ in found] == ["title", "lucidity", "colour", "tags"]


def test_mistakes_are_a_sentence_too() -> None:
    """The text of the error is the problem's `detail`."""
    with pytest.raises(Invalid) as caught:
        forms.fields({"title": 5, "lucidity": 6})
    assert str(caught.value) == f"title: must be a text; lucidity: {WHOLE}"


# ---- multipart


def test_a_form_equals_the_same_json() -> None:
    """Numbers become numbers, repeated fields lists."""
    form = {
        "title": ["By the sea"],
        "content": ["x"],
        "dreamed_at": ["2026-11-22T06:10:00Z"],
        "mood": ["calm"],
        "lucidity": ["3"],
        "tags": ["sea", "rain"],
        "positions": ["0", "1"],
    }
    assert forms.from_multipart(form) == {
        "title": "By the sea",
        "content": "x",
        "dreamed_at": "2026-11-22T06:10:00Z",
        "mood": "calm",
        "lucidity": 3,
        "tags": ["sea", "rain"],
        "positions": ["0", "1"],
    }


def test_inputs_that_were_left_empty_say_nothing() -> None:
    """A browser sends every input of a form."""
    form = {"title": [""], "content": [""], "dreamed_at": [""], "mood": [""], "lucidity": [""], "tags": ["", "sea", ""]}
    raw = forms.from_multipart(form)
    assert raw == {"title": "", "content": "", "dreamed_at": None, "mood": None, "lucidity": None, "tags": ["sea"]}
    assert forms.fields(raw)["tags"] == ("sea",)


def test_a_browsers_line_breaks_are_one_character() -> None:
    """Forms send CRLF for each; who counted positions in the page counted one."""
    raw = forms.from_multipart({"content": ["one\r\ntwo\r\n\r\nthree"], "title": ["a\rb\nc"], "tags": ["a\r\nb"]})
    assert raw == {"content": "one\ntwo\n\nthree", "title": "a\rb\nc", "tags": ["a\nb"]}


def test_line_breaks_of_json_stay() -> None:
    """There nobody adds anything."""
    assert forms.fields({"content": "one\r\ntwo"}) == {"content": "one\r\ntwo"}


@pytest.mark.parametrize("text", ["x", "3.0", "１", "٣", "--1", "-", "0x1", "1e0", " 1", "9" * 12, "NaN", "true"])
def test_a_lucidity_that_is_no_number_is_refused(text: str) -> None:
    """As text, by the check that refuses it in JSON."""
    assert refused(forms.fields, forms.from_multipart({"lucidity": [text]})) == [("lucidity", WHOLE)]


@pytest.mark.parametrize("text", ["-1", "6", "99999999999"])
def test_a_lucidity_out_of_range_is_refused(text: str) -> None:
    """As a number."""
    assert refused(forms.fields, forms.from_multipart({"lucidity": [text]})) == [("lucidity", WHOLE)]


def test_fields_given_twice_are_named() -> None:
    """Which of the two counts would be chance."""
    form = {"title": ["a", "b"], "mood": ["x"], "lucidity": ["1", "1"], "tags": ["a", "b"]}
    assert refused(forms.from_multipart, form) == [
        ("title", "may be given once"),
        ("lucidity", "may be given once"),
    ]


def test_an_empty_form_is_an_empty_dream() -> None:
    """Whether that is enough, others decide."""
    assert forms.from_multipart({}) == {}


# ---- positions


@pytest.mark.parametrize(
    ("content", "length"),
    [
        ("", 0),
        ("abc", 3),
        (CHINESE, 5),
        ("😴😴", 2),
        (FAMILY, 5),
        ("e\u0301", 2),
        ("🇨🇳", 2),
        ("👍🏽", 2),
        ("a\n😴b", 4),
    ],
)
def test_positions_count_code_points(content: str, length: int) -> None:
    """Not bytes, not UTF-16 units, not what looks like one character."""
    assert forms.positions([0, length], images=2, length=len(content)) == [0, length]
    expected = [("positions[1]", f"must be a whole number from 0 to {length}, the content's length in code points")]
    assert refused(forms.positions, [0, length + 1], images=2, length=len(content)) == expected


def test_positions_of_a_form_are_texts() -> None:
    """The n-th belongs to the n-th image, in any order."""
    assert forms.positions(["7", "0", "3", "007"], images=4, length=7) == [7, 0, 3, 7]


def test_without_positions_images_go_to_the_end() -> None:
    """None at all, for however many images."""
    assert forms.positions([], images=3, length=9) == [9, 9, 9]
    assert forms.positions([], images=0, length=9) == []


@pytest.mark.parametrize(
    "value",
    [*("-1", "8", "x", "", "1.5", "1e0", "３", "99999999999", "9" * 5000), *(-1, 8, 10**30, True, 1.5), None, [], {}],
)
def test_what_is_no_position_is_refused(value: Any) -> None:
    """By its place in the list."""
    expected = [("positions[1]", "must be a whole number from 0 to 7, the content's length in code points")]
    assert refused(forms.positions, [0, value], images=2, length=7) == expected


@pytest.mark.parametrize(("raw", "images"), [(["0"], 2), (["0"], 0), (["0", "0", "0"], 2)])
def test_there_is_one_position_for_each_image(raw: list[str], images: int) -> None:
    """Neither fewer nor more: they would belong to the wrong ones."""
    message = f"there must be one for each image: {images} images, {len(raw)} positions"
    assert refused(forms.positions, raw, images=images, length=7) == [("positions", message)]


def test_images_are_moved_by_their_ids() -> None:
    """`[{id, position}]` of JSON."""
    assert forms.moved([{"id": 1, "position": 0}, {"id": 7, "position": 5}], length=5) == {1: 0, 7: 5}
    assert forms.moved([], length=5) == {}


@pytest.mark.parametrize(
    "raw",
    [None, {}, "x", 5, [5], [None], [{}], [{"id": 1}], [{"position": 1}], [{"id": 1, "position": 0, "url": "x"}], [[]]],
)
def test_what_is_no_list_of_moves_is_refused(raw: Any) -> None:
    """Every one has both, and nothing else."""
    assert refused(forms.moved, raw, length=5) == [("images", "must be a list of {id, position}")]


@pytest.mark.parametrize("image_id", ["1", None, True, 1.5, [], {}])
def test_an_image_id_is_an_integer(image_id: Any) -> None:
    """As it stands in the dream."""
    assert refused(forms.moved, [{"id": image_id, "position": 0}], length=5) == [("images", "an id is an integer")]


@pytest.mark.parametrize("position", [-1, 6, None, True, 2.5, float("nan"), [], "x", 10**40])
def test_a_move_beyond_the_text_is_refused(position: Any) -> None:
    """By its place in the list."""
    found = refused(forms.moved, [{"id": 1, "position": 0}, {"id": 2, "position": position}], length=5)
    message = "must be a whole number from 0 to 5, the content's length in code points"
    assert found == [("images[1].position", message)]


def test_a_number_without_a_fraction_is_whole() -> None:
    """JSON Schema calls 3.0 an integer, so the server takes it as 3."""
    assert repr(forms.fields({"lucidity": 3.0})) == "{'lucidity': 3}"
    assert repr(forms.moved([{"id": 1.0, "position": 2.0}], length=5)) == "{1: 2}"


def test_moving_one_image_twice_is_refused() -> None:
    """Which of the two counts would be chance."""
    found = refused(forms.moved, [{"id": 1, "position": 0}, {"id": 1, "position": 5}], length=5)
    assert found == [("images", "an id may be there once")]


# ---- lists


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("20", 20), ("100", 100), ("007", 7)])
def test_a_page_has_1_to_100_dreams(text: str, size: int) -> None:
    """As the query says it."""
    assert forms.listing({"limit": text}) == (size, None, None)


@pytest.mark.parametrize("text", ["0", "101", "-1", "", "x", "1.5", "٣", "9" * 50, " 1"])
def test_another_size_is_refused(text: str) -> None:
    """A page of a million dreams neither."""
    assert refused(forms.listing, {"limit": text}) == [("limit", "must be a number from 1 to 100")]


def test_a_bound_is_a_night_or_a_moment() -> None:
    """A plain date is a night by the dreamer's clock, which has no offset."""
    _, since, until = forms.listing({"from": "2026-11-22", "to": "2026-11-22T06:10:00+08:00"})
    assert since == date(2026, 11, 22)
    assert type(since) is date
    assert until == datetime(2026, 11, 21, 22, 10, tzinfo=UTC)
    assert forms.listing({"from": "", "to": ""}) == (20, None, None)


@pytest.mark.parametrize(
    "text", ["2026", "2026-11-31", "2026-W47-7", "22.11.2026", "2026-11-22T06:10:00", "today", "x" * 10]
)
def test_another_bound_is_refused(text: str) -> None:
    """By its parameter's name."""
    message = "must be a night as 2026-11-22 or a time as 2026-11-22T06:10:00Z"
    assert refused(forms.listing, {"from": text}) == [("from", message)]


def test_every_mistake_of_a_list_is_named() -> None:
    """A client can mend all of them at once."""
    found = refused(forms.listing, {"limit": "0", "from": "x", "to": "y", "page": "2"})
    assert [field for field, _ in found] == ["page", "limit", "from", "to"]


# ---- waiting


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({}, None),
        ({"since": "0"}, (0, 0)),
        ({"since": "7", "wait": "0"}, (7, 0)),
        ({"since": "12345678901", "wait": "60"}, (12345678901, 60)),
    ],
)
def test_a_read_with_since_waits(query: dict[str, str], wanted: tuple[int, int] | None) -> None:
    """Without a time to wait it does not; without either it takes any dream."""
    assert forms.waiting(query) == wanted


@pytest.mark.parametrize("text", ["-1", "", "x", "1.5", "٣", "9" * 50, " 1", "1e0"])
def test_what_is_no_revision_and_no_time_is_refused(text: str) -> None:
    """Both are named."""
    assert refused(forms.waiting, {"since": text, "wait": text}) == [
        ("since", "must be the revision that you have, a whole number"),
        ("wait", "must be a whole number of seconds from 0 to 60"),
    ]


def test_the_contract_says_how_large_a_revision_may_be() -> None:
    """So that whatever the contract allows is accepted."""
    most = fields(WaitQuery)["since"]["maximum"]
    assert forms.waiting({"since": str(most)}) == (most, 0)
    assert refused(forms.waiting, {"since": str(most + 1)})[0][0] == "since"


def test_nobody_waits_for_long_or_for_anything() -> None:
    """61 seconds are too many, what is waited for must be said, and a misspelt name would be a read in a loop."""
    assert refused(forms.waiting, {"since": "1", "wait": "61"})[0][0] == "wait"
    assert refused(forms.waiting, {"wait": "5"}) == [("since", "must be there with wait: the revision that you have")]
    assert refused(forms.waiting, {"sinse": "1"}) == [("sinse", "unknown parameter; allowed are since, wait")]
