"""The commands check, move-media and orphans, with a running server and without one."""

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorDatabase

from tests import photos
from tests.client import ROOT, Api, Json, Server, settings, until
from tests.journeys.test_stop import output_of
from tests.oss_server import KEY_ID, SECRET, OssServer


async def command(data: Path, *arguments: str, **settings: object) -> tuple[int, str]:
    """Exit code and output of `python server.py` with these arguments and settings."""
    environment = {f"DREAMLOG_{name.upper()}": str(value) for name, value in settings.items()}
    return await output_of(*arguments, "--data", str(data), **environment)


def media(server: Server) -> set[str]:
    """The pictures on the server's disk."""
    return {name for name in server.files() if name.startswith("media/")}


def addresses(dreams: list[Json]) -> list[str]:
    return [v["url"] for dream in dreams for image in dream["images"] for v in image["variants"].values()]


# ---- check


@pytest.mark.gen_test
async def test_check_tries_every_part(data: Path) -> None:
    """`check` prints one line for each part, with or without a running server, and leaves nothing behind."""
    with OssServer() as oss:
        for backend in ("local", "oss"):
            code, said = await command(data, "check", **oss.settings(backend=backend))
            assert code == 0, said
            parts = ["settings", "database", "workers", "storage, local", "storage, oss"]
            assert [line[6:22].strip() for line in said.splitlines()] == parts
            assert all(line.startswith("ok    ") for line in said.splitlines())
        async with Server(data, **oss.settings()) as server:
            code, said = await command(data, "check", **oss.settings())
            assert code == 0, said
            assert "(embedded in the running server)" in said
            assert server.files() == set()
        assert oss.names() == set()


@pytest.mark.gen_test
async def test_check_names_the_mistake_and_exits_with_1(data: Path, mongodb_uri: str) -> None:
    """`check` reports each broken part with its remedy, and still tries the other parts."""
    good = settings(data, mongodb_uri)
    with OssServer() as oss:
        for wrong, words in (
            (oss.settings(access_key_secret="not-this"), "FAIL  storage, oss     storage.access_key_secret"),
            (oss.settings(bucket="nobodys"), "FAIL  storage, oss     There is no bucket"),
            (oss.settings(public_url="http://127.0.0.1:1"), "127.0.0.1:1, the host of image URLs, does not answer"),
            (oss.settings(public_url=oss.endpoint), f"at {oss.endpoint[7:]} answers 4"),
            (oss.settings(addresses="public", public_url=oss.endpoint), "see storage.public_url"),
        ):
            code, said = await command(data, "check", **good | wrong)
            assert code == 1, said
            assert words in said, said
            assert said.count("FAIL") == 1, said
            assert "Traceback" not in said
            assert not [private for private in (KEY_ID, SECRET, "not-this") if private in said]
        oss.faults.gone = True
        code, said = await command(data, "check", **good | oss.settings())
        assert (code, "cannot be reached" in said, "the setting endpoint" in said) == (1, True, True), said
        oss.faults.gone = False
        oss.faults.clock = 3600
        code, said = await command(data, "check", **good | oss.settings())
        assert (code, "60 minutes behind" in said) == (1, True)
        oss.faults.clock, oss.faults.open = 0, True
        code, said = await command(data, "check", **good | oss.settings())
        assert (code, "make the bucket private" in said) == (1, True)
        assert {name for name in oss.names() if "check" not in name} == set()
    code, said = await command(data, "check", mongodb__uri="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100")
    assert (code, "FAIL  database " in said, said.count("FAIL")) == (1, True, 1)
    code, said = await command(data, "check", server__port=70_000)
    assert (code, "The settings have mistakes" in said) == (1, True)


# ---- move-media


