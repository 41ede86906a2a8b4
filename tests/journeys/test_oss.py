"""OSS fails in every way it can: no acknowledged upload is lost or stored twice, and no file is left over."""

import re
import signal
from pathlib import Path

import pytest

from tests import photos
from tests.client import Api, Json, Server, settings, until
from tests.journeys.conftest import ON_OSS_TOO
from tests.journeys.test_stop import output_of
from tests.oss_server import KEY_ID, SECRET, OssServer


def names_of(dreams: list[Json]) -> set[str]:
    """The names of the variants of completed dreams in the bucket. The API does not reveal the names of originals."""
    images = [image for dream in dreams for image in dream["images"]]
    urls = {variant["url"] for image in images for variant in image["variants"].values()}
    return {url.partition("?")[0].partition("/dreams/")[2] for url in urls}


def check_bucket(oss: OssServer, dreams: list[Json]) -> None:
    """Assert that the bucket has each image complete and once, and nothing else."""
    images = [image for dream in dreams for image in dream["images"]]
    assert {image["status"] for image in images} == {"completed"}
    stored = {name for name in oss.names() if "/check/" not in name}  # /readyz may be writing its own
    named = names_of(dreams)
    originals = {name for name in stored if "/original-" in name}
    assert stored == named | originals
    assert len(originals) == len(images)
    assert {name.rpartition("/")[0] for name in originals} == {name.rpartition("/")[0] for name in named}
    assert all(len(digests) == 1 for digests in oss.writes.values()), "no object was ever overwritten"
    assert not oss.uploads


async def ready(api: Api) -> Json:
    answer: Json = await api.json("GET", "/readyz")
    return answer


@pytest.mark.gen_test
async def test_a_storage_that_fails_four_times_in_ten_gets_everything(data: Path, mongodb_uri: str) -> None:
    """With 30 % 503s, 5 % resets and 5 % lost answers, 100 images complete, none twice, and none leaves an orphan."""
    with OssServer() as oss:
        server = Server(data, **settings(data, mongodb_uri), **oss.settings(part_size=102_400))
        async with server, Api(server.url) as api:
            oss.faults.busy, oss.faults.reset, oss.faults.lost = 0.30, 0.05, 0.05
            await api.sign_up()
            large = photos.phone_jpeg()
            assert len(large) > 204_800, "the original goes up in parts"
            dreams = [await api.dream(*(photos.small_jpeg(10 * n + i) for i in range(10))) for n in range(9)]
            dreams.append(await api.dream(*(photos.small_jpeg(90 + i) for i in range(9)), large))
            dreams = [await api.finished(dream["id"]) for dream in dreams]
            assert sum(len(dream["images"]) for dream in dreams) == 100
            assert oss.failed > 80
            await until(
                lambda: not any(name.startswith(("staging", "work")) for name in server.files()),
                "all images are stored",
            )
            check_bucket(oss, dreams)
            assert [image["attempt"] for dream in dreams for image in dream["images"]] == [1] * 100
            deleted = dreams.pop()
            await api.json("DELETE", f"/api/dreams/{deleted['id']}", status=204)
            await until(lambda: not names_of([deleted]) & oss.names(), "the files of the dream are deleted")
            await until(lambda: len(oss.names()) == len(names_of(dreams)) + 90, "the originals are deleted too")
            assert "Traceback" not in server.output, server.output


@pytest.mark.gen_test
async def test_while_the_storage_is_gone_uploads_wait(data: Path, mongodb_uri: str) -> None:
    """While OSS is down, /readyz says so and the server accepts 50 uploads; later all complete by themselves."""
    with OssServer() as oss:
        server = Server(data, **settings(data, mongodb_uri), **oss.settings())
        async with server, Api(server.url) as api:
            await api.sign_up()
            dreams = []
            for number in range(50):
                oss.faults.gone = number >= 10
                dreams.append(await api.dream(photos.small_jpeg(number)))

            async def storage() -> str:
                return str((await api.json("GET", "/readyz", status=503))["storage"])

            assert await storage() == "unavailable"
            await until(lambda: server.output.count("waits: ") >= 8, "the outage exceeds the retries of a single put")
            assert (await api.call("GET", "/healthz")).code == 200
            oss.faults.gone = False
            dreams = [await api.finished(dream["id"]) for dream in dreams]
            assert [image["attempt"] for dream in dreams for image in dream["images"]] == [1] * 50
            await until(
                lambda: not any(name.startswith(("staging", "work")) for name in server.files()),
                "all images are stored",
            )
            check_bucket(oss, dreams)
            assert (await ready(api))["storage"] == "ok"
            assert "Traceback" not in server.output, server.output


@pytest.mark.gen_test
async def test_a_dream_deleted_while_its_storage_is_gone_leaves_nothing(data: Path, mongodb_uri: str) -> None:
    """After a deletion during an outage of OSS, no file remains in the bucket or on disk."""
    with OssServer() as oss:
        server = Server(data, **settings(data, mongodb_uri), **oss.settings())
        async with server, Api(server.url) as api:
            await api.sign_up()
            kept = await api.finished((await api.dream(photos.small_jpeg(1)))["id"])
            oss.faults.gone = True
            waiting = await api.dream(photos.small_jpeg(2), photos.small_jpeg(3))
            await until(lambda: "waits: " in server.output, "the image waits for OSS")
            for dream in (kept, waiting):
                await api.json("DELETE", f"/api/dreams/{dream['id']}", status=204)
            oss.faults.gone = False
            await until(lambda: server.files() == set(), "no file is left")


