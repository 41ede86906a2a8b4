"""Messages are encoded and decoded as the protocol writes them, and their tables fit each other."""

from typing import Any

import msgspec
import pytest

from handlers import messages
from handlers.conversation import ENDINGS
from handlers.messages import (
    CLOSE_CODES,
    ERRORS,
    SENTENCES,
    AuthenticateMessage,
    ClientMessage,
    CompletedImageBody,
    ConnectionEstablishedMessage,
    DreamDeletedMessage,
    HeartbeatMessage,
    ImageUpdateMessage,
    PingMessage,
    PongMessage,
    ServerMessage,
    SubscribeMessage,
    TokenExpiringMessage,
    UnsubscribeMessage,
    error_message,
)
from storage.model import Status

NOW = 1649154799.456


@pytest.mark.parametrize(
    ("message", "written"),
    [
        (ConnectionEstablishedMessage("d", "t"), {"type": "connection_established", "dream_id": "d", "message": "t"}),
        (
            ImageUpdateMessage("d", Status.PROCESSING, [], NOW, 2),
            {
                "type": "image_update",
                "dream_id": "d",
                "status": "processing",
                "images": [],
                "timestamp": NOW,
                "revision": 2,
            },
        ),
        (
            ImageUpdateMessage("d", Status.COMPLETED, [CompletedImageBody(1, "u", 10)], NOW, 2, []),
            {
                "type": "image_update",
                "dream_id": "d",
                "status": "completed",
                "images": [{"id": 1, "url": "u", "position": 10}],
                "timestamp": NOW,
                "revision": 2,
                "failed_images": [],
            },
        ),
        (HeartbeatMessage("d", 2, NOW), {"type": "heartbeat", "dream_id": "d", "revision": 2, "timestamp": NOW}),
        (DreamDeletedMessage("d", NOW), {"type": "dream_deleted", "dream_id": "d", "timestamp": NOW}),
        (TokenExpiringMessage(60), {"type": "token_expiring", "expires_in": 60}),
        (PongMessage(msgspec.Raw(b"1.50")), {"type": "pong", "timestamp": 1.5}),
        (
            error_message("bad_message", "en"),
            {"type": "error", "code": "bad_message", "message": SENTENCES["en"]["bad_message"]},
        ),
        (
            error_message("not_found", "zh", dream_id="d"),
            {"type": "error", "code": "not_found", "message": "找不到这个梦。", "dream_id": "d"},
        ),
        (
            error_message("rate_limited", "en", retry_after=30),
            {
                "type": "error",
                "code": "rate_limited",
                "message": SENTENCES["en"]["rate_limited"],
                "retry_after": 30,
            },
        ),
    ],
)
def test_the_servers_messages(message: ServerMessage, written: dict[str, Any]) -> None:
    """Each has exactly its fields; a field that does not apply is absent."""
    assert msgspec.json.decode(msgspec.json.encode(message)) == written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"type": "authenticate", "token": "Bearer x"}', AuthenticateMessage("Bearer x")),
        (b'{"type": "subscribe", "dream_ids": ["a"]}', SubscribeMessage(["a"])),
        (b'{"type": "unsubscribe", "dream_ids": []}', UnsubscribeMessage([])),
        (b'{"type": "subscribe", "dream_ids": ["a"], "later": 1}', SubscribeMessage(["a"])),
    ],
)
def test_the_clients_messages(text: bytes, expected: ClientMessage) -> None:
    """Fields of later versions are ignored."""
    kinds = AuthenticateMessage | PingMessage | SubscribeMessage | UnsubscribeMessage
    assert msgspec.json.decode(text, type=kinds) == expected


def test_a_ping_keeps_its_digits() -> None:
    """A float would lose them."""
    ping = msgspec.json.decode(b'{"type":"ping","timestamp":1649154859.12345678901}', type=PingMessage)
    assert msgspec.json.encode(PongMessage(ping.timestamp)) == b'{"type":"pong","timestamp":1649154859.12345678901}'


def test_every_ending_has_its_close_code() -> None:
    """The documented codes are those that the conversation closes with."""
    assert {code for code, _ in ENDINGS.values()} == set(CLOSE_CODES)


def test_every_error_is_announced_or_a_reason() -> None:
    """An ending that the client caused is announced; an `error` has only codes with a sentence."""
    announced = {name for name, (_, caused) in ENDINGS.items() if caused}
    assert announced <= set(ERRORS) <= set(SENTENCES["en"])


def test_every_message_has_a_description() -> None:
    """The contracts take descriptions from the docstrings."""
    ours = [each for each in vars(messages).values() if isinstance(each, type)]
    kinds = [each for each in ours if each.__module__ == messages.__name__]
    assert all(kind.__doc__ and kind.__doc__.rstrip().endswith((".", "`")) for kind in kinds)