@pytest.mark.gen_test
async def test_pictures_move_while_the_server_serves_them(data: Path) -> None:
    """During a move to OSS and back, every URL works and duplicates stay shared; a second run moves nothing."""
    photo = photos.phone_jpeg()
    with OssServer() as oss:
        async with Server(data) as server, Api(server.url) as api:
            await api.sign_up()
            dreams = []
            for number in range(6):
                dream = await api.dream(photos.small_jpeg(number), photo if number < 2 else photos.small_jpeg(99))
                dreams.append(await api.finished(dream["id"]))
            access, on_disk = api.access, media(server)
            # After SIGKILL, the server could repeat an image whose completion mongod had not yet journaled.
            server.kill(signal.SIGTERM)
            await server.ended()
        async with Server(data, **oss.settings()) as server, Api(server.url) as api:
            api.access = access
            before = [await api.get(dream["id"]) for dream in dreams]
            moving = asyncio.create_task(command(data, "move-media", "--to", "oss", **oss.settings()))
            looked = 0
            while not moving.done() or not looked:
                for url in [*addresses(before), *addresses([await api.get(dream["id"]) for dream in dreams])]:
                    await api.bytes(url)
                looked += 1
            code, said = await moving
            assert code == 0, said
            assert "Images moved to oss: 12." in said
            assert "Moving" in said
            after = [await api.get(dream["id"]) for dream in dreams]
            assert all(url.startswith(oss.endpoint) for url in addresses(after))
            assert len({url.rpartition("/")[0] for url in addresses(after)}) == 8, "equal uploads share their files"
            assert [d["revision"] for d in after] > [d["revision"] for d in before]
            assert media(server) == on_disk, "old URLs work until they expire"
            original = await api.call("GET", f"/api/dreams/{dreams[0]['id']}/images/2/original")
            assert original.body == photo
            code, said = await command(data, "move-media", "--to", "oss", **oss.settings())
            assert (code, "Images moved to oss: 0." in said) == (0, True)
            code, said = await command(data, "orphans", "--older-than", "0", **oss.settings())
            assert said.splitlines()[-1].startswith("Orphaned files: 0."), said

            await api.json("DELETE", f"/api/dreams/{dreams[5]['id']}/images/1", status=204)
            await api.json("DELETE", f"/api/dreams/{dreams[0]['id']}", status=204)
            gone = {url.partition("?")[0].rpartition("/")[0].rpartition("/")[2] for url in addresses([before[0]])[:1]}
            await until(lambda: not any(f"media/{folder}/" in name for folder in gone for name in media(server)),
                        "deleting an image deletes both copies")  # fmt: skip
            code, said = await command(data, "move-media", "--to", "local", **oss.settings())
            assert (code, "Images moved to local: 9." in said) == (0, True), said
            assert "New images still go to oss" in said
            back = [await api.get(dream["id"]) for dream in dreams[1:]]
            assert all(url.startswith(server.url) for url in addresses(back))
            for url in [*addresses(back), *addresses(after[1:5])]:
                await api.bytes(url)


@pytest.mark.gen_test
async def test_a_killed_move_goes_on(data: Path) -> None:
    """After kill -9, every picture is readable; a second run moves the rest, and no other command runs meanwhile."""
    with OssServer() as oss:
        async with Server(data, **oss.settings(backend="local")) as server, Api(server.url) as api:
            await api.sign_up()
            dream = await api.finished((await api.dream(*map(photos.small_jpeg, range(30))))["id"])
            oss.faults.delay = 0.1
            environment = {f"DREAMLOG_{name.upper()}": str(value) for name, value in oss.settings().items()}
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(ROOT / "server.py"), "move-media", "--to", "oss", "--data", str(data)),
                env=environment,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            await until(lambda: len(oss.names()) > 20, "some images are on OSS")
            os.kill(process.pid, signal.SIGSTOP)
            for more in (("orphans", "--delete", "--older-than", "0"), ("move-media", "--to", "local")):
                code, said = await command(data, *more, **oss.settings())
                assert (code, "is already moving images or removing orphans" in said) == (1, True), said
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
            dream = await api.get(dream["id"])
            moved = [image for image in dream["images"] if image["url"].startswith(oss.endpoint)]
            assert 0 < len(moved) < 30
            for url in addresses([dream]):
                await api.bytes(url)
            oss.faults.delay = 0
            code, said = await command(data, "move-media", "--to", "oss", **oss.settings())
            assert (code, f"Images moved to oss: {30 - len(moved)}." in said) == (0, True), said
            assert not (data / "moving").exists()
            code, said = await command(data, "orphans", "--older-than", "0", "--delete", **oss.settings())
            assert code == 0, said
            dream = await api.get(dream["id"])
            assert len(oss.names()) == 60, "one variant and one original for each image"
            for url in addresses([dream]):
                assert url.startswith(oss.endpoint)
                await api.bytes(url)


