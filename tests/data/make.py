"""Writes the data of the version in the current folder, once for each release: `python tests/data/make.py NAME`.

Migrations are tried on what older versions wrote. It makes an account, dreams of every state and four pictures through
the HTTP API, the last picture in the middle of its work, and copies collections and files to `tests/data/NAME`.
It must work with the server of any version, so it imports nothing of one.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[2]))

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from tests.photos import animated_gif, corrupt_jpeg, phone_jpeg, small_jpeg

HERE = Path(__file__).parent
BOUNDARY = "dream-boundary-7f3a"
ACCOUNT = {"username": "Ada", "password": "correct horse"}
DREAMED_AT = "2026-11-22T06:10:00+08:00"


class Client:
    """The HTTP API, with nothing but the standard library."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.access = ""

    def call(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> Any:
        headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {self.access}"} if self.access else {})
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def dream(self, fields: dict[str, Any], *images: bytes) -> dict[str, Any]:
        parts = [
            f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()
        ]
        head = b'Content-Disposition: form-data; name="images"; filename="1"\r\n\r\n'
        parts += [head + image for image in images]
        framed = b"".join(b"--" + BOUNDARY.encode() + b"\r\n" + part + b"\r\n" for part in parts)
        body = framed + b"--" + BOUNDARY.encode() + b"--\r\n"
        answer: dict[str, Any] = self.call("POST", "/api/dreams", body, f"multipart/form-data; boundary={BOUNDARY}")
        return answer

    def finished(self, dream_id: str) -> bool:
        return bool(self.call("GET", f"/api/dreams/{dream_id}")["status"] != "processing")


def main(name: str) -> None:
    target = HERE / name
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        command = [sys.executable, "server.py", "run", "--port", "0", "--data", str(data)]
        environment = os.environ | {"DREAMLOG_AUTH__REGISTRATION": "open"}
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert server.stdout is not None
        url = next(line.split()[4].rstrip(",") for line in server.stdout if line.startswith("Dreamlog is ready at "))
        rendering = list(workers(server.pid))
        try:
            write(Client(url), rendering)
            copy_collections(data, target)
        finally:
            for pid in (server.pid, *rendering):
                os.kill(pid, signal.SIGKILL)
            server.wait()
        for part in ("media", "staging"):
            shutil.copytree(data / part, target / part)
        for file in ("secret", "server"):
            shutil.copy(data / file, target / file)
    (target / "account.json").write_text(json.dumps(ACCOUNT) + "\n")


def write(client: Client, rendering: list[int]) -> None:
    """Leaves the last picture claimed by a worker that will never end it."""
    client.access = client.call("POST", "/api/auth/register", json.dumps(ACCOUNT).encode())["access"]
    plain = {"title": "By the sea", "content": "I stood in the rain.", "tags": "sea", "dreamed_at": DREAMED_AT}
    dreams = [
        client.dream(plain | {"mood": "calm", "lucidity": 3}, phone_jpeg((640, 480))),
        client.dream({"title": "梦见了海", "content": "一只白鲸。"}, animated_gif(3)),
        client.dream({"title": "Nothing to see"}, corrupt_jpeg()),
        client.dream({"content": "Only words, and an emoji: 🐋"}),
        client.dream({"title": "Deleted"}),
    ]
    for dream in dreams:
        until(lambda dream=dream: client.finished(dream["id"]))  # type: ignore[misc]
    client.call("DELETE", f"/api/dreams/{dreams[-1]['id']}")
    for pid in rendering:
        os.kill(pid, signal.SIGSTOP)
    client.dream({"title": "In the middle of its work"}, small_jpeg(7))


def workers(server: int) -> Iterator[int]:
    """The processes below the server whose command line is multiprocessing's."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    for pid, parent in parents.items():
        below = parent == server or parents.get(parent) == server
        if below and b"multiprocessing" in Path(f"/proc/{pid}/cmdline").read_bytes():
            yield pid


def copy_collections(data: Path, target: Path) -> None:
    """As `mongodump` writes them, once the last picture is claimed."""
    socket = quote(str(data / "mongodb" / "mongod.sock"), safe="")
    with MongoClient[dict[str, Any]](f"mongodb://{socket}/?directConnection=true") as mongo:
        database = mongo["dreamlog"]
        until(lambda: database["dreams"].find_one({"images.state": "rendering"}))
        until(lambda: not database["dreams"].find_one({"sweep": True}))
        target.mkdir()
        raw: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
        for name in database.list_collection_names():
            documents: Any = database.get_collection(name, codec_options=raw).find().sort("_id")
            (target / f"{name}.bson").write_bytes(b"".join(document.raw for document in documents))


def until(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline, "not within 60 s"
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1])
