"""The registry and its mailboxes: which listener receives what, in which order, and what is dropped."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from handlers.messages import ConnectionEstablishedMessage, HeartbeatMessage, PongMessage
from handlers.subscribers import Mailbox, OutboundMessage, Subscribers
from handlers.views import UrlFor
from storage.model import Dream, Image, State, Variant

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOW = 1649154789.123
HOST = "https://dreams.example.org"


def image(number: int, state: State = State.COMPLETED) -> Image:
    return Image(
        id=number,
        position=10 * number,
        state=state,
        attempt=1,
        tries_left=3,
        staged=None,
        original=None,
        sha256="",
        bytes=1,
        format="JPEG",
        recipe=None,
        folder=None,
        variants={"2048": Variant(f"k{number}", "image/jpeg", 4, 3, 9)} if state is State.COMPLETED else {},
        width=4,
        height=3,
        animated=False,
        placeholder=None,
        error="corrupt" if state is State.FAILED else None,
        lease_owner=None,
        lease_until=None,
    )


def dream(revision: int, *images: Image, id: str = "d1", deleted: bool = False) -> Dream:
    return Dream(id, "ann", "", "", NOON, None, None, (), revision, NOON, NOON, images, deleted, False)


def decoded(message: OutboundMessage) -> Any:
    return msgspec.json.decode(message.text)


def taken(mailbox: Mailbox) -> Any:
    """Take the oldest queued message; None when there is none."""
    messages = mailbox.take(1)
    return decoded(messages[0]) if messages else None


def everything(mailbox: Mailbox) -> list[tuple[str, int]]:
    """Take every queued message: (type, revision) of each."""
    found = []
    while (found_message := taken(mailbox)) is not None:
        found.append((found_message["type"], found_message.get("revision", 0)))
    return found


def decoded_all(mailbox: Mailbox) -> list[Any]:
    """Take every queued message."""
    return [decoded(message) for message in mailbox.take(1000)]


class World:
    """A registry that records each request for URLs, or fails once with `error`, and mailboxes that count calls."""

    def __init__(self, connections: int = 0, messages: int = 0) -> None:
        self.hosts: list[str] = []
        self.calls = 0
        self.error: Exception | None = None
        self.subscribers = Subscribers(
            url_for_host=self.url_for_host, connections=connections, messages=messages, clock=lambda: NOW
        )

    def url_for_host(self, base_url: str) -> UrlFor:
        self.hosts.append(base_url)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return lambda key: f"{base_url}/media/{key}"

    def called(self) -> None:
        self.calls += 1

    def mailbox(self, user: str = "ann", session: str = "s1", host: str = HOST) -> Mailbox:
        return self.with_notify(user, session, host, self.called)

    def with_notify(self, user: str, session: str, host: str, notify: Callable[[], None]) -> Mailbox:
        mailbox = self.subscribers.mailbox("websocket", host, notify)
        mailbox.user, mailbox.session = user, session
        return mailbox

    def listener(self, *dreams: Dream, host: str = HOST) -> Mailbox:
        """A mailbox that listens to these dreams and has already received their states."""
        mailbox = self.mailbox(host=host)
        for each in dreams:
            self.subscribers.add(each.id, mailbox)
            self.subscribers.show(each, mailbox)
        everything(mailbox)
        self.hosts.clear()
        return mailbox


@pytest.fixture
def world() -> World:
    return World()


BUSY = image(1, State.RENDERING)
BUSY2 = image(2, State.RENDERING)
ESTABLISHED = ConnectionEstablishedMessage("d1", "hello")


# ---- arrival


def test_state_comes_first(world: World) -> None:
    """A newcomer gets `connection_established`, and next the state with URLs at the host it used."""
    mailbox = world.mailbox()
    world.subscribers.add("d1", mailbox)
    world.subscribers.show(dream(3, image(1)), mailbox, ESTABLISHED)
    assert taken(mailbox) == {"type": "connection_established", "dream_id": "d1", "message": "hello"}
    assert taken(mailbox) == {
        "type": "image_update",
        "dream_id": "d1",
        "status": "completed",
        "images": [{"id": 1, "url": f"{HOST}/media/k1", "position": 10}],
        "timestamp": NOW,
        "revision": 3,
        "failed_images": [],
    }
    assert taken(mailbox) is None


def test_nothing_falls_between_registering_and_reading(world: World) -> None:
    """A change that is published while the state is read is held back, and follows the state when it is newer."""
    mailbox = world.mailbox()
    world.subscribers.add("d1", mailbox)
    world.subscribers.publish(dream(4, image(1), BUSY2), image(1))
    assert len(mailbox) == 0
    assert world.calls == 0
    world.subscribers.show(dream(3, BUSY, BUSY2), mailbox, ESTABLISHED)
    assert everything(mailbox) == [("connection_established", 0), ("image_update", 3), ("image_progress", 4)]


@pytest.mark.parametrize("read", [4, 5])
def test_what_is_older_than_the_state_is_not_sent(world: World, read: int) -> None:
    """An update that the state already contains is dropped, whether it arrives before the read or after."""
    mailbox = world.mailbox()
    world.subscribers.add("d1", mailbox)
    world.subscribers.publish(dream(3, BUSY), BUSY)
    world.subscribers.publish(dream(4, image(1)), image(1))
    world.subscribers.show(dream(read, image(1)), mailbox)
    world.subscribers.publish(dream(4, image(1)), image(1))
    assert everything(mailbox) == [("image_update", read)]
    world.subscribers.publish(dream(6, image(1)), None)
    assert everything(mailbox) == [("image_update", 6)]


def test_a_late_update_is_dropped(world: World) -> None:
    """When the answers of two writes overtake each other, revisions still never go back on a connection."""
    mailbox = world.listener(dream(1, BUSY, BUSY2))
    world.subscribers.publish(dream(3, image(1), image(2)), image(2))
    world.subscribers.publish(dream(2, image(1), BUSY2), image(1))
    assert everything(mailbox) == [("image_progress", 3), ("image_update", 3)]


def test_subscribing_again_shows_the_state_again(world: World) -> None:
    """A second `add` holds updates back again and sends the newer state; queued older updates are dropped."""
    mailbox = world.listener(dream(1, BUSY, BUSY2))
    world.subscribers.publish(dream(2, image(1), BUSY2), image(1))
    world.subscribers.add("d1", mailbox)
    world.subscribers.publish(dream(4, image(1), image(2)), image(2))
    world.subscribers.show(dream(3, image(1), BUSY2), mailbox)
    assert everything(mailbox) == [("image_update", 3), ("image_progress", 4), ("image_update", 4)]


def test_same_state_is_shown_again(world: World) -> None:
    """Subscribing twice sends the state twice, though nothing has changed."""
    mailbox = world.listener(dream(2, image(1)))
    world.subscribers.add("d1", mailbox)
    world.subscribers.show(dream(2, image(1)), mailbox)
    assert everything(mailbox) == [("image_update", 2)]


def test_slow_newcomer_still_gets_the_state_next(world: World) -> None:
    """However many updates arrive before `connection_established` is sent, the next message is an `image_update`."""
    mailbox = world.mailbox()
    world.subscribers.add("d1", mailbox)
    world.subscribers.show(dream(1, BUSY, BUSY2), mailbox, ESTABLISHED)
    world.subscribers.publish(dream(2, image(1), BUSY2), image(1))
    world.subscribers.publish(dream(3, image(1), image(2)), image(2))
    assert everything(mailbox) == [
        ("connection_established", 0),
        ("image_update", 1),
        ("image_progress", 2),
        ("image_progress", 3),
        ("image_update", 3),
    ]


@pytest.mark.parametrize("read", [2, 3])
def test_queued_updates_that_the_state_contains_are_dropped(world: World, read: int) -> None:
    """Updates of the dream and of its images, with an older or the same revision; those of other dreams stay."""
    mailbox = world.listener(dream(1, BUSY), dream(1, BUSY, id="d2"))
    world.subscribers.publish(dream(2, image(1)), image(1))
    world.subscribers.publish(dream(2, id="d2"), None)
    world.subscribers.add("d1", mailbox)
    world.subscribers.show(dream(read, image(1)), mailbox)
    assert [(each["type"], each["dream_id"]) for each in decoded_all(mailbox)] == [
        ("image_update", "d2"),
        ("image_update", "d1"),
    ]


def test_an_older_state_brings_no_older_updates(world: World) -> None:
    """A database read can be older than an update that arrived before it: revisions still never go back."""
    mailbox = world.listener(dream(5, BUSY))
    world.subscribers.add("d1", mailbox)
    world.subscribers.show(dream(3, BUSY), mailbox)
    everything(mailbox)
    world.subscribers.publish(dream(4, BUSY), None)
    assert everything(mailbox) == []
    world.subscribers.publish(dream(6, BUSY), None)
    assert everything(mailbox) == [("image_update", 6)]


def test_held_updates_are_delivered_once(world: World) -> None:
    """After the state they arrive at once, and a second state does not repeat them."""
    mailbox = world.mailbox()
    world.subscribers.add("d1", mailbox)
    world.subscribers.publish(dream(2, BUSY), None)
    world.subscribers.show(dream(1, BUSY), mailbox)
    world.subscribers.publish(dream(3, BUSY), None)
    assert everything(mailbox) == [("image_update", 1), ("image_update", 3)]
    world.subscribers.add("d1", mailbox)
    world.subscribers.show(dream(1, BUSY), mailbox)
    assert everything(mailbox) == [("image_update", 1)]


# ---- the queue


def test_the_newest_of_each_image_and_of_the_dream_is_queued(world: World) -> None:
    """A newer message of the same image or dream replaces the queued one, and goes to the end."""
    mailbox = world.listener(dream(1, BUSY, BUSY2))
    failed = image(1, State.FAILED)
    for revision, changed in [(2, failed), (3, image(2)), (4, BUSY), (5, image(1)), (6, None)]:
        others = (image(2),) if revision > 2 else (BUSY2,)
        world.subscribers.publish(dream(revision, changed or image(1), *others), changed)
    assert everything(mailbox) == [("image_progress", 3), ("image_progress", 5), ("image_update", 6)]


def test_dreams_do_not_replace_each_other(world: World) -> None:
    """Equal images of different dreams are different messages."""
    mailbox = world.listener(dream(1, BUSY), dream(1, BUSY, id="d2"))
    for id in ("d1", "d2"):
        world.subscribers.publish(dream(2, image(1), BUSY2, id=id), image(1))
    assert [taken(mailbox)["dream_id"] for _ in range(2)] == ["d1", "d2"]


def test_replies_keep_their_order_and_number(world: World) -> None:
    """The connection's own messages are all kept, in order, between the updates."""
    mailbox = world.listener(dream(1, BUSY))
    for number in range(3):
        mailbox.send(PongMessage(msgspec.Raw(b"%d" % number)))
        world.subscribers.publish(dream(number + 2, BUSY), None)
    messages = [taken(mailbox) for _ in range(4)]
    assert [each.get("timestamp") for each in messages] == [0, 1, 2, NOW]
    assert taken(mailbox) is None


