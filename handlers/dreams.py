"""Dreams over HTTP: list, create, read, change, delete.

It must not know how the database stores a dream, nor how images are processed.
"""

from typing import Any

from handlers import forms, views
from handlers.answers import answer_dream
from handlers.bodies import TITLE_LENGTH, DreamPageBody
from handlers.listening import ListeningHandler
from handlers.problems import FieldError, Invalid
from handlers.upload import UploadHandler
from handlers.views import UrlForHost
from storage.dreams import Dreams, InvalidCursor
from storage.model import Draft


class DreamsHandler(UploadHandler):
    """`/api/dreams`"""

    def initialize(self, *, dreams: Dreams, url_for_host: UrlForHost, **shared: Any) -> None:
        super().initialize(**shared)
        self.dreams = dreams
        self.url_for_host = url_for_host

    async def begin(self) -> None:
        if self.request.method != "POST":
            return
        self.key = self.idempotency_key()
        if self.key is not None and (first := await self.dreams.first_result(self.caller.user, None, self.key)):
            answer_dream(self, 201, first, self.url_for_host)
        elif self.is_multipart():
            self.open_upload(room=self.allowed.max_per_dream)
        else:
            await super().begin()

    async def get(self) -> None:
        query = self.read_query()
        limit, since, until = forms.listing(query)
        try:
            items, cursor = await self.dreams.find(
                self.caller.user,
                limit=limit,
                cursor=query.get("cursor") or None,
                words=query.get("q", "")[:TITLE_LENGTH],
                tag=query.get("tag") or None,
                since=since,
                until=until,
            )
        except InvalidCursor:
            raise Invalid([FieldError("cursor", "bad_cursor")]) from None
        url_for = self.url_for_host(self.access.base_url(self.request))
        self.answer(200, DreamPageBody([views.dream(dream, url_for, self.language) for dream in items], cursor))

    async def post(self) -> None:
        if self.upload is None:
            draft = drafted(forms.fields(self.read_json(dict)), images=0)
            dream = await self.dreams.create(self.caller.user, draft, [], self.key)
        else:
            async with self.uploaded() as upload:
                raw = forms.from_multipart(upload.fields)
                draft = drafted(forms.fields(raw, also_allowed=frozenset({"positions"})), images=len(upload.parts))
                positions = forms.positions(
                    raw.get("positions", []), images=len(upload.parts), length=len(draft.content)
                )
                uploads = upload.placed(positions)
                dream = await self.dreams.create(self.caller.user, draft, uploads, self.key)
                upload.keep_if_in(dream)
        answer_dream(self, 201, dream, self.url_for_host)


class DreamHandler(ListeningHandler):
    """`/api/dreams/{id}`"""

    def initialize(self, *, url_for_host: UrlForHost, **shared: Any) -> None:
        super().initialize(**shared)
        self.url_for_host = url_for_host

    async def get(self, dream_id: str) -> None:
        condition = forms.waiting(self.read_query())
        if condition is None:
            answer_dream(self, 200, await self.dreams.get(self.caller.user, dream_id), self.url_for_host)
        elif (dream := await self.newer(dream_id, *condition)) is not None:
            answer_dream(self, 200, dream, self.url_for_host)
        else:
            self.log_about = f"dream={dream_id}"
            self.set_status(304)

    async def patch(self, dream_id: str) -> None:
        raw = self.read_json(dict)
        changes = forms.fields(raw, also_allowed=frozenset({"images"}))
        positions: dict[int, int] = {}
        if "images" in raw:
            dream = await self.dreams.get(self.caller.user, dream_id)
            positions = forms.moved(raw["images"], length=len(changes.get("content", dream.content)))
        dream = await self.dreams.update(self.caller.user, dream_id, changes, positions)
        answer_dream(self, 200, dream, self.url_for_host)

    async def delete(self, dream_id: str) -> None:
        await self.dreams.delete(self.caller.user, dream_id)
        self.log_about = f"dream={dream_id}"
        self.set_status(204)


def drafted(values: dict[str, Any], *, images: int) -> Draft:
    """The draft of a new dream. Raises `Invalid` when it has no title, no content and no image."""
    draft = Draft(**values)
    if not (draft.title.strip() or draft.content.strip() or images):
        raise Invalid([FieldError("title", "empty_dream")])
    return draft
