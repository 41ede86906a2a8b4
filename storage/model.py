"""The data of Dreamlog: users, dreams, images, and the states that an image goes through.

Pure: it must not know MongoDB, Tornado or the file system; the time is always a parameter.

The life of an image; each arrow is one atomic update of its dream's document (`storage/jobs.py`):

    queued ──claim──> rendering ──store──> storing ──complete──> completed
      ^                   │                   │
      ├──────release──────┴───────────────────┤      another try can help (crash, time-out, memory, storage): `attempt`
      │                   │                   │      grows; or the server stops: the same attempt again
      │                   ├────────fail───────┘      another try cannot help, or this was the last one
      │                   v
      └──────retry──── failed                        only when a person asks; `attempt` grows

Clients see the first three as `processing`. State, attempt and lease together identify one piece of work: a report on
another one comes too late and changes nothing.
"""

import unicodedata
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any, Self


class State(StrEnum):
    """The state of an image inside the server."""

    QUEUED = "queued"  # waits for a worker; the upload is durable
    RENDERING = "rendering"  # a worker has it, under a lease
    STORING = "storing"  # the dream names its variants, which are on their way to the file storage; under a lease
    COMPLETED = "completed"  # every file that the dream names is stored
    FAILED = "failed"  # until a person asks for a retry
    UNKNOWN = "unknown"  # never written: stands for a state of a newer version, which only that version may change


class Status(StrEnum):
    """The status of an image or a dream that clients see."""

    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


LEASED = frozenset({State.RENDERING, State.STORING})

# verb -> (the states it may start from, the state it leads to)
MOVES: dict[str, tuple[frozenset[State], State]] = {
    "claim": (frozenset({State.QUEUED}), State.RENDERING),
    "store": (frozenset({State.RENDERING}), State.STORING),
    "complete": (frozenset({State.STORING}), State.COMPLETED),
    "release": (LEASED, State.QUEUED),
    "fail": (LEASED, State.FAILED),
    "retry": (frozenset({State.FAILED}), State.QUEUED),
}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LARGEST = "2048"  # the name of the largest variant that images are rendered in
TRIES = 3  # of an image before it fails; a retry by a person gives as many again
PAUSES = (timedelta(seconds=1), timedelta(seconds=8))  # after the first and the second failed try

# code -> (a sentence for people, whether a retry can help). Clients may branch on the codes.
FAILURES: dict[str, tuple[str, bool]] = {
    "corrupt": ("The image is damaged and cannot be read.", False),
    "too_many_pixels": ("The image has too many pixels.", False),
    "too_many_frames": ("The animation has too many frames.", False),
    "unsupported": ("The format of the image is not supported.", False),
    "timed_out": ("The image took too long to process.", True),
    "out_of_memory": ("The image needs more memory than the server allows.", True),
    "crashed": ("Something went wrong while the image was processed.", True),
    "storage_unavailable": ("The image could not be stored.", True),
    "upload_lost": ("The uploaded file is no longer on the server.", False),
}


class IllegalMove(Exception):
    """The table of moves has no such move from the image's state."""


def _state(text: str | None) -> State:
    try:
        return State(text or State.UNKNOWN)
    except ValueError:
        return State.UNKNOWN


def move(verb: str, state: State) -> State:
    """The state that `verb` leads to from `state`. Raises `IllegalMove` when the table has no such move."""
    origins, target = MOVES[verb]
    if state not in origins:
        raise IllegalMove(f"{verb} from {state}")
    return target


@dataclass(frozen=True, slots=True)
class Variant:
    """One rendered size of an image, in the file storage under `key`."""

    key: str
    type: str  # media type
    width: int
    height: int
    bytes: int

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        return cls(
            key=document["key"],
            type=document.get("type") or "application/octet-stream",
            width=document.get("width") or 0,
            height=document.get("height") or 0,
            bytes=document.get("bytes") or 0,
        )

    def document(self) -> dict[str, Any]:
        return {"key": self.key, "type": self.type, "width": self.width, "height": self.height, "bytes": self.bytes}


