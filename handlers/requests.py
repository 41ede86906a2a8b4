"""Every body and query that clients send over HTTP, with its limits and examples.

Pure: it must not know Tornado, the database or the client. A class `LoginBody` is called `Login` in the contracts.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from handlers.bodies import (
    CONTENT_LENGTH,
    LUCIDITY,
    MOOD_LENGTH,
    TAG_LENGTH,
    TAGS,
    TITLE_LENGTH,
    ImageId,
    Position,
    Time,
)

PAGE = 20  # dreams on a page that names no limit
MAX_PAGE = 100
MAX_REVISION = 99_999_999_999  # that a client can name; no dream comes near it
MAX_WAIT = 60  # seconds; proxies give silent requests up after 60 or more
NAME_LENGTH = 64
PASSWORD = range(8, 1025)
KEY_LENGTH = 255  # of an Idempotency-Key
# JSON Schema has JavaScript's regular expressions. The first five characters are spaces for Python only, the last one
# for JavaScript only.
NOT_BLANK = r"[^\s\u001c-\u001f\u0085]|\ufeff"

Night = Annotated[str, Meta(extra_json_schema={"anyOf": [{"format": "date"}, {"format": "date-time"}, {"const": ""}]})]
Binary = Annotated[str, Meta(extra_json_schema={"contentMediaType": "application/octet-stream"})]


# ---- accounts


class LoginBody(Struct, forbid_unknown_fields=True):
    """A username and a password."""

    username: Annotated[
        str,
        Meta(
            description="Spaces around it do not count. No control characters.",
            min_length=1,
            max_length=NAME_LENGTH,
            examples=["ada"],
        ),
    ]
    password: Annotated[
        str,
        Meta(
            description="Any characters, compared in Unicode's form NFKC.",
            min_length=PASSWORD[0],
            max_length=PASSWORD[-1],
            examples=["correct horse"],
        ),
    ]


class RefreshBody(Struct, forbid_unknown_fields=True):
    """The refresh token, for clients that do not keep the cookie."""

    refresh: Annotated[str | None, Meta(description="Without it, the server reads the cookie.")] = None


# ---- dreams


class DreamFieldsBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields of a dream that a person writes. Only a new dream must have a title, a content or an image."""

    title: Annotated[str, Meta(max_length=TITLE_LENGTH, examples=["By the sea"])] | UnsetType = UNSET
    content: Annotated[str, Meta(max_length=CONTENT_LENGTH, examples=["I stood in the rain."])] | UnsetType = UNSET
    dreamed_at: Annotated[
        Time | UnsetType | None,
        Meta(description="With its offset, which is kept. Null: now. Absent in a new dream: now."),
    ] = UNSET
    mood: Annotated[
        Annotated[str, Meta(max_length=MOOD_LENGTH)] | UnsetType | None,
        Meta(description="Null: none.", examples=["calm"]),
    ] = UNSET
    lucidity: Annotated[
        Annotated[int, Meta(ge=LUCIDITY[0], le=LUCIDITY[-1])] | UnsetType | None,
        Meta(description="0 (not lucid) to 5. Null: not set.", examples=[0]),
    ] = UNSET
    tags: (
        Annotated[
            list[Annotated[str, Meta(min_length=1, max_length=TAG_LENGTH, pattern=NOT_BLANK)]],
            Meta(
                description="Spaces around a tag and repeated tags do not count.", max_length=TAGS, examples=[["sea"]]
            ),
        ]
        | UnsetType
    ) = UNSET


class ImageMoveBody(Struct, forbid_unknown_fields=True):
    """A new place for an image."""

    id: ImageId
    position: Position


class DreamChangesBody(DreamFieldsBody, kw_only=True, forbid_unknown_fields=True):
    """The fields that change; the others stay."""

    images: (
        Annotated[list[ImageMoveBody], Meta(description="Images that move, each once. The others stay.")] | UnsetType
    ) = UNSET


