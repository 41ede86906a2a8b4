"""Every message of the WebSocket and the event stream, with its sentences in Chinese and English.

Pure: it must not know Tornado, the database or the listeners. The server encodes and decodes with these Structs, and
`contracts.py` publishes them: a class `PingMessage` is called `Ping` there.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from handlers.bodies import DreamId, ImageBody, ImageErrorBody, ImageId, Position, Revision, Timestamp, Url
from storage.model import FAILURES, Status

MAX_DREAMS = 1000  # on one connection: each costs a heartbeat every 25 s

# ---- sentences of the WebSocket and the event stream

ESTABLISHED = {"zh": "连接已建立，等待图片处理状态更新", "en": "Connected. Waiting for image updates."}

# Sent in an `error` and as the reason of a close, which may have 123 bytes: 41 Chinese characters.
SENTENCES: dict[str, dict[str, str]] = {
    "zh": {
        "dream_deleted": "这个梦已被删除。",
        "message_too_big": "消息过长。",
        "restarting": "服务器正在重启，请稍后重试。",
        "unavailable": "数据库暂时不可用，请稍后重试。",
        "token_expired": "令牌已过期，请使用新令牌重新连接。",
        "signed_out_elsewhere": "已在其他设备上退出登录，请使用新令牌重新连接。",
        "too_slow": "客户端接收消息过慢。",
        "no_pong": "客户端未及时响应 ping。",
        "too_many_connections": "该账号的连接数已达上限，请稍后再试。",
        "rate_limited": "该账号发送消息过于频繁，请稍后再试。",
        "bad_message": "消息格式有误。",
        "bad_messages": "格式有误的消息过多。",
        "unauthenticated": "请先发送带有令牌的 authenticate 消息。",
        "authentication_timeout": "未在规定时间内收到令牌。",
        "invalid_token": "令牌无效、已过期或已被撤销。",
        "wrong_user": "该令牌属于其他用户。",
        "signed_out": "已退出登录。",
        "not_found": "找不到这个梦。",
        "too_many_dreams": f"每个连接最多可订阅 {MAX_DREAMS} 个梦。",
    },
    "en": {
        "dream_deleted": "The dream has been deleted.",
        "message_too_big": "The message is too long.",
        "restarting": "The server is restarting. Try again in a moment.",
        "unavailable": "The database is unavailable. Try again in a moment.",
        "token_expired": "The token has expired. Reconnect with a new token.",
        "signed_out_elsewhere": "You signed out on another device. Reconnect with a new token.",
        "too_slow": "The client reads messages too slowly.",
        "no_pong": "The client did not answer a ping in time.",
        "too_many_connections": "This account has too many connections. Try again later.",
        "rate_limited": "This account sends too many messages. Try again later.",
        "bad_message": "The message is invalid.",
        "bad_messages": "The client sent too many invalid messages.",
        "unauthenticated": "Send an authenticate message with a token first.",
        "authentication_timeout": "No token arrived in time.",
        "invalid_token": "The token is invalid, expired or revoked.",
        "wrong_user": "The token belongs to another user.",
        "signed_out": "You have signed out.",
        "not_found": "There is no such dream.",
        "too_many_dreams": f"One connection may subscribe to at most {MAX_DREAMS} dreams.",
    },
}

# The others are only reasons of a close.
ERRORS = [
    code
    for code in SENTENCES["en"]
    if code not in ("dream_deleted", "unavailable", "too_slow", "no_pong", "bad_messages")
]

CLOSE_CODES = {
    1000: "The client asked for it, or its dream was deleted.",
    1009: "A message was longer than the server allows.",
    1012: "The server is restarting. Reconnect after a random delay of up to 5 seconds.",
    4101: "The token has expired (`token_expired`): reconnect with a new one. Or the user signed out on another device "
    "(`signed_out_elsewhere`): reconnect; the session of this connection goes on, and its token may still be valid.",
    4102: "The client took its messages too slowly. Reconnect.",
    4103: "The client did not answer a protocol ping. Reconnect.",
    4129: "The account has too many connections or sends too many messages. Reconnect after the `retry_after` of the "
    "last `error`.",
    4400: "The server did not understand five messages.",
    4401: "The token is missing, wrong or revoked, belongs to another user than the first one, or did not come in "
    "time; or this session has signed out, or the account was deleted.",
    4403: "The dream does not exist, or belongs to another user. Only the channel of one dream closes then.",
}

CORRUPT = {"code": "corrupt", "message": FAILURES["corrupt"][0], "retryable": False}  # an example

# ---- from the server


class ServerMessage(Struct, tag_field="type"):
    """A message from the server."""


class ConnectionEstablishedMessage(ServerMessage, tag="connection_established"):
    """The server accepts the client, and listens to the dream for it. The dream's state follows at once.

    It comes once for each dream. Where `subscribe` names the dream again, only the state comes again.
    """

    dream_id: DreamId
    message: Annotated[
        str,
        Meta(
            description="Chinese, or English where `Accept-Language` prefers it.",
            examples=[ESTABLISHED["zh"], ESTABLISHED["en"]],
        ),
    ]


class CompletedImageBody(Struct):
    """A completed image, in short."""

    id: ImageId
    url: Url
    position: Position


class FailedImageBody(Struct):
    """A failed image, in short."""

    id: ImageId
    position: Position
    error: ImageErrorBody


class ImageUpdateMessage(ServerMessage, tag="image_update"):
    """The dream's state: at first, after each change but the end of an image, and after the end of the last image.

    While `status` is `processing`, `images` is empty: keep what is shown, also during a retry. A client that joins
    midway reads the dream for the images that have ended already. Any other `status` is the end of the processing.
    An edit of texts arrives as this message too: when `revision` rises without an `image_progress`, read the dream.
    """

    dream_id: DreamId
    status: Status
    images: Annotated[
        list[CompletedImageBody],
        Meta(description="The completed images by position, then id; empty while any image is processing."),
    ]
    timestamp: Timestamp
    revision: Revision
    failed_images: (
        Annotated[
            list[FailedImageBody],
            Meta(
                description="The failed images by position, then id. Present once no image is processing.",
                examples=[[{"id": 2, "position": 20, "error": CORRUPT}]],
            ),
        ]
        | UnsetType
    ) = UNSET


class ImageProgressMessage(ServerMessage, tag="image_progress"):
    """One image is completed or has failed.

    After that of the last image, an `image_update` of the same `revision` follows; after that of any other, none does.
    """

    dream_id: DreamId
    image: ImageBody
    done: Annotated[int, Meta(description="Images that are completed or have failed.", ge=1)]
    total: Annotated[int, Meta(description="Images of the dream.", ge=1)]
    revision: Revision
    timestamp: Timestamp


class HeartbeatMessage(ServerMessage, tag="heartbeat"):
    """Sent every 25 seconds for each dream.

    A client that hears nothing for 60 seconds reconnects. A revision above the client's own means that it has missed
    a change.
    """

    dream_id: DreamId
    revision: Revision
    timestamp: Timestamp


class DreamDeletedMessage(ServerMessage, tag="dream_deleted"):
    """The dream is gone. A connection for this dream alone closes next."""

    dream_id: DreamId
    timestamp: Timestamp


class TokenExpiringMessage(ServerMessage, tag="token_expiring"):
    """The token expires soon: send `authenticate` with a new one."""

    expires_in: Annotated[int, Meta(description="Seconds.", ge=0, examples=[60])]


class PongMessage(ServerMessage, tag="pong"):
    """The answer to a `ping`."""

    timestamp: Annotated[
        msgspec.Raw, Meta(description="The number of the `ping`, unchanged.", extra_json_schema={"type": "number"})
    ]


class ErrorMessage(ServerMessage, tag="error"):
    """Something the client did was wrong, or the connection ends for the reason given."""

    code: Annotated[str, Meta(extra_json_schema={"$ref": "ErrorCode"})]  # a schema of its own, in `schemas.py`
    message: Annotated[str, Meta(description="A sentence for people, in Chinese or English.")]
    dream_id: Annotated[str, Meta(description="The dream that the error is about.")] | UnsetType = UNSET
    retry_after: Annotated[int, Meta(description="Seconds after which to reconnect.", ge=0)] | UnsetType = UNSET


# ---- from the client


class ClientMessage(Struct, tag_field="type"):
    """A message from a client."""


class AuthenticateMessage(ClientMessage, tag="authenticate"):
    """The access token: the first message, unless the handshake had the `Authorization` header; later, a fresh one.

    It has no answer of its own. For one dream, `connection_established` follows the first one; for many dreams, send
    `subscribe` at once. By default the first one must arrive within 10 seconds (`limits.auth_timeout` of
    `/api/server`).
    """

    token: Annotated[str, Meta(description="`Bearer ` may be missing.", examples=["Bearer eyJ..."])]


class PingMessage(ClientMessage, tag="ping"):
    """Asks for a `pong`. No client has to send it."""

    timestamp: Annotated[
        msgspec.Raw,  # as it was written: a float would lose digits, and the same number must come back
        Meta(description="Any number.", examples=[1649154859.123], extra_json_schema={"type": "number"}),
    ]


class SubscribeMessage(ClientMessage, tag="subscribe"):
    """Listen to these dreams too, in the channel of many dreams.

    For each dream the server answers with `connection_established` and the dream's state, or with an `error`.
    """

    dream_ids: Annotated[list[str], Meta(examples=[["665f0c2a9b1e8a0001a1b2c3"]])]


class UnsubscribeMessage(ClientMessage, tag="unsubscribe"):
    """Listen to these dreams no longer. It has no answer."""

    dream_ids: Annotated[list[str], Meta(examples=[["665f0c2a9b1e8a0001a1b2c3"]])]


def error_message(code: str, language: str, *, dream_id: str | UnsetType = UNSET, retry_after: int = 0) -> ErrorMessage:
    """`code` is a key of `SENTENCES`, `language` one of its two."""
    return ErrorMessage(code, SENTENCES[language][code], dream_id, retry_after or UNSET)