@dataclass(frozen=True, slots=True)
class StagedUpload:
    """An upload that is durable in staging, until its image is completed."""

    staged: str  # the name of its file in staging
    sha256: str
    bytes: int
    format: str  # by its first bytes, under its name in `processing.formats`
    position: int
    width: int | None = None  # upright, from its header; None when the header does not say
    height: int | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """One picture of a dream."""

    id: int
    position: int  # code points of the dream's content before the image
    state: State
    attempt: int  # from 1; every further try adds 1
    tries_left: int  # failed tries that are left before it fails for good
    staged: str | None  # name of the upload in staging, until it is completed
    original: str | None  # key of the untouched upload in the file storage, once completed
    sha256: str
    bytes: int  # of the upload
    format: str
    recipe: str | None  # the settings that rendered the variants; same bytes and settings, same variants
    folder: str | None  # the prefix of the keys of its files; equal uploads of one owner share it
    variants: dict[str, Variant]  # by name; the dream names them before they are stored
    width: int | None  # of the upright original; from its header until it is rendered
    height: int | None
    animated: bool
    placeholder: str | None
    error: str | None  # the code as it was written; see `failure`
    lease_owner: str | None
    lease_until: datetime | None

    @property
    def status(self) -> Status:
        if self.state is State.COMPLETED:
            return Status.COMPLETED
        return Status.FAILED if self.state is State.FAILED else Status.PROCESSING

    @property
    def largest(self) -> Variant | None:
        """The variant that shows most; None of an image that names no variants."""
        return self.variants.get(LARGEST) or max(self.variants.values(), key=lambda each: each.width, default=None)

    @property
    def failure(self) -> str | None:
        """Why the image failed: a key of FAILURES, also if a newer version wrote a code that is not among them."""
        return "crashed" if self.error is not None and self.error not in FAILURES else self.error

    @property
    def keys(self) -> list[str]:
        """The keys of all files that this image names."""
        keys = {variant.key for variant in self.variants.values()}
        return sorted(keys | {self.original} if self.original else keys)

    def in_folder(self, folder: str) -> Self:
        """The same image, whose files have the same names in another folder."""
        return replace(
            self,
            folder=folder,
            original=self.original and f"{folder}/{self.original.rpartition('/')[2]}",
            variants={
                name: replace(variant, key=f"{folder}/{variant.key.rpartition('/')[2]}")
                for name, variant in self.variants.items()
            },
        )

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """The image as MongoDB has it. Fields of other versions are ignored, and missing ones have defaults."""
        variants = document.get("variants") or {}
        return cls(
            id=document.get("id") or 0,
            position=document.get("position") or 0,
            state=_state(document.get("state")),
            attempt=document.get("attempt") or 1,
            tries_left=TRIES if document.get("tries_left") is None else document["tries_left"],
            staged=document.get("staged"),
            original=document.get("original"),
            sha256=document.get("sha256") or "",
            bytes=document.get("bytes") or 0,
            format=document.get("format") or "",
            recipe=document.get("recipe"),
            folder=document.get("folder"),
            variants={name: Variant.from_document(each) for name, each in variants.items() if each.get("key")},
            width=document.get("width"),
            height=document.get("height"),
            animated=document.get("animated") or False,
            placeholder=document.get("placeholder"),
            error=document.get("error"),
            lease_owner=document.get("lease_owner"),
            lease_until=document.get("lease_until"),
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """The fields of a dream that a person writes."""

    title: str = ""
    content: str = ""
    dreamed_at: datetime | None = None  # aware; None: now
    mood: str | None = None
    lucidity: int | None = None  # 0 (not lucid) to 5
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dream:
    """A dream with its images, as of `revision`."""

    id: str
    owner: str
    title: str
    content: str
    dreamed_at: datetime  # aware, with the offset in which it was written
    mood: str | None
    lucidity: int | None
    tags: tuple[str, ...]
    revision: int
    created_at: datetime
    updated_at: datetime
    images: tuple[Image, ...]  # by position, then id
    deleted: bool  # gone for every reader; its files wait to be removed
    sweep: bool  # files of it wait for the janitor

    @property
    def status(self) -> Status:
        """Processing while any image is, failed when every image has failed, otherwise completed."""
        statuses = {image.status for image in self.images}
        if Status.PROCESSING in statuses:
            return Status.PROCESSING
        return Status.FAILED if statuses == {Status.FAILED} else Status.COMPLETED

    @property
    def waiting(self) -> bool:
        """Does an image wait for a worker?"""
        return any(image.state is State.QUEUED for image in self.images)

    def image(self, image_id: int) -> Image | None:
        return next((image for image in self.images if image.id == image_id), None)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """The dream as MongoDB has it. Fields of other versions are ignored, and missing ones have defaults."""
        images = map(Image.from_document, document.get("images") or ())
        created_at = document.get("created_at") or EPOCH
        return cls(
            id=str(document["_id"]),
            owner=str(document["owner"]),
            title=document.get("title") or "",
            content=document.get("content") or "",
            dreamed_at=local_time(document.get("dreamed_at") or created_at, document.get("utc_offset") or 0),
            mood=document.get("mood"),
            lucidity=document.get("lucidity"),
            tags=tuple(document.get("tags") or ()),
            revision=document.get("revision") or 0,
            created_at=created_at,
            updated_at=document.get("updated_at") or created_at,
            images=tuple(sorted(images, key=lambda image: (image.position, image.id))),
            deleted=document.get("deleted") or False,
            sweep=document.get("sweep") or False,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """One image of one dream, claimed for work."""

    dream: Dream
    image: Image


@dataclass(frozen=True, slots=True)
class User:
    id: str
    username: str
    created_at: datetime


def same_name(username: str) -> str:
    """The form that all spellings of one username share, without differences of case, width and composition."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())


def next_pause(image: Image, code: str) -> timedelta | None:
    """The pause before the next try after one that ended with `code`; None when the image fails for good."""
    _, retryable = FAILURES[code]
    if not retryable or image.tries_left <= 1:
        return None
    return PAUSES[max(0, TRIES - image.tries_left)]


def milliseconds(moment: datetime) -> datetime:
    """`moment` in whole milliseconds, as MongoDB keeps it: what a write publishes must equal what is read later."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def local_time(moment: datetime, utc_offset: int) -> datetime:
    """`moment` with the offset of a clock `utc_offset` minutes east of UTC."""
    return moment.astimezone(timezone(timedelta(minutes=utc_offset)) if utc_offset else UTC)
