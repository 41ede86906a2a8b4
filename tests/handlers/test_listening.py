"""Long polls over real sockets; only the database is a stand-in."""

import json
import time

import pytest

from handlers.listening import check_id
from storage.errors import NotFound
from tests.handlers.test_events import BUSY, World, problem
from tests.handlers.test_subscribers import dream, image


def test_only_one_spelling_of_an_id_is_accepted() -> None:
    """The database reads an id in any case, but updates are published under one spelling."""
    check_id(dream(1, id="ab12"), "ab12")
    with pytest.raises(NotFound, match=r"There is no such dream\."):
        check_id(dream(1, id="ab12"), "AB12")


@pytest.mark.gen_test
async def test_a_newer_revision_is_answered_at_once() -> None:
    """However long the client would wait; the answer equals that of a plain read."""
    async with World(dream(3, image(1))) as world:
        api = world.api()
        plain = await api.json("GET", "/api/dreams/d1")
        for query in ("since=2", "since=0", "since=2&wait=0", "since=2&wait=60"):
            assert await api.json("GET", f"/api/dreams/d1?{query}") == plain


@pytest.mark.gen_test
@pytest.mark.parametrize("query", ["since=3", "since=3&wait=0", "since=4&wait=0", "since=3&wait=1"])
async def test_nothing_new_is_304(query: str) -> None:
    """The answer has no body and comes after `wait` seconds, 0 by default."""
    async with World(dream(3, BUSY)) as world:
        began = time.monotonic()
        answer = await world.api().call("GET", f"/api/dreams/d1?{query}")
        assert (answer.code, answer.body) == (304, b"")
        assert (time.monotonic() - began >= 1) == query.endswith("wait=1")


@pytest.mark.gen_test
async def test_a_change_answers_a_long_poll() -> None:
    """The answer is the dream after the change; a client that has a later revision keeps waiting."""
    async with World() as world:
        first, second = await world.waiting(), await world.waiting("since=2&wait=60")
        world.change(dream(2, image(1)), progress=1)
        assert json.loads((await first).body)["revision"] == 2
        assert not second.done()
        world.change(dream(3, image(1)))
        assert json.loads((await second).body)["revision"] == 3


@pytest.mark.gen_test
async def test_a_change_during_the_read_is_not_missed() -> None:
    """The handler subscribes before it reads the dream, so a change between the two answers the request."""
    async with World() as world:
        world.dreams.gate.clear()
        waiting = await world.waiting()
        world.change(dream(2, BUSY))
        world.dreams.gate.set()
        assert json.loads((await waiting).body)["revision"] == 2


@pytest.mark.gen_test
async def test_a_deletion_answers_a_long_poll() -> None:
    """The answer is 404."""
    async with World() as world:
        waiting = await world.waiting()
        world.change(dream(2, deleted=True))
        assert problem(await waiting, 404)


@pytest.mark.gen_test
async def test_signing_out_answers_a_long_poll() -> None:
    """The session gets 401; another session of the user has missed nothing and may ask again."""
    async with World() as world:
        mine, elsewhere = await world.waiting(), await world.waiting(api=world.api(session="s2"))
        world.sign_out("s1")
        assert problem(await mine, 401)
        assert (await elsewhere).code == 304


@pytest.mark.gen_test
async def test_the_end_of_the_token_answers_a_long_poll() -> None:
    """The answer is 401 when the token expires before the wait is over."""
    async with World() as world:
        waiting = await world.waiting(api=world.api(lasts=1.0))
        assert problem(await waiting, 401)


@pytest.mark.gen_test
async def test_a_restart_answers_a_long_poll() -> None:
    """The answer is 503, because a client asks again at once after a 304; a plain read still succeeds."""
    async with World() as world:
        waiting = await world.waiting()
        world.subscribers.close_all()
        for answer in (await waiting, await world.api().call("GET", "/api/dreams/d1?since=1&wait=60")):
            assert problem(answer, 503)
            assert 1 <= int(answer.headers["Retry-After"]) <= 5
        assert (await world.api().call("GET", "/api/dreams/d1")).code == 200


@pytest.mark.gen_test
async def test_wrong_parameters_are_named() -> None:
    """The answer is 422, and the server reads nothing."""
    async with World() as world:
        answer = await world.api().call("GET", "/api/dreams/d1?since=x&wait=61&until=5")
        assert [each["field"] for each in problem(answer, 422)["errors"]] == ["until", "since", "wait"]
        assert world.dreams.reading == 0
