"""The language that a client prefers: English or Chinese.

Pure: it must not know any sentence.
"""

import re
from typing import Literal

Language = Literal["en", "zh"]

_CHOICE = re.compile(r"(zh|en)(?:-[a-z0-9-]+)?(?:\s*;\s*q\s*=\s*([01](?:\.\d{0,3})?))?", re.ASCII | re.IGNORECASE)


def preferred_language(accept_language: str | None, default: Language) -> Language:
    """English or Chinese, whichever the header prefers; of equals the first. `default` where it names neither."""
    best, quality = default, 0.0
    for part in (accept_language or "").split(","):
        found = _CHOICE.fullmatch(part.strip())
        if found and float(found[2] or 1) > quality:
            best, quality = "zh" if found[1].lower() == "zh" else "en", float(found[2] or 1)
    return best
