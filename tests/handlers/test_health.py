"""Alive, and ready: whether each part can take work."""

import asyncio
import json
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.web import Application, url

from handlers import health
from handlers.health import HealthHandler, ReadyHandler


class Parts:
    """Parts that a test sets."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = dict.fromkeys(("server", "database", "storage", "workers"), True)

    def check(self, name: str) -> Any:
        async def check() -> bool:
            answer = self.answers[name]
            if isinstance(answer, Exception):
                raise answer
            if answer is None:
                await asyncio.Event().wait()
            return bool(answer)

        return check


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def app(parts: Parts) -> Application:
    checks = {name: parts.check(name) for name in parts.answers}
    rows = [url("/healthz", HealthHandler), url("/readyz", ReadyHandler, {"checks": checks})]
    return Application([*rows], log_function=lambda handler: None)


@pytest.mark.gen_test
async def test_the_process_is_alive(http_client: AsyncHTTPClient, base_url: str) -> None:
    """Whatever the parts do."""
    answer = await http_client.fetch(f"{base_url}/healthz")
    assert json.loads(answer.body) == {"status": "alive"}
    assert (answer.headers["Cache-Control"], answer.headers.get("ETag")) == ("no-store", None)
    assert (await http_client.fetch(f"{base_url}/healthz", method="HEAD")).code == 200


@pytest.mark.gen_test
async def test_a_server_whose_parts_answer_is_ready(http_client: AsyncHTTPClient, base_url: str) -> None:
    """200, with each part's name."""
    answer = await http_client.fetch(f"{base_url}/readyz")
    body = json.loads(answer.body)
    assert body.pop("status") == "ready"
    assert set(body.values()) == {"ok"}
    assert {"database", "storage", "workers"} <= set(body)
    assert (await http_client.fetch(f"{base_url}/readyz", method="HEAD")).code == 200


@pytest.mark.gen_test
@pytest.mark.parametrize("trouble", [False, None, RuntimeError("gone")])
async def test_a_part_that_cannot_take_work_is_named(
    http_client: AsyncHTTPClient, base_url: str, parts: Parts, trouble: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, whether it says so, fails, or does not answer in time; the others stay ok."""
    monkeypatch.setattr(health, "TIMEOUT", 0.05)
    parts.answers["database"] = trouble
    answer = await http_client.fetch(f"{base_url}/readyz", raise_error=False)
    body = json.loads(answer.body)
    assert (answer.code, body["status"], body["database"]) == (503, "not ready", "unavailable")
    assert body["storage"] == "ok"
    assert (await http_client.fetch(f"{base_url}/readyz", method="HEAD", raise_error=False)).code == 503


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_other_methods_are_refused(http_client: AsyncHTTPClient, base_url: str, path: str) -> None:
    """With those that are allowed."""
    answer = await http_client.fetch(base_url + path, method="DELETE", raise_error=False)
    assert (answer.code, answer.headers["Allow"]) == (405, "GET, HEAD")
