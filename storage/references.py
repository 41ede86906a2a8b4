"""The references from dreams to files: sharing among equal uploads, moves to another storage, pending deletions.

It must not know how files are stored or which module removes them. An image names its files (`images.folder`). Once it
no longer needs them, the `trash` of its dream names them. A folder that no dream names any more is never named again.
"""

import re
from collections.abc import AsyncIterator, Iterable
from datetime import datetime

from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ASCENDING

from storage.dreams import KEY_LIFE
from storage.errors import NotFound, Unavailable
from storage.model import Dream, Image, State, milliseconds
from storage.mongo import Database, Document, translate_errors
from storage.writes import BUSY, ROUNDS, Change, Writes


class References:
    """The files that the images of all dreams name."""

    def __init__(self, database: Database, *, writes: Writes) -> None:
        self._dreams: AsyncIOMotorCollection[Document] = database["dreams"]
        self._writes = writes

    async def indexes(self) -> None:
        with translate_errors():
            await self._dreams.create_index([("owner", ASCENDING), ("images.sha256", ASCENDING)])
            await self._dreams.create_index([("sweep", ASCENDING)], sparse=True)
            await self._dreams.create_index([("images.folder", ASCENDING)], sparse=True)
            await self._dreams.create_index([("trash.folder", ASCENDING)], sparse=True)

    # ---- equal uploads

    async def equal_image(self, owner: str, image: Image, render_settings: str) -> Image | None:
        """A completed image of the same bytes, by the same owner, rendered with the same settings."""
        equal = {"sha256": image.sha256, "state": State.COMPLETED, "recipe": render_settings}
        match = {"owner": ObjectId(owner), "deleted": {"$ne": True}, "images": {"$elemMatch": equal}}
        with translate_errors():
            document = await self._dreams.find_one(match, {"images": True})
        for each in document["images"] if document else ():
            if all(each.get(name) == value for name, value in equal.items()):
                return Image.from_document(each)
        return None

    async def is_shared(self, owner: str, image: Image) -> bool:
        """Does another, living image use the files in `image`'s folder?"""
        match: Document = {
            "owner": ObjectId(owner),
            "deleted": {"$ne": True},
            "images": {"$elemMatch": {"sha256": image.sha256, "folder": image.folder}},
        }
        with translate_errors():
            return await self._dreams.find_one(match, {"_id": True}) is not None

    # ---- references to a folder

    async def has_folder(self, prefix: str) -> bool:
        """Is any folder named, by an image or as pending deletion, whose keys begin with `prefix`?"""
        pattern = {"$regex": f"^{re.escape(prefix)}"}
        either = [{"images.folder": pattern}, {"trash.folder": pattern}]
        with translate_errors():
            return await self._dreams.find_one({"$or": either}, {"_id": True}) is not None

    async def named_folders(self, folders: Iterable[str]) -> set[str]:
        """Those of `folders` that are named, by an image or as pending deletion."""
        wanted = {"$in": list(folders)}
        with translate_errors():
            living = await self._dreams.find({"images.folder": wanted}, {"images.folder": True}).to_list(None)
            pending = await self._dreams.find({"trash.folder": wanted}, {"trash.folder": True}).to_list(None)
        found = [image for document in living for image in document["images"]]
        found += [image for document in pending for image in document["trash"]]
        return {image["folder"] for image in found if image.get("folder")} & set(wanted["$in"])

    async def staged_names(self) -> set[str]:
        """The names of all uploads in staging that an image still needs."""
        with translate_errors():
            return {name for name in await self._dreams.distinct("images.staged") if name is not None}

    # ---- moving files to another storage

    async def stored_sets(self, pattern: str) -> AsyncIterator[tuple[str, Image]]:
        """Owner and image of each set of stored files whose folder matches the regular expression.

        Equal images share their files; one of them stands for the set.
        """
        match: Document = {"state": State.COMPLETED, "folder": {"$regex": pattern}}
        stages: list[Document] = [
            {"$match": {"deleted": {"$ne": True}, "images": {"$elemMatch": match}}},
            {"$unwind": "$images"},
            {"$match": {f"images.{name}": value for name, value in match.items()}},
            {"$group": {"_id": {"owner": "$owner", "folder": "$images.folder"}, "image": {"$first": "$images"}}},
        ]
        with translate_errors():
            async for each in self._dreams.aggregate(stages, allowDiskUse=True):
                yield str(each["_id"]["owner"]), Image.from_document(each["image"])

    async def relocate(self, owner: str, image: Image, folder: str, until: datetime) -> int:
        """Name `folder` in place of `image`'s, which has the same files, for every image that shares it; how many.

        One update of each dream names the new files and makes the old ones pending deletions that are due after
        `until`, because clients may hold URLs of them. Raises `Unavailable` when new dreams keep sharing the folder.
        """
        count = 0
        match = {"owner": ObjectId(owner), "deleted": {"$ne": True}, "images": {"$elemMatch": _stored_in(image.folder)}}
        for _ in range(ROUNDS):
            with translate_errors():
                documents = await self._dreams.find(match, {"_id": True}).to_list(None)
            if not documents:
                return count
            for document in documents:
                count += await self._relocate(owner, str(document["_id"]), image, folder, until)
        raise Unavailable(BUSY, code="busy")

    async def _relocate(self, owner: str, dream_id: str, image: Image, folder: str, until: datetime) -> int:
        pending: list[Document] = []

        def plan(found: Document) -> Document | None:
            pending.clear()
            setters: Document = {"sweep": True}
            for place, each in enumerate(found.get("images") or ()):
                if _stored_in(image.folder).items() <= each.items():
                    there = Image.from_document(each).in_folder(folder)
                    setters.update({f"images.{place}.{name}": value for name, value in file_fields(there).items()})
                    pending.append(pending_delete(Image.from_document(each)) | {"until": milliseconds(until)})
            # The images are named by their place: `revise` makes sure that nothing else has changed.
            return {"$set": setters, "$push": {"trash": {"$each": list(pending)}}} if pending else None

        try:
            await self._writes.revise(owner, dream_id, plan, Change.WORK)
        except NotFound:  # deleted meanwhile
            return 0
        return len(pending)

    # ---- pending deletions

    async def pending_deletes(self) -> AsyncIterator[tuple[Dream, list[Image]]]:
        """Dreams with files to remove, and the images whose files they are; all images of a deleted dream.

        Files that were moved are due once no URL of them is valid any more, or when their image is deleted.
        """
        now = self._writes.now()
        due: Document = {"$elemMatch": {"$or": [{"until": None}, {"until": {"$lte": now}}]}}
        either: list[Document] = [{"deleted": True}, {"trash": due}, {"trash": {"$in": [None, []]}}]
        with translate_errors():
            documents = await self._dreams.find({"sweep": True, "$or": either}).to_list(None)
        for document in documents:
            dream = Dream.from_document(document)
            kept = {image.id for image in dream.images} if not dream.deleted else set()
            pending = [
                Image.from_document(each)
                for each in document.get("trash") or ()
                if each.get("until") is None or each["until"] <= now or each.get("id") not in kept
            ]
            yield dream, pending + (list(dream.images) if dream.deleted else [])

    async def confirm_deletes(self, dream: Dream, images: list[Image]) -> None:
        """The files of `images` are gone. A deleted dream goes too, but its Idempotency-Keys stay for their day."""
        this: Document = {"_id": ObjectId(dream.id), "owner": ObjectId(dream.owner)}
        if dream.deleted:
            with translate_errors():
                result = await self._dreams.delete_one(this | {"keys": {"$in": [None, []]}})
            if result.deleted_count == 0:
                ends = self._writes.now() + KEY_LIFE
                left = {"_id": "$_id", "owner": "$owner", "keys": "$keys", "deleted": True, "expires_at": ends}
                await self._writes.update_quietly(dream.owner, this, [{"$replaceWith": left}])
            return
        if images:
            # By folder too: an image that was released may leave another folder in the same attempt.
            gone = [{"id": each.id, "attempt": each.attempt, "folder": each.folder} for each in images]
            await self._writes.update_quietly(dream.owner, this, {"$pull": {"trash": {"$or": gone}}})
        empty = {"trash": {"$in": [None, []]}, "deleted": {"$ne": True}}
        await self._writes.update_quietly(dream.owner, this | empty, {"$unset": {"sweep": True, "trash": True}})


def file_fields(image: Image) -> Document:
    """The fields that name an image's files."""
    return {
        "folder": image.folder,
        "original": image.original,
        "variants": {name: variant.document() for name, variant in image.variants.items()},
    }


def pending_delete(image: Image) -> Document:
    """The entry in `trash` of an image that lives on: its files of this attempt, but not its upload."""
    return {
        "id": image.id,
        "position": image.position,
        "state": image.state,
        "attempt": image.attempt,
        "tries_left": image.tries_left,
        "staged": None,
        "sha256": image.sha256,
        "bytes": image.bytes,
        "format": image.format,
        **file_fields(image),
    }


def _stored_in(folder: str | None) -> Document:
    return {"state": State.COMPLETED, "folder": folder}
