"""The WebSocket conversation: every rule, and every close code that it gives."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from config import WebSocket
from handlers import conversation
from handlers.conversation import Close, Conversation, Join, Now, Output, Ping, Send, Subscribe, Unsubscribe
from handlers.messages import (
    SENTENCES,
    ConnectionEstablishedMessage,
    ErrorMessage,
    HeartbeatMessage,
    PongMessage,
    TokenExpiringMessage,
)
from handlers.tokens import Caller, InvalidToken

SETTINGS = WebSocket()
START = Now(100.0, 5000.0)
LIFE = 900.0


def check(token: str, wall: float) -> Caller:
    """Accept tokens of the form `user` or `user until TIME`, and reject all others."""
    user, _, until = token.partition(" until ")
    expires = float(until or START.wall + LIFE)
    if user not in ("ann", "bob") or expires <= wall:
        raise InvalidToken("access_token_invalid")
    return Caller(user, f"session of {user}", expires)


def later(seconds: float, jump: float = 0.0) -> Now:
    """So many seconds after the start; `jump` is a change of the wall clock in that time."""
    return Now(START.steady + seconds, START.wall + seconds + jump)


def new(dream_id: str | None = "d1", lang: str = "en", settings: WebSocket = SETTINGS) -> Conversation:
    return Conversation(settings, check, dream_id, lang, START)


def signed_in(dream_id: str | None = "d1", lang: str = "en", settings: WebSocket = SETTINGS) -> Conversation:
    opened = new(dream_id, lang, settings)
    opened.opened("Bearer ann", START)
    return opened


def say(to: Conversation, what: Any, now: Now = START) -> list[Output]:
    return to.received(what if isinstance(what, str | bytes) else msgspec.json.encode(what).decode(), now)


def subscribe(to: Conversation, *dream_ids: str) -> list[Output]:
    return say(to, {"type": "subscribe", "dream_ids": list(dream_ids)})


def error(output: Output) -> dict[str, Any]:
    assert isinstance(output, Send)
    assert isinstance(output.message, ErrorMessage)
    shown = msgspec.to_builtins(output.message)
    return {name: value for name, value in shown.items() if name not in ("type", "message")}


def ended(outputs: list[Output], code: str, number: int) -> bool:
    """Whether the outputs are exactly an error with this code and a close with this number."""
    first, closed = outputs
    assert isinstance(closed, Close)
    return error(first)["code"] == code and closed.code == number


# ---- authentication


@pytest.mark.parametrize("header", ["Bearer ann", "bearer ann", "BEARER   ann ", "ann"])
def test_header_signs_in(header: str) -> None:
    """A valid Authorization header signs in and subscribes at once; the case of Bearer makes no difference."""
    caller = Caller("ann", "session of ann", START.wall + LIFE)
    assert new().opened(header, START) == [Join(caller), Subscribe("d1")]


@pytest.mark.parametrize("token", ["Bearer ann", "bEaReR ann", "ann"])
def test_first_message_signs_in(token: str) -> None:
    """Without a header nothing happens until `authenticate` comes, with or without Bearer."""
    opened = new()
    assert opened.opened(None, START) == []
    assert say(opened, {"type": "authenticate", "token": token}) == [
        Join(Caller("ann", "session of ann", START.wall + LIFE)),
        Subscribe("d1"),
    ]


def test_many_dreams_wait_for_subscribe() -> None:
    """Without a dream in the URL, signing in subscribes to nothing."""
    assert new(None).opened("Bearer ann", START) == [Join(Caller("ann", "session of ann", START.wall + LIFE))]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer eve", "Basic ann", "Bearer ann until 5000"])
def test_wrong_header_closes(header: str) -> None:
    """A wrong, empty or expired token in the header is an error and 4401."""
    assert ended(new().opened(header, START), "invalid_token", 4401)


def test_wrong_first_token_closes() -> None:
    """A wrong token in the first message is an error and 4401."""
    assert ended(say(new(), {"type": "authenticate", "token": "eve"}), "invalid_token", 4401)


@pytest.mark.parametrize(
    "message",
    [{"type": "ping", "timestamp": 1}, {"type": "subscribe", "dream_ids": []}, "no JSON", b"x", {"type": "x"}],
)
def test_anything_else_first_closes(message: Any) -> None:
    """Before authentication, any other message, valid or not, gets an error and 4401."""
    assert ended(say(new(None), message), "unauthenticated", 4401)


def test_authentication_has_a_time_limit() -> None:
    """A client that stays silent for `auth_timeout` gets an error and 4401, not a moment earlier."""
    opened = new()
    assert opened.deadline() == START.steady + 10
    assert opened.tick(later(9.99)) == []
    assert ended(opened.tick(later(10)), "authentication_timeout", 4401)
    assert opened.deadline() is None


def test_signed_in_has_no_authentication_limit() -> None:
    """After authentication, its time limit no longer applies."""
    opened = signed_in()
    assert opened.deadline() == START.steady + SETTINGS.ping_interval
    assert opened.tick(later(10)) == []


# ---- expiry of the token


def quiet(opened: Conversation, now: Now) -> list[Output]:
    """The outputs of a tick except pings, which this function answers, and heartbeats."""
    outputs = opened.tick(now)
    opened.pong()
    return [each for each in outputs if not (isinstance(each, Ping) or (isinstance(each, Send) and each.heartbeat_of))]


def test_token_warns_a_minute_before_and_then_ends() -> None:
    """A minute before the token expires the client gets one warning; at its end the connection closes with 4101."""
    opened = signed_in()
    assert quiet(opened, later(LIFE - 60.1)) == []
    assert quiet(opened, later(LIFE - 60)) == [Send(TokenExpiringMessage(60))]
    assert quiet(opened, later(LIFE - 1)) == []
    assert quiet(opened, later(LIFE)) == [Close(4101, "The token has expired. Reconnect with a new token.")]


def test_short_token_warns_at_once() -> None:
    """With less than a minute left, the warning comes right after authentication, with the seconds left."""
    outputs = new().opened("Bearer ann until 5012", START)
    assert outputs[1:] == [Subscribe("d1"), Send(TokenExpiringMessage(12))]


def test_new_token_extends() -> None:
    """A fresh token in `authenticate` moves the expiry and its warning, and subscribes to nothing again."""
    opened = signed_in()
    quiet(opened, later(850))
    outputs = say(opened, {"type": "authenticate", "token": "Bearer ann until 7000"}, later(880))
    assert outputs == [Join(Caller("ann", "session of ann", 7000.0))]
    assert quiet(opened, later(LIFE)) == []
    assert quiet(opened, later(1940)) == [Send(TokenExpiringMessage(60))]
    assert quiet(opened, later(2000)) == [Close(4101, "The token has expired. Reconnect with a new token.")]


def test_extending_with_another_users_token_closes() -> None:
    """A token of another user gets an error and 4401."""
    assert ended(say(signed_in(), {"type": "authenticate", "token": "bob"}), "wrong_user", 4401)


def test_extending_with_a_bad_token_closes() -> None:
    """An invalid token gets an error and 4401, even on an authenticated connection."""
    assert ended(say(signed_in(), {"type": "authenticate", "token": "eve"}), "invalid_token", 4401)


@pytest.mark.parametrize("jump", [-100_000.0, 100_000.0])
def test_wall_clock_may_jump(jump: float) -> None:
    """Setting the wall clock neither ends a connection early nor lets it live longer."""
    opened = signed_in()
    assert quiet(opened, later(LIFE - 61, jump)) == []
    assert quiet(opened, later(LIFE - 60, jump)) == [Send(TokenExpiringMessage(60))]
    assert [type(each) for each in quiet(opened, later(LIFE, jump))] == [Close]


# ---- messages of clients


@pytest.mark.parametrize(
    "number",
    ["1649154859.123", "0", "-1.5", "1e3", "1e400", "-0.0", "12345678901234567890123", "0.10000000000000000001"],
)
def test_ping_comes_back_unchanged(number: str) -> None:
    """A pong has exactly the digits of the ping's timestamp."""
    (pong,) = say(signed_in(), f'{{"type": "ping", "timestamp": {number}}}')
    assert isinstance(pong, Send)
    assert msgspec.json.encode(pong.message) == f'{{"type":"pong","timestamp":{number}}}'.encode()


