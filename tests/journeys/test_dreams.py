"""Dreams over HTTP: create, read, search, change and delete them, and delete the account."""

from pathlib import Path

import pytest
from bson import ObjectId

from storage.mongo import Mongo
from tests import photos
from tests.client import Api, Server, Socket, settings, until


@pytest.mark.gen_test
async def test_a_dream_is_written_read_changed_and_deleted(data: Path, mongodb_uri: str) -> None:
    """A read returns what was written, in its own UTC offset; listeners receive the change and the deletion."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        written = {
            "title": "海边",
            "content": "我在海边🌊\nwalking",
            "dreamed_at": "2026-11-22T06:10:00+08:00",
            "mood": "calm",
            "lucidity": 3,
            "tags": ["sea", "夜"],
        }
        dream = await api.json("POST", "/api/dreams", written, status=201)
        assert {name: dream[name] for name in written} | {"dreamed_at": "2026-11-22T06:10:00.000+08:00"} == written | {
            "dreamed_at": "2026-11-22T06:10:00.000+08:00"
        }
        assert (dream["status"], dream["images"], dream["revision"]) == ("completed", [], 1)
        assert dream["created_at"].endswith("Z")
        assert await api.get(dream["id"]) == dream
        async with Socket.of(api, dream["id"]) as socket:
            await socket.message("image_update", revision=1)
            changed = await api.json("PATCH", f"/api/dreams/{dream['id']}", {"title": "海", "mood": None})
            assert (changed["title"], changed["mood"], changed["content"]) == ("海", None, written["content"])
            assert changed["revision"] == 2
            await socket.message("image_update", revision=2)
            await api.json("DELETE", f"/api/dreams/{dream['id']}", status=204)
            await socket.message("dream_deleted", dream_id=dream["id"])
            assert await socket.close_code() == 1000
        await api.json("DELETE", f"/api/dreams/{dream['id']}", status=404)


@pytest.mark.gen_test
async def test_pictures_move_with_the_text(data: Path, mongodb_uri: str) -> None:
    """A change of the text can move pictures; the server moves a picture past the new end of the text to that end."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.dream(photos.small_jpeg(1), photos.small_jpeg(2), content="0123456789", positions=[4, 10])
        change = {"content": "012345", "images": [{"id": 1, "position": 0}]}
        changed = await api.json("PATCH", f"/api/dreams/{dream['id']}", change)
        assert [(image["id"], image["position"]) for image in changed["images"]] == [(1, 0), (2, 6)]


