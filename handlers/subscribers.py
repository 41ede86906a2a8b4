"""The listeners of each dream in this process. A mailbox per connection keeps only the newest message of each kind.

Pure: it must not know sockets or the database, and it never waits.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import msgspec

from handlers import views
from handlers.language import Language
from handlers.messages import ServerMessage
from handlers.rates import Rate
from handlers.views import UrlForHost
from meters import DeliveryMeters
from storage.model import Dream, Image

log = logging.getLogger("dreamlog.subscribers")

# The reasons for which the server ends a mailbox, by their names in `handlers/conversation.py`.
SIGNED_OUT, ELSEWHERE, RESTARTING = "signed_out", "signed_out_elsewhere", "restarting"

# A message replaces the queued one of the same dream and number. `views.updates` uses the numbers from 0 up.
HEARTBEAT, STATE, ESTABLISHED = -1, -2, -3
Key = tuple[str, int]
Carrier = Literal["websocket", "events", "poll"]


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """One encoded message, shared by all mailboxes that receive it."""

    text: bytes
    dream_id: str = ""
    revision: int = 0  # of the dream; 0 when the message carries none
    last: bool = False  # the final message about this dream


class Mailbox:
    """The messages queued for one connection: at most the newest of each key, in the order of their last arrival."""

    __slots__ = (
        "_held",
        "_meters",
        "_notify",
        "_queue",
        "_replies",
        "_revisions",
        "base_url",
        "carrier",
        "ended",
        "language",
        "session",
        "user",
    )

    def __init__(
        self,
        carrier: Carrier,
        base_url: str,
        notify: Callable[[], None],
        language: Language,
        meters: DeliveryMeters,
    ) -> None:
        """Of nobody until the client signs in; `base_url` is the scheme and host that the client used.

        `language` is that of the sentences about failed images.

        The mailbox calls `notify` after each arrival and at its end; `notify` must neither raise nor wait.
        """
        self.carrier = carrier
        self.user = ""
        self.session = ""
        self.base_url = base_url
        self.language: Language = language
        self.ended = ""  # the reason for which the server ended this mailbox; nothing arrives after that
        self._notify = notify
        self._meters = meters
        self._queue: dict[Key, OutboundMessage] = {}
        self._held: dict[str, dict[Key, OutboundMessage]] = {}  # by dream, while the dream's state is being read
        self._revisions: dict[str, int] = {}  # dream -> the newest revision that arrived
        self._replies = 0

    def __len__(self) -> int:
        return len(self._queue)

    def take(self, limit: int) -> list[OutboundMessage]:
        """Remove and return the oldest messages, at most `limit`."""
        queue = self._queue
        if len(queue) > limit:
            self._meters.delivered += limit
            return [queue.pop(key) for key in list(islice(queue, limit))]
        if queue:
            self._queue = {}  # an emptied dict keeps the memory of its largest size
            self._meters.delivered += len(queue)
        return list(queue.values())

    def send(self, message: ServerMessage, heartbeat_of: str = "") -> None:
        """Queue a message of this connection only. A newer heartbeat of a dream replaces the queued one."""
        self._replies += 1
        key = (heartbeat_of, HEARTBEAT) if heartbeat_of else ("", self._replies)
        self._put(self._queue, key, OutboundMessage(msgspec.json.encode(message)))
        self._notify()

    def hold(self, dream_id: str) -> None:
        """Hold back the dream's updates until `deliver_state`, because its state is about to be read."""
        self._revisions.setdefault(dream_id, 0)
        self._held[dream_id] = {}

    def deliver(self, updates: Sequence[tuple[int, OutboundMessage]]) -> None:
        """Queue all messages of one change, unless this mailbox already has its revision or a newer one."""
        dream_id, revision = updates[0][1].dream_id, updates[0][1].revision
        if revision <= self._revisions.get(dream_id, revision):
            return
        self._revisions[dream_id] = revision
        held = self._held.get(dream_id)
        queue = self._queue if held is None else held
        for number, message in updates:
            self._put(queue, (dream_id, number), message)
        if held is None:
            self._notify()

    def deliver_state(self, state: OutboundMessage, established: ServerMessage | None) -> None:
        """Queue the state, then the held updates that are newer. Drop queued updates that are not newer."""
        dream_id, revision = state.dream_id, state.revision
        updates = [key for key in self._queue if key[0] == dream_id and key[1] >= 0]
        for key in updates:
            if self._queue[key].revision <= revision:
                del self._queue[key]
                self._meters.coalesced += 1
        # These two keep their places: no update may come between them, however slow the client is.
        if established is not None:
            self._queue[dream_id, ESTABLISHED] = OutboundMessage(msgspec.json.encode(established))
        self._queue[dream_id, STATE] = state
        for key, message in self._held.pop(dream_id, {}).items():
            if message.revision > revision:
                self._put(self._queue, key, message)
        self._revisions[dream_id] = max(revision, self._revisions.get(dream_id, 0))
        self._notify()

    def forget(self, dream_id: str) -> None:
        """Drop the dream, its queued messages included."""
        self._revisions.pop(dream_id, None)
        self._held.pop(dream_id, None)
        for key in [key for key in self._queue if key[0] == dream_id]:
            del self._queue[key]

    def dreams(self) -> list[str]:
        return list(self._revisions)

    def end(self, reason: str) -> None:
        """Drop every message; the connection reads the reason in `ended`."""
        self._meters.dropped += len(self._queue)
        self._queue.clear()
        self._held.clear()
        self.ended = reason
        self._notify()

    def _put(self, queue: dict[Key, OutboundMessage], key: Key, message: OutboundMessage) -> None:
        # A replacement moves to the end, so that a dream's revisions only grow on the wire.
        if queue.pop(key, None) is not None:
            self._meters.coalesced += 1
        queue[key] = message