BAD = [
    "",
    "hello",
    "[]",
    "7",
    "null",
    "{}",
    '{"type": 1}',
    '{"type": "image_update"}',
    '{"type": "ping"}',
    '{"type": "ping", "timestamp": "1"}',
    '{"type": "ping", "timestamp": null}',
    '{"type": "ping", "timestamp": true}',
    '{"type": "ping", "timestamp": NaN}',
    '{"type": "ping", "timestamp": ' + "[" * 3000,
    '{"a":' * 800,
    '{"type": "authenticate"}',
    '{"type": "subscribe", "dream_ids": "d1"}',
    '{"type": "subscribe", "dream_ids": [1]}',
    '{"type": "subscribe", "dream_ids": ["\\ud800"]}',
    b"\x00\x01",
    b'{"type": "ping", "timestamp": 1}',
]


@pytest.mark.parametrize("message", BAD)
def test_bad_message_is_an_error_and_the_connection_stays(message: str | bytes) -> None:
    """An invalid message, and any binary one, gets the answer `bad_message`."""
    opened = signed_in(None)
    (output,) = opened.received(message, START)
    assert error(output) == {"code": "bad_message"}
    assert not opened.closed
    assert len(say(opened, {"type": "ping", "timestamp": 1})) == 1


def test_fifth_bad_message_closes() -> None:
    """The fifth invalid message closes with 4400 after its answer, however many valid ones come between."""
    opened = signed_in()
    for _ in range(4):
        assert len(say(opened, "x")) == 1
        say(opened, {"type": "ping", "timestamp": 1})
    assert ended(say(opened, "x"), "bad_message", 4400)


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
def test_single_dream_takes_no_subscriptions(kind: str) -> None:
    """With a dream in the URL, subscribe and unsubscribe are invalid."""
    (output,) = say(signed_in(), {"type": kind, "dream_ids": ["d1"]})
    assert error(output) == {"code": "bad_message"}


