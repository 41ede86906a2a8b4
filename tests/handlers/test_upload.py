"""One multipart request while it streams: what is taken, what is refused and when, and that nothing is left behind."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.web import Application, url

import config
from handlers.access import Access
from handlers.cors import Cors
from handlers.inflight import InFlight
from handlers.limits import RateLimits
from handlers.problems import Problem
from handlers.tokens import Tokens
from handlers.upload import TEXT_FIELDS, TEXT_LIMIT, Upload, UploadHandler, max_request_bytes
from storage.errors import Unavailable
from storage.staging import Staging
from tests import photos
from tests.client import BOUNDARY, multipart

TYPE = f"multipart/form-data; boundary={BOUNDARY}"
PHOTO = photos.small_jpeg(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "staging"


@pytest.fixture
def staging(folder: Path) -> Staging:
    return Staging(folder)


def upload(
    staging: Staging,
    *,
    room: int = 3,
    content_type: str = TYPE,
    one_more: Callable[[], None] = lambda: None,
    **images: Any,
) -> Upload:
    settings = config.Images(**{"max_bytes": 500_000, "max_per_dream": 3, **images})
    return Upload({"Content-Type": content_type}, staging=staging, settings=settings, room=room, one_more=one_more)


async def send(found: Upload, body: bytes, step: int = 10_000_000) -> Upload:
    for start in range(0, len(body), step):
        await found.receive(body[start : start + step])
    return found


def part(head: str, content: bytes = b"") -> bytes:
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


@pytest.mark.gen_test
@pytest.mark.parametrize("step", [10_000_000, 1000, 7])
async def test_fields_and_images_are_taken_apart(staging: Staging, folder: Path, step: int) -> None:
    """However the bytes come: texts by their name, images staged as they were sent."""
    body = multipart(PHOTO, photos.small_jpeg(2), title="梦", tags=["sea", "rain"], positions=[0, 1])
    found = await send(upload(staging), body, step)
    found.finish()
    assert found.fields == {"title": ["梦"], "tags": ["sea", "rain"], "positions": ["0", "1"]}
    assert [format for _, format, _ in found.parts] == ["JPEG", "JPEG"]
    placed = found.placed([5, 6])
    assert [each.position for each in placed] == [5, 6]
    assert (folder / placed[0].staged).read_bytes() == PHOTO
    assert placed[0].bytes == len(PHOTO)
    assert len(list(folder.iterdir())) == 2
    found.discard()
    assert list(folder.iterdir()) == []


@pytest.mark.gen_test
async def test_what_is_kept_is_not_discarded(staging: Staging, folder: Path) -> None:
    """The images belong to a dream then."""
    found = await send(upload(staging), multipart(PHOTO))
    found.keep()
    found.discard()
    assert len(list(folder.iterdir())) == 1


@pytest.mark.gen_test
async def test_an_empty_file_field_is_no_image(staging: Staging) -> None:
    """Browsers send one where nothing was picked."""
    found = await send(upload(staging), part('name="images"; filename=""') + END)
    found.finish()
    assert found.parts == []


CASES: list[tuple[str, bytes, dict[str, Any], int, str]] = [
    ("too many images", multipart(PHOTO, PHOTO), {"room": 1}, 413, "at most 3 images"),
    ("a large image", multipart(PHOTO), {"max_bytes": 1000}, 413, "at most 1000 bytes"),
    ("a large form", bytes(3_000_000), {"max_bytes": 1, "max_per_dream": 1}, 413, "2000001 bytes in all"),
    ("much text", multipart(title="x" * (TEXT_LIMIT + 1)), {}, 413, "text fields"),
    ("many fields", multipart(tags=["x"] * (TEXT_FIELDS + 1)), {}, 413, "1000 text fields"),
    ("no picture", multipart(b"no picture " * 100), {}, 415, "Image 1 is not in an accepted format"),
    ("a second that is none", multipart(PHOTO, b"<svg/>"), {}, 415, "Image 2 "),
    ("an empty file", multipart(b""), {}, 415, "JPEG"),
    ("an unknown field", multipart(colour="red"), {}, 422, "colour: unknown field; allowed are title"),
    ("no UTF-8", part('name="title"', b"\xff\xfe") + END, {}, 422, "title: must be UTF-8"),
    (
        "no form",
        f"--{BOUNDARY}\r\nnothing like a header\r\n\r\n".encode(),
        {},
        400,
        "cannot read the body as multipart",
    ),
]


@pytest.mark.gen_test
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
async def test_what_is_not_allowed_is_refused_while_it_comes(
    staging: Staging, folder: Path, case: tuple[str, bytes, dict[str, Any], int, str]
) -> None:
    """With what is; and nothing of it stays on disk."""
    _, body, settings, status, detail = case
    found = upload(staging, **settings)
    with pytest.raises(Problem) as caught:
        await send(found, body)
    assert caught.value.status == status
    assert detail in str(caught.value)
    found.discard()
    assert list(folder.iterdir()) == []


@pytest.mark.gen_test
async def test_a_form_that_ends_early_is_refused(staging: Staging) -> None:
    """A proxy may have cut it."""
    found = await send(upload(staging), multipart(PHOTO, title="t")[:-20])
    with pytest.raises(Problem) as caught:
        found.finish()
    assert (caught.value.status, "ends" in str(caught.value)) == (400, True)
    found.discard()


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=", "text/plain"])
def test_a_form_without_a_boundary_is_refused(staging: Staging, content_type: str) -> None:
    """Before a byte of it has come."""
    with pytest.raises(Problem) as caught:
        upload(staging, content_type=content_type)
    assert (caught.value.status, "must name the boundary" in str(caught.value)) == (400, True)


@pytest.mark.gen_test
async def test_each_image_counts_before_it_is_written(staging: Staging, folder: Path) -> None:
    """The account's rate may refuse one."""

    def refuse() -> None:
        raise Problem(429, "too_many_connections", most=1)

    found = upload(staging, one_more=refuse)
    with pytest.raises(Problem) as caught:
        await send(found, multipart(PHOTO))
    assert caught.value.status == 429
    assert list(folder.iterdir()) == []