Images = Annotated[
    list[Binary],
    Meta(description="Files, one part each. The first bytes decide the format, not the file name or media type."),
]
Positions = Annotated[
    list[Position],
    Meta(
        description="One part for each image, in the same order. Without any, the images go to the end. "
        "The answer lists images by position, then id."
    ),
]


class DreamFormBody(DreamFieldsBody, kw_only=True, forbid_unknown_fields=True):
    """A new dream with images, its parts in any order. `tags`, `images` and `positions` are repeated parts.

    Each part is one value: a JSON array in a part is no list. A form has no null: an empty `dreamed_at`, `mood` or
    `lucidity` stands for it.
    """

    dreamed_at: (
        Annotated[
            str,
            Meta(
                description="RFC 3339 with its offset, which is kept. Empty or absent: now.",
                examples=["2026-11-22T06:10:00.000Z"],
                extra_json_schema={"anyOf": [{"format": "date-time"}, {"const": ""}]},
            ),
        ]
        | UnsetType
    ) = UNSET
    mood: (
        Annotated[str, Meta(description="Empty or absent: none.", max_length=MOOD_LENGTH, examples=["calm"])]
        | UnsetType
    ) = UNSET
    lucidity: (
        Annotated[
            int,
            Meta(description="0 (not lucid) to 5. Absent: not set.", ge=LUCIDITY[0], le=LUCIDITY[-1], examples=[0]),
        ]
        | UnsetType
    ) = UNSET
    tags: (
        Annotated[
            list[Annotated[str, Meta(max_length=TAG_LENGTH, pattern="^$|" + NOT_BLANK)]],
            Meta(description="An empty part is no tag.", max_length=TAGS, examples=[["sea"]]),
        ]
        | UnsetType
    ) = UNSET
    images: Images | UnsetType = UNSET
    positions: Positions | UnsetType = UNSET


class ImagesFormBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """Images for a dream that exists. `images` and `positions` are repeated parts, in any order."""

    images: Annotated[Images, Meta(min_length=1)]
    positions: Positions | UnsetType = UNSET


# ---- queries


class DreamsQuery(Struct, kw_only=True):
    """Which dreams the list shows."""

    limit: Annotated[int, Meta(description="Dreams on a page.", ge=1, le=MAX_PAGE)] = PAGE
    cursor: Annotated[str, Meta(description="The `next_cursor` of an earlier page.")] | UnsetType = UNSET
    q: (
        Annotated[
            str,
            Meta(
                description="Words that must all occur in title, content or tags, also inside a word. Upper and lower "
                f"case are alike. Only the first {TITLE_LENGTH} characters count.",
                examples=["sea rain"],
            ),
        ]
        | UnsetType
    ) = UNSET
    tag: (
        Annotated[
            str, Meta(description="One whole tag, exactly as written, in upper and lower case.", examples=["sea"])
        ]
        | UnsetType
    ) = UNSET
    from_: (
        Annotated[
            Night,
            Meta(
                description="First night, by the dreamer's clock, or a time with its offset. Empty: any.",
                examples=["2026-11-22", "2026-11-22T06:10:00Z"],
            ),
        ]
        | UnsetType
    ) = msgspec.field(default=UNSET, name="from")
    to: (
        Annotated[Night, Meta(description="Last night, inclusive, or a time. Empty: any.", examples=["2026-11-30"])]
        | UnsetType
    ) = UNSET


class WaitQuery(Struct, kw_only=True):
    """For a read that waits for a change."""

    since: (
        Annotated[
            int,
            Meta(
                description="The revision that the client has: the server answers with a newer one.",
                ge=0,
                le=MAX_REVISION,
            ),
        ]
        | UnsetType
    ) = UNSET
    wait: Annotated[
        int, Meta(description="Seconds to wait for a newer revision; needs `since`.", ge=0, le=MAX_WAIT)
    ] = 0


class MediaQuery(Struct, kw_only=True):
    """What makes a URL of a rendered image valid."""

    e: Annotated[str, Meta(description="When the URL expires, as a part of the signed URL.")]
    s: Annotated[str, Meta(description="The signature of the URL.")]