@pytest.mark.parametrize("text", ["x" * 4097, "梦" * 1366, b"x" * 4097])
def test_message_too_big_closes(text: str | bytes) -> None:
    """More than `max_message` bytes of UTF-8 get an error and 1009, also before authentication."""
    assert ended(signed_in().received(text, START), "message_too_big", 1009)
    assert ended(new().received(text, START), "message_too_big", 1009)


def test_longest_message_is_taken() -> None:
    """The server accepts a message of exactly `max_message` bytes."""
    text = '{"type": "ping", "timestamp": 1, "x": "'
    text += "x" * (SETTINGS.max_message - len(text) - 2) + '"}'
    (pong,) = signed_in().received(text, START)
    assert isinstance(pong, Send)
    assert isinstance(pong.message, PongMessage)


# ---- dreams


def test_subscriptions_in_order_and_once() -> None:
    """`subscribe` reads each named dream once, in order; a second `subscribe` reads them again."""
    opened = signed_in(None)
    assert subscribe(opened, "b", "a", "b") == [Subscribe("b"), Subscribe("a")]
    assert subscribe(opened, "a") == [Subscribe("a")]


def test_established_comes_once_for_each_dream() -> None:
    """`connection_established` comes before a dream's first state only, and again after `unsubscribe`."""
    opened = signed_in(None)
    subscribe(opened, "a")
    assert opened.found("a", 3) is not None
    subscribe(opened, "a")
    assert opened.found("a", 4) is None
    assert say(opened, {"type": "unsubscribe", "dream_ids": ["a", "a", "unknown"]}) == [Unsubscribe("a")]
    subscribe(opened, "a")
    assert opened.found("a", 4) is not None


def test_established_has_the_texts_of_the_protocol() -> None:
    """The text is the Chinese one of the original server, or English."""
    text = "连接已建立，等待图片处理状态更新"
    english = "Connected. Waiting for image updates."
    assert signed_in(lang="zh").found("d1", 1) == ConnectionEstablishedMessage("d1", text)
    assert signed_in(lang="en").found("d1", 1) == ConnectionEstablishedMessage("d1", english)