# ---- the handler


@dataclass
class World:
    """What the handler below does with an upload, and what became of it."""

    tokens: Tokens = field(default_factory=lambda: Tokens(b"s" * 32, access_lifetime=900, refresh_lifetime=900))
    error: Exception | None = None
    seen: list[str] = field(default_factory=list)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def app(world: World, staging: Staging) -> Application:
    class Uploads(UploadHandler):
        async def begin(self) -> None:
            world.seen.append(f"key {self.idempotency_key()}")
            if self.is_multipart():
                self.open_upload(room=2)
            else:
                await super().begin()

        async def post(self) -> None:
            if self.upload is None:
                self.answer(200, self.read_json(dict))
                return
            async with self.uploaded() as upload:
                if world.error is not None:
                    raise world.error
                upload.keep()
            self.answer(200, {"images": len(upload.fields)})

    access = Access(public_url="", trusted_proxies=())
    row = {
        "access": access,
        "cors": Cors(access, public_url="", allowed_origins=()),
        "in_flight": InFlight(),
        "tokens": world.tokens,
        "staging": staging,
        "allowed": config.Images(max_bytes=500_000, max_per_dream=2),
        "limits": RateLimits(config.Limits(images=3)),
    }
    return Application([url("/", Uploads, row)], log_function=lambda handler: None)


async def call(http_client: AsyncHTTPClient, base_url: str, world: World, body: bytes, **headers: str) -> HTTPResponse:
    token = world.tokens.access("ann", "s1", 9e9)
    sent = {"Authorization": f"Bearer {token}", "Content-Type": TYPE}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await http_client.fetch(base_url, method="POST", body=body, headers=sent, raise_error=False)


@pytest.mark.gen_test
async def test_an_upload_is_kept_when_the_method_keeps_it(
    http_client: AsyncHTTPClient, base_url: str, world: World, folder: Path
) -> None:
    """Else its files go with the answer."""
    assert (await call(http_client, base_url, world, multipart(PHOTO, title="t"), Idempotency_Key="k")).code == 200
    assert world.seen == ["key k"]
    assert len(list(folder.iterdir())) == 1
    world.error = Problem(409, "conflict")
    assert (await call(http_client, base_url, world, multipart(PHOTO))).code == 409
    assert len(list(folder.iterdir())) == 1


@pytest.mark.gen_test
async def test_an_upload_whose_fate_is_unknown_is_kept(
    http_client: AsyncHTTPClient, base_url: str, world: World, folder: Path
) -> None:
    """The database may have taken the dream and lost the answer; the janitor removes what no dream names."""
    world.error = Unavailable("away", code="database_unavailable")
    answer = await call(http_client, base_url, world, multipart(PHOTO))
    assert (answer.code, answer.headers["Retry-After"]) == (503, "2")
    assert len(list(folder.iterdir())) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Idempotency_Key": "k" * 256}, multipart(), 400),
        ({"Content_Type": "multipart/form-data"}, multipart(), 400),
        ({"Content_Type": "application/json"}, b'{"title": "t"}', 200),
        ({}, bytes(max_request_bytes(config.Images(max_bytes=500_000, max_per_dream=2)) + 1), 413),
        ({}, multipart(PHOTO, PHOTO, PHOTO), 413),
    ],
)
async def test_a_request_is_refused_by_its_headers_or_its_body(
    http_client: AsyncHTTPClient,
    base_url: str,
    world: World,
    folder: Path,
    headers: dict[str, str],
    body: bytes,
    status: int,
) -> None:
    """And nothing of it is left; JSON is no upload."""
    assert (await call(http_client, base_url, world, body, **headers)).code == status
    assert list(folder.iterdir()) == []


@pytest.mark.gen_test
async def test_an_account_that_was_signed_out_meanwhile_gets_nothing(
    http_client: AsyncHTTPClient, base_url: str, world: World, folder: Path
) -> None:
    """A slow upload may outlive its token, but not its session."""

    async def produce(write: Callable[[bytes], Any]) -> None:
        body = multipart(PHOTO)
        await write(body[:-10])
        world.tokens.revoke("s1", 0.0)
        await write(body[-10:])

    token = world.tokens.access("ann", "s1", 9e9)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": TYPE}
    answer = await http_client.fetch(base_url, method="POST", body_producer=produce, headers=headers, raise_error=False)
    assert answer.code == 401
    assert list(folder.iterdir()) == []
