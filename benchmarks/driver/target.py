"""How to talk to a server under test. Paths and field names are options; subclass Target for anything else."""

import asyncio
import json
import os
import time
from pathlib import Path

import aiohttp
from picows import WSListener, WSMsgType, ws_connect

FINAL = ("completed", "failed")
CONTENT = "written on waking " * 40  # long enough for the positions 10, 20, 30 ... of fifty images


def add_options(parser):
    add = parser.add_argument
    add("--base", default="http://127.0.0.1:18000", help="base URL of the server")
    add("--adapter", help="MODULE:CLASS, a subclass of target.Target to use instead")
    add("--register-path", default="/api/auth/register")
    add("--login-path", default="/api/auth/login")
    add("--dreams-path", default="/api/dreams")
    add("--dream-path", default="/api/dreams/{id}")
    add("--ws-path", default="/ws/dream-images/{id}/")
    add("--user-field", default="username")
    add("--password-field", default="password")
    add("--token-field", default="access")
    add("--title-field", default="title")
    add("--content-field", default="content")
    add("--images-field", default="images")
    add("--positions-field", default="positions")
    add("--auth", choices=("message", "header"), default="message", help="WebSocket authentication")
    add("--timeout", type=float, default=60, help="seconds to wait for any one answer")


class Target:
    def __init__(self, options):
        self.o = options
        self.ws_base = options.base.replace("http", "ws", 1)

    async def __aenter__(self):
        self.http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=self.o.timeout)
        )
        return self

    async def __aexit__(self, *exc):
        await self.http.close()

    async def token(self, name, password="Dream-benchmark-1"):
        """A token for the user, who is registered on first use."""
        body = {self.o.user_field: name, self.o.password_field: password}
        await self.call("POST", self.o.register_path, json=body, ok=(200, 201, 400, 409))
        return (await self.call("POST", self.o.login_path, json=body))[self.o.token_field]

    async def create_dream(self, token, images, title="a dream", unique=True):
        """`unique`: no two uploads have the same bytes, for servers that would not process them twice."""
        form = aiohttp.FormData()
        form.add_field(self.o.title_field, title)
        form.add_field(self.o.content_field, CONTENT)
        for number, image in enumerate(images, 1):
            form.add_field(self.o.positions_field, str(10 * number))
            image += os.urandom(16) if unique else b""  # behind the end of the picture, where nobody looks
            form.add_field(self.o.images_field, image, filename=f"{number}.jpg", content_type="image/jpeg")
        return (await self.call("POST", self.o.dreams_path, token, data=form, ok=(201,)))["id"]

    async def dream_status(self, token, dream_id):
        dream = await self.call("GET", self.o.dream_path.format(id=dream_id), token)
        states = {image["status"] for image in dream["images"]}
        return dream.get("status") or (states.pop() if len(states) == 1 else "processing")

    async def call(self, method, path, token=None, ok=(200, 201), **kwargs):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.http.request(method, self.o.base + path, headers=headers, **kwargs) as response:
            text = await response.text()
            if response.status not in ok:
                raise RuntimeError(f"{method} {path}: {response.status} {text[:200]}")
            return json.loads(text)

    async def wait_final(self, token, dream_id, every=0.2):
        """Polls until the dream is completed or failed."""
        async with asyncio.timeout(self.o.timeout):
            while (status := await self.dream_status(token, dream_id)) not in FINAL:
                await asyncio.sleep(every)
            return status

    async def subscribe(self, token, dream_id, listener=None):
        """A WebSocket that has been authenticated and has received connection_established."""
        client = listener or Subscriber()
        headers = {"Authorization": f"Bearer {token}"} if self.o.auth == "header" else {}
        async with asyncio.timeout(self.o.timeout):
            await ws_connect(
                lambda: client,
                self.ws_base + self.o.ws_path.format(id=dream_id),
                extra_headers=headers,
                websocket_handshake_timeout=self.o.timeout,
                read_buffer_init_size=2048,
            )
            if self.o.auth == "message":
                client.send({"type": "authenticate", "token": f"Bearer {token}"})
            await client.established
        return client


class Subscriber(WSListener):
    """Keeps every image_update with the wall clock time of its arrival."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        self.established = loop.create_future()
        self.final = loop.create_future()  # arrival and message of the first completed or failed update
        self.updates = []
        self.pong = None
        self.closed = None

    def send(self, message):
        self.transport.send(WSMsgType.TEXT, json.dumps(message).encode())

    def close(self):
        self.transport.disconnect()

    async def ping(self):
        """Round trip in seconds."""
        pong = self.pong = asyncio.get_running_loop().create_future()
        start = time.perf_counter()
        self.send({"type": "ping", "timestamp": start})
        end, echoed = await pong
        assert echoed == start, "pong with another timestamp"
        return end - start

    def on_ws_connected(self, transport):
        self.transport = transport

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.TEXT:
            message = json.loads(frame.get_payload_as_bytes())
            kind = message["type"]
            if kind == "image_update":
                self.on_update(time.time(), message)
            elif kind == "pong" and self.pong:
                pong, self.pong = self.pong, None
                pong.set_result((time.perf_counter(), message["timestamp"]))
            elif kind == "connection_established" and not self.established.done():
                self.established.set_result(None)
        elif frame.msg_type == WSMsgType.CLOSE:
            self.closed = int(frame.get_close_code())
            transport.disconnect()

    def on_update(self, now, message):
        self.updates.append((now, message))
        if message["status"] in FINAL and not self.final.done():
            self.final.set_result((now, message))

    def on_ws_disconnected(self, transport):
        self.closed = self.closed or 1006
        if not self.established.done():
            self.established.set_exception(ConnectionError(f"closed {self.closed} before connection_established"))
            self.established.exception()


def load_images(folder):
    files = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    if not files:
        raise SystemExit(f"no images in {folder}")
    return [path.read_bytes() for path in files]