def test_missing_dream_closes_a_single_connection() -> None:
    """A dream that the user does not have gets an error with its id, and 4403."""
    outputs = signed_in().missing("d1")
    assert error(outputs[0]) == {"code": "not_found", "dream_id": "d1"}
    assert outputs[1:] == [Close(4403, "There is no such dream.")]


def test_missing_dream_leaves_many_dreams_alone() -> None:
    """On a connection for many dreams, a missing one gets an error with its id, and the others stay."""
    opened = signed_in(None)
    subscribe(opened, "a", "b")
    opened.found("a", 1)
    (output,) = opened.missing("b")
    assert error(output) == {"code": "not_found", "dream_id": "b"}
    subscribe(opened, "")
    (output,) = opened.missing("")
    assert error(output) == {"code": "not_found", "dream_id": ""}
    assert not opened.closed
    assert beats(opened.tick(later(25))) == {"a": 1}


def test_a_thousand_dreams_and_no_more() -> None:
    """The thousand-and-first dream gets an error; the others stay, and `unsubscribe` makes room."""
    opened = signed_in(None, settings=WebSocket(max_message=131_072))
    outputs = subscribe(opened, *map(str, range(1002)))
    assert outputs[:-1] == [Subscribe(str(number)) for number in range(1000)]
    assert error(outputs[-1]) == {"code": "too_many_dreams", "dream_id": "1000"}
    assert subscribe(opened, "0") == [Subscribe("0")]
    say(opened, {"type": "unsubscribe", "dream_ids": ["5"]})
    assert subscribe(opened, "1000") == [Subscribe("1000")]


def test_deleted_dream_closes_a_single_connection() -> None:
    """After `dream_deleted`, a connection for that dream closes with 1000 and without an error."""
    opened = signed_in()
    opened.found("d1", 1)
    assert opened.sent("d1", 2, last=True) == [Close(1000, "The dream has been deleted.")]


def test_deleted_dream_ends_one_of_many_subscriptions() -> None:
    """On a connection for many dreams, only the subscription of the deleted one ends."""
    opened = signed_in(None)
    subscribe(opened, "a", "b")
    opened.found("a", 1)
    opened.found("b", 1)
    assert opened.sent("a", 2, last=True) == [Unsubscribe("a")]
    assert beats(opened.tick(later(25))) == {"b": 1}


# ---- pings and heartbeats


def beats(outputs: list[Output]) -> dict[str, int]:
    sent = [each.message for each in outputs if isinstance(each, Send)]
    return {message.dream_id: message.revision for message in sent if isinstance(message, HeartbeatMessage)}


def test_a_heartbeat_has_the_newest_revision_sent() -> None:
    """Each `ping_interval` has a protocol ping, and a heartbeat with the newest revision sent to this client."""
    opened = signed_in()
    opened.found("d1", 3)
    assert opened.tick(later(24.9)) == []
    message = HeartbeatMessage("d1", 3, START.wall + 25)
    assert opened.tick(later(25)) == [Ping(), Send(message, heartbeat_of="d1")]
    opened.pong()
    opened.sent("d1", 7, last=False)
    opened.sent("d1", 6, last=False)
    assert opened.tick(later(49.9)) == []
    assert beats(opened.tick(later(50))) == {"d1": 7}


def test_no_heartbeat_before_the_state() -> None:
    """Before its state, a dream has no heartbeat, because the state is always the first message."""
    assert signed_in().tick(later(25)) == [Ping()]


def test_an_update_after_unsubscribing_is_no_subscription() -> None:
    """An update in transit during `unsubscribe` does not bring the heartbeat back."""
    opened = signed_in(None)
    assert opened.sent("a", 4, last=False) == []
    assert opened.tick(later(25)) == [Ping()]


def test_unanswered_ping_closes() -> None:
    """Without a pong within `ping_timeout`, the connection closes with 4103 and no error, which nobody would read."""
    opened = signed_in()
    opened.tick(later(25))
    assert opened.deadline() == START.steady + 45
    assert opened.tick(later(44.9)) == []
    assert opened.tick(later(45)) == [Close(4103, "The client did not answer a ping in time.")]


def test_answered_ping_keeps_the_connection() -> None:
    """After a pong in time, the next deadline is that of the next ping."""
    opened = signed_in()
    opened.tick(later(25))
    opened.pong()
    assert opened.deadline() == START.steady + 50
    assert opened.tick(later(45)) == []


