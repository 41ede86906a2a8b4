"""Every JSON body that the HTTP API answers, with its examples.

Pure: it must not know Tornado, the database or the client. The server encodes with these Structs, and
`contracts.py` publishes them: a class `ImageBody` is called `Image` there.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from storage.model import FAILURES, Status

TITLE_LENGTH = 200  # code points, here and below
CONTENT_LENGTH = 100_000
MOOD_LENGTH = 50
TAG_LENGTH = 50
TAGS = 20
LUCIDITY = range(6)

# ---- kinds of values

Time = Annotated[
    str,
    Meta(
        description="RFC 3339, in milliseconds.",
        examples=["2026-11-22T06:10:00.000Z"],
        extra_json_schema={"format": "date-time"},
    ),
]
Timestamp = Annotated[float, Meta(description="Unix time in seconds.", examples=[1649154799.456])]
DreamId = Annotated[str, Meta(description="The dream's id, an opaque string.", examples=["665f0c2a9b1e8a0001a1b2c3"])]
ImageId = Annotated[
    int,
    Meta(
        description="Unique within its dream and never used again. New images get theirs in the order of their parts.",
        ge=1,
        le=999_999_999,
        examples=[1],
    ),
]
Position = Annotated[
    int,
    Meta(
        description="How many Unicode code points of the content stand before the image: from 0 to its length.",
        ge=0,
        le=CONTENT_LENGTH,
        examples=[20],
    ),
]
Revision = Annotated[int, Meta(description="Grows with every change of the dream, and never goes back.", ge=1)]
Pixels = Annotated[int, Meta(ge=1)]
Url = Annotated[
    str,
    Meta(
        description="Absolute and signed. By default it works for at least a day: read the dream again for a new one.",
        examples=["https://dreams.example.org/media/..."],
        extra_json_schema={"format": "uri"},
    ),
]
FailureCode = Annotated[str, Meta(extra_json_schema={"$ref": "FailureCode"})]  # a schema of its own, in `schemas.py`

# ---- accounts


class UserBody(Struct):
    """A user."""

    id: Annotated[str, Meta(description="An opaque string.", examples=["665f0c2a9b1e8a0001a1b2c3"])]
    username: Annotated[str, Meta(description="As the user wrote it at registration.", examples=["ada"])]


class AccountBody(UserBody):
    """The caller's own account."""

    created_at: Time


class TokensBody(Struct, kw_only=True):
    """A new pair of tokens. The refresh token also comes as an HttpOnly cookie."""

    access: Annotated[str, Meta(description="Sent as `Authorization: Bearer <access>`.")]
    refresh: Annotated[str, Meta(description="Usable once. Using it again ends the session.")]
    expires_in: Annotated[int, Meta(description="Seconds until the access token expires.", ge=0, examples=[900])]


class SessionBody(TokensBody, kw_only=True):
    """The user who has signed in, and the tokens of the session."""

    user: UserBody


# ---- dreams


class VariantBody(Struct):
    """One rendered size of an image."""

    url: Url
    type: Annotated[str, Meta(description="Media type.", examples=["image/jpeg"])]
    width: Annotated[Pixels, Meta(description="Pixels.", examples=[320])]
    height: Annotated[Pixels, Meta(description="Pixels.", examples=[240])]
    bytes: Annotated[int, Meta(description="Size of the file.", ge=1, examples=[15_360])]


class ImageErrorBody(Struct):
    """Why an image has failed."""

    code: FailureCode
    message: Annotated[str, Meta(description="A sentence for people.", examples=[FAILURES["corrupt"][0]])]
    retryable: Annotated[
        bool, Meta(description="Whether another try can help. It is advice: the server retries any failed image.")
    ]


class ImageBody(Struct):
    """One image of a dream. A value that is not known yet is null."""

    id: ImageId
    position: Position
    status: Status
    url: Annotated[Url | None, Meta(description="The largest variant, once the image is completed.")]
    variants: Annotated[
        dict[str, VariantBody],
        Meta(
            description="By name: the most pixels that the longer side may have. A smaller original is not enlarged. "
            "Empty until the image is completed.",
            examples=[
                {
                    "320": {
                        "url": "https://dreams.example.org/media/...",
                        "type": "image/jpeg",
                        "width": 320,
                        "height": 240,
                        "bytes": 15_360,
                    }
                }
            ],
        ),
    ]
    width: Annotated[Pixels | None, Meta(description="Of the upright original, in pixels.", examples=[4032])]
    height: Annotated[Pixels | None, Meta(description="Of the upright original, in pixels.", examples=[3024])]
    animated: Annotated[bool, Meta(description="Whether the original is an animation; false until that is known.")]
    placeholder: Annotated[
        str | None,
        Meta(
            description="A data URL of at most 400 bytes to show while the image loads.",
            examples=["data:image/webp;base64,..."],
        ),
    ]
    attempt: Annotated[int, Meta(description="1 at first; each further try adds 1.", ge=1)]
    error: Annotated[ImageErrorBody | None, Meta(description="Set when `status` is `failed`.", examples=[None])]


