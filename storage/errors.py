"""The errors of the storage layer. Each has an English sentence, and a code that names its translations.

Error
├── NotFound      the thing does not exist or belongs to another user: clients cannot tell which
├── Conflict      the state of the thing does not allow the call, or the name is taken
├── NoSpace       the disk is full
├── Incompatible  another version of Dreamlog must open the data first
└── Unavailable   the database or the file storage does not answer; trying again later can help
    └── Refused   the file storage refuses this server: a retry can only help after a setting has changed

It must not know HTTP: `handlers/problems.py` turns these into answers.
"""


class Error(Exception):
    """The root; `str(error)` is an English sentence for logs and the command line.

    `code` names the sentence that a client reads in its own language, `values` are the values of its placeholders.
    """

    code = "failed"

    def __init__(self, sentence: str, *, code: str = "", **values: object) -> None:
        super().__init__(sentence)
        self.code = code or type(self).code
        self.values = values


class NotFound(Error):
    """The thing does not exist or belongs to another user."""

    code = "not_found"


class Conflict(Error):
    """The state of the thing does not allow the call."""

    code = "conflict"


class NoSpace(Error):
    """The disk is full."""

    code = "no_room"


class Incompatible(Error):
    """Another version of Dreamlog wrote the data, and this one must not work on it."""

    code = "incompatible"


class Unavailable(Error):
    """The database or the file storage does not answer."""

    code = "unavailable"


class Refused(Unavailable):
    """The file storage refuses the server's credentials or its request."""

    code = "storage_refuses"
