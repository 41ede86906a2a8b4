"""The images of a dream over HTTP: add, remove, retry, download the original.

It must not know how an image is processed.
"""

from collections.abc import AsyncIterator
from typing import Any

from handlers import forms
from handlers.answers import answer_dream
from handlers.base import ApiHandler
from handlers.problems import FieldError, Invalid, Problem
from handlers.upload import UploadHandler
from handlers.views import UrlForHost
from processing import formats
from storage.dreams import Dreams
from storage.errors import NotFound
from storage.files import Files
from storage.jobs import Jobs
from storage.model import Dream, Image, State
from storage.staging import Staging


class ImagesHandler(UploadHandler):
    """`/api/dreams/{id}/images`"""

    def initialize(self, *, dreams: Dreams, url_for_host: UrlForHost, **shared: Any) -> None:
        super().initialize(**shared)
        self.dreams = dreams
        self.url_for_host = url_for_host

    async def begin(self) -> None:
        if self.request.method != "POST":
            return
        owner, dream_id = self.caller.user, self.path_args[0]
        dream = await self.dreams.get(owner, dream_id)
        self.key = self.idempotency_key()
        if self.key is not None and (first := await self.dreams.first_result(owner, dream_id, self.key)):
            answer_dream(self, 201, first, self.url_for_host)
            return
        if not self.is_multipart():
            raise Problem(415, "images_as_form")
        self.open_upload(room=self.allowed.max_per_dream - len(dream.images))

    async def post(self, dream_id: str) -> None:
        async with self.uploaded() as upload:
            if unknown := set(upload.fields) - {"positions"}:
                allowed = ["images", "positions"]
                raise Invalid([FieldError(name, "unknown_field", allowed=allowed) for name in sorted(unknown)])
            if not upload.parts:
                raise Invalid([FieldError("images", "no_images")])
            dream = await self.dreams.get(self.caller.user, dream_id)
            raw = upload.fields.get("positions", [])
            positions = forms.positions(raw, images=len(upload.parts), length=len(dream.content))
            limit = self.allowed.max_per_dream
            dream = await self.dreams.add_images(
                self.caller.user, dream_id, upload.placed(positions), max_images=limit, key=self.key
            )
            upload.keep_if_in(dream)
        answer_dream(self, 201, dream, self.url_for_host)


class ImageHandler(ApiHandler):
    """`/api/dreams/{id}/images/{image_id}`"""

    def initialize(self, *, dreams: Dreams, **shared: Any) -> None:
        super().initialize(**shared)
        self.dreams = dreams

    async def delete(self, dream_id: str, image_id: str) -> None:
        await self.dreams.remove_image(self.caller.user, dream_id, int(image_id))
        self.log_about = f"dream={dream_id} image={image_id}"
        self.set_status(204)


class RetryHandler(ApiHandler):
    """`/api/dreams/{id}/images/{image_id}/retry`"""

    def initialize(self, *, dreams: Dreams, jobs: Jobs, url_for_host: UrlForHost, **shared: Any) -> None:
        super().initialize(**shared)
        self.dreams = dreams
        self.jobs = jobs
        self.url_for_host = url_for_host

    async def post(self, dream_id: str, image_id: str) -> None:
        dream, image = await _own_image(self.dreams, self.caller.user, dream_id, image_id)
        retried = await self.jobs.retry(dream, image) if image.state is State.FAILED else None
        if retried is None:
            raise Problem(409, "not_failed")
        answer_dream(self, 202, retried, self.url_for_host)


class OriginalHandler(ApiHandler):
    """`/api/dreams/{id}/images/{image_id}/original`"""

    def initialize(self, *, dreams: Dreams, files: Files, staging: Staging, **shared: Any) -> None:
        super().initialize(**shared)
        self.dreams = dreams
        self.files = files
        self.staging = staging

    async def get(self, dream_id: str, image_id: str) -> None:
        _, image = await _own_image(self.dreams, self.caller.user, dream_id, image_id)
        try:
            first, pieces = await self._begin(image)
        except NotFound:
            # The file may have moved since the dream was read, because the image has been completed.
            _, image = await _own_image(self.dreams, self.caller.user, dream_id, image_id)
            first, pieces = await self._begin(image)
        extension = formats.EXTENSIONS.get(image.format, "bin")
        self.set_header("Content-Type", formats.MEDIA_TYPES.get(image.format, "application/octet-stream"))
        self.set_header("Content-Length", image.bytes)
        self.set_header("Content-Disposition", f'attachment; filename="dream-{dream_id}-{image_id}.{extension}"')
        self.write(first)
        await self.flush()
        async for piece in pieces:
            self.write(piece)
            await self.flush()

    async def _begin(self, image: Image) -> tuple[bytes, AsyncIterator[bytes]]:
        """The first piece of the file, and the others: a missing file must be a 404, not a broken download."""
        if image.original is not None and image.state is State.COMPLETED:
            pieces = self.files.open(image.original)
        elif image.staged is not None:
            pieces = self.staging.read(image.staged)
        else:
            raise Problem(404, "no_original")
        return await anext(pieces, b""), pieces


async def _own_image(dreams: Dreams, owner: str, dream_id: str, image_id: str) -> tuple[Dream, Image]:
    dream = await dreams.get(owner, dream_id)
    image = dream.image(int(image_id))
    if image is None:
        raise Problem(404, "no_image")
    return dream, image
