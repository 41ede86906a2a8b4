"""The one place that changes dreams: order of what is published, revisions, and what a change stream will read."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId

from storage.dreams import Dreams
from storage.errors import NotFound, Unavailable
from storage.jobs import Jobs
from storage.model import Draft, Dream, State
from storage.references import References
from storage.writes import NO_DREAM, ROUNDS, Change, Writes
from tests.pace import Campaign
from tests.storage.conftest import (
    ADA,
    BOB,
    HERE,
    Clock,
    Database,
    Published,
    a_round,
    claimed,
    completed,
    document,
    failed,
    made,
    stored,
    upload,
    uploads,
)


@pytest.mark.campaign(sample=100, whole=300)
@pytest.mark.gen_test
async def test_a_completion_and_a_claim_of_one_dream_are_published_in_order(
    dreams: Dreams, jobs: Jobs, published: Published, campaign: Campaign
) -> None:
    """In each pair: otherwise a listener, which drops older revisions, misses the finished image."""
    in_order = 0
    for number in range(campaign.count):
        dream = await made(dreams, 2)
        first = await stored(jobs, await claimed(jobs))
        published.clear()
        hint = dream.id if number % 2 else ""
        claim, completion = jobs.claim(ADA, HERE, hint), jobs.complete(first)
        done = await asyncio.gather(*((claim, completion) if number % 4 < 2 else (completion, claim)))
        assert None not in done
        in_order += [each.revision for each, _ in published] == [4, 5]
        await dreams.delete(ADA, dream.id)
    assert in_order == campaign.count


@pytest.mark.gen_test
async def test_the_creation_of_a_dream_is_published_before_the_claim_of_its_image(
    database: Database, published: Published, clock: Clock
) -> None:
    """Also when a worker finds the image in the database before the answer to the insert has arrived."""
    claims: list[asyncio.Task[Any]] = []

    async def late(document: dict[str, Any]) -> None:
        await database["dreams"].insert_one(document)
        claims.append(asyncio.create_task(Jobs(database, writes=writes).claim(ADA, HERE)))
        done, _ = await asyncio.wait(claims, timeout=0.2)
        assert not done, "the claim waits for its turn"

    slow: Any = {"dreams": _With(database["dreams"], insert_one=late)}
    writes = Writes(slow, changed=lambda dream, image: published.append((dream, image)), clock=clock)
    await Dreams(database, writes=writes).create(ADA, Draft(), uploads(1))
    assert await claims[0] is not None
    assert [dream.revision for dream, _ in published] == [1, 2]


class _With:
    """A collection in which some methods are others."""

    def __init__(self, collection: Any, **methods: Any) -> None:
        self._collection = collection
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        return self._methods.get(name) or getattr(self._collection, name)


# ---- last


async def lasts(database: Database, dream: Dream) -> list[str]:
    return str((await document(database, dream))["last"]).split(" ")


@pytest.mark.gen_test
async def test_every_write_records_its_kind_of_change(
    dreams: Dreams, jobs: Jobs, references: References, database: Database, clock: Clock
) -> None:
    """`last` has the owner, the edition, the change and a number that never repeats; clients never see it."""
    dream = await made(dreams, 3)
    seen: list[list[str]] = []

    async def then(step: Any, change: str) -> Any:
        result = await step
        seen.append(await lasts(database, dream))
        assert seen[-1][:3] == [ADA, "0", change]
        return result

    await then(asyncio.sleep(0), "created")
    await then(dreams.update(ADA, dream.id, {"title": "x"}), "edited")
    await then(dreams.update(ADA, dream.id, {"content": "xyz"}, {1: 2}), "edited")
    await then(dreams.add_images(ADA, dream.id, [upload()], max_images=9), "images")
    await then(dreams.remove_image(ADA, dream.id, 4), "images")
    job = await then(jobs.claim(ADA, HERE), "work")
    await then(jobs.renew(job), "work")
    job = await then(stored(jobs, job, "f"), "work")
    job = await then(jobs.complete(job), "images")
    await then(references.relocate(ADA, job.image, "oss/f", clock.now), "work")
    job = await then(jobs.release(await claimed(jobs)), "work")
    job = await then(failed(jobs), "images")
    await then(jobs.retry(job.dream, job.image), "images")
    await then(jobs.fail(await claimed(jobs), "crashed"), "work")
    clock.now = datetime(2046, 11, 23, tzinfo=UTC)
    await then(a_round(references), "work")
    await then(dreams.delete(ADA, dream.id), "deleted")
    assert all(re.fullmatch("[0-9a-f]{24}", n) for *_, n in seen)
    assert len({n for *_, n in seen}) == len(seen), "each write has a number of its own"


def test_the_changes_are_a_closed_list() -> None:
    """Readers of change streams know them by these names."""
    assert [str(change) for change in Change] == ["created", "edited", "images", "deleted", "work"]


# ---- reading, then writing


class Meddler:
    """Another server, which changes the dream behind this one's back, `times` times."""

    def __init__(self, database: Database, dream: Dream, times: int) -> None:
        self._database = database
        self._id = ObjectId(dream.id)
        self._times = times
        self._client = database.client.delegate[database.name]["dreams"]
        self.rounds = 0

    def plan(self, found: dict[str, Any]) -> dict[str, Any]:
        self.rounds += 1
        if self.rounds <= self._times:
            self._client.update_one({"_id": self._id}, {"$inc": {"revision": 1}})
        return {"$set": {"title": f"after {found['revision']}"}}


