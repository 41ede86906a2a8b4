"""What can go wrong with what is kept. Each carries the sentence that its reader is shown.

Error
├── NotFound      no such thing, or not the caller's: the two look alike
├── Conflict      the thing is not in a state that allows it, or the name is taken
├── NoSpace       the disk is full
└── Unavailable   the database or the file storage does not answer; trying again later can help
    └── Refused   it answers, and refuses us: trying again helps once somebody has changed a setting

It must not know HTTP: `handlers/base.py` turns these into answers.
"""


class Error(Exception):
    """The root; `str(error)` is a sentence for people."""


class NotFound(Error):
    """No such thing, or not the caller's."""


class Conflict(Error):
    """The thing's state does not allow it."""


class NoSpace(Error):
    """No room on disk."""


class Unavailable(Error):
    """The database or the file storage does not answer."""


class Refused(Unavailable):
    """The file storage does not accept who we are, or what we ask for."""
