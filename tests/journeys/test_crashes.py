"""The server, mongod or a worker is killed: every upload that was answered 201 survives, and no file is left over."""

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tornado.httpclient import HTTPError

from tests import photos
from tests.client import MULTIPART, Api, Json, Server, Socket, multipart, settings, until
from tests.pace import Campaign

WORKER = "multiprocessing.forkserver"


def busy_workers(server: Server) -> list[int]:
    """Process ids of the busy workers; the first one is the fork server, their parent."""
    return server.descendants(WORKER)[1:]


def files_of(dreams: list[Json]) -> int:
    """The number of files of completed dreams: for each image, its distinct variants and its original."""
    images = [image for dream in dreams for image in dream["images"]]
    return sum(len({v["url"] for v in image["variants"].values()}) + 1 for image in images)


@pytest.mark.gen_test
async def test_kill_9_of_the_server_loses_nothing(data: Path) -> None:
    """After kill -9, the server completes all 22 images, none twice, and leaves no other file."""
    async with Server(data, images__workers=2) as server, Api(server.url) as api:
        await api.sign_up()
        uploads = [photos.phone_jpeg(orientation=o, size=(4032, 3024 - n)) for n, o in enumerate((1, 3, 6, 8) * 3)]
        dreams = [await api.dream(*uploads[:11]), await api.dream(*[photos.small_jpeg(n) for n in range(11)])]
        mongod = server.descendants("mongod")
        workers = busy_workers(server)
        server.kill()
        await server.ended()
        await until(lambda: not any(map(_alive, mongod + workers)), "mongod and the workers have ended")
        await server.start()
        api.url = server.url
        dreams = [await api.finished(dream["id"]) for dream in dreams]
        for dream in dreams:
            assert dream["status"] == "completed", dream
            assert [image["id"] for image in dream["images"]] == list(range(1, 12))
        await until(lambda: len(server.files()) == files_of(dreams), "only the files of the dream remain")
        for dream in dreams:
            for image in dream["images"]:
                await api.bytes(image["url"])


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.gen_test
async def test_kill_9_of_mongod_is_survived(data: Path) -> None:
    """After kill -9 of mongod, /readyz reports the outage, the server recovers, and no acknowledged dream is lost."""
    async with Server(data) as server, Api(server.url) as api:
        await api.sign_up()
        kept: list[str] = []
        refused: list[int] = []
        stopping = asyncio.Event()

        async def write(seed: int) -> None:
            while not stopping.is_set():
                response = await api.call("POST", "/api/dreams", {"title": f"dream {seed}"})
                (kept.append(_id(response)) if response.code == 201 else refused.append(response.code))

        async def ready() -> bool:
            return (await api.call("GET", "/readyz")).code == 200

        async def not_ready() -> bool:
            return (await api.call("GET", "/readyz")).code == 503

        dream = await api.dream(*[photos.phone_jpeg(orientation=o) for o in (1, 3, 6, 8)])
        writers = [asyncio.create_task(write(seed)) for seed in range(4)]
        await until(lambda: len(kept) > 20, "the writers have created dreams")

        async def seen_without_mongod() -> bool:
            for mongod in server.descendants("mongod"):  # one outage could pass between two requests
                with suppress(ProcessLookupError):
                    os.kill(mongod, signal.SIGKILL)
            return await not_ready()

        await until(seen_without_mongod, "/readyz reports the outage")
        assert (await api.call("GET", "/healthz")).code == 200
        await until(ready, "the server is ready again")
        before = len(kept)
        await until(lambda: len(kept) > before + 20, "the writers create dreams again")
        stopping.set()
        await asyncio.gather(*writers)
        assert set(refused) <= {503}
        listed = await all_ids(api)
        assert set(kept) <= listed
        assert (await api.finished(dream["id"]))["status"] == "completed"
        await until(lambda: len(server.files()) == 16, "four images have three variants and an original each")


def _id(response: Any) -> str:
    return str(json.loads(response.body)["id"])


async def all_ids(api: Api) -> set[str]:
    ids: set[str] = set()
    path = "/api/dreams?limit=100"
    while True:
        page = await api.json("GET", path)
        ids |= {dream["id"] for dream in page["items"]}
        if page["next_cursor"] is None:
            return ids
        path = f"/api/dreams?limit=100&cursor={page['next_cursor']}"


