"""The data that clients see: a dream as JSON, and the messages of the WebSocket and the event stream.

Pure: it must not know Tornado, the database or the listeners; the time is a parameter.
"""

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from msgspec import UNSET

from handlers.bodies import AccountBody, DreamBody, ImageBody, ImageErrorBody, UserBody, VariantBody
from handlers.language import Language
from handlers.messages import (
    ESTABLISHED,
    CompletedImageBody,
    ConnectionEstablishedMessage,
    DreamDeletedMessage,
    FailedImageBody,
    ImageProgressMessage,
    ImageUpdateMessage,
    ServerMessage,
    TokenExpiringMessage,
)
from handlers.sentences import failure
from storage.model import FAILURES, Dream, Image, Status, User

UrlFor = Callable[[str], str]  # key in the file storage -> URL that a client can fetch
UrlForHost = Callable[[str], UrlFor]  # base URL that a client used, as `https://dreams.example.org` -> URLs there


def rfc3339(moment: datetime) -> str:
    """`moment` with its own offset; UTC is written as Z."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def user(user: User) -> UserBody:
    return UserBody(user.id, user.username)


def account(user: User) -> AccountBody:
    return AccountBody(user.id, user.username, rfc3339(user.created_at))


def error(image: Image, language: Language = "en") -> ImageErrorBody | None:
    if image.failure is None:
        return None
    _, retryable = FAILURES[image.failure]
    return ImageErrorBody(image.failure, failure(image.failure, language), retryable)


def image(image: Image, url_for: UrlFor, language: Language = "en") -> ImageBody:
    """One image as a dream shows it; a value that is not known yet is null."""
    completed = image.status is Status.COMPLETED
    variants = {
        name: VariantBody(url_for(v.key), v.type, v.width, v.height, v.bytes)
        for name, v in image.variants.items()
        if completed
    }
    return ImageBody(
        id=image.id,
        position=image.position,
        status=image.status,
        url=url_for(image.largest.key) if completed and image.largest is not None else None,
        variants=variants,
        width=image.width,
        height=image.height,
        animated=image.animated,
        placeholder=image.placeholder,
        attempt=image.attempt,
        error=error(image, language),
    )


def dream(dream: Dream, url_for: UrlFor, language: Language = "en") -> DreamBody:
    return DreamBody(
        id=dream.id,
        title=dream.title,
        content=dream.content,
        dreamed_at=rfc3339(dream.dreamed_at),
        tags=list(dream.tags),
        mood=dream.mood,
        lucidity=dream.lucidity,
        status=dream.status,
        revision=dream.revision,
        created_at=rfc3339(dream.created_at.astimezone(UTC)),
        updated_at=rfc3339(dream.updated_at.astimezone(UTC)),
        images=[image(each, url_for, language) for each in dream.images],
    )


def connection_established(dream_id: str, language: str) -> ConnectionEstablishedMessage:
    return ConnectionEstablishedMessage(dream_id, ESTABLISHED[language])


def image_update(dream: Dream, url_for: UrlFor, now: float, language: Language = "en") -> ImageUpdateMessage:
    """The dream's state at the time `now`. `images` are the completed ones, once none is processing."""
    finished = dream.status is not Status.PROCESSING
    completed = [
        CompletedImageBody(each.id, url_for(each.largest.key), each.position)
        for each in dream.images
        if finished and each.status is Status.COMPLETED and each.largest is not None
    ]
    failed = [
        FailedImageBody(each.id, each.position, why)
        for each in dream.images
        if each.status is Status.FAILED and (why := error(each, language)) is not None
    ]
    return ImageUpdateMessage(dream.id, dream.status, completed, now, dream.revision, failed if finished else UNSET)


def image_progress(
    dream: Dream, changed: Image, url_for: UrlFor, now: float, language: Language = "en"
) -> ImageProgressMessage:
    """One image is completed or has failed; `done` of `total` are."""
    return ImageProgressMessage(
        dream_id=dream.id,
        image=image(changed, url_for, language),
        done=sum(each.status is not Status.PROCESSING for each in dream.images),
        total=len(dream.images),
        revision=dream.revision,
        timestamp=now,
    )


def token_expiring(seconds: float) -> TokenExpiringMessage:
    return TokenExpiringMessage(max(0, math.ceil(seconds)))


def updates(
    dream: Dream, changed: Image | None, url_for: UrlFor, now: float, language: Language = "en"
) -> Iterator[tuple[int, ServerMessage]]:
    """The messages about a change, in order: (0 for the dream or the image's id, message).

    Of each dream, the newest message under one number replaces what is still queued under it.
    """
    if dream.deleted:
        yield 0, DreamDeletedMessage(dream.id, now)
        return
    if changed is not None and changed.status is not Status.PROCESSING:
        yield changed.id, image_progress(dream, changed, url_for, now, language)
    if changed is None or dream.status is not Status.PROCESSING or changed.status is Status.PROCESSING:
        yield 0, image_update(dream, url_for, now, language)
