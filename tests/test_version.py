"""The version stands in one place, and everything else that names it agrees."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

from version import VERSION

ROOT = Path(__file__).parents[1]


def test_the_command_line_prints_the_version() -> None:
    """`server.py --version` is one line that a report of a bug can quote."""
    printed = subprocess.run(
        [sys.executable, ROOT / "server.py", "--version"], capture_output=True, text=True, check=True
    )
    assert printed.stdout == f"Dreamlog {VERSION}\n"


def test_setup_cfg_takes_the_version_from_the_code() -> None:
    """It has no number of its own that could grow old."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", "utf-8")
    assert settings["metadata"]["version"] == "attr: version.VERSION"


def test_the_changelog_begins_with_this_version() -> None:
    """Apart from what is not released yet, and with the day of its release."""
    titles = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    released = [title for title in titles if title != "Unreleased"]
    assert re.fullmatch(re.escape(VERSION) + r" \(\d{4}-\d{2}-\d{2}\)", released[0])
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