@pytest.mark.gen_test
async def test_what_is_damaged_stays_and_is_named(data: Path) -> None:
    """`move-media` names each truncated, altered or missing file, moves the others, and exits with 1."""
    with OssServer() as oss:
        async with Server(data, **oss.settings(backend="local")) as server, Api(server.url) as api:
            await api.sign_up()
            dream = await api.finished((await api.dream(*map(photos.small_jpeg, range(5))))["id"])
            folders = sorted((data / "media").iterdir())
            first, second, third = (next(folder.glob("original-*")) for folder in folders[:3])
            first.write_bytes(first.read_bytes()[:-1])
            second.write_bytes(second.read_bytes()[:-1] + b"?")
            third.unlink()
            code, said = await command(data, "move-media", "--to", "oss", **oss.settings())
            assert code == 1
            assert "Images moved to oss: 2." in said
            assert all(folder.name in said for folder in folders[:3])
            for url in addresses([await api.get(dream["id"])]):
                await api.bytes(url)
            assert len(oss.names()) == 4


@pytest.mark.gen_test
async def test_nothing_moves_where_the_server_could_not_read_it(data: Path) -> None:
    """`move-media` refuses to run while the server has no OSS settings, or when it has none itself."""
    with OssServer() as oss:
        async with Server(data):
            code, said = await command(data, "move-media", "--to", "oss", **oss.settings())
            assert (code, "running server. Restart it" in said) == (1, True), said
            code, said = await command(data, "move-media", "--to", "oss")
            assert (code, "not set up in the settings" in said) == (1, True), said


# ---- orphans


@pytest.mark.gen_test
@pytest.mark.parametrize("backend", ["local", "oss"])
async def test_orphans_are_found_then_removed(
    data: Path, backend: str, mongodb_uri: str, database: AsyncIOMotorDatabase[dict[str, Any]]
) -> None:
    """`orphans` lists the files of a dream that was deleted during their upload to OSS, then removes them."""
    with OssServer() as oss:
        chosen = oss.settings(backend=backend) | {
            "mongodb__uri": mongodb_uri,
            "mongodb__database": database.name,
        }
        async with Server(data, **chosen) as server, Api(server.url) as api:
            await api.sign_up()
            kept = await api.finished((await api.dream(photos.small_jpeg(1)))["id"])
            if backend == "oss":
                oss.faults.slow_puts = 1
                dream = await api.dream(photos.small_jpeg(2))
                oss.busiest = 0
                await until(lambda: oss.busiest == 2, "OSS is receiving the files")
                await api.json("DELETE", f"/api/dreams/{dream['id']}", status=204)

                async def swept() -> bool:
                    return await database["dreams"].count_documents({}) == 1

                await until(swept, "the janitor has removed the dream")
            server.kill()
            await server.ended()
        if backend == "oss":
            await until(lambda: len(oss.names()) == 4, "OSS has stored the files after the server's end")
            oss.faults.slow_puts = 0
        else:  # A local write is too fast to interrupt, so the test creates the orphans itself.
            folder = next((data / "media").iterdir())
            shutil.copytree(folder, folder.with_name("0123456789abcdef"))
            (folder.with_name("0123456789abcdef") / ".320.jpg.0011").write_bytes(b"a part")
        async with Server(data, **chosen) as server, Api(server.url) as other:
            other.access = api.access
            files = server.files() | oss.names()
            code, said = await command(data, "orphans", **chosen)
            assert (code, said.splitlines()[-1]) == (0, "Orphaned files: 0. --delete removes them.")
            code, said = await command(data, "orphans", "--older-than", "0", **chosen)
            assert said.count("/original-") == 1
            assert server.files() | oss.names() == files, "without --delete, no file is removed"
            code, said = await command(data, "orphans", "--older-than", "0", "--delete", **chosen)
            assert (code, "Orphaned files removed" in said) == (0, True)
            left = await other.get(kept["id"])
            for url in addresses([left]):
                await other.bytes(url)
            names = {name for name in server.files() | oss.names() if name.startswith(("media", "dreamlog"))}
            assert len(names) == 2, names
