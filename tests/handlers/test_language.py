"""English or Chinese, as the client prefers."""

import pytest

from handlers.language import preferred_language


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "zh"),
        ("", "zh"),
        ("*", "zh"),
        ("fr", "zh"),
        ("en", "en"),
        ("EN-us", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.9,zh-CN;q=0.8", "en"),
        ("zh;q=0.5, en;q=0.6", "en"),
        ("en, zh", "en"),
        ("zh-Hant-TW, en", "zh"),
        ("fr, en;q=0.1", "en"),
        ("en;q=0", "zh"),
        ("en;q=nan, english, en;q=7", "zh"),
        ("de;q=0.9 , en ; q=0.8", "en"),
    ],
)
def test_the_header_decides(header: str | None, expected: str) -> None:
    """English only where the header prefers it to Chinese."""
    assert preferred_language(header, "zh") == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "en"),
        ("fr, *", "en"),
        ("zh", "zh"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.9,zh-CN;q=0.8", "en"),
        ("en;q=0.5, zh;q=0.6", "zh"),
        ("zh;q=0", "en"),
    ],
)
def test_the_default_is_the_callers(header: str | None, expected: str) -> None:
    """HTTP is English unless the header prefers Chinese."""
    assert preferred_language(header, "en") == expected
