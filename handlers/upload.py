"""One multipart request while it streams: its limits, first bytes and staged files; gone unless kept.

It must not know what becomes of the images, and nothing of an image is ever whole in memory.
"""

import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from streaming_form_data import ParseFailedException, StreamingFormDataParser
from streaming_form_data.parser import UnexpectedPartException
from streaming_form_data.targets import BaseTarget

from config import Images
from handlers.base import JSON_LIMIT, UNKNOWN, ApiHandler, Problem
from handlers.limits import Limits
from processing import dimensions, formats
from storage.errors import Unavailable
from storage.model import Dream
from storage.model import Upload as StagedUpload
from storage.staging import Part, Staging

FIELDS = ("title", "content", "dreamed_at", "mood", "lucidity", "tags", "positions")
KEY_LENGTH = 255
TEXT_FIELDS = 1000  # in one form: tags and positions are repeated
TEXT_LIMIT = JSON_LIMIT  # bytes of all text fields together


class Received(NamedTuple):
    part: Part
    format: str  # by its first bytes
    size: dimensions.Size | None  # upright, by its header


class Upload:
    """The parts of one request. Whoever makes one must end it with `keep` or `discard`."""

    def __init__(
        self, headers: Mapping[str, str], *, staging: Staging, settings: Images, room: int, one_more: Callable[[], None]
    ) -> None:
        """`room`: how many images may come; `one_more` is called for each, and may refuse it by raising."""
        self.fields: dict[str, list[str]] = {}
        self.parts: list[Received] = []
        self._staging = staging
        self._settings = settings
        self._room = room
        self._one_more = one_more
        self._events: list[tuple[str, str, bytes]] = []  # (field, what happened, bytes) since the last chunk
        self._part: Part | None = None  # the image that is coming
        self._format: str | None = None
        self._head = bytearray()
        self._text: bytearray | None = None  # the text field that is coming
        self._text_size = 0
        with _readable():
            self._parser = StreamingFormDataParser(headers=headers, strict=True)
            for name in (*FIELDS, "images"):
                self._parser.register(name, _Recorder(name, self._events))

    async def receive(self, chunk: bytes) -> None:
        with _readable():
            self._parser.data_received(chunk)
        events, self._events[:] = list(self._events), []
        for field, what, data in events:
            if field == "images":
                await self._image_event(what, data)
            else:
                self._text_event(field, what, data)

    async def finish(self) -> None:
        """After the last byte: every image is durable when this returns."""
        if self._part is not None or self._text is not None:
            raise Problem(400, "The body ends in the middle of a part.")
        if self.parts:
            await self._staging.sync()

    def placed(self, positions: list[int]) -> list[StagedUpload]:
        return [
            StagedUpload(part.name, part.sha256, part.size, kind, position, *(size or (None, None)))
            for (part, kind, size), position in zip(self.parts, positions, strict=True)
        ]

    def keep_if_in(self, dream: Dream) -> None:
        """Keep the images when `dream` has them; it has not when an equal request was faster."""
        if {part.name for part, *_ in self.parts} & {image.staged for image in dream.images}:
            self.keep()

    def keep(self) -> None:
        """The images belong to a dream now."""
        self.parts = []

    def discard(self) -> None:
        for part in [part for part, *_ in self.parts] + ([self._part] if self._part else []):
            part.discard()
        self.parts, self._part = [], None

    def _text_event(self, field: str, what: str, data: bytes) -> None:
        if what == "start":
            self._text = bytearray()
            if sum(map(len, self.fields.values())) >= TEXT_FIELDS:
                raise Problem(413, f"There may be at most {TEXT_FIELDS} text fields.")
        elif what == "data" and self._text is not None:
            self._text += data
            self._text_size += len(data)
            if self._text_size > TEXT_LIMIT:
                raise Problem(413, f"The text fields may have at most {TEXT_LIMIT} bytes in all.")
        elif self._text is not None:
            try:
                self.fields.setdefault(field, []).append(self._text.decode())
            except UnicodeDecodeError:
                errors = [{"field": field, "message": "must be UTF-8"}]
                raise Problem(422, f"{field}: must be UTF-8", errors=errors) from None
            self._text = None

    async def _image_event(self, what: str, data: bytes) -> None:
        if what == "start":
            self._part, self._format, self._head = self._staging.part(), None, bytearray()
            if len(self.parts) >= self._room:
                raise Problem(413, f"A dream may have at most {self._settings.max_per_dream} images.")
            return
        assert self._part is not None
        if what == "data":
            if self._part.size + len(self._head) + len(data) > self._settings.max_bytes:
                raise Problem(413, f"An image may have at most {self._settings.max_bytes} bytes.")
            if self._format is None:
                self._head += data
                if len(self._head) >= formats.HEAD_BYTES:
                    await self._recognize()
            else:
                await self._part.write(data)
            return
        if self._format is None:
            if what == "end unnamed" and not self._head:
                # What a browser sends for a file field in which nothing was picked.
                self._part = None
                return
            await self._recognize()
        kind = self._format
        assert kind is not None
        size = await self._part.finish(lambda file: dimensions.size(file, kind))
        self.parts.append(Received(self._part, kind, size))
        self._part = None

    async def _recognize(self) -> None:
        assert self._part is not None
        self._format = formats.sniff(bytes(self._head))
        if self._format is None:
            number = len(self.parts) + 1
            accepted = ", ".join(formats.ACCEPTED)
            raise Problem(415, f"Image {number} is not of an accepted format. Accepted: {accepted}.")
        self._one_more()
        await self._part.write(bytes(self._head))
        self._head.clear()