@pytest.mark.gen_test
async def test_a_revision_that_changed_meanwhile_is_read_again(
    dreams: Dreams, writes: Writes, database: Database, published: Published
) -> None:
    """Nothing is lost of what another server wrote, and one change is published."""
    dream = await made(dreams)
    published.clear()
    meddler = Meddler(database, dream, ROUNDS - 1)
    written = await writes.revise(ADA, dream.id, meddler.plan, Change.EDITED)
    assert (meddler.rounds, written.title) == (ROUNDS, f"after {ROUNDS}")
    assert published == [(written, None)]
    assert written.revision == ROUNDS + 1


@pytest.mark.gen_test
async def test_vain_rounds_come_to_an_end(
    dreams: Dreams, writes: Writes, database: Database, published: Published
) -> None:
    """With an error that says that another try can help; nothing is published."""
    dream = await made(dreams)
    published.clear()
    meddler = Meddler(database, dream, 10**9)
    with pytest.raises(Unavailable, match="Try again in a moment"):
        await writes.revise(ADA, dream.id, meddler.plan, Change.EDITED)
    assert meddler.rounds == ROUNDS
    assert published == []
    assert (await dreams.get(ADA, dream.id)).title == ""


@pytest.mark.gen_test
async def test_a_plan_may_find_nothing_to_do(dreams: Dreams, writes: Writes, published: Published) -> None:
    """Then the dream is returned as it is, and nothing is published."""
    dream = await made(dreams)
    published.clear()
    assert await writes.revise(ADA, dream.id, lambda found: None, Change.EDITED) == dream
    assert published == []


@pytest.mark.gen_test
@pytest.mark.parametrize("dream_id", ["0" * 24, "no id", ""])
async def test_a_dream_that_is_not_there_is_not_found(writes: Writes, published: Published, dream_id: str) -> None:
    """Nor one whose id is none; nothing is published."""
    with pytest.raises(NotFound, match=NO_DREAM):
        await writes.revise(ADA, dream_id, lambda found: {}, Change.EDITED)
    if len(dream_id) == 24:
        assert await writes.update(ADA, dream_id, {}, {}, Change.EDITED) is None
    assert published == []


@pytest.mark.gen_test
async def test_a_write_is_of_its_owners_living_dream(dreams: Dreams, writes: Writes, published: Published) -> None:
    """Neither another owner's dream nor a deleted one changes."""
    dream = await made(dreams)
    assert await writes.update(BOB, dream.id, {}, {"$set": {"title": "x"}}, Change.EDITED) is None
    await dreams.delete(ADA, dream.id)
    published.clear()
    assert await writes.update(ADA, dream.id, {}, {"$set": {"title": "x"}}, Change.EDITED) is None
    assert published == []


@pytest.mark.gen_test
async def test_writes_of_one_dream_take_turns_however_its_id_is_written(
    dreams: Dreams, jobs: Jobs, writes: Writes, published: Published
) -> None:
    """An id in capitals names the same dream, so it has the same lock."""
    dream = await made(dreams, 0)
    published.clear()
    ids = [dream.id, dream.id.upper()]
    await asyncio.gather(*(dreams.update(ADA, ids[n % 2], {"title": str(n)}) for n in range(50)))
    assert [each.revision for each, _ in published] == list(range(2, 52))
    assert len(writes._locks) == 0


@pytest.mark.gen_test
async def test_a_quiet_update_is_published_to_nobody(
    dreams: Dreams, writes: Writes, database: Database, published: Published
) -> None:
    """The revision stays."""
    dream = await made(dreams)
    published.clear()
    assert await writes.update_quietly(ADA, {"_id": ObjectId(dream.id)}, {"$set": {"sweep": True}})
    assert not await writes.update_quietly(ADA, {"_id": ObjectId()}, {"$set": {"sweep": True}})
    found = await document(database, dream)
    assert (found["revision"], found["updated_at"], found["sweep"]) == (1, dream.updated_at, True)
    assert published == []


# ---- documents of other versions


@pytest.mark.gen_test
@pytest.mark.parametrize("missing", [["revision"], ["last"], ["updated_at", "last"]])
async def test_a_document_without_the_fields_of_a_write_gets_them(
    dreams: Dreams, database: Database, missing: list[str]
) -> None:
    """By an update, a plan and a pipeline alike: a compare-and-set on what is missing matches its absence."""
    dream = await made(dreams, 1)
    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: dreams.update(ADA, dream.id, {"title": "x"}),
        lambda: dreams.update(ADA, dream.id, {"content": "y"}),
        lambda: dreams.add_images(ADA, dream.id, uploads(1), max_images=9),
        lambda: dreams.remove_image(ADA, dream.id, 1),
    ]
    for number, step in enumerate(steps, 2):
        await database["dreams"].update_one({}, {"$unset": dict.fromkeys(missing, "")})
        await step()
        found = await document(database, dream)
        assert found["revision"] == (1 if "revision" in missing else number)
        assert {"last", "updated_at"} <= set(found)


@pytest.mark.gen_test
async def test_an_image_without_the_fields_of_its_work_is_worked_on(
    dreams: Dreams, jobs: Jobs, database: Database
) -> None:
    """Of a server that knew no attempts, tries, leases or pauses: claimed, stored and completed like any other."""
    await made(dreams)
    fields = ("attempt", "tries_left", "lease_owner", "lease_until", "not_before")
    await database["dreams"].update_one({}, {"$unset": {f"images.0.{name}": "" for name in fields}})
    done = await completed(jobs)
    assert (done.image.state, done.image.attempt) == (State.COMPLETED, 1)
    await made(dreams)
    await claimed(jobs)
    await database["dreams"].update_many({}, {"$unset": {"images.0.lease_owner": "", "images.0.lease_until": ""}})
    [job] = await jobs.expired()
    back = await jobs.release(job)
    assert back is not None
    assert back.image.state is State.QUEUED
