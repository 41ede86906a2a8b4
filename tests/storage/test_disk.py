"""Errors of the disk, and durable writes."""

import errno
import os
from pathlib import Path

import pytest

from storage.disk import FULL, NO_ROOM, sync, to_storage_error
from storage.errors import NoSpace, Unavailable


@pytest.mark.parametrize("number", FULL)
def test_a_full_disk_is_no_space(number: int) -> None:
    """The disk, a quota and a limit of the process all say the same sentence."""
    error = to_storage_error(OSError(number, os.strerror(number)))
    assert (type(error), str(error)) == (NoSpace, NO_ROOM)


def test_any_other_error_is_unavailable() -> None:
    """The sentence has the system's reason, and no path."""
    error = to_storage_error(OSError(errno.EIO, "Input/output error", "/home/ada/dreams"))
    assert type(error) is Unavailable
    assert "Input/output error" in str(error)
    assert "ada" not in str(error)


def test_files_and_folders_are_synced(tmp_path: Path) -> None:
    """Neither is left open, and a path without a file raises."""
    before = len(os.listdir("/proc/self/fd"))
    sync(tmp_path)
    (tmp_path / "file").touch()
    sync(tmp_path / "file")
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "missing")
