"""Who listens to which dream, in this process: each listener has a mailbox that holds the newest of each kind.

It must not know sockets or the database: it waits for nobody.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec

from handlers import views
from handlers.limits import Window
from handlers.views import Address, Message
from storage.model import Dream, Image

log = logging.getLogger("dreamlog.subscribers")

# Why a mailbox ends, by the names of `handlers/session.py`.
SIGNED_OUT, ELSEWHERE, RESTARTING = "signed_out", "signed_out_elsewhere", "restarting"

# A letter of one dream replaces the waiting one of the same number. `views.news` numbers from 0 up.
HEARTBEAT, STATE, ESTABLISHED = -1, -2, -3
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Letter:
    """One encoded message. Mailboxes share it."""

    text: bytes
    dream_id: str = ""
    revision: int = 0  # of the dream, where the message tells one
    last: bool = False  # nothing more will come of this dream


class Mailbox:
    """What waits for one connection: at most the newest letter of each key, in the order of last arrival."""

    __slots__ = ("_held", "_known", "_on_mail", "_replies", "_waiting", "ended", "host", "session", "user")

    def __init__(self, user: str, session: str, host: str, on_mail: Callable[[], None]) -> None:
        """`user` is "" as long as nobody has signed in, `host` what this client's addresses begin with.

        `on_mail` is called with each arrival and with the end; it must not raise or wait.
        """
        self.user = user
        self.session = session
        self.host = host
        self.ended = ""  # why this mailbox was closed from our side: nothing comes any more
        self._on_mail = on_mail
        self._waiting: dict[Key, Letter] = {}
        self._held: dict[str, dict[Key, Letter]] = {}  # of dreams whose state is still being read
        self._known: dict[str, int] = {}  # dream -> the newest revision that came for it
        self._replies = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, most: int) -> list[Letter]:
        """Up to `most` of those that wait, the oldest first."""
        waiting = self._waiting
        if len(waiting) > most:
            return [waiting.pop(key) for key in list(islice(waiting, most))]
        if waiting:
            self._waiting = {}  # an emptied dict keeps the room of its fullest hour
        return list(waiting.values())

    def send(self, message: Message, heartbeat_of: str = "") -> None:
        """The connection's own message, to its own client; a newer heartbeat of a dream replaces the older."""
        self._replies += 1
        key = (heartbeat_of, HEARTBEAT) if heartbeat_of else ("", self._replies)
        self._waiting.pop(key, None)
        self._waiting[key] = Letter(msgspec.json.encode(message))
        self._on_mail()

    def hold(self, dream_id: str) -> None:
        """The dream's state is about to be read: what comes for it waits for `opened`."""
        self._known.setdefault(dream_id, 0)
        self._held[dream_id] = {}

    def post(self, news: Sequence[tuple[int, Letter]]) -> None:
        """All that one change of a dream says; nothing when this listener knows as much or more."""
        dream_id, revision = news[0][1].dream_id, news[0][1].revision
        if revision <= self._known.get(dream_id, revision):
            return
        self._known[dream_id] = revision
        held = self._held.get(dream_id)
        letters = self._waiting if held is None else held
        for number, letter in news:
            _put(letters, (dream_id, number), letter)
        if held is None:
            self._on_mail()

    def opened(self, state: Letter, established: Message | None) -> None:
        """The state goes first, then what was held back and is newer; what is not newer than the state is dropped."""
        dream_id, revision = state.dream_id, state.revision
        news = [key for key in self._waiting if key[0] == dream_id and key[1] >= 0]
        for key in news:
            if self._waiting[key].revision <= revision:
                del self._waiting[key]
        # These two keep their places: nothing may come between them, however slow the client is.
        if established is not None:
            self._waiting[dream_id, ESTABLISHED] = Letter(msgspec.json.encode(established))
        self._waiting[dream_id, STATE] = state
        for key, letter in self._held.pop(dream_id, {}).items():
            if letter.revision > revision:
                _put(self._waiting, key, letter)
        self._known[dream_id] = max(revision, self._known.get(dream_id, 0))
        self._on_mail()

    def forget(self, dream_id: str) -> None:
        """Nothing more of this dream, not even what waits."""
        self._known.pop(dream_id, None)
        self._held.pop(dream_id, None)
        for key in [key for key in self._waiting if key[0] == dream_id]:
            del self._waiting[key]

    def dreams(self) -> list[str]:
        return list(self._known)

    def end(self, why: str) -> None:
        self._waiting.clear()
        self._held.clear()
        self.ended = why
        self._on_mail()


