"""The version, formats and limits of the server, which a client reads before anybody signs in.

It must not know the client.
"""

from typing import Any

from config import Config
from handlers.base import ApiHandler
from handlers.bodies import (
    CONTENT_LENGTH,
    LUCIDITY,
    MOOD_LENGTH,
    TAG_LENGTH,
    TAGS,
    TITLE_LENGTH,
    FormatBody,
    LimitsBody,
    ServerBody,
)
from handlers.messages import MAX_DREAMS
from handlers.requests import MAX_PAGE, MAX_WAIT, NAME_LENGTH, PASSWORD
from handlers.upload import max_request_bytes
from processing.formats import ACCEPTED, MEDIA_TYPES
from version import VERSION


def server_body(config: Config) -> ServerBody:
    """The answer, which stays the same while the server runs."""
    images = config.images
    return ServerBody(
        name="Dreamlog",
        version=VERSION,
        registration=config.auth.registration,
        formats=[
            FormatBody(name, kind, images.max_pixels) for name, kind in zip(ACCEPTED, MEDIA_TYPES.values(), strict=True)
        ],
        limits=LimitsBody(
            title_length=TITLE_LENGTH,
            content_length=CONTENT_LENGTH,
            mood_length=MOOD_LENGTH,
            tag_length=TAG_LENGTH,
            tags=TAGS,
            lucidity=LUCIDITY[-1],
            images=images.max_per_dream,
            image_bytes=images.max_bytes,
            request_bytes=max_request_bytes(images),
            frames=images.max_frames,
            username_length=NAME_LENGTH,
            password_length=PASSWORD[-1],
            password_min_length=PASSWORD[0],
            page=MAX_PAGE,
            wait=MAX_WAIT,
            subscriptions=MAX_DREAMS,
            message_bytes=config.websocket.max_message,
            auth_timeout=config.websocket.auth_timeout,
        ),
    )


class ServerInfoHandler(ApiHandler):
    """`/api/server`"""

    public = True

    def initialize(self, *, body: ServerBody, **shared: Any) -> None:
        super().initialize(**shared)
        self.body = body

    async def get(self) -> None:
        self.answer(200, self.body)