def test_ping_timeout_counts_from_the_first_unanswered_ping() -> None:
    """If the timeout is longer than the interval, later pings do not extend it."""
    opened = signed_in(settings=WebSocket(ping_interval=10, ping_timeout=15))
    assert opened.tick(later(10)) == [Ping()]
    assert opened.tick(later(20)) == [Ping()]
    assert [type(each) for each in opened.tick(later(25))] == [Close]


def test_deadline_is_the_nearest() -> None:
    """The next deadline is the earliest of authentication, ping, pong, warning and expiry."""
    opened = new(settings=WebSocket(auth_timeout=5, ping_interval=700, ping_timeout=1000))
    assert opened.deadline() == START.steady + 5
    opened.opened("ann", START)
    assert opened.deadline() == START.steady + 700
    opened.tick(later(700))
    assert opened.deadline() == START.steady + 840
    opened.tick(later(840))
    assert opened.deadline() == START.steady + 900


# ---- close codes


@pytest.mark.parametrize(
    ("name", "code", "has_error"),
    [
        ("dream_deleted", 1000, False),
        ("message_too_big", 1009, True),
        ("restarting", 1012, False),
        ("unavailable", 1012, False),
        ("token_expired", 4101, False),
        ("signed_out_elsewhere", 4101, False),
        ("too_slow", 4102, False),
        ("no_pong", 4103, False),
        ("too_many_connections", 4129, True),
        ("rate_limited", 4129, True),
        ("bad_messages", 4400, False),
        ("unauthenticated", 4401, True),
        ("authentication_timeout", 4401, True),
        ("invalid_token", 4401, True),
        ("wrong_user", 4401, True),
        ("signed_out", 4401, True),
        ("not_found", 4403, True),
    ],
)
def test_every_end_has_its_code(name: str, code: int, has_error: bool) -> None:
    """Each reason has its close code, after an error if the client is the cause."""
    outputs = signed_in().end(name)
    assert isinstance(outputs[-1], Close)
    assert outputs[-1].code == code
    assert [error(each)["code"] for each in outputs[:-1]] == ([name] if has_error else [])


def test_the_list_of_ends_is_complete() -> None:
    """The test above covers every name in `ENDINGS`."""
    marks = test_every_end_has_its_code.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in marks[0].args[1]} == set(conversation.ENDINGS)


@pytest.mark.parametrize("name", ["rate_limited", "too_many_connections"])
def test_a_refusal_has_the_time_to_reconnect(name: str) -> None:
    """The error for an exceeded limit has `retry_after`."""
    outputs = signed_in().end(name, retry_after=7)
    assert error(outputs[0]) == {"code": name, "retry_after": 7}


def test_nothing_follows_the_close() -> None:
    """A closed conversation has no outputs for any input."""
    silent: list[Callable[[Conversation], list[Output]]] = [
        lambda it: say(it, {"type": "ping", "timestamp": 1}),
        lambda it: say(it, "x"),
        lambda it: it.tick(later(1000)),
        lambda it: it.missing("d1"),
        lambda it: it.sent("d1", 5, last=True),
        lambda it: it.end("restarting"),
    ]
    opened = signed_in()
    opened.end("signed_out")
    assert [act(opened) for act in silent] == [[]] * len(silent)
    assert opened.deadline() is None


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_sentences_are_complete_and_fit(lang: str) -> None:
    """Every end and error has a sentence in both languages that fits into a close frame: 123 bytes."""
    sentences = SENTENCES[lang]
    assert set(sentences) == set(conversation.ENDINGS) | {"bad_message", "too_many_dreams"}
    assert all(0 < len(text.encode()) <= 123 for text in sentences.values())
    assert len(set(sentences.values())) == len(sentences)


def test_errors_speak_the_connections_language() -> None:
    """On a Chinese connection, the error and the reason are in Chinese."""
    text = "令牌无效、已过期或已被撤销。"
    outputs = new(lang="zh").opened("Bearer eve", START)
    assert outputs == [Send(ErrorMessage("invalid_token", text)), Close(4401, text)]
