"""The declared types of the client library match its modules and the messages of the server."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from tests import photos
from tests.client import ROOT, WITHIN, Api, Server, Socket, settings

TSC = ROOT / ".venv" / "node_modules" / ".bin" / "tsc"
STRICT = ("--strict", "--noEmit", "--checkJs", "--target", "es2023", "--module", "esnext")
CLIENT = ROOT / "web" / "client"
LIBRARY = {"dreamlog": "DreamImageWebSocketClient", "many_dreams": "ManyDreamsWebSocketClient"}

# TypeScript prefers a .d.ts to the .js of the same name. Under another name, the .js is read itself.
AGREEMENT = """
import type * as declared from './{name}'
import type * as written from './{name}.as_written'
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
type Of<A, K> = K extends keyof A ? A[K] : 'missing'
type Differing<A, B, K = keyof A | keyof B> = K extends K ? (Same<Of<A, K>, Of<B, K>> extends true ? never : K) : never
type Declared = InstanceType<typeof declared.{client}>
type Written = InstanceType<typeof written.{client}>
declare const names:
  | Exclude<keyof typeof declared, keyof typeof written>
  | Exclude<keyof typeof written, keyof typeof declared>
declare const members: Differing<Declared, Written>
declare const constructors: Same<
  ConstructorParameters<typeof declared.{client}>,
  ConstructorParameters<typeof written.{client}>
>
export const nothing: never[] = [names, members]
export const agreed: true = constructors
"""


async def complaints(folder: Path, *files: str) -> str:
    """TypeScript's errors in these files."""
    tsc = await asyncio.create_subprocess_exec(
        str(TSC), *STRICT, *files, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(tsc.communicate(), WITHIN)
    return output.decode()


@pytest.mark.gen_test
async def test_the_declarations_match_the_modules(tmp_path: Path) -> None:
    """The .d.ts and the .js have the same exports, constructors, methods and fields."""
    for name, client in LIBRARY.items():
        shutil.copy(CLIENT / f"{name}.d.ts", tmp_path)
        shutil.copy(CLIENT / "protocol.d.ts", tmp_path)
        shutil.copy(CLIENT / f"{name}.js", tmp_path / f"{name}.as_written.js")
        (tmp_path / f"{name}.agreement.ts").write_text(AGREEMENT.format(name=name, client=client), "utf-8")
    assert await complaints(tmp_path, *(f"{name}.agreement.ts" for name in LIBRARY)) == ""


@pytest.mark.gen_test
async def test_the_types_match_the_messages_of_the_server(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """Each message that the server sends has exactly the fields that its type declares."""
    quick = settings(data, mongodb_uri, websocket__ping_interval=0.5, auth__access_lifetime=50)
    async with Server(data, **quick) as server, Api(server.url) as api:
        await api.sign_up()
        dream = await api.dream()
        async with Socket.of(api, dream["id"]) as socket:
            await socket.send({"type": "ping", "timestamp": 1})
            await socket.send({"type": "what?"})
            await socket.message("image_update")
            await api.add(dream["id"], photos.small_jpeg(1), photos.animated_gif(), photos.corrupt_jpeg())
            await socket.message("image_progress", done=3)
            for kind in ("token_expiring", "pong", "error", "heartbeat"):
                await socket.message(kind)
            await api.json("DELETE", f"/api/dreams/{dream['id']}", status=204)
            await socket.message("dream_deleted")
        async with Socket(server.url, f"/ws/dream-images/{dream['id']}", message=api.access) as refused:
            await refused.message("error", code="not_found")
    kinds = " | ".join(json.dumps(kind) for kind in sorted(set(socket.types())))
    for name in ("dreamlog", "protocol"):
        shutil.copy(CLIENT / f"{name}.d.ts", tmp_path)
    (tmp_path / "messages.ts").write_text(
        f"""
        import type {{ Message }} from './dreamlog'
        export const messages: Message[] = {json.dumps(socket.messages + refused.messages)}
        declare const unseen: Exclude<Message['type'], {kinds}>
        export const nothing: never = unseen
        """,
        "utf-8",
    )
    assert await complaints(tmp_path, "messages.ts") == ""
