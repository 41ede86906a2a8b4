"""Multipart uploads: checks the limits and the first bytes of each image while they stream, and stages the files.

It must not know what happens to the images later. At most a megabyte of an image is in memory at a time.
"""

import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from config import Images
from handlers.base import JSON_LIMIT, ApiHandler
from handlers.limits import RateLimits
from handlers.problems import FieldError, Invalid, Problem
from handlers.requests import KEY_LENGTH
from processing import dimensions, formats
from storage.errors import Unavailable
from storage.model import Dream, StagedUpload
from storage.staging import Part, Staging

FIELDS = ("title", "content", "dreamed_at", "mood", "lucidity", "tags", "positions")
TEXT_FIELDS = 1000  # in one form: tags and positions are repeated
TEXT_LIMIT = JSON_LIMIT  # bytes of all text fields together


def max_request_bytes(settings: Images) -> int:
    """The most bytes of one request: all images, all text fields, and the headers of the parts."""
    return settings.max_bytes * settings.max_per_dream + 2 * TEXT_LIMIT


class Received(NamedTuple):
    part: Part
    format: str  # by its first bytes
    size: dimensions.Size | None  # upright, by its header


class Upload:
    """The parts of one request. Its creator must end it with `keep` or `discard`."""

    def __init__(
        self, headers: Mapping[str, str], *, staging: Staging, settings: Images, room: int, one_more: Callable[[], None]
    ) -> None:
        """`room` is the number of images that may come. `one_more` is called for each, and may refuse it by raising."""
        self.fields: dict[str, list[str]] = {}
        self.parts: list[Received] = []
        self._staging = staging
        self._settings = settings
        self._room = room
        self._one_more = one_more
        self._part: Part | None = None  # the image that is being received
        self._format: str | None = None
        self._head = bytearray()
        self._text: bytearray | None = None  # the text field that is being received
        self._text_size = 0
        self._max_bytes = max_request_bytes(settings)
        self._received = 0
        self._segment: MultipartSegment | None = None  # the part that is being received
        _, options = parse_options_header(headers.get("Content-Type", ""))
        if not options.get("boundary"):
            raise Problem(400, "no_boundary")
        with _readable():
            self._parser = PushMultipartParser(options["boundary"])

    async def receive(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._received > self._max_bytes:
            raise Problem(413, "upload_too_large", most=self._max_bytes)
        with _readable():
            for event in self._parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    self._segment = event
                    self._begins(event.name)
                elif event is not None:
                    await self._goes_on(event)
                else:
                    await self._ends()

    def finish(self) -> None:
        """Call after the last byte. Every image is durable then; raises a 400 for a form that is incomplete."""
        try:
            self._parser.close()
        except MultipartError:
            raise Problem(400, "form_ends_early") from None

    def placed(self, positions: list[int]) -> list[StagedUpload]:
        return [
            StagedUpload(part.name, part.sha256, part.size, kind, position, *(size or (None, None)))
            for (part, kind, size), position in zip(self.parts, positions, strict=True)
        ]

    def keep_if_in(self, dream: Dream) -> None:
        """Keep the images if they are in `dream`. They are not when a request with the same key was faster."""
        if {part.name for part, *_ in self.parts} & {image.staged for image in dream.images}:
            self.keep()

    def keep(self) -> None:
        """The images belong to a dream now."""
        self.parts = []

    def discard(self) -> None:
        for part in [part for part, *_ in self.parts] + ([self._part] if self._part else []):
            part.discard()
        self.parts, self._part = [], None

    def _begins(self, field: str) -> None:
        if field == "images":
            if len(self.parts) >= self._room:
                raise Problem(413, "too_many_images", most=self._settings.max_per_dream)
            self._part, self._format, self._head = self._staging.part(), None, bytearray()
        elif field in FIELDS:
            if sum(map(len, self.fields.values())) >= TEXT_FIELDS:
                raise Problem(413, "too_many_fields", most=TEXT_FIELDS)
            self._text = bytearray()
        else:
            raise Invalid([FieldError(field, "unknown_field", allowed=[*FIELDS, "images"])])

    async def _goes_on(self, data: bytes) -> None:
        if self._part is None:
            assert self._text is not None
            self._text += data
            self._text_size += len(data)
            if self._text_size > TEXT_LIMIT:
                raise Problem(413, "text_too_large", most=TEXT_LIMIT)
            return
        if self._part.size + len(self._head) + len(data) > self._settings.max_bytes:
            raise Problem(413, "image_too_large", most=self._settings.max_bytes)
        if self._format is not None:
            await self._part.write(data)
            return
        self._head += data
        if len(self._head) >= formats.HEAD_BYTES:
            await self._recognize()

    async def _ends(self) -> None:
        assert self._segment is not None
        if self._part is not None:
            await self._image_ends(self._part, named=bool(self._segment.filename))
            self._part = None
            return
        assert self._text is not None
        field = self._segment.name
        try:
            self.fields.setdefault(field, []).append(self._text.decode())
        except UnicodeDecodeError:
            raise Invalid([FieldError(field, "must_be_utf8")]) from None
        self._text = None

    async def _image_ends(self, part: Part, *, named: bool) -> None:
        if self._format is None:
            if not named and not self._head:
                return  # browsers send such a part when the user has picked no file
            await self._recognize()
        kind = self._format
        assert kind is not None
        size = await part.finish(lambda file: dimensions.size(file, kind))
        self.parts.append(Received(part, kind, size))

    async def _recognize(self) -> None:
        assert self._part is not None
        self._format = formats.sniff(bytes(self._head))
        if self._format is None:
            number = len(self.parts) + 1
            raise Problem(415, "format_not_accepted", number=number, formats=list(formats.ACCEPTED))
        self._one_more()
        await self._part.write(bytes(self._head))
        self._head.clear()


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except MultipartError as error:
        raise Problem(400, "form_unreadable") from error


class UploadHandler(ApiHandler):
    """A call that takes images; `upload` is None when the body is JSON."""

    def initialize(self, *, staging: Staging, allowed: Images, limits: RateLimits, **shared: Any) -> None:
        super().initialize(**shared)
        self.staging = staging
        self.allowed = allowed
        self.limits = limits
        self.upload: Upload | None = None

    def idempotency_key(self) -> str | None:
        key = self.request.headers.get("Idempotency-Key")
        if key is not None and not (0 < len(key) <= KEY_LENGTH):
            raise Problem(400, "bad_idempotency_key", most=KEY_LENGTH)
        return key

    def is_multipart(self) -> bool:
        return self.request.headers.get("Content-Type", "").lower().startswith("multipart/")

    def open_upload(self, room: int) -> None:
        length = self.incoming.length or 0  # a chunked body has no length; receive() counts its bytes
        most = max_request_bytes(self.allowed)
        if length > most:
            raise Problem(413, "upload_too_large", most=most)
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
        else:
            await self.upload.receive(chunk)

    def abandon(self) -> None:
        """Once the method runs, the upload belongs to `uploaded`."""
        if self.upload is not None:
            self.upload.discard()

    @asynccontextmanager
    async def uploaded(self) -> AsyncIterator[Upload]:
        """The whole upload, durable. Its files are removed at the end of the block unless `keep` was called."""
        assert self.upload is not None
        upload, self.upload = self.upload, None
        try:
            upload.finish()
            # A slow upload may outlive its token, but not its account or session. This check reads only memory.
            self.tokens.check(replace(self.caller, expires=math.inf), time.time())
            yield upload
        except Unavailable:
            # The database may have written the dream although its answer was lost. The janitor removes orphans.
            upload.keep()
            raise
        finally:
            upload.discard()
