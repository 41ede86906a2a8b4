"""The rules that WebSockets, event streams and long polls share: connections, retries, and the life of a mailbox.

It must not know the content of messages or how a carrier sends them.
"""

import asyncio
import random
import time
from typing import Any

from handlers.base import ApiHandler
from handlers.problems import Problem, too_many
from handlers.subscribers import Carrier, OutboundMessage, Subscribers
from storage.dreams import Dreams
from storage.errors import NotFound
from storage.model import Dream
from storage.writes import NO_DREAM

RETRY_AFTER = 30  # seconds, for a connection over the limit: by then the server has noticed which others are dead

COME_BACK = (1, 5)  # seconds; each client waits a random time between the two, which spreads reconnects after a restart

GONE = "gone"  # a mailbox ends so when its client has disconnected or stopped reading


def check_id(dream: Dream, dream_id: str) -> None:
    """Raise `NotFound` when `dream_id` is another spelling of the dream's id, under which no update would arrive."""
    if dream.id != dream_id:
        raise NotFound(NO_DREAM, code="no_dream")


class ListeningHandler(ApiHandler):
    """A request that stays open for the updates of one dream. It counts as a connection of its account."""

    carrier: Carrier = "poll"
    listened = False  # True: the request has waited for updates, so its duration says nothing about the server

    def initialize(self, *, dreams: Dreams, subscribers: Subscribers, **shared: Any) -> None:
        super().initialize(**shared)
        self.dreams = dreams
        self.subscribers = subscribers
        base_url = self.access.base_url(self.request)
        self.mailbox = subscribers.mailbox(self.carrier, base_url, self._on_arrival, self.language)
        self.mailbox_ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrived = asyncio.Event()

    def abandon(self) -> None:
        super().abandon()
        self.subscribers.discard(self.mailbox)
        self.mailbox.end(GONE)

    async def listen(self, dream_id: str) -> Dream:
        """Subscribe, and return the dream as it is. `next_message` then returns first its state, then its updates.

        Raises the answer when the dream does not exist or the account has too many connections, or as `_check` does.
        """
        self.listened = True
        self.mailbox.user, self.mailbox.session = self.caller.user, self.caller.session
        if not self.subscribers.join(self.mailbox):
            limit = self.subscribers.max_connections
            raise too_many("too_many_connections", RETRY_AFTER, most=limit)
        self.subscribers.add(dream_id, self.mailbox)
        dream = await self.dreams.get(self.caller.user, dream_id)
        check_id(dream, dream_id)
        self._check()
        self.subscribers.show(dream, self.mailbox)
        return dream

    async def next_message(self, until: float) -> OutboundMessage | None:
        """The next message; None when none arrives before `until`, on the loop's clock, or the mailbox has ended."""
        try:
            async with asyncio.timeout_at(until):
                while not self.mailbox.ended:
                    if messages := self.mailbox.take(1):
                        return messages[0]
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            pass
        return None

    async def newer(self, dream_id: str, since: int, wait: float) -> Dream | None:
        """The dream as soon as its revision is above `since`; None when that takes more than `wait` seconds.

        Raises as `listen` does, also when the dream is deleted during the wait.
        """
        until = asyncio.get_running_loop().time() + min(wait, self.caller.expires - time.time())
        dream = await self.listen(dream_id)
        while dream.revision <= since:
            message = await self.next_message(until)
            if message is None:
                self._check()
                return None
            if message.revision > dream.revision:
                dream = await self.dreams.get(self.caller.user, dream_id)
        return dream

    def _check(self) -> None:
        """Raise the answer when, since the request began, its caller has signed out or the server has begun to stop."""
        self.tokens.check(self.caller, time.time())
        if self.subscribers.closing:
            # After a 304 the client would ask again at once, on this connection, until the server has stopped.
            later = {"Retry-After": str(random.randint(*COME_BACK))}
            raise Problem(503, "restarting", headers=later)

    def _on_arrival(self) -> None:
        self._arrived.set()
        if self.mailbox.ended and not self.mailbox_ended.done():
            self.mailbox_ended.set_result(None)
