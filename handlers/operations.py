"""Every call of the HTTP API as the contract describes it: what it takes, and each answer that it gives.

Pure: it must not know the handlers. A test compares this table with `routes.py`, in both directions.
"""

from dataclasses import dataclass, field

from msgspec import Struct

from handlers.bodies import (
    AccountBody,
    DreamBody,
    DreamPageBody,
    HealthBody,
    ReadyBody,
    ServerBody,
    SessionBody,
    TokensBody,
)
from handlers.requests import (
    KEY_LENGTH,
    DreamChangesBody,
    DreamFieldsBody,
    DreamFormBody,
    DreamsQuery,
    ImagesFormBody,
    LoginBody,
    MediaQuery,
    RefreshBody,
    WaitQuery,
)

JSON, FORM, EVENTS, TEXT, HTML = (
    "application/json",
    "multipart/form-data",
    "text/event-stream",
    "text/plain",
    "text/html",
)
IMAGE = "image/*"

# type -> (its title, what a client can do). `about:blank` has no section of its own (RFC 9457, 4.2.1).
PROBLEM_TYPES: dict[str, tuple[str, str]] = {}

WRONG_JSON = {400: "The body is not JSON.", 413: "The body is too large.", 422: "A field is missing, wrong or unknown."}
UNAVAILABLE = {503: "The database or the storage does not answer. Repeat the request after `Retry-After`."}
NOT_WRITTEN = UNAVAILABLE | {507: "The server's disk is full."}
NO_DREAM = {404: "There is no such dream, or it belongs to another user."}
NO_IMAGE = {404: "There is no such dream or image."}
TOO_MANY = {429: "Over a limit of the account or of the client's network. Repeat the request after `Retry-After`."}
NOT_MODIFIED = {304: "Not modified."}
UPLOAD = (
    {
        400: f"The body cannot be read, or the `Idempotency-Key` has not 1 to {KEY_LENGTH} characters.",
        413: "Over a limit of size or number. The server answers while the body is still coming.",
        415: "An image is of no accepted format.",
        422: "A field or a position is missing, wrong or unknown.",
    }
    | TOO_MANY
    | NOT_WRITTEN
)


COOKIE = "The refresh token also comes as a cookie for `/api/auth`, out of the reach of scripts."
SAME_KEY = (
    "\n\nA request that repeats the `Idempotency-Key` of an earlier one within a day stores nothing: the server "
    "ignores its body, and answers with the dream as it is now. A key counts for one kind of call: new dreams, or new "
    "images of one dream."
)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    id: str
    tag: str
    summary: str
    description: str = ""
    public: bool = False  # True: needs no access token
    query: type[Struct] | None = None
    bodies: dict[str, type[Struct]] = field(default_factory=dict)  # media type -> what it holds
    body_required: bool = True
    idempotent: bool = False  # takes an Idempotency-Key
    headers: tuple[str, ...] = ()  # further request headers
    success: int = 200
    answer: type[Struct] | None = None  # of a success, as JSON
    media: tuple[str, ...] = ()  # of a success that is not JSON
    sets_cookie: bool = False  # a success renews the cookie with the refresh token
    statuses: dict[int, str] = field(default_factory=dict)  # the other successes, and redirections: without a body
    problems: dict[int, str] = field(default_factory=dict)  # status -> when
    problem_media: str = "application/problem+json"