@pytest.mark.gen_test
async def test_the_server_starts_and_stops_without_its_storage(data: Path, mongodb_uri: str) -> None:
    """The server starts and stops while OSS is down, and stores waiting images later, also after a kill."""
    with OssServer() as oss:
        server = Server(data, **settings(data, mongodb_uri), **oss.settings(), server__drain_timeout=1)
        async with server, Api(server.url) as api:
            await api.sign_up()
            oss.faults.gone = True
            dream = await api.dream(photos.small_jpeg(1))
            await until(lambda: "waits: " in server.output, "the image waits for OSS")
            server.kill()
            await server.restart()
            assert "images wait for the file storage" in server.output
            await until(lambda: "waits: " in server.output, "the image waits for OSS again")
            server.kill(signal.SIGTERM)
            assert await server.ended() == 0, server.output
            assert "Traceback" not in server.output, server.output
            oss.faults.gone = False
            await server.start()
            api.url = server.url
            dream = await api.finished(dream["id"])
            assert dream["images"][0]["attempt"] == 2, "the kill counts as an attempt, the outage and the stop do not"
            await until(lambda: len(oss.names()) == 2, "the files of abandoned attempts are deleted")
            check_bucket(oss, [dream])


@pytest.mark.gen_test
async def test_a_wrong_key_or_bucket_stops_the_start(data: Path, mongodb_uri: str) -> None:
    """With a wrong key or bucket, the server refuses to start, names the setting, and prints no credentials."""
    with OssServer() as oss:
        for wrong, words in (
            ({"access_key_id": "LTAIunknown"}, "storage.access_key_id"),
            ({"access_key_secret": "wrong-secret"}, "storage.access_key_secret"),
            ({"bucket": "nobodys"}, "storage.bucket"),
        ):
            chosen = settings(data, mongodb_uri) | oss.settings(**wrong)
            environment = {f"DREAMLOG_{name.upper()}": str(value) for name, value in chosen.items()}
            code, said = await output_of("run", "--data", str(data), "--port", "0", **environment)
            assert code == 1
            assert words in said
            assert not [private for private in (SECRET, KEY_ID, "LTAIunknown", "wrong-secret") if private in said]
            assert "Traceback" not in said


@pytest.mark.gen_test
async def test_pictures_on_oss_are_not_forgotten_in_the_settings(data: Path, mongodb_uri: str) -> None:
    """The server refuses to start without the bucket that holds pictures; with it, it serves them under any backend."""
    photo = photos.small_jpeg(1)
    with OssServer() as oss:
        async with Server(data, **settings(data, mongodb_uri), **oss.settings()) as server, Api(server.url) as api:
            await api.sign_up()
            dream = await api.finished((await api.dream(photo))["id"])
            access = api.access
        plain = {f"DREAMLOG_{name.upper()}": str(value) for name, value in settings(data, mongodb_uri).items()}
        code, said = await output_of("run", "--data", str(data), "--port", "0", **plain)
        assert (code, "storage.bucket is not set" in said) == (1, True)
        both = settings(data, mongodb_uri) | oss.settings(backend="local")
        async with Server(data, **both) as server, Api(server.url) as api:
            api.access = access
            await api.bytes((await api.get(dream["id"]))["images"][0]["url"])
            response = await api.call("GET", f"/api/dreams/{dream['id']}/images/1/original")
            assert response.body == photo
            other = await api.finished((await api.dream(photos.small_jpeg(2)))["id"])
            assert other["images"][0]["url"].startswith(f"{server.url}/media/")
            shared = await api.finished((await api.dream(photo))["id"])
            assert shared["images"][0]["url"] == dream["images"][0]["url"], "equal uploads share their files on OSS"


@pytest.mark.gen_test
async def test_nobody_reads_without_an_address(data: Path, mongodb_uri: str) -> None:
    """An unsigned or altered URL gets 403, and the API gives out no URL of an original."""
    with OssServer() as oss:
        async with Server(data, **settings(data, mongodb_uri), **oss.settings()) as server, Api(server.url) as api:
            await api.sign_up()
            dream = await api.finished((await api.dream(photos.small_jpeg(1)))["id"])
            url = dream["images"][0]["url"]
            assert await api.bytes(url)
            assert (await api.get(dream["id"]))["images"][0]["url"] == url, "the URL stays the same, for caches"
            original = next(name for name in oss.names() if "/original-" in name)
            for altered in (
                url.partition("?")[0],
                re.sub(r"x-oss-expires=\d+", "x-oss-expires=604800", url),
                url[:-1] + ("0" if url[-1] != "0" else "1"),
                re.sub(r"/dreams/[^?]+", f"/dreams/{original}", url),
                f"{oss.endpoint}/dreams/{original}",
                f"{oss.endpoint}/dreams/?list-type=2&max-keys=9&prefix=",
            ):
                assert (await api.call("GET", altered, signed_in=False)).code == 403, altered


def test_the_journeys_that_are_made_on_oss_exist() -> None:
    """Every name in the list of journeys on OSS is the name of a test."""
    text = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert {name for name in ON_OSS_TOO if f"def {name}(" not in text} == set()
