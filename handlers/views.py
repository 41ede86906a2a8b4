"""What clients are shown: a dream as JSON, and the messages of the WebSocket.

Pure: it must not know Tornado, the database or who listens; the time is a parameter.
"""

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from storage.model import FAILURES, Dream, Image, Status, User

Message = dict[str, Any]
UrlFor = Callable[[str], str]  # key in the file storage -> URL that a client can fetch
UrlForHost = Callable[
    [str], UrlFor
]  # base URL that a client used, as `https://dreams.example.org` -> URLs at that host

LARGEST = "2048"

WAITING = {"zh": "连接已建立，等待图片处理状态更新", "en": "Connected; waiting for news of the pictures."}


def rfc3339(moment: datetime) -> str:
    """`moment` with its own offset; UTC is written as Z."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def user(user: User) -> Message:
    return {"id": user.id, "username": user.username}


def error(image: Image) -> Message | None:
    if image.error is None:
        return None
    message, retryable = FAILURES[image.error]
    return {"code": image.error, "message": message, "retryable": retryable}


def image(image: Image, url_for: UrlFor) -> Message:
    """One image as a dream shows it; what is not known yet is null."""
    completed = image.status is Status.COMPLETED
    variants = {
        name: {"url": url_for(v.key), "type": v.type, "width": v.width, "height": v.height, "bytes": v.bytes}
        for name, v in image.variants.items()
        if completed
    }
    return {
        "id": image.id,
        "position": image.position,
        "status": image.status,
        "url": variants[LARGEST]["url"] if completed else None,
        "variants": variants,
        "width": image.width,
        "height": image.height,
        "animated": image.animated,
        "placeholder": image.placeholder,
        "attempt": image.attempt,
        "error": error(image),
    }


def dream(dream: Dream, url_for: UrlFor) -> Message:
    return {
        "id": dream.id,
        "title": dream.title,
        "content": dream.content,
        "dreamed_at": rfc3339(dream.dreamed_at),
        "tags": list(dream.tags),
        "mood": dream.mood,
        "lucidity": dream.lucidity,
        "status": dream.status,
        "revision": dream.revision,
        "created_at": rfc3339(dream.created_at.astimezone(UTC)),
        "updated_at": rfc3339(dream.updated_at.astimezone(UTC)),
        "images": [image(each, url_for) for each in dream.images],
    }


def connection_established(dream_id: str, language: str) -> Message:
    return {"type": "connection_established", "dream_id": dream_id, "message": WAITING[language]}


def image_update(dream: Dream, url_for: UrlFor, now: float) -> Message:
    """The dream's state of the moment. `images` are the completed ones, once none is processing."""
    message: Message = {
        "type": "image_update",
        "dream_id": dream.id,
        "status": dream.status,
        "images": [],
        "timestamp": now,
        "revision": dream.revision,
    }
    if dream.status is not Status.PROCESSING:
        message["images"] = [
            {"id": each.id, "url": url_for(each.variants[LARGEST].key), "position": each.position}
            for each in dream.images
            if each.status is Status.COMPLETED
        ]
        message["failed_images"] = [
            {"id": each.id, "position": each.position, "error": error(each)}
            for each in dream.images
            if each.status is Status.FAILED
        ]
    return message


def image_progress(dream: Dream, changed: Image, url_for: UrlFor, now: float) -> Message:
    """One image is finished, well or not; `done` of `total` are."""
    return {
        "type": "image_progress",
        "dream_id": dream.id,
        "image": image(changed, url_for),
        "done": sum(each.status is not Status.PROCESSING for each in dream.images),
        "total": len(dream.images),
        "revision": dream.revision,
        "timestamp": now,
    }


def dream_deleted(dream_id: str, now: float) -> Message:
    return {"type": "dream_deleted", "dream_id": dream_id, "timestamp": now}


def heartbeat(dream_id: str, revision: int, now: float) -> Message:
    return {"type": "heartbeat", "dream_id": dream_id, "revision": revision, "timestamp": now}


def token_expiring(seconds: float) -> Message:
    return {"type": "token_expiring", "expires_in": max(0, math.ceil(seconds))}


def updates(dream: Dream, changed: Image | None, url_for: UrlFor, now: float) -> Iterator[tuple[int, Message]]:
    """What listeners are told of a change, in order: (0 for the dream or the image's id, message).

    Of each dream, the newest message under one number replaces what is still waiting under it.
    """
    if dream.deleted:
        yield 0, dream_deleted(dream.id, now)
        return
    if changed is not None and changed.status is not Status.PROCESSING:
        yield changed.id, image_progress(dream, changed, url_for, now)
    if changed is None or dream.status is not Status.PROCESSING or changed.status is Status.PROCESSING:
        yield 0, image_update(dream, url_for, now)