class DreamBody(Struct):
    """A dream with its images, as of its `revision`."""

    id: DreamId
    title: Annotated[str, Meta(description="May be empty.", max_length=TITLE_LENGTH, examples=["By the sea"])]
    content: Annotated[
        str,
        Meta(
            description="Plain text, exactly as the client sent it. May be empty.",
            max_length=CONTENT_LENGTH,
            examples=["I stood in the rain."],
        ),
    ]
    dreamed_at: Annotated[Time, Meta(description="In the offset in which the client sent it.")]
    tags: Annotated[
        list[str], Meta(description="Each once, in the client's order.", max_length=TAGS, examples=[["sea"]])
    ]
    mood: Annotated[str | None, Meta(description="A word or a few; null: none.", examples=["calm"])]
    lucidity: Annotated[
        Annotated[int, Meta(ge=LUCIDITY[0], le=LUCIDITY[-1])] | None,
        Meta(description="0 (not lucid) to 5.", examples=[0]),
    ]
    status: Annotated[
        Status,
        Meta(description="`processing` while any image is; then `failed` when every image failed, else `completed`."),
    ]
    revision: Revision
    created_at: Time
    updated_at: Time
    images: Annotated[list[ImageBody], Meta(description="By position, then id.")]


class DreamPageBody(Struct):
    """One page of the list of dreams."""

    items: Annotated[list[DreamBody], Meta(description="The latest `dreamed_at` first.")]
    next_cursor: Annotated[str | None, Meta(description="The `cursor` of the next page; null on the last one.")]


# ---- the server, and problems


class FieldErrorBody(Struct):
    """One mistake in what the client sent."""

    field: Annotated[
        str,
        Meta(
            description="The field or parameter as the client sent it, with an index or a path where it has parts: "
            "`positions[0]`, `images[2].position`. `body` is the body as a whole.",
            examples=["positions[0]"],
        ),
    ]
    message: Annotated[
        str,
        Meta(
            description="What is wrong and what is allowed, for people, in the language of `Accept-Language`.",
            examples=["must be a whole number from 0 to 20, the content's length in code points"],
        ),
    ]


class ProblemBody(Struct):
    """Why a request was refused (RFC 9457)."""

    type: Annotated[
        str,
        Meta(
            description="`about:blank`. More types may come, each with a section of `/docs`.", examples=["about:blank"]
        ),
    ]
    title: Annotated[str, Meta(examples=["Unprocessable Entity"])]
    status: Annotated[int, Meta(description="The status of the answer.", ge=400, le=599, examples=[422])]
    detail: Annotated[str, Meta(description="What was wrong, and what is allowed.")]
    errors: (
        Annotated[list[FieldErrorBody], Meta(description="The mistakes in the input, in a 422 about fields.")]
        | UnsetType
    ) = UNSET


class FormatBody(Struct):
    """A format that the server accepts."""

    name: Annotated[str, Meta(examples=["JPEG"])]
    type: Annotated[str, Meta(description="Media type.", examples=["image/jpeg"])]
    max_pixels: Annotated[
        int, Meta(description="Width times height of an image, at most.", ge=1, examples=[100_000_000])
    ]


class LimitsBody(Struct, kw_only=True):
    """What the server accepts at most. Lengths are in Unicode code points."""

    title_length: Annotated[int, Meta(description="Length of a dream's title.", examples=[TITLE_LENGTH])]
    content_length: Annotated[int, Meta(description="Length of a dream's content.", examples=[CONTENT_LENGTH])]
    mood_length: Annotated[int, Meta(description="Length of a dream's mood.", examples=[MOOD_LENGTH])]
    tag_length: Annotated[int, Meta(description="Length of one tag.", examples=[TAG_LENGTH])]
    tags: Annotated[int, Meta(description="Tags of a dream.", examples=[TAGS])]
    lucidity: Annotated[int, Meta(description="The highest; the lowest is 0.", examples=[LUCIDITY[-1]])]
    images: Annotated[int, Meta(description="Images of a dream.", examples=[50])]
    image_bytes: Annotated[int, Meta(description="Size of one image's file.", examples=[50_000_000])]
    request_bytes: Annotated[int, Meta(description="Size of one upload in all.", examples=[2_502_000_000])]
    frames: Annotated[int, Meta(description="Frames of an animation.", examples=[600])]
    username_length: Annotated[int, Meta(description="Length of a username.", examples=[64])]
    password_length: Annotated[int, Meta(description="Length of a password.", examples=[1024])]
    password_min_length: Annotated[int, Meta(description="The least that a password must have.", examples=[8])]
    page: Annotated[int, Meta(description="Dreams on a page.", examples=[100])]
    wait: Annotated[int, Meta(description="Seconds that a read may wait.", examples=[60])]
    subscriptions: Annotated[int, Meta(description="Dreams on one WebSocket.", examples=[1000])]
    message_bytes: Annotated[int, Meta(description="Size of one message to the server.", examples=[4096])]
    auth_timeout: Annotated[
        float, Meta(description="Seconds in which a WebSocket's first `authenticate` must arrive.", examples=[10])
    ]


class ServerBody(Struct, kw_only=True):
    """The facts that a client needs before anybody signs in."""

    name: Literal["Dreamlog"]
    version: Annotated[str, Meta(examples=["1.0.0"])]
    registration: Annotated[
        Literal["open", "closed"], Meta(description="Whether new accounts can be made.", examples=["open"])
    ]
    formats: list[FormatBody]
    limits: LimitsBody


class HealthBody(Struct):
    """The process answers."""

    status: Literal["alive"]


class ReadyBody(Struct):
    """Whether each part of the server can take work."""

    status: Annotated[
        Literal["ready", "not ready"], Meta(description="`ready` when every part is `ok`.", examples=["ready"])
    ]
    server: Annotated[Literal["ok", "unavailable"], Meta(description="Unavailable while it stops.")]
    database: Annotated[Literal["ok", "unavailable"], Meta(description="Whether MongoDB answers.")]
    storage: Annotated[Literal["ok", "unavailable"], Meta(description="Whether the file storage answers.")]
    workers: Annotated[Literal["ok", "unavailable"], Meta(description="Whether the server can process images.")]