def _put(letters: dict[Key, Letter], key: Key, letter: Letter) -> None:
    letters.pop(key, None)  # so that a replacement moves to the end: a dream's revisions only grow on the wire
    letters[key] = letter


class Subscribers:
    """The registry: dreams and accounts to mailboxes."""

    def __init__(
        self,
        *,
        address: Callable[[str], Address],
        connections: int,
        messages: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """At most `connections` of one account at a time and `messages` from it in a minute; 0 is no limit."""
        self.closing = False
        self._address = address
        self.most = connections
        self._messages = Window(messages, 60, time.monotonic)
        self._clock = clock
        self._dreams: dict[str, set[Mailbox]] = {}
        self._users: dict[str, set[Mailbox]] = {}  # those of nobody yet are under ""

    def __len__(self) -> int:
        """How many connections there are."""
        return sum(map(len, self._users.values()))

    # ---- dreams

    def add(self, dream_id: str, mailbox: Mailbox) -> None:
        """From now on nothing is missed: read the dream, then call `show`. Adding twice shows the state again."""
        mailbox.hold(dream_id)
        self._dreams.setdefault(dream_id, set()).add(mailbox)

    def show(self, dream: Dream, mailbox: Mailbox, established: Message | None = None) -> None:
        """The state that was read after `add`, and then the news that came meanwhile."""
        state = views.image_update(dream, self._address(mailbox.host), self._clock())
        mailbox.opened(Letter(msgspec.json.encode(state), dream.id, dream.revision), established)

    def remove(self, dream_id: str, mailbox: Mailbox) -> None:
        _drop(self._dreams, dream_id, mailbox)
        mailbox.forget(dream_id)

    def discard(self, mailbox: Mailbox) -> None:
        """It leaves every dream; what waits in it may still be delivered."""
        for dream_id in mailbox.dreams():
            _drop(self._dreams, dream_id, mailbox)

    def publish(self, dream: Dream, image: Image | None) -> None:
        """Tell the listeners what a write has changed. Never raises: the write itself has succeeded."""
        letters: dict[str, list[tuple[int, Letter]]] = {}
        # The set is let go of first: of a deleted dream there is nothing more to tell.
        mailboxes = self._dreams.pop(dream.id, set()) if dream.deleted else self._dreams.get(dream.id, set())
        try:
            for mailbox in mailboxes:
                if mailbox.host not in letters:
                    letters[mailbox.host] = self._letters(dream, image, mailbox.host)
                mailbox.post(letters[mailbox.host])
        except Exception:
            log.exception("a change could not be told")

    def _letters(self, dream: Dream, image: Image | None, host: str) -> list[tuple[int, Letter]]:
        return [
            (number, Letter(msgspec.json.encode(message), dream.id, dream.revision, dream.deleted))
            for number, message in views.news(dream, image, self._address(host), self._clock())
        ]

    # ---- accounts

    def join(self, mailbox: Mailbox) -> bool:
        """False when the mailbox's user has as many connections as one may have."""
        theirs = self._users.get(mailbox.user, set())
        if mailbox.user and 0 < self.most <= len(theirs):
            return False
        self._users.setdefault(mailbox.user, set()).add(mailbox)
        return True

    def leave(self, mailbox: Mailbox) -> None:
        _drop(self._users, mailbox.user, mailbox)

    def take_message(self, user: str) -> float:
        """0 when the account may send one more message, which then counts; else the seconds until it may."""
        return self._messages.take(user)

    def sign_out(self, user: str, session: str | None) -> None:
        """End all of the user's connections; those of other sessions may come back. None: the account is gone."""
        for mailbox in tuple(self._users.get(user, ())):
            mailbox.end(SIGNED_OUT if session in (None, mailbox.session) else ELSEWHERE)

    def close_all(self) -> None:
        """End every connection; who comes from now on is to be sent away."""
        self.closing = True
        for mailbox in [each for theirs in self._users.values() for each in theirs]:
            mailbox.end(RESTARTING)


def _drop(groups: dict[str, set[Mailbox]], name: str, mailbox: Mailbox) -> None:
    group = groups.get(name, set())
    group.discard(mailbox)
    if not group:
        groups.pop(name, None)