OPERATIONS = [
    # ---- accounts
    Operation(
        method="POST",
        path="/api/auth/register",
        id="register",
        tag="Accounts",
        summary="Make an account",
        description="The answer signs the user in, as `login` does.",
        public=True,
        bodies={JSON: LoginBody},
        success=201,
        answer=SessionBody,
        sets_cookie=True,
        problems=WRONG_JSON
        | {403: "This server takes no new accounts.", 409: "The username is taken."}
        | TOO_MANY
        | NOT_WRITTEN,
    ),
    Operation(
        method="POST",
        path="/api/auth/login",
        id="login",
        tag="Accounts",
        summary="Sign in",
        description="The answer begins a session of its own: several devices may be signed in at a time. " + COOKIE,
        public=True,
        bodies={JSON: LoginBody},
        answer=SessionBody,
        sets_cookie=True,
        problems=WRONG_JSON | {401: "The username or the password is wrong."} | TOO_MANY | NOT_WRITTEN,
    ),
    Operation(
        method="POST",
        path="/api/auth/refresh",
        id="refresh",
        tag="Accounts",
        summary="Get new tokens",
        description="The refresh token stands in the body or in the cookie `dreamlog_refresh`. Each one works once: "
        "using an old one again ends the session. " + COOKIE,
        public=True,
        bodies={JSON: RefreshBody},
        body_required=False,
        answer=TokensBody,
        sets_cookie=True,
        problems=WRONG_JSON | {401: "The refresh token is missing, wrong, expired or used."} | NOT_WRITTEN,
    ),
    Operation(
        method="POST",
        path="/api/auth/logout",
        id="logout",
        tag="Accounts",
        summary="Sign out",
        description="Ends the session, clears the cookie and closes all connections of the user. Other sessions may "
        "reconnect.",
        success=204,
        problems=NOT_WRITTEN,
    ),
    Operation(
        method="GET",
        path="/api/me",
        id="me",
        tag="Accounts",
        summary="Read the account",
        description="The account of the access token.",
        answer=AccountBody,
        problems=UNAVAILABLE,
    ),
    Operation(
        method="DELETE",
        path="/api/me",
        id="deleteMe",
        tag="Accounts",
        summary="Delete the account with all its dreams and images",
        description="Ends all sessions of the user first, so every connection closes. The username is free afterwards.",
        success=204,
        problems=NOT_WRITTEN,
    ),
    # ---- dreams
    Operation(
        method="POST",
        path="/api/dreams",
        id="createDream",
        tag="Dreams",
        summary="Record a dream",
        description="The server answers as soon as the upload is durable, while the images are still `processing`. "
        "A new dream needs a title, content or an image. A body of the type `multipart/*` is a form; any other is read "
        "as JSON. Images get their ids in the order of their parts." + SAME_KEY,
        bodies={JSON: DreamFieldsBody, FORM: DreamFormBody},
        idempotent=True,
        success=201,
        answer=DreamBody,
        problems=UPLOAD | {404: "The dream that this `Idempotency-Key` made has been deleted."},
    ),
    Operation(
        method="GET",
        path="/api/dreams",
        id="listDreams",
        tag="Dreams",
        summary="List dreams, newest night first",
        description="By `dreamed_at`, then id, both falling. A night is the calendar date of `dreamed_at` by the "
        "dreamer's own clock. A `from` after `to` gives an empty list.",
        query=DreamsQuery,
        answer=DreamPageBody,
        problems={422: "A parameter is wrong or unknown."} | UNAVAILABLE,
    ),
    Operation(
        method="GET",
        path="/api/dreams/{dream_id}",
        id="getDream",
        tag="Dreams",
        summary="Read a dream, or wait until it changes",
        description="With `since`, the server answers 200 as soon as the dream's revision is above it, and 304 when it "
        "is not after `wait` seconds. A read that waits counts as a connection of the account.",
        query=WaitQuery,
        answer=DreamBody,
        statuses={304: "The dream is not newer than `since`."},
        problems=NO_DREAM | {422: "A parameter is wrong or unknown."} | TOO_MANY | UNAVAILABLE,
    ),
    Operation(
        method="PATCH",
        path="/api/dreams/{dream_id}",
        id="changeDream",
        tag="Dreams",
        summary="Change fields, or move images",
        description="Fields that are absent stay. After a shorter content, images that would lie behind its end stand "
        "at its end. A position must not lie behind the end of the content: 422, or 409 where the content has become "
        "shorter meanwhile. A changed dream may be empty.",
        bodies={JSON: DreamChangesBody},
        answer=DreamBody,
        problems=WRONG_JSON
        | NO_IMAGE
        | {409: "The content has become shorter meanwhile, and a position lies behind its end."}
        | NOT_WRITTEN,
    ),
    Operation(
        method="DELETE",
        path="/api/dreams/{dream_id}",
        id="deleteDream",
        tag="Dreams",
        summary="Delete a dream with its images",
        description="The dream is gone at once for every reader; listeners receive `dream_deleted`.",
        success=204,
        problems=NO_DREAM | NOT_WRITTEN,
    ),
    Operation(
        method="GET",
        path="/api/dreams/{dream_id}/events",
        id="dreamEvents",
        tag="Dreams",
        summary="Receive a dream's messages as server-sent events",
        description="The messages of the WebSocket, each as the `data:` of an event without a name; `id:` is the "
        "revision where the message has one. The first is the dream's state, so `Last-Event-ID` is allowed and changes "
        "nothing. `retry:` says after how many milliseconds to reconnect. The access token stands in the header "
        "`Authorization`: browsers use `fetch`, because `EventSource` cannot send it. See `/asyncapi.json`.",
        headers=("Last-Event-ID",),
        media=(EVENTS,),
        problems=NO_DREAM | TOO_MANY | UNAVAILABLE,
    ),
    # ---- images
    Operation(
        method="POST",
        path="/api/dreams/{dream_id}/images",
        id="addImages",
        tag="Images",
        summary="Add images to a dream",
        description="The new images get their ids in the order of their parts. The server answers as soon as the "
        "upload is durable, while they are still `processing`." + SAME_KEY,
        bodies={FORM: ImagesFormBody},
        idempotent=True,
        success=201,
        answer=DreamBody,
        problems=UPLOAD
        | NO_DREAM
        | {
            409: "Another request has added images meanwhile, and there would be too many.",
            415: "An image is of no accepted format, or the body is no form.",
        },
    ),
    Operation(
        method="DELETE",
        path="/api/dreams/{dream_id}/images/{image_id}",
        id="deleteImage",
        tag="Images",
        summary="Remove an image",
        description="The image is gone at once, and its id is never used again. The other images stay where they are.",
        success=204,
        problems=NO_IMAGE | NOT_WRITTEN,
    ),
    Operation(
        method="POST",
        path="/api/dreams/{dream_id}/images/{image_id}/retry",
        id="retryImage",
        tag="Images",
        summary="Process a failed image again",
        description="Works for every failed image; `retryable` only says whether it can help. The image is "
        "`processing` again, with the next `attempt`.",
        success=202,
        answer=DreamBody,
        problems=NO_IMAGE | {409: "The image has not failed."} | NOT_WRITTEN,
    ),
    Operation(
        method="GET",
        path="/api/dreams/{dream_id}/images/{image_id}/original",
        id="originalImage",
        tag="Images",
        summary="Download the untouched upload",
        description="As an attachment, byte for byte. It needs the access token: its URL is not signed.",
        media=(IMAGE,),
        problems={404: "There is no such dream or image, or its original was not kept."} | UNAVAILABLE,
    ),
    *(
        Operation(
            method=method,
            path="/media/{key}",
            id=f"{method.lower()}Media",
            tag="Images",
            summary="Fetch a rendered image" if method == "GET" else "Ask for the headers of a rendered image",
            description="At the signed URL that a dream shows. The file under a key never changes. A URL may also lead "
            "to another host (OSS, a CDN).",
            public=True,
            query=MediaQuery,
            headers=("Range", "If-Range", "If-None-Match"),
            media=(IMAGE,),
            statuses={206: "The range that was asked for."} | NOT_MODIFIED,
            problems={
                403: "The URL has expired or was altered.",
                404: "There is no such image.",
                416: "The range lies behind the end of the file.",
                503: "The disk does not answer.",
            },
            problem_media=TEXT,
        )
        for method in ("GET", "HEAD")
    ),
    # ---- the server
    Operation(
        method="GET",
        path="/api/server",
        id="server",
        tag="Server",
        summary="Read the version, formats and limits of the server",
        description="The answer stays the same while the server runs.",
        public=True,
        answer=ServerBody,
    ),
    *(
        Operation(
            method=method,
            path="/healthz",
            id=f"{method.lower()}Health",
            tag="Server",
            summary="Ask whether the process answers",
            description="For a supervisor that restarts a process that hangs. It asks no other part.",
            public=True,
            answer=HealthBody,
        )
        for method in ("GET", "HEAD")
    ),
    *(
        Operation(
            method=method,
            path="/readyz",
            id=f"{method.lower()}Ready",
            tag="Server",
            summary="Ask whether the server can take work",
            description="For a load balancer. Each part has at most 3 seconds to answer.",
            public=True,
            answer=ReadyBody,
            problems={503: "A part cannot take work."},
            problem_media=JSON,
        )
        for method in ("GET", "HEAD")
    ),
    Operation(
        method="GET",
        path="/metrics",
        id="metrics",
        tag="Server",
        summary="Read the metrics for Prometheus",
        description="With `Authorization: Bearer <server.metrics_token>`. The text format of Prometheus.",
        public=True,
        media=(TEXT,),
        problems={
            401: "The metrics token is missing or wrong.",
            404: "The server has no metrics token.",
        },
    ),
    *(
        Operation(
            method=method,
            path=path,
            id=f"{method.lower()}{name}",
            tag="Server",
            summary=summary,
            description="The answer has an `ETag`, and stays the same while the server runs.",
            public=True,
            headers=("If-None-Match",),
            media=(media,),
            statuses=NOT_MODIFIED,
            problems={404: "There is no such file."} if "{" in path else {},
            problem_media=TEXT,
        )
        for path, name, media, summary in (
            ("/openapi.json", "OpenApi", JSON, "This contract"),
            ("/asyncapi.json", "AsyncApi", JSON, "The contract of the WebSocket and the event stream"),
            ("/docs", "Docs", HTML, "Both contracts, for people"),
            ("/", "Page", HTML, "The web page"),
            ("/sw.js", "ServiceWorker", "text/javascript", "The page's service worker"),
            ("/manifest.webmanifest", "Manifest", "application/manifest+json", "The page's manifest"),
            ("/robots.txt", "Robots", TEXT, "Rules for crawlers"),
            ("/web/{path}", "PageFile", "*/*", "A file of the page"),
        )
        for method in ("GET", "HEAD")
    ),
]