def test_newer_heartbeat_replaces_the_waiting_one(world: World) -> None:
    """At most one heartbeat of each dream is queued."""
    mailbox = world.mailbox()
    for revision, dream_id in [(1, "d1"), (1, "d2"), (2, "d1")]:
        mailbox.send(HeartbeatMessage(dream_id, revision, NOW), heartbeat_of=dream_id)
    assert everything(mailbox) == [("heartbeat", 1), ("heartbeat", 2)]


def test_arrival_is_announced(world: World) -> None:
    """The mailbox announces an arrival, but not a message that it drops."""
    mailbox = world.listener(dream(5, BUSY))
    before = world.calls
    world.subscribers.publish(dream(5, BUSY), None)
    assert world.calls == before
    world.subscribers.publish(dream(6, BUSY), None)
    assert world.calls == before + 1
    assert len(mailbox) == 1


def test_every_way_into_a_mailbox_notifies(world: World) -> None:
    """The connection learns of a reply, of a state and of the end; only a held update waits silently."""
    mailbox = world.mailbox()
    counted = [world.calls]
    mailbox.send(PongMessage(msgspec.Raw(b"1")))
    counted.append(world.calls)
    world.subscribers.add("d1", mailbox)
    world.subscribers.publish(dream(2, BUSY), None)
    counted.append(world.calls)
    world.subscribers.show(dream(1, BUSY), mailbox)
    counted.append(world.calls)
    mailbox.end("restarting")
    counted.append(world.calls)
    assert counted == [0, 1, 1, 2, 3]


