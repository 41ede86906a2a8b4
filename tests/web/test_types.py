"""The types of the client library, held against what it is made of and against what the server says."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from tests import photos
from tests.client import ROOT, WITHIN, Api, Server, Socket, settings

TSC = ROOT / ".venv" / "node_modules" / ".bin" / "tsc"
STRICT = ("--strict", "--noEmit", "--checkJs", "--target", "es2023", "--module", "esnext")
LIBRARY = {"frontend_example": "DreamImageWebSocketClient", "many_dreams": "ManyDreamsWebSocketClient"}

# TypeScript finds the .d.ts wherever it stands beside the .js: to be read itself, the .js goes under another name.
AGREEMENT = """
import type * as said from './{name}'
import type * as done from './{name}.as_written'
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
type Of<A, K> = K extends keyof A ? A[K] : 'missing'
type Differing<A, B, K = keyof A | keyof B> = K extends K ? (Same<Of<A, K>, Of<B, K>> extends true ? never : K) : never
type Said = InstanceType<typeof said.{client}>
type Done = InstanceType<typeof done.{client}>
declare const names: Exclude<keyof typeof said, keyof typeof done> | Exclude<keyof typeof done, keyof typeof said>
declare const members: Differing<Said, Done>
declare const making: Same<
  ConstructorParameters<typeof said.{client}>,
  ConstructorParameters<typeof done.{client}>
>
export const nothing: never[] = [names, members]
export const agreed: true = making
"""


async def complaints(folder: Path, *files: str) -> str:
    """What TypeScript has against these files."""
    tsc = await asyncio.create_subprocess_exec(
        str(TSC), *STRICT, *files, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(tsc.communicate(), WITHIN)
    return said.decode()


@pytest.mark.gen_test
async def test_the_declarations_say_what_the_modules_do(tmp_path: Path) -> None:
    """The same names, constructors, methods and fields in the .d.ts as in the .js."""
    for name, client in LIBRARY.items():
        shutil.copy(ROOT / "web" / f"{name}.d.ts", tmp_path)
        shutil.copy(ROOT / "web" / f"{name}.js", tmp_path / f"{name}.as_written.js")
        (tmp_path / f"{name}.agreement.ts").write_text(AGREEMENT.format(name=name, client=client), "utf-8")
    assert await complaints(tmp_path, *(f"{name}.agreement.ts" for name in LIBRARY)) == ""


@pytest.mark.gen_test
async def test_the_messages_are_those_of_the_server(data: Path, mongodb_uri: str, tmp_path: Path) -> None:
    """Each kind that it sends has exactly the fields that its type names."""
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
    shutil.copy(ROOT / "web" / "frontend_example.d.ts", tmp_path)
    (tmp_path / "said.ts").write_text(
        f"""
        import type {{ Message }} from './frontend_example'
        export const said: Message[] = {json.dumps(socket.messages + refused.messages)}
        declare const unheard: Exclude<Message['type'], {kinds}>
        export const nothing: never = unheard
        """,
        "utf-8",
    )
    assert await complaints(tmp_path, "said.ts") == ""
