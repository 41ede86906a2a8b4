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
    int, Meta(description="Unique within its dream and never used again.", ge=1, le=999_999_999, examples=[1])
]
Position = Annotated[
    int,
    Meta(
        description="How many Unicode code points of the content stand before the image.",
        ge=0,
        le=CONTENT_LENGTH,
        examples=[20],
    ),
]
Revision = Annotated[int, Meta(description="Grows with every change of the dream, and never goes back.", ge=1)]
Pixels = Annotated[int, Meta(ge=1)]
Url = Annotated[
    str, Meta(description="Signed, and valid for a limited time.", examples=["https://dreams.example.org/media/..."])
]
FailureCode = Annotated[str, Meta(extra_json_schema={"enum": list(FAILURES)})]

# ---- accounts


class UserBody(Struct):
    """A user."""

    id: Annotated[str, Meta(description="An opaque string.", examples=["665f0c2a9b1e8a0001a1b2c3"])]
    username: Annotated[str, Meta(examples=["ada"])]


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

    code: Annotated[
        FailureCode, Meta(description="; ".join(f"`{code}`: {text}" for code, (text, _) in FAILURES.items()))
    ]
    message: Annotated[str, Meta(description="A sentence for people.", examples=[FAILURES["corrupt"][0]])]
    retryable: Annotated[bool, Meta(description="Whether another try can help.")]


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
    animated: bool
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
    title: Annotated[str, Meta(max_length=TITLE_LENGTH, examples=["By the sea"])]
    content: Annotated[str, Meta(max_length=CONTENT_LENGTH, examples=["I stood in the rain."])]
    dreamed_at: Annotated[Time, Meta(description="In the offset in which the client sent it.")]
    tags: Annotated[list[str], Meta(max_length=TAGS, examples=[["sea"]])]
    mood: Annotated[str | None, Meta(examples=["calm"])]
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

    items: list[DreamBody]
    next_cursor: Annotated[str | None, Meta(description="The `cursor` of the next page; null on the last one.")]


# ---- the server, and problems


class FieldErrorBody(Struct):
    """One mistake in what the client sent."""

    field: Annotated[str, Meta(examples=["positions[0]"])]
    message: str


class ProblemBody(Struct):
    """Why a request was refused (RFC 9457)."""

    type: Annotated[str, Meta(description="`about:blank`, or a section of `/docs`.", examples=["about:blank"])]
    title: Annotated[str, Meta(examples=["Unprocessable Entity"])]
    status: Annotated[int, Meta(description="The status of the answer.", ge=400, le=599, examples=[422])]
    detail: Annotated[str, Meta(description="What was wrong, and what is allowed.")]
    errors: Annotated[list[FieldErrorBody], Meta(description="Every mistake in the input.")] | UnsetType = UNSET


class FormatBody(Struct):
    """A format that the server accepts."""

    name: Annotated[str, Meta(examples=["JPEG"])]
    type: Annotated[str, Meta(description="Media type.", examples=["image/jpeg"])]
    max_pixels: Annotated[int, Meta(description="Width times height of an image, at most.", ge=1)]


class LimitsBody(Struct, kw_only=True):
    """What the server accepts at most. Lengths are in Unicode code points."""

    title_length: int
    content_length: int
    mood_length: int
    tag_length: int
    tags: Annotated[int, Meta(description="Tags of a dream.")]
    lucidity: Annotated[int, Meta(description="The highest; the lowest is 0.")]
    images: Annotated[int, Meta(description="Images of a dream.")]
    image_bytes: Annotated[int, Meta(description="Size of one image's file.")]
    request_bytes: Annotated[int, Meta(description="Size of one upload in all.")]
    frames: Annotated[int, Meta(description="Frames of an animation.")]
    username_length: int
    password_length: int
    password_min_length: Annotated[int, Meta(description="The least that a password must have.")]
    page: Annotated[int, Meta(description="Dreams on a page.")]
    wait: Annotated[int, Meta(description="Seconds that a read may wait.")]
    subscriptions: Annotated[int, Meta(description="Dreams on one WebSocket.")]
    message_bytes: Annotated[int, Meta(description="Size of one message to the server.")]


class ServerBody(Struct, kw_only=True):
    """The facts that a client needs before anybody signs in."""

    name: Literal["Dreamlog"]
    version: Annotated[str, Meta(examples=["1.0.0"])]
    registration: Annotated[Literal["open", "closed"], Meta(description="Whether new accounts can be made.")]
    formats: list[FormatBody]
    limits: LimitsBody


class HealthBody(Struct):
    """The process answers."""

    status: Literal["alive"]


class ReadyBody(Struct):
    """Whether each part of the server can take work."""

    status: Literal["ready", "not ready"]
    server: Annotated[Literal["ok", "unavailable"], Meta(description="Unavailable while it stops.")]
    database: Literal["ok", "unavailable"]
    storage: Literal["ok", "unavailable"]
    workers: Literal["ok", "unavailable"]
