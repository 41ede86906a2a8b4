"""Every sentence of HTTP exists in both languages, and every sentence that somebody names exists."""

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from handlers.language import Language
from handlers.sentences import FAILURES_IN_CHINESE, SENTENCES, TITLES, Sentence, failure, title
from storage.errors import Conflict, NoSpace, NotFound, Refused, Unavailable
from storage.model import FAILURES

ROOT = Path(__file__).parents[2]
# Which argument of a call names the sentence, and which keywords are no values of placeholders.
NAMED_BY = {
    "Sentence": 0,
    "InvalidToken": 0,
    "_Mistake": 0,
    "too_many": 0,
    "_over": 0,
    "Problem": 1,
    "FieldError": 1,
    "refuse": 2,
}
NO_VALUES = {"headers", "code"}
OF_LIMITS = {"most", "minutes", "seconds"}  # `_over` gives these to each
COMPUTED = {"access_token_invalid", "refresh_token_invalid"}  # tokens.py puts these names together


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def named() -> Iterator[tuple[str, str, set[str]]]:
    """Where, which sentence, and the names of the values that it gets."""
    for path in [*(ROOT / "handlers").glob("*.py"), *(ROOT / "storage").glob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                continue
            values = {each.arg for each in call.keywords if each.arg} - NO_VALUES
            at = NAMED_BY.get(call.func.id, 99)
            codes = [each.value for each in call.keywords if each.arg == "code"] + call.args[at : at + 1]
            for code in codes:
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    yield path.name, code.value, OF_LIMITS if call.func.id == "_over" else values


def test_every_sentence_that_is_named_exists() -> None:
    """With exactly the values that its placeholders need."""
    found = list(named())
    assert len(found) > 50, "the search above finds what it looks for"
    for where, name, values in found:
        assert name in SENTENCES, where
        assert placeholders(SENTENCES[name][0]) == values, (where, name)


def test_every_sentence_is_used() -> None:
    """None is left of code that has gone."""
    defaults = {kind.code for kind in (NotFound, Conflict, NoSpace, Unavailable, Refused)}
    assert set(SENTENCES) - {name for _, name, _ in named()} == COMPUTED | (defaults - {name for _, name, _ in named()})


@pytest.mark.parametrize("name", SENTENCES)
def test_both_languages_say_the_same(name: str) -> None:
    """Each in its script and punctuation, with the same placeholders."""
    english, chinese = SENTENCES[name]
    assert placeholders(english) == placeholders(chinese)
    assert english.isascii()
    assert re.search(r"[\u4e00-\u9fff]", chinese)
    assert not re.search(r"[\u4e00-\u9fff][,.:;?!]|[\u4e00-\u9fff][A-Za-z0-9{`]|[A-Za-z0-9}`][\u4e00-\u9fff]", chinese)
    assert english.endswith(".") == chinese.endswith("。") or "reason" in english


def test_values_stand_in_their_places() -> None:
    """Lists joined as each language does."""
    sentence = Sentence("unknown_field", allowed=["title", "tags"])
    assert str(sentence) == "unknown field; allowed are title, tags"
    assert sentence.in_language("zh") == "没有这个字段；可用的字段有 title、tags"
    assert str(Sentence("bad_moves")) == "must be a list of {id, position}"


def test_a_sentence_that_does_not_exist_is_refused() -> None:
    """When the code names it, not when a client gets it."""
    with pytest.raises(KeyError):
        Sentence("no_such_sentence")


@pytest.mark.parametrize(
    ("status", "language", "expected"),
    [
        (404, "en", "Not Found"),
        (404, "zh", "未找到"),
        (418, "zh", "I'm a Teapot"),
    ],
)
def test_a_title_names_the_status(status: int, language: Language, expected: str) -> None:
    """In English by HTTP's own phrase."""
    assert title(status, language) == expected


def test_each_status_that_is_answered_has_a_chinese_title() -> None:
    """Those of the storage's errors, and those that the code names."""
    code = "".join(path.read_text("utf-8") for path in (ROOT / "handlers").glob("*.py"))
    assert set(map(int, re.findall(r"Problem\((\d+)", code))) <= set(TITLES)


def test_each_failure_has_a_sentence_in_both_languages() -> None:
    """The codes are those of the model."""
    assert set(FAILURES_IN_CHINESE) == set(FAILURES)
    assert failure("corrupt", "en") == FAILURES["corrupt"][0]
    assert failure("corrupt", "zh") == "图片已损坏，无法读取。"
