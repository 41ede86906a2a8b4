"""The local disk: durable writes, and its errors as errors of the storage layer.

It must not know which files exist, or why.
"""

import errno
import os
from pathlib import Path

from storage.errors import Error, NoSpace, Unavailable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of the disk, the user's share of it, or `ulimit -f`
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)  # there is no file under that path
NO_ROOM = "There is no room left on the server's disk."


def sync(path: Path) -> None:
    """fsync a file or a folder, so that a power cut cannot undo what was written there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_storage_error(error: OSError) -> Error:
    """The error of the storage layer to raise for `error`: `NoSpace` or `Unavailable`."""
    if error.errno in FULL:
        return NoSpace(NO_ROOM)
    return Unavailable(f"The server's data folder cannot be used: {error.strerror}.")