@pytest.mark.gen_test
async def test_kill_9_of_a_worker_costs_one_image_one_try(data: Path, mongodb_uri: str) -> None:
    """The server tries the image of the killed worker again; other images lose no attempt."""
    async with Server(data, **settings(data, mongodb_uri), images__workers=2) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.dream(*[photos.phone_jpeg(orientation=o) for o in (1, 2, 3, 4, 5, 6, 7, 8)])
        async with Socket.of(api, dream["id"]) as socket:
            await socket.message("image_progress", done=2)
            victim = busy_workers(server)[0]
            os.kill(victim, signal.SIGKILL)
            await socket.message("image_update", status="completed")
        dream = await api.get(dream["id"])
        attempts = sorted(image["attempt"] for image in dream["images"])
        assert attempts in ([1] * 7 + [2], [1] * 8), "at most one image has a second attempt"
        assert all(image["status"] == "completed" for image in dream["images"])
        await until(lambda: len(server.files()) == files_of([dream]), "only the files of the dream remain")
        await until(lambda: len(busy_workers(server)) == 2, "a new worker replaces the killed one")


@pytest.mark.gen_test
async def test_an_image_that_kills_its_worker_fails_by_itself(data: Path, mongodb_uri: str) -> None:
    """After three attempts the image fails with `crashed`; all other images complete."""
    async with Server(data, **settings(data, mongodb_uri), images__workers=1) as server, Api(server.url) as api:
        await api.sign_up()
        # We know of no file that crashes the libraries, so the test kills the worker of this image.
        poison = await api.dream(photos.slow_png())

        async def killing() -> None:
            killed: set[int] = set()
            while True:
                for pid in set(busy_workers(server)) - killed:
                    if any(name.startswith("work/") for name in _folders(server)):
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                        killed.add(pid)
                await asyncio.sleep(0)

        killer = asyncio.create_task(killing())
        failed = await api.finished(poison["id"])
        killer.cancel()
        (image,) = failed["images"]
        assert failed["status"] == "failed"
        assert image["error"]["code"] == "crashed"
        assert image["error"]["retryable"] is True
        assert image["attempt"] == 3
        other = await api.finished((await api.dream(photos.small_jpeg(1)))["id"])
        assert other["status"] == "completed"
        await api.json("POST", f"/api/dreams/{poison['id']}/images/1/retry", b"", status=202)
        assert (await api.finished(poison["id"]))["status"] == "completed"


def _folders(server: Server) -> list[str]:
    return [f"work/{path.name}" for path in (server.data / "work").iterdir()]


@pytest.mark.gen_test
async def test_an_image_that_hangs_its_worker_fails_by_itself(data: Path, mongodb_uri: str) -> None:
    """After three attempts the image fails with `timed_out`; the images after it complete long before."""
    async with (
        Server(data, **settings(data, mongodb_uri), images__workers=1, images__time_limit=0.3) as server,
        Api(server.url) as api,
    ):
        await api.sign_up()
        hanging = await api.dream(photos.slow_png())
        others = [await api.dream(photos.small_jpeg(n)) for n in range(5)]
        for other in others:
            assert (await api.finished(other["id"]))["status"] == "completed"
        assert (await api.get(hanging["id"]))["status"] == "processing", "the image waits for its next attempt"
        failed = await api.finished(hanging["id"])
        assert failed["images"][0]["error"]["code"] == "timed_out"
        assert failed["images"][0]["attempt"] == 3


@pytest.mark.campaign(sample=2, whole=40)
@pytest.mark.gen_test
async def test_kill_9_at_any_moment_loses_nothing(data: Path, campaign: Campaign) -> None:
    """Through repeated kills during uploads and deletions, acknowledged changes survive and no file is left over."""
    async with Server(data, images__workers=2) as server, Api(server.url) as api:
        await api.sign_up()
        kept: set[str] = set()
        deleted: set[str] = set()

        async def write(random: Random) -> None:
            with suppress(HTTPError, OSError):
                while True:
                    dream = await api.call("POST", "/api/dreams", _form(random), headers=MULTIPART)
                    if dream.code != 201:
                        return
                    kept.add(_id(dream))
                    if random.random() < 0.3:
                        path = f"/api/dreams/{_id(dream)}"
                        kept.remove(_id(dream))  # until the answer, the dream may or may not be deleted
                        if (await api.call("DELETE", path)).code == 204:
                            deleted.add(_id(dream))

        for random in campaign.rounds():
            seeds = [random.getrandbits(32) for _ in range(3)]
            writers = [asyncio.create_task(write(Random(seed))) for seed in seeds]
            goal = len(kept) + random.randint(1, 12)
            await until(lambda goal=goal: len(kept) >= goal, "the writers have created dreams")  # type: ignore[misc]
            server.kill()
            await asyncio.gather(*writers)
            await server.restart()
            api.url = server.url
            listed = await all_ids(api)
            assert kept <= listed
            assert not deleted & listed
        dreams = [await api.finished(each) for each in listed]
        assert {dream["status"] for dream in dreams} == {"completed"}
        await until(lambda: len(server.files()) == files_of(dreams), "only the files of the dreams remain")


def _form(random: Random) -> bytes:
    return multipart(*(photos.small_jpeg(random.getrandbits(32)) for _ in range(random.randint(1, 3))), title="a dream")