@pytest.mark.parametrize(("limit", "taken_at_once"), [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_the_oldest_messages_are_taken_first(world: World, limit: int, taken_at_once: int) -> None:
    """At most so many as the connection asks for; the rest waits for the next call."""
    mailbox = world.mailbox()
    for number in range(3):
        mailbox.send(PongMessage(msgspec.Raw(b"%d" % number)))
    first = [decoded(message)["timestamp"] for message in mailbox.take(limit)]
    assert first == list(range(taken_at_once))
    assert len(mailbox) == 3 - taken_at_once
    assert [each["timestamp"] for each in decoded_all(mailbox)] == list(range(taken_at_once, 3))
    assert mailbox.take(limit) == []


# ---- publishing


def test_encoded_once_for_all_listeners(world: World) -> None:
    """Two hundred listeners with one host get the very same bytes object."""
    mailboxes = [world.listener(dream(1, BUSY)) for _ in range(200)]
    world.subscribers.publish(dream(2, image(1)), image(1))
    assert world.hosts == [HOST]
    messages = [mailbox.take(3) for mailbox in mailboxes]
    assert len(messages[0]) == 2
    assert {tuple(map(id, pair)) for pair in messages} == {tuple(map(id, messages[0]))}


def test_each_host_gets_its_own_urls(world: World) -> None:
    """Image URLs begin with the host that the client used; each host costs one encoding."""
    first, second = world.listener(dream(1, BUSY)), world.listener(dream(1, BUSY), host="http://localhost:8000")
    world.subscribers.publish(dream(2, image(1)), None)
    assert sorted(world.hosts) == ["http://localhost:8000", HOST]
    assert taken(first)["images"][0]["url"] == f"{HOST}/media/k1"
    assert taken(second)["images"][0]["url"] == "http://localhost:8000/media/k1"


def test_nothing_is_encoded_for_nobody(world: World) -> None:
    """A change of a dream without listeners costs nothing."""
    mailbox = world.listener(dream(1, BUSY))
    world.subscribers.remove("d1", mailbox)
    world.subscribers.publish(dream(2, image(1)), image(1))
    world.subscribers.publish(dream(2, id="other"), None)
    assert world.hosts == []
    assert everything(mailbox) == []


def test_publish_never_raises(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A failure only leaves a line in the log, because the write itself has succeeded; the next change arrives."""
    mailbox = world.listener(dream(1, BUSY))
    world.error = ValueError("no URL")
    with caplog.at_level(logging.ERROR):
        world.subscribers.publish(dream(2, image(1)), image(1))
    assert "some listeners of dream d1 miss a change" in caplog.text
    world.subscribers.publish(dream(3, image(1)), None)
    assert everything(mailbox) == [("image_update", 3)]


def test_a_host_without_urls_does_not_silence_the_others(world: World) -> None:
    """If the messages for one host cannot be built, the listeners at the other hosts still get theirs."""
    mailboxes = [world.listener(dream(1, BUSY), host=host) for host in (HOST, "http://localhost:8000")]
    world.error = ValueError("no URL")
    world.subscribers.publish(dream(2, image(1)), None)
    assert sorted(everything(mailbox) for mailbox in mailboxes) == [[], [("image_update", 2)]]


def test_a_deletion_is_the_last_message(world: World) -> None:
    """The deletion is the last message of its dream, and removes all its subscriptions."""
    mailbox = world.listener(dream(1, BUSY), dream(1, BUSY, id="d2"))
    world.subscribers.publish(dream(2, deleted=True), None)
    world.subscribers.publish(dream(3), None)
    world.subscribers.publish(dream(2, BUSY, id="d2"), None)
    (last,) = mailbox.take(1)
    assert (last.dream_id, last.revision, last.last) == ("d1", 2, True)
    assert decoded(last) == {"type": "dream_deleted", "dream_id": "d1", "timestamp": NOW}
    assert everything(mailbox) == [("image_update", 2)]


def test_deletion_while_the_state_is_read_follows_it(world: World) -> None:
    """A client that subscribes just before the deletion receives the state, and then the deletion."""
    mailbox = world.mailbox()
    world.subscribers.add("d1", mailbox)
    world.subscribers.publish(dream(2, deleted=True), None)
    world.subscribers.show(dream(1, BUSY), mailbox)
    assert everything(mailbox) == [("image_update", 1), ("dream_deleted", 0)]


# ---- leaving


def test_removed_dream_is_silent_at_once(world: World) -> None:
    """`remove` drops the queued messages of that dream only."""
    mailbox = world.listener(dream(1, BUSY), dream(1, BUSY, id="d2"))
    for id in ("d1", "d2"):
        world.subscribers.publish(dream(2, BUSY, id=id), None)
    mailbox.send(HeartbeatMessage("d1", 9, NOW), heartbeat_of="d1")
    world.subscribers.remove("d1", mailbox)
    world.subscribers.publish(dream(3, BUSY), None)
    assert everything(mailbox) == [("image_update", 2)]


def test_discarded_mailbox_leaves_every_dream(world: World) -> None:
    """`discard` ends all subscriptions but keeps queued messages; a second call does no harm."""
    mailbox, other = world.listener(dream(1), dream(1, id="d2")), world.listener(dream(1))
    world.subscribers.publish(dream(2), None)
    world.subscribers.discard(mailbox)
    world.subscribers.discard(mailbox)
    for id in ("d1", "d2"):
        world.subscribers.publish(dream(3, id=id), None)
    assert everything(mailbox) == [("image_update", 2)]
    assert everything(other) == [("image_update", 3)]


def test_nothing_is_left_of_a_connection_that_leaves(world: World) -> None:
    """Neither its subscriptions nor its place in its account, so that the registry does not grow for ever."""
    mailbox = world.listener(dream(1), dream(1, id="d2"))
    world.subscribers.join(mailbox)
    world.subscribers.discard(mailbox)
    assert len(world.subscribers) == 0
    assert (world.subscribers._dreams, world.subscribers._users) == ({}, {})


def test_a_removed_dream_can_be_added_again(world: World) -> None:
    """Even while its state was being read: nothing of the first time is left."""
    mailbox = world.mailbox()
    world.subscribers.add("d1", mailbox)
    world.subscribers.publish(dream(5, BUSY), None)
    world.subscribers.remove("d1", mailbox)
    assert mailbox.dreams() == []
    mailbox.deliver_state(OutboundMessage(b'{"type":"image_update"}', "d1", 4), None)
    assert everything(mailbox) == [("image_update", 0)]


def test_an_ended_mailbox_is_empty(world: World) -> None:
    """Neither queued nor held messages are sent after the end."""
    mailbox = world.listener(dream(1, BUSY))
    world.subscribers.publish(dream(2, BUSY), None)
    world.subscribers.add("d1", mailbox)
    world.subscribers.publish(dream(3, BUSY), None)
    mailbox.end("restarting")
    assert (len(mailbox), mailbox.ended) == (0, "restarting")
    world.subscribers.show(dream(1, BUSY), mailbox)
    assert everything(mailbox) == [("image_update", 1)]


# ---- accounts


def test_connections_of_an_account_are_limited() -> None:
    """One that leaves makes room. Other accounts, and clients that have not signed in, do not count."""
    world = World(connections=2)
    join = world.subscribers.join
    mailboxes = [world.mailbox() for _ in range(3)]
    assert [join(each) for each in mailboxes] == [True, True, False]
    assert join(world.mailbox("bob"))
    assert all(join(world.mailbox("")) for _ in range(5))
    assert len(world.subscribers) == 8
    world.subscribers.leave(mailboxes[0])
    world.subscribers.leave(mailboxes[0])
    assert join(mailboxes[2])


def test_no_limit_is_no_limit(world: World) -> None:
    """0 turns the limits off."""
    assert all(world.subscribers.join(world.mailbox()) for _ in range(100))
    assert len(world.subscribers) == 100
    assert not any(world.subscribers.take_message("ann") for _ in range(100))


def test_messages_of_an_account_are_limited() -> None:
    """The connections of an account share so many messages a minute; over the limit it learns how long to wait."""
    subscribers = World(messages=3).subscribers
    assert [subscribers.take_message("ann") for _ in range(3)] == [0, 0, 0]
    assert 19 < subscribers.take_message("ann") <= 20
    assert subscribers.take_message("bob") == 0


@pytest.mark.parametrize(
    ("session", "ends"),
    [("s1", ["signed_out", "signed_out_elsewhere", ""]), (None, ["signed_out", "signed_out", ""])],
)
def test_signing_out_ends_the_users_connections(world: World, session: str | None, ends: list[str]) -> None:
    """Signing out ends all connections of the user and drops their queues; other sessions may reconnect."""
    mailboxes = [world.mailbox(), world.mailbox(session="s2"), world.mailbox("bob")]
    for mailbox in mailboxes:
        world.subscribers.join(mailbox)
        mailbox.send(PongMessage(msgspec.Raw(b"1")))
    world.subscribers.sign_out("ann", session)
    assert [mailbox.ended for mailbox in mailboxes] == ends
    assert [len(mailbox) for mailbox in mailboxes] == [0, 0, 1]
    world.subscribers.sign_out("nobody", None)


def test_close_all_ends_everyone(world: World) -> None:
    """A restart ends every mailbox, also before sign-in, and although each leaves the registry as it ends."""
    mailboxes: list[Mailbox] = []

    def leaver(number: int) -> Callable[[], None]:
        return lambda: world.subscribers.leave(mailboxes[number])

    for number, user in enumerate(["ann", "ann", "bob", ""]):
        mailboxes.append(world.with_notify(user, "s1", HOST, leaver(number)))
        world.subscribers.join(mailboxes[number])
    assert not world.subscribers.closing
    world.subscribers.close_all()
    assert world.subscribers.closing
    assert [mailbox.ended for mailbox in mailboxes] == ["restarting"] * 4
    assert len(world.subscribers) == 0


def test_each_listener_reads_failures_in_its_language(world: World) -> None:
    """Listeners of one host and language share their messages."""
    failed = dream(2, image(1, State.FAILED))
    mailboxes = [
        world.subscribers.mailbox("websocket", HOST, world.called, language) for language in ("en", "zh", "en")
    ]
    for mailbox in mailboxes:
        world.subscribers.add(failed.id, mailbox)
        world.subscribers.show(dream(1, image(1, State.QUEUED)), mailbox)
        everything(mailbox)
    world.hosts.clear()
    world.subscribers.publish(failed, failed.images[0])
    sentences = [taken(mailbox)["image"]["error"]["message"] for mailbox in mailboxes]
    assert sentences == ["The image is damaged and cannot be read.", "图片已损坏，无法读取。", sentences[0]]
    assert len(world.hosts) == 2


def test_each_message_is_counted_once_as_delivered_coalesced_or_dropped() -> None:
    """What is handed to the connection, what a newer message replaced, and what its end threw away."""
    world = World()
    mailbox = world.listener(dream(revision=1))
    counted = world.subscribers.deliveries
    delivered = counted.delivered
    world.subscribers.publish(dream(revision=2), None)
    world.subscribers.publish(dream(revision=3), None)
    assert (counted.delivered - delivered, counted.coalesced, counted.dropped) == (0, 1, 0)
    mailbox.take(16)
    assert counted.delivered - delivered == 1
    world.subscribers.publish(dream(revision=4), None)
    mailbox.send(PongMessage(msgspec.Raw(b"1")))
    mailbox.take(1)
    assert counted.delivered - delivered == 2
    mailbox.end("signed_out")
    assert (counted.delivered - delivered, counted.coalesced, counted.dropped) == (2, 1, 1)


def test_connections_are_counted_by_their_carrier() -> None:
    """From the moment they join to the moment they leave."""
    world = World()
    mailboxes = [world.mailbox(), world.mailbox("bob"), world.subscribers.mailbox("poll", HOST, world.called)]
    for mailbox in mailboxes:
        world.subscribers.join(mailbox)
    assert world.subscribers.listeners() == {"websocket": 2, "poll": 1}
    world.subscribers.leave(mailboxes[0])
    assert world.subscribers.listeners() == {"websocket": 1, "poll": 1}