class Subscribers:
    """The registry of mailboxes, by dream and by account."""

    def __init__(
        self,
        *,
        url_for_host: UrlForHost,
        connections: int,
        messages: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Each account may have `connections` at a time and send `messages` in a minute; 0 means no limit."""
        self.closing = False
        self.max_connections = connections
        self.deliveries = DeliveryMeters()
        self.closes: Counter[int] = Counter()  # WebSockets that ended, by close code
        self._url_for_host = url_for_host
        self._messages = Rate(messages, 60, time.monotonic)
        self._clock = clock
        self._dreams: dict[str, set[Mailbox]] = {}
        self._users: dict[str, set[Mailbox]] = {}  # mailboxes without a user are under ""

    def __len__(self) -> int:
        """The number of connections."""
        return sum(map(len, self._users.values()))

    def listeners(self) -> Counter[str]:
        """The number of connections by carrier."""
        return Counter(mailbox.carrier for own in self._users.values() for mailbox in own)

    def mailbox(
        self, carrier: Carrier, base_url: str, notify: Callable[[], None], language: Language = "en"
    ) -> Mailbox:
        """A new mailbox, which the registry does not know yet. For the arguments see `Mailbox`."""
        return Mailbox(carrier, base_url, notify, language, self.deliveries)

    # ---- dreams

    def add(self, dream_id: str, mailbox: Mailbox) -> None:
        """Subscribe the mailbox. The caller then reads the dream and calls `show`; it misses no change in between.

        A second `add` shows the state again.
        """
        mailbox.hold(dream_id)
        self._dreams.setdefault(dream_id, set()).add(mailbox)

    def show(self, dream: Dream, mailbox: Mailbox, established: ServerMessage | None = None) -> None:
        """Send the state that was read after `add`, and then the updates that arrived in the meantime."""
        state = views.image_update(dream, self._url_for_host(mailbox.base_url), self._clock(), mailbox.language)
        mailbox.deliver_state(OutboundMessage(msgspec.json.encode(state), dream.id, dream.revision), established)

    def remove(self, dream_id: str, mailbox: Mailbox) -> None:
        _drop(self._dreams, dream_id, mailbox)
        mailbox.forget(dream_id)

    def discard(self, mailbox: Mailbox) -> None:
        """Remove the mailbox from its account and from every dream. Its queued messages may still be delivered."""
        self.leave(mailbox)
        for dream_id in mailbox.dreams():
            _drop(self._dreams, dream_id, mailbox)

    def publish(self, dream: Dream, image: Image | None) -> None:
        """Deliver a change to all listeners of the dream. Never raises, because the write itself has succeeded.

        Listeners with the same base URL and language share their messages. If these cannot be built, the others still
        get theirs.
        """
        # The set of a deleted dream is removed first: nothing follows the deletion, even if its delivery fails.
        mailboxes = self._dreams.pop(dream.id, set()) if dream.deleted else self._dreams.get(dream.id, set())
        audiences: dict[tuple[str, Language], list[Mailbox]] = {}
        for mailbox in mailboxes:
            audiences.setdefault((mailbox.base_url, mailbox.language), []).append(mailbox)
        for (base_url, language), audience in audiences.items():
            try:
                updates = self._updates(dream, image, base_url, language)
                for mailbox in audience:
                    mailbox.deliver(updates)
            except Exception:
                log.exception("some listeners of dream %s miss a change, because it cannot be published", dream.id)

    def _updates(
        self, dream: Dream, image: Image | None, base_url: str, language: Language
    ) -> list[tuple[int, OutboundMessage]]:
        return [
            (number, OutboundMessage(msgspec.json.encode(message), dream.id, dream.revision, dream.deleted))
            for number, message in views.updates(dream, image, self._url_for_host(base_url), self._clock(), language)
        ]

    # ---- accounts

    def join(self, mailbox: Mailbox) -> bool:
        """Count the connection; False when the mailbox's user already has `max_connections`."""
        own = self._users.get(mailbox.user, set())
        if mailbox.user and 0 < self.max_connections <= len(own):
            return False
        self._users.setdefault(mailbox.user, set()).add(mailbox)
        return True

    def leave(self, mailbox: Mailbox) -> None:
        _drop(self._users, mailbox.user, mailbox)

    def take_message(self, user: str) -> float:
        """Count one message and return 0, or return the seconds until the account may send one."""
        return self._messages.take(user)

    def sign_out(self, user: str, session: str | None) -> None:
        """End the user's connections. Those of other sessions may reconnect; None means that the account is deleted."""
        for mailbox in tuple(self._users.get(user, ())):
            mailbox.end(SIGNED_OUT if session in (None, mailbox.session) else ELSEWHERE)

    def close_all(self) -> None:
        """End every connection. From now on `closing` tells handlers to refuse new ones."""
        self.closing = True
        for mailbox in [each for own in self._users.values() for each in own]:
            mailbox.end(RESTARTING)


def _drop(groups: dict[str, set[Mailbox]], name: str, mailbox: Mailbox) -> None:
    group = groups.get(name, set())
    group.discard(mailbox)
    if not group:
        groups.pop(name, None)
