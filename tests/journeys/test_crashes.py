"""Real kills, of the server, mongod and a worker: nothing that was answered 201 is lost, and nothing is left over."""

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
    """Pids of the worker processes; the first is the fork server itself, their parent."""
    return server.descendants(WORKER)[1:]


def files_of(dreams: list[Json]) -> int:
    """How many files completed dreams have: each image's different variants and its original."""
    images = [image for dream in dreams for image in dream["images"]]
    return sum(len({v["url"] for v in image["variants"].values()}) + 1 for image in images)


@pytest.mark.gen_test
async def test_kill_9_of_the_server_loses_nothing(data: Path) -> None:
    """20 images in line and 2 in work survive: all complete after the restart, none twice, no file left over."""
    async with Server(data, images__workers=2) as server, Api(server.url) as api:
        await api.sign_up()
        uploads = [photos.phone_jpeg(orientation=o, size=(4032, 3024 - n)) for n, o in enumerate((1, 3, 6, 8) * 3)]
        dreams = [await api.dream(*uploads[:11]), await api.dream(*[photos.small_jpeg(n) for n in range(11)])]
        mongod = server.descendants("mongod")
        workers = busy_workers(server)
        server.kill()
        await server.ended()
        await until(lambda: not any(map(_alive, mongod + workers)), "mongod and the workers are gone")
        await server.start()
        api.url = server.url
        dreams = [await api.finished(dream["id"]) for dream in dreams]
        for dream in dreams:
            assert dream["status"] == "completed", dream
            assert [image["id"] for image in dream["images"]] == list(range(1, 12))
        await until(lambda: len(server.files()) == files_of(dreams), "no file is left over")
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
    """The server says not ready, comes back by itself, and has every dream that was answered 201."""
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
        await until(lambda: len(kept) > 20, "dreams are written")

        async def seen_without_mongod() -> bool:
            for mongod in server.descendants("mongod"):  # it comes back so fast that one kill could go unseen
                with suppress(ProcessLookupError):
                    os.kill(mongod, signal.SIGKILL)
            return await not_ready()

        await until(seen_without_mongod, "it says that it is not ready")
        assert (await api.call("GET", "/healthz")).code == 200
        await until(ready, "it is ready again")
        before = len(kept)
        await until(lambda: len(kept) > before + 20, "dreams are written again")
        stopping.set()
        await asyncio.gather(*writers)
        assert set(refused) <= {503}
        listed = await all_ids(api)
        assert set(kept) <= listed
        assert (await api.finished(dream["id"]))["status"] == "completed"
        await until(lambda: len(server.files()) == 16, "four images with three variants and an original each")


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
    """The image whose worker was killed is tried again; the others do not notice."""
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
        assert attempts in ([1] * 7 + [2], [1] * 8), "at most the victim's image was tried twice"
        assert all(image["status"] == "completed" for image in dream["images"])
        await until(lambda: len(server.files()) == files_of([dream]), "no file is left over")
        await until(lambda: len(busy_workers(server)) == 2, "a new worker stands in")


@pytest.mark.gen_test
async def test_an_image_that_kills_its_worker_fails_by_itself(data: Path, mongodb_uri: str) -> None:
    """After three tries it is `crashed`, and it held up nobody."""
    async with Server(data, **settings(data, mongodb_uri), images__workers=1) as server, Api(server.url) as api:
        await api.sign_up()
        # Nothing in a file makes the libraries crash that we know of, so the test is what crashes this one.
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
    """After three tries it is `timed_out`; what came after it was done long before."""
    async with (
        Server(data, **settings(data, mongodb_uri), images__workers=1, images__time_limit=0.3) as server,
        Api(server.url) as api,
    ):
        await api.sign_up()
        hanging = await api.dream(photos.slow_png())
        others = [await api.dream(photos.small_jpeg(n)) for n in range(5)]
        for other in others:
            assert (await api.finished(other["id"]))["status"] == "completed"
        assert (await api.get(hanging["id"]))["status"] == "processing", "it waits for its next try"
        failed = await api.finished(hanging["id"])
        assert failed["images"][0]["error"]["code"] == "timed_out"
        assert failed["images"][0]["attempt"] == 3


@pytest.mark.campaign(sample=2, whole=40)
@pytest.mark.gen_test
async def test_kill_9_at_any_moment_loses_nothing(data: Path, campaign: Campaign) -> None:
    """Three people upload and delete while the server is killed: what was answered survives, and nothing else does."""
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
                        kept.remove(_id(dream))  # whether it is deleted is open until the answer
                        if (await api.call("DELETE", path)).code == 204:
                            deleted.add(_id(dream))

        for random in campaign.rounds():
            seeds = [random.getrandbits(32) for _ in range(3)]
            writers = [asyncio.create_task(write(Random(seed))) for seed in seeds]
            goal = len(kept) + random.randint(1, 12)
            await until(lambda goal=goal: len(kept) >= goal, "dreams are written")  # type: ignore[misc]
            server.kill()
            await asyncio.gather(*writers)
            await server.restart()
            api.url = server.url
            listed = await all_ids(api)
            assert kept <= listed
            assert not deleted & listed
        dreams = [await api.finished(each) for each in listed]
        assert {dream["status"] for dream in dreams} == {"completed"}
        await until(lambda: len(server.files()) == files_of(dreams), "no file is left over")


def _form(random: Random) -> bytes:
    return multipart(*(photos.small_jpeg(random.getrandbits(32)) for _ in range(random.randint(1, 3))), title="a dream")