@pytest.mark.gen_test
async def test_the_list_is_paged_and_searched(data: Path, mongodb_uri: str) -> None:
    """Pages are newest first, without repeats or gaps; search finds words in any language, tags and nights."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        for day in range(1, 8):
            body = {"title": f"第{day}夜", "content": "梦见大海" if day % 2 else "a.*b", "tags": [f"t{day % 3}"]}
            body["dreamed_at"] = f"2026-11-{day:02}T23:30:00-05:00"
            await api.json("POST", "/api/dreams", body, status=201)
        pages, path = [], "/api/dreams?limit=3"
        while path:
            page = await api.json("GET", path)
            pages.append([dream["title"] for dream in page["items"]])
            path = page["next_cursor"] and f"/api/dreams?limit=3&cursor={page['next_cursor']}"
        assert pages == [["第7夜", "第6夜", "第5夜"], ["第4夜", "第3夜", "第2夜"], ["第1夜"]]

        async def titles(query: str) -> str:
            found = await api.json("GET", f"/api/dreams?{query}")
            return "".join(sorted(dream["title"][1] for dream in found["items"]))

        assert await titles("q=%E5%A4%A7%E6%B5%B7") == "1357"
        assert await titles("q=a.*B") == "246"
        assert await titles("tag=t1") == "147"
        assert await titles("from=2026-11-03&to=2026-11-05") == "345", "in the dreamer's own time zone"
        assert await titles("from=2026-11-07T00:00:00Z") == "67"


@pytest.mark.gen_test
async def test_deleting_the_account_deletes_everything(data: Path, mongodb_uri: str) -> None:
    """Deleting an account deletes its dreams, files, connections and tokens, and leaves other accounts alone."""
    async with Server(data, **settings(data, mongodb_uri)) as server:
        async with Api(server.url) as ada, Api(server.url) as bob:
            await ada.sign_up("ada")
            await bob.sign_up("bob")
            dream = await ada.finished((await ada.dream(photos.small_jpeg(1)))["id"])
            files = server.files()
            theirs = await bob.finished((await bob.dream(photos.small_jpeg(1)))["id"])
            async with Socket.of(ada, dream["id"]) as socket:
                await socket.message("image_update")
                await ada.json("DELETE", "/api/me", status=204)
                assert (await socket.close_code() or 0) >= 4400
            await until(lambda: not files & server.files(), "the files are deleted")
            await ada.json("GET", "/api/me", status=401)
            await ada.json("GET", f"/api/dreams/{dream['id']}", status=401)
            await ada.json("POST", "/api/auth/refresh", {"refresh": ada.refresh}, status=401)
            await ada.json("POST", "/api/auth/login", {"username": "ada", "password": "correct horse"}, status=401)
            await bob.bytes(theirs["images"][0]["url"])
            await ada.sign_up("ada")
            assert (await ada.json("GET", "/api/dreams"))["items"] == []


@pytest.mark.gen_test
async def test_a_page_of_an_allowed_origin_may_call(data: Path, mongodb_uri: str) -> None:
    """The server sends CORS headers to the origins in its settings, and to no others."""
    allowed = settings(data, mongodb_uri, server__allowed_origins="https://app.example.org")
    async with Server(data, **allowed) as server, Api(server.url) as api:
        preflight = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST"}
        answer = await api.call("OPTIONS", "/api/dreams", headers=preflight)
        assert answer.code == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
        for header in ("Authorization", "Idempotency-Key", "Last-Event-ID"):
            assert header in answer.headers["Access-Control-Allow-Headers"]
        stranger = await api.call("GET", "/api/dreams", headers={"Origin": "https://evil.example.org"})
        assert "Access-Control-Allow-Origin" not in stranger.headers
        refused = await api.call("GET", "/api/dreams", headers={"Origin": "https://app.example.org"})
        assert refused.code == 401
        assert refused.headers["Access-Control-Allow-Origin"] == "https://app.example.org", "a page can read the error"
        page = {"Origin": "https://app.example.org"}
        wrong = await api.call("POST", "/api/auth/register", {"username": ""}, headers=page)
        assert wrong.code == 422
        assert wrong.headers["Access-Control-Allow-Origin"] == "https://app.example.org"


@pytest.mark.gen_test
async def test_documents_of_another_version_are_shown(data: Path, mongodb_uri: str) -> None:
    """Documents with missing fields or unknown states and codes can be listed and read."""
    async with Server(data, **settings(data, mongodb_uri)) as server, Api(server.url) as api:
        await api.sign_up()
        made = [await api.dream(photos.small_jpeg(number), photos.small_jpeg(9 + number)) for number in range(4)]
        whole = [await api.finished(dream["id"]) for dream in made]
        ids = [ObjectId(dream["id"]) for dream in whole]
        async with Mongo(mongodb_uri, data.parent.name) as mongo:
            dreams = mongo.database["dreams"]
            odd = {"images.0.state": "archived", "images.0.new": {"a": 1}, "new": [1]}
            await dreams.update_one({"_id": ids[0]}, {"$set": odd})
            failed = {"images.0.state": "failed", "images.0.error": "eaten_by_moths"}
            await dreams.update_one({"_id": ids[1]}, {"$set": failed})
            fields = ("title", "tags", "mood", "utc_offset", "updated_at", "images.0.attempt", "images.0.format")
            await dreams.update_one({"_id": ids[2]}, {"$unset": dict.fromkeys(fields, "")})
            await dreams.update_one({"_id": ids[3]}, {"$unset": {"images.0.variants.2048": ""}})
        shown = {dream["id"]: dream for dream in (await api.json("GET", "/api/dreams"))["items"]}
        assert len(shown) == 4
        for dream in whole:
            assert await api.get(dream["id"]) == shown[dream["id"]]
        archived, moths, old, smaller = (shown[dream["id"]] for dream in whole)
        assert (archived["status"], archived["images"][0]["status"]) == ("processing", "processing")
        assert archived["images"][1] == whole[0]["images"][1]
        assert moths["images"][0]["error"]["code"] == "crashed"
        assert "Something went wrong" in moths["images"][0]["error"]["message"]
        assert (old["title"], old["tags"], old["mood"], old["images"]) == ("", [], None, whole[2]["images"])
        assert smaller["images"][0]["url"] == smaller["images"][0]["variants"]["1024"]["url"]
        async with Socket.of(api, archived["id"]) as socket:
            await socket.message("image_update", status="processing")
        async with Socket.of(api, smaller["id"]) as socket:
            update = await socket.message("image_update", status="completed")
            assert len(update["images"]) == 2
        await api.json("POST", f"/api/dreams/{archived['id']}/images/1/retry", status=409)
        changed = await api.json("PATCH", f"/api/dreams/{archived['id']}", {"content": "x"})
        assert changed["revision"] == archived["revision"] + 1