class _Recorder(BaseTarget):  # type: ignore[misc]
    """Notes what the parser finds, because the parser itself cannot wait for the disk."""

    def __init__(self, field: str, events: list[tuple[str, str, bytes]]) -> None:
        super().__init__()
        self._field = field
        self._events_found = events

    def on_start(self) -> None:
        self._events_found.append((self._field, "start", b""))

    def on_data_received(self, chunk: bytes) -> None:
        self._events_found.append((self._field, "data", bytes(chunk)))

    def on_finish(self) -> None:
        self._events_found.append((self._field, "end" if self.multipart_filename else "end unnamed", b""))
        self.set_multipart_filename("")  # the next part of this name may have none


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except UnexpectedPartException as error:
        message = f"there is no such field; there are {', '.join(FIELDS)}, images"
        raise Problem(
            422, f"{error.part_name}: {message}", errors=[{"field": error.part_name, "message": message}]
        ) from None
    except ParseFailedException as error:
        raise Problem(400, f"The body is not multipart/form-data that can be read: {error}.") from error


class UploadHandler(ApiHandler):
    """A call that takes images; `upload` is None when the body is JSON."""

    def initialize(self, *, staging: Staging, allowed: Images, limits: Limits, **shared: Any) -> None:
        super().initialize(**shared)
        self.staging = staging
        self.allowed = allowed
        self.limits = limits
        self.upload: Upload | None = None
        self._receiving = False
        self._abandoned = False

    def idempotency_key(self) -> str | None:
        key = self.request.headers.get("Idempotency-Key")
        if key is not None and not (0 < len(key) <= KEY_LENGTH):
            raise Problem(400, f"An Idempotency-Key has 1 to {KEY_LENGTH} characters.")
        return key

    def is_multipart(self) -> bool:
        return self.request.headers.get("Content-Type", "").lower().startswith("multipart/")

    def open_upload(self, room: int) -> None:
        length = 0 if self.unread == UNKNOWN else self.unread
        most = self.allowed.max_bytes * self.allowed.max_per_dream + 2 * TEXT_LIMIT
        if length > most:
            raise Problem(413, f"An upload may have at most {most} bytes in all.")
        self.staging.check_room(length)
        self.upload = Upload(
            self.request.headers,
            staging=self.staging,
            settings=self.allowed,
            room=room,
            one_more=lambda: self.limits.images(self.caller.user, 1),
        )

    async def receive(self, chunk: bytes) -> None:
        if self.upload is None:
            await super().receive(chunk)
            return
        self._receiving = True
        try:
            await self.upload.receive(chunk)
        finally:
            self._receiving = False
            if self._abandoned:
                self.upload.discard()

    def abandon(self) -> None:
        """Not while a thread writes: `receive` sees to it then. Once the method runs, the upload is the method's."""
        self._abandoned = True
        if self.upload is not None and not self._receiving:
            self.upload.discard()

    @asynccontextmanager
    async def uploaded(self) -> AsyncIterator[Upload]:
        """The whole upload, durable; its images go when the block is left without `keep`."""
        assert self.upload is not None
        upload, self.upload = self.upload, None
        self.unread = 0
        try:
            await upload.finish()
            # A slow upload may outlive its token, but not its account or session. Only memory is asked.
            self.tokens.check(replace(self.caller, expires=math.inf), time.time())
            yield upload
        except Unavailable:
            # The database may have taken the write and lost the answer. The janitor removes what nobody refers to.
            upload.keep()
            raise
        finally:
            upload.discard()
