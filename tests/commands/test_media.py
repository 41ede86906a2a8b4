"""`move-media` and `orphans`: what they change, what they leave alone, and what they say."""

from pathlib import Path

import pytest

import config
from commands.media import move_command, orphans_command
from processing.mover import exclusive_lock
from storage.data_folder import DataFolder
from tests.commands.conftest import Command, Library
from tests.oss_server import OssServer

# ---- move-media


def test_images_move_to_the_other_storage(invoke: Command, library: Library, oss: OssServer) -> None:
    """Copies are named by their dreams; the old files stay for the URLs that are still in use."""
    for folder in ("0a", "0b", "0c"):
        library.add(folder)
    before = library.files()
    result = invoke(move_command, "--to", "oss", **oss.settings(backend="local"))
    assert result.exit_code == 0, result.output
    assert "New images still go to local" in result.output
    assert "Images moved to oss: 3." in result.output
    assert "in 2.0 days" in result.output
    assert len(oss.names()) == 6
    assert all(folder.startswith("oss/") for folder in library.folders())
    assert library.files() == before

    again = invoke(move_command, "--to", "oss", **oss.settings())
    assert (again.exit_code, again.output) == (0, "Images moved to oss: 0.\n")


def test_a_damaged_file_is_named_and_stays(invoke: Command, library: Library, data: Path, oss: OssServer) -> None:
    """The other images move all the same, and the exit code is 1."""
    library.add("0a")
    library.add("0b")
    (data / "media" / "0a" / "original-0a").write_bytes(b"cut")
    result = invoke(move_command, "--to", "oss", **oss.settings())
    assert result.exit_code == 1
    assert "Images moved to oss: 1." in result.output
    assert "These images stay where they are:\n  0a: " in result.output
    assert "0a" in library.folders()


def test_nothing_moves_to_a_storage_that_is_not_set_up(invoke: Command) -> None:
    """The settings of the command must name it."""
    result = invoke(move_command, "--to", "oss")
    assert (result.exit_code, "OSS is not set up in the settings" in result.output) == (1, True)
    assert invoke(move_command, "--to", "tape").exit_code == 2


def test_nothing_moves_to_where_the_running_server_cannot_read(invoke: Command, data: Path, oss: OssServer) -> None:
    """The server must be restarted with OSS first; with it, the move begins."""
    settings = config.load(None, {}, data=data)
    with DataFolder(settings, stores=("local",)):
        result = invoke(move_command, "--to", "oss", **oss.settings())
    assert (result.exit_code, "OSS is not set up in the running server" in result.output) == (1, True)
    with DataFolder(settings, stores=("local", "oss")):
        assert invoke(move_command, "--to", "oss", **oss.settings()).exit_code == 0


# ---- orphans


def test_orphans_are_listed_and_then_removed(invoke: Command, library: Library, data: Path) -> None:
    """Without `--delete` nothing changes; with it, only files that no dream names."""
    library.add("0a")
    (data / "media" / "0f").mkdir()
    (data / "media" / "0f" / "320.jpg").write_bytes(b"nobody's")
    before = library.files()
    result = invoke(orphans_command, "--older-than", "0")
    assert result.output == "0f/320.jpg\nOrphaned files: 1. --delete removes them.\n"
    assert library.files() == before
    result = invoke(orphans_command, "--older-than", "0", "--delete")
    assert result.output == "0f/320.jpg\nOrphaned files removed: 1.\n"
    assert library.files() == before - {"0f/320.jpg"}


def test_files_that_wait_for_the_janitor_are_no_orphans(invoke: Command, library: Library) -> None:
    """Their image is gone, but their URLs may be in use for a while: the janitor knows when it may remove them."""
    library.add("0a", pending_delete=True)
    before = library.files()
    result = invoke(orphans_command, "--older-than", "0", "--delete")
    assert result.output == "Orphaned files removed: 0.\n"
    assert library.files() == before


@pytest.mark.parametrize("hours", ["24", "0.5"])
def test_young_files_are_no_orphans(invoke: Command, library: Library, data: Path, hours: str) -> None:
    """A dream may name them in a moment."""
    (data / "media" / "0f").mkdir(parents=True)
    (data / "media" / "0f" / "320.jpg").write_bytes(b"on its way")
    result = invoke(orphans_command, "--older-than", hours)
    assert result.output == "Orphaned files: 0. --delete removes them.\n"


@pytest.mark.parametrize("hours", ["-5", "nan", "-0.1", "-inf"])
def test_an_age_that_is_no_number_of_hours_is_refused(
    invoke: Command, library: Library, data: Path, hours: str
) -> None:
    """Otherwise a mistyped option would remove files that a running server is about to use."""
    (data / "media" / "young").mkdir(parents=True)
    (data / "media" / "young" / "320.jpg").write_bytes(b"x")
    result = invoke(orphans_command, "--delete", "--older-than", hours)
    assert result.exit_code == 2
    assert "'--older-than': must be a number of hours, 0 or more." in result.output
    assert library.files() == {"young/320.jpg"}


def test_orphans_are_not_removed_during_a_move(invoke: Command, data: Path) -> None:
    """The copies of a move look like orphans until a dream names them; listing files is harmless."""
    data.mkdir()
    with exclusive_lock(data / "moving"):
        result = invoke(orphans_command, "--delete")
        assert (result.exit_code, "already" in result.output) == (1, True)
        assert invoke(orphans_command).exit_code == 0


def test_a_database_without_data_has_no_orphans(invoke: Command) -> None:
    """No server has run yet, so there is nothing to migrate either."""
    result = invoke(orphans_command)
    assert (result.exit_code, result.output) == (0, "Orphaned files: 0. --delete removes them.\n")
