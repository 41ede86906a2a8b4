"""The work on images, in a real database: who gets what, what comes too late, what the janitor is told."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from storage.dreams import Dreams
from storage.errors import Unavailable
from storage.jobs import LEASE, MAX_PAUSE, Jobs
from storage.locks import KeyedLock
from storage.model import FAILURES, PAUSES, Draft, Dream, IllegalMove, Image, Job, State, Status, Variant
from storage.mongo import Mongo
from tests.storage.conftest import ADA, BOB, Clock, Database, Told, document, profiled, upload, uploads

HERE, THERE = "server-a", "server-b"
RECIPE = "1 jpeg"
SECOND = timedelta(seconds=1)


async def made(dreams: Dreams, images: int = 1, owner: str = ADA) -> Dream:
    return await dreams.create(owner, Draft(content="x"), uploads(images))


async def claimed(jobs: Jobs, owner: str = ADA, server: str = HERE) -> Job:
    job = await jobs.claim(owner, server)
    assert job is not None
    return job


def rendered(job: Job, folder: str = "", **fields: Any) -> Image:
    """What rendering makes of a job's image."""
    folder = folder or f"folder{job.image.id}-{job.image.attempt}"
    variants = {name: Variant(f"{folder}/{name}.jpg", "image/jpeg", 4, 3, 9) for name in ("320", "2048")}
    known: dict[str, Any] = {
        "recipe": RECIPE,
        "folder": folder,
        "variants": variants,
        "original": f"{folder}/original.jpg",
        "width": 4032,
        "height": 3024,
        "animated": True,
        "placeholder": "data:,",
    }
    return replace(job.image, **known | fields)


async def stored(jobs: Jobs, job: Job, folder: str = "") -> Job:
    named = await jobs.store(job, rendered(job, folder))
    assert named is not None
    return named


async def completed(jobs: Jobs, owner: str = ADA, folder: str = "") -> Job:
    done = await jobs.complete(await stored(jobs, await claimed(jobs, owner), folder))
    assert done is not None
    return done


async def failed(jobs: Jobs) -> Job:
    done = await jobs.fail(await claimed(jobs), "corrupt")
    assert done is not None
    return done


async def swept(jobs: Jobs) -> list[tuple[Dream, list[Image]]]:
    return [(dream, images) async for dream, images in jobs.to_sweep()]


async def a_round(jobs: Jobs) -> None:
    """What the janitor does."""
    for dream, images in await swept(jobs):
        await jobs.swept(dream, images)


# ---- claim


@pytest.mark.gen_test
async def test_a_claim_takes_the_oldest_first(dreams: Dreams, jobs: Jobs) -> None:
    """Dream by dream as they were made, image by image as they came; then there is nothing."""
    first, second = await made(dreams, 2), await made(dreams, 2)
    jobs_done = [await claimed(jobs) for _ in range(4)]
    assert [(job.dream.id, job.image.id) for job in jobs_done] == [
        (first.id, 1),
        (first.id, 2),
        (second.id, 1),
        (second.id, 2),
    ]
    assert await jobs.claim(ADA, HERE) is None


@pytest.mark.gen_test
async def test_a_claim_is_under_a_lease(dreams: Dreams, jobs: Jobs, clock: Clock, told: Told) -> None:
    """Of this server, and unlike any other; the revision grows and who listens is told."""
    dream = await made(dreams, 2)
    told.clear()
    one, two = await claimed(jobs), await claimed(jobs)
    assert one.image.state is two.image.state is State.RENDERING
    assert one.image.lease_until == clock.now.replace(microsecond=123_000) + LEASE
    assert one.image.lease_owner != two.image.lease_owner
    assert str(one.image.lease_owner).startswith(f"{HERE}/")
    assert (one.image.attempt, one.image.tries_left, one.image.staged) == (1, 3, dream.images[0].staged)
    assert (one.dream.revision, two.dream.revision) == (2, 3)
    assert told == [(one.dream, one.image), (two.dream, two.image)]
    assert two.dream == await dreams.get(ADA, dream.id)


@pytest.mark.gen_test
async def test_claims_at_once_get_different_images(dreams: Dreams, jobs: Jobs) -> None:
    """However many servers ask; each image goes to one of them, and nobody waits for another."""
    for _ in range(3):
        await made(dreams, 4)
    found = await asyncio.gather(*(jobs.claim(ADA, server) for server in (HERE, THERE) for _ in range(10)))
    taken = [(job.dream.id, job.image.id) for job in found if job is not None]
    assert len(taken) == len(set(taken)) == 12


@pytest.mark.gen_test
async def test_a_claim_is_of_its_owners_images(dreams: Dreams, jobs: Jobs) -> None:
    """Others' wait, and are known to wait."""
    await made(dreams, owner=BOB)
    assert await jobs.owners_waiting() == [BOB]
    assert await jobs.claim(ADA, HERE) is None
    await made(dreams)
    assert sorted(await jobs.owners_waiting()) == sorted([ADA, BOB])
    assert (await claimed(jobs, BOB)).dream.owner == BOB
    assert await jobs.owners_waiting() == [ADA]


@pytest.mark.gen_test
async def test_nothing_of_a_deleted_dream_is_claimed(dreams: Dreams, jobs: Jobs) -> None:
    """Its images are gone for the workers too."""
    await dreams.delete(ADA, (await made(dreams)).id)
    assert await jobs.claim(ADA, HERE) is None


@pytest.mark.gen_test
@pytest.mark.parametrize("crowd", [1, 40])
async def test_a_claim_is_found_by_its_index(dreams: Dreams, jobs: Jobs, database: Database, crowd: int) -> None:
    """Without sorting or scanning, among many finished dreams and many waiting ones of others."""
    for number in range(crowd):
        done = await made(dreams, 2)
        states = {"images.$[].state": State.COMPLETED, "images.$[].lease_until": None}
        await database["dreams"].update_one({"_id": ObjectId(done.id)}, {"$set": states})
        await made(dreams, owner=BOB if number % 2 else str(ObjectId()))
    for _ in range(5 if crowd > 1 else 1):
        await made(dreams, 2)
    record = await profiled(database, "findAndModify", lambda: jobs.claim(ADA, HERE))
    assert record["planSummary"] == "IXSCAN { images.state: 1, owner: 1, _id: 1 }"
    assert not record.get("hasSortStage")
    assert (record["keysExamined"], record["docsExamined"]) == (1, 1)


# ---- store and complete


@pytest.mark.gen_test
async def test_an_image_is_named_then_completed(dreams: Dreams, jobs: Jobs, told: Told) -> None:
    """Its files stand in the dream before the first is stored, and are shown when all are."""
    dream = await made(dreams)
    job = await claimed(jobs)
    told.clear()
    named = await stored(jobs, job)
    assert named.image == rendered(job, state=State.STORING, lease_until=named.image.lease_until)
    done = await jobs.complete(named)
    assert done is not None
    assert done.image == replace(named.image, state=State.COMPLETED, staged=None, lease_until=None)
    assert done.dream == await dreams.get(ADA, dream.id)
    assert done.dream.status is Status.COMPLETED
    assert [(told_of.revision, image) for told_of, image in told] == [(3, named.image), (4, done.image)]


@pytest.mark.gen_test
async def test_storing_prolongs_the_lease(dreams: Dreams, jobs: Jobs, clock: Clock) -> None:
    """Rendering may have used most of it."""
    await made(dreams)
    job = await claimed(jobs)
    clock.now += LEASE - SECOND
    assert (await stored(jobs, job)).image.lease_until == clock.now.replace(microsecond=123_000) + LEASE


@pytest.mark.gen_test
async def test_asking_again_after_a_lost_answer_gets_it(dreams: Dreams, jobs: Jobs) -> None:
    """The write had its effect and the connection was cut: the same call finds its own work and goes on."""
    dream = await made(dreams)
    job = await claimed(jobs)
    named = await stored(jobs, job)
    assert await stored(jobs, job) == named
    done = await jobs.complete(named)
    assert await jobs.complete(named) == done
    assert (await dreams.get(ADA, dream.id)).revision == 4


@pytest.mark.gen_test
async def test_asking_again_after_a_lost_failure_tells_of_it(dreams: Dreams, jobs: Jobs, told: Told) -> None:
    """Nobody was told the first time, because the answer never came."""
    await made(dreams)
    job = await claimed(jobs)
    first = await jobs.fail(job, "corrupt")
    told.clear()
    assert await jobs.fail(job, "corrupt") == first
    assert [image.status for _, image in told if image is not None] == [Status.FAILED]


@pytest.mark.gen_test
async def test_a_lease_is_renewed_while_it_is_held(dreams: Dreams, jobs: Jobs, clock: Clock, told: Told) -> None:
    """In either state; it is no change of the dream, and nobody is told."""
    dream = await made(dreams)
    job = await claimed(jobs)
    for storing in (False, True):
        step = await stored(jobs, job) if storing else job
        before = await dreams.get(ADA, dream.id)
        told.clear()
        clock.now += LEASE - SECOND
        assert await jobs.renew(step)
        clock.now += LEASE - SECOND
        assert await jobs.expired() == []
        assert (await dreams.get(ADA, dream.id)).revision == before.revision
        assert told == []
    await jobs.complete(step)
    assert not await jobs.renew(step)


# ---- too late


async def every_late_report(jobs: Jobs, job: Job, told: Told, database: Database) -> AsyncIterator[str]:
    """Each report on `job`, which has been taken away; each must change nothing and tell nobody."""
    before = await database["dreams"].find().to_list(None)
    told.clear()
    storing = replace(job, image=rendered(job, state=State.STORING))
    for report, call in {
        "store": jobs.store(job, rendered(job)),
        "complete": jobs.complete(storing),
        "failed for good": jobs.fail(job, "corrupt"),
        "failed while storing": jobs.fail(storing, "corrupt"),
        "to be tried again": jobs.fail(job, "crashed"),
        "to be stored again": jobs.fail(storing, "storage_unavailable"),
        "handed back": jobs.release(job),
        "handed back while storing": jobs.release(storing),
    }.items():
        assert await call is None, report
        assert await database["dreams"].find().to_list(None) == before, report
        assert told == [], report
        yield report
    assert not await jobs.renew(job)
    assert await database["dreams"].find().to_list(None) == before


async def nothing_comes_of(jobs: Jobs, job: Job, told: Told, database: Database) -> None:
    assert len([report async for report in every_late_report(jobs, job, told, database)]) == 8


@pytest.mark.gen_test
async def test_an_older_attempt_changes_nothing(dreams: Dreams, jobs: Jobs, told: Told, database: Database) -> None:
    """The image is in line again, in other hands, completed or failed meanwhile: the late report is dropped."""
    await made(dreams)
    late = await claimed(jobs)
    await jobs.fail(late, "crashed")
    await nothing_comes_of(jobs, late, told, database)
    await database["dreams"].update_many({}, {"$set": {"images.$[].not_before": None}})
    second = await claimed(jobs)
    await nothing_comes_of(jobs, late, told, database)
    named = await stored(jobs, second)
    await nothing_comes_of(jobs, late, told, database)
    await jobs.complete(named)
    await nothing_comes_of(jobs, late, told, database)


@pytest.mark.gen_test
async def test_another_lease_of_the_same_attempt_changes_nothing(
    dreams: Dreams, jobs: Jobs, told: Told, database: Database
) -> None:
    """A job that was handed back keeps its attempt; the lease tells whose it is now."""
    await made(dreams)
    late = await claimed(jobs)
    await jobs.release(late)
    await nothing_comes_of(jobs, late, told, database)
    second = await claimed(jobs)
    assert second.image.attempt == late.image.attempt
    await nothing_comes_of(jobs, late, told, database)
    await stored(jobs, second)
    await nothing_comes_of(jobs, late, told, database)


@pytest.mark.gen_test
async def test_a_result_after_a_retry_changes_nothing(
    dreams: Dreams, jobs: Jobs, told: Told, database: Database
) -> None:
    """Somebody asked for a new try while the old one was lost in a slow worker."""
    await made(dreams)
    late = await claimed(jobs)
    done = await jobs.fail(late, "corrupt")
    assert done is not None
    await jobs.retry(done.dream, done.image)
    await nothing_comes_of(jobs, late, told, database)
    await claimed(jobs)
    await nothing_comes_of(jobs, late, told, database)


@pytest.mark.gen_test
@pytest.mark.parametrize("others", [0, 1])
async def test_a_deleted_images_result_changes_nothing(
    dreams: Dreams, jobs: Jobs, told: Told, database: Database, others: int
) -> None:
    """Not even the image that now stands in its place."""
    dream = await made(dreams, 1 + others)
    late = await claimed(jobs)
    await dreams.remove_image(ADA, dream.id, late.image.id)
    await nothing_comes_of(jobs, late, told, database)


@pytest.mark.gen_test
async def test_a_deleted_dreams_result_changes_nothing(
    dreams: Dreams, jobs: Jobs, told: Told, database: Database
) -> None:
    """Deleted, and then swept away altogether."""
    dream = await made(dreams)
    late = await claimed(jobs)
    await dreams.delete(ADA, dream.id)
    await nothing_comes_of(jobs, late, told, database)
    await a_round(jobs)
    await nothing_comes_of(jobs, late, told, database)


@pytest.mark.gen_test
async def test_of_two_reports_at_once_one_counts(dreams: Dreams, jobs: Jobs, told: Told) -> None:
    """Completed and failed in the same moment: one of both, and one notice."""
    for _ in range(10):
        dream = await made(dreams)
        named = await stored(jobs, await claimed(jobs))
        told.clear()
        done, gone = await asyncio.gather(jobs.complete(named), jobs.fail(named, "corrupt"))
        assert (done is None) is not (gone is None)
        state = (await dreams.get(ADA, dream.id)).images[0].state
        assert state is (State.COMPLETED if done is not None else State.FAILED)
        assert len(told) == 1


@pytest.mark.gen_test
async def test_a_report_that_makes_no_sense_is_an_error(dreams: Dreams, jobs: Jobs) -> None:
    """Moves that the table does not have, and codes that the list does not have, never reach the database."""
    dream = await made(dreams)
    job = await claimed(jobs)
    for call in (
        jobs.complete(job),
        jobs.fail(Job(dream, dream.images[0]), "corrupt"),
        jobs.release(Job(dream, dream.images[0])),
        jobs.retry(job.dream, job.image),
    ):
        with pytest.raises(IllegalMove):
            await call
    with pytest.raises(KeyError):
        await jobs.fail(job, "bored")
    assert await dreams.get(ADA, dream.id) == job.dream


# ---- failures


@pytest.mark.gen_test
@pytest.mark.parametrize("code", [code for code, (_, retryable) in FAILURES.items() if not retryable])
async def test_what_cannot_pass_fails_at_once(dreams: Dreams, jobs: Jobs, told: Told, code: str) -> None:
    """A damaged file is not read a second time."""
    dream = await made(dreams)
    job = await claimed(jobs)
    told.clear()
    done = await jobs.fail(job, code)
    assert done is not None
    assert (done.image.state, done.image.error, done.image.tries_left) == (State.FAILED, code, 0)
    assert (done.image.attempt, done.image.staged) == (1, job.image.staged)
    assert done.dream == await dreams.get(ADA, dream.id)
    assert done.dream.status is Status.FAILED
    assert told == [(done.dream, done.image)]
    assert await jobs.claim(ADA, HERE) is None


@pytest.mark.gen_test
@pytest.mark.parametrize("storing", [False, True])
async def test_what_can_pass_is_tried_three_times(
    dreams: Dreams, jobs: Jobs, clock: Clock, told: Told, storing: bool
) -> None:
    """With a growing pause after each but the last, and then it stays failed."""
    await made(dreams)
    for attempt, pause in enumerate((*PAUSES, None), 1):
        job = await claimed(jobs)
        assert (job.image.attempt, job.image.tries_left, job.image.error) == (attempt, 4 - attempt, None)
        told.clear()
        done = await jobs.fail(await stored(jobs, job) if storing else job, "storage_unavailable")
        assert done is not None
        assert told[-1] == (done.dream, done.image)
        if pause is not None:
            assert (done.image.state, done.image.lease_owner, done.image.lease_until) == (State.QUEUED, None, None)
            clock.now += pause - timedelta(milliseconds=2)
            assert await jobs.claim(ADA, HERE) is None
            clock.now += timedelta(milliseconds=2)
    assert done is not None
    assert (done.image.state, done.image.error) == (State.FAILED, "storage_unavailable")
    clock.now += timedelta(days=1)
    assert await jobs.claim(ADA, HERE) is None


@pytest.mark.gen_test
async def test_a_pause_of_one_holds_up_no_other(dreams: Dreams, jobs: Jobs) -> None:
    """Neither in its dream nor behind it."""
    first = await made(dreams, 2)
    second = await made(dreams)
    await jobs.fail(await claimed(jobs), "crashed")
    found = [await claimed(jobs), await claimed(jobs)]
    assert [(job.dream.id, job.image.id) for job in found] == [(first.id, 2), (second.id, 1)]


@pytest.mark.gen_test
async def test_a_clock_that_jumps_back_leaves_no_image_waiting(dreams: Dreams, jobs: Jobs, clock: Clock) -> None:
    """A pause that now seems to last an hour is none of ours."""
    await made(dreams)
    await jobs.fail(await claimed(jobs), "crashed")
    assert max(PAUSES) < MAX_PAUSE
    clock.now -= timedelta(hours=1)
    assert (await claimed(jobs)).image.attempt == 2


@pytest.mark.gen_test
async def test_what_is_handed_back_is_in_line_at_once(dreams: Dreams, jobs: Jobs, told: Told) -> None:
    """The try does not count, however often: nothing was wrong with the image."""
    dream = await made(dreams)
    for _ in range(5):
        job = await claimed(jobs)
        told.clear()
        back = await jobs.release(job)
        assert back is not None
        assert (back.image.state, back.image.attempt, back.image.tries_left) == (State.QUEUED, 1, 3)
        assert (back.image.lease_owner, back.image.lease_until) == (None, None)
        assert told == [(back.dream, back.image)]
        assert back.dream == await dreams.get(ADA, dream.id)


@pytest.mark.gen_test
async def test_what_is_handed_back_keeps_the_tries_it_had_used(dreams: Dreams, jobs: Jobs, clock: Clock) -> None:
    """A stop in the middle of the second try: that one comes again."""
    await made(dreams)
    await jobs.fail(await claimed(jobs), "crashed")
    clock.now += PAUSES[0]
    back = await jobs.release(await claimed(jobs))
    assert back is not None
    assert (back.image.attempt, back.image.tries_left) == (2, 2)


# ---- retry


@pytest.mark.gen_test
@pytest.mark.parametrize("code", ["corrupt", "crashed"])
async def test_a_retry_gives_a_failed_image_all_its_tries(
    dreams: Dreams, jobs: Jobs, clock: Clock, told: Told, code: str
) -> None:
    """As another attempt, without the error, with the upload that was kept for it."""
    dream = await made(dreams)
    job = await claimed(jobs)
    for pause in PAUSES if code == "crashed" else ():
        await jobs.fail(job, code)
        clock.now += pause
        job = await claimed(jobs)
    done = await jobs.fail(job, code)
    assert done is not None
    told.clear()
    again = await jobs.retry(done.dream, done.image)
    assert again is not None
    image = again.images[0]
    assert (image.state, image.attempt, image.tries_left) == (State.QUEUED, done.image.attempt + 1, 3)
    assert (image.error, image.staged, image.lease_owner) == (None, dream.images[0].staged, None)
    assert (again.revision, again.status) == (done.dream.revision + 1, Status.PROCESSING)
    assert again == await dreams.get(ADA, dream.id)
    assert told == [(again, image)]
    assert (await claimed(jobs)).image.attempt == image.attempt


@pytest.mark.gen_test
async def test_of_two_retries_one_counts(dreams: Dreams, jobs: Jobs, told: Told) -> None:
    """Two devices, one button; and none for an image that is gone."""
    dream = await made(dreams)
    done = await failed(jobs)
    told.clear()
    results = await asyncio.gather(*(jobs.retry(done.dream, done.image) for _ in range(5)))
    assert sum(result is not None for result in results) == 1
    assert len(told) == 1
    await dreams.delete(ADA, dream.id)
    assert await jobs.retry(done.dream, done.image) is None


@pytest.mark.gen_test
async def test_the_size_that_a_header_told_stays_until_rendering_knows(dreams: Dreams, jobs: Jobs) -> None:
    """Through failure and retry: a place is kept free for the picture all the while."""
    await dreams.create(ADA, Draft(), [replace(upload(), width=40, height=30)])
    done = await failed(jobs)
    assert (done.image.width, done.image.height) == (40, 30)
    again = await jobs.retry(done.dream, done.image)
    assert again is not None
    assert (again.images[0].width, again.images[0].height) == (40, 30)
    job = await completed(jobs)
    assert (job.image.width, job.image.height) == (4032, 3024)


# ---- expired leases


def places(found: list[Job]) -> list[tuple[str, int]]:
    return sorted((job.dream.id, job.image.id) for job in found)


@pytest.mark.gen_test
async def test_a_start_takes_back_what_an_earlier_run_left(dreams: Dreams, jobs: Jobs) -> None:
    """All of this server, in both states, whatever the clock says; none of another server."""
    dream = await made(dreams, 4)
    mine = [await claimed(jobs), await stored(jobs, await claimed(jobs))]
    await claimed(jobs, server=THERE)
    assert await jobs.expired() == []
    found = await jobs.expired(HERE)
    assert places(found) == [(dream.id, 1), (dream.id, 2)]
    assert [job.image.state for job in found] == [State.RENDERING, State.STORING]
    assert found[1].image.keys == mine[1].image.keys
    assert places(await jobs.expired(THERE)) == [(dream.id, 3)]
    for job in found:
        assert await jobs.fail(job, "crashed") is not None
    assert await jobs.expired(HERE) == []


@pytest.mark.gen_test
async def test_a_servers_name_is_no_pattern(dreams: Dreams, jobs: Jobs) -> None:
    """Nor the beginning of another's."""
    await made(dreams, 4)
    for server in ("a.c", "a.cd", "abc", "a+c"):
        await claimed(jobs, server=server)
    assert [job.image.id for job in await jobs.expired("a.c")] == [1]
    assert [job.image.id for job in await jobs.expired("a+c")] == [4]
    assert await jobs.expired("a") == []
    assert await jobs.expired(".*") == []


@pytest.mark.gen_test
async def test_a_lease_that_runs_out_is_anyones_to_take_back(dreams: Dreams, jobs: Jobs, clock: Clock) -> None:
    """Not before its end, and only that one."""
    dream = await made(dreams, 3)
    await claimed(jobs, server=THERE)
    clock.now += SECOND
    await stored(jobs, await claimed(jobs, server=THERE))
    clock.now += LEASE - SECOND
    assert await jobs.expired() == []
    clock.now += timedelta(milliseconds=1)
    [job] = await jobs.expired()
    assert places([job]) == [(dream.id, 1)]
    back = await jobs.fail(job, "crashed")
    assert back is not None
    assert (back.image.state, back.image.attempt, back.image.tries_left) == (State.QUEUED, 2, 2)
    clock.now += SECOND
    assert places(await jobs.expired()) == [(dream.id, 2)]


@pytest.mark.gen_test
async def test_a_start_takes_back_although_the_clock_jumped_back(dreams: Dreams, jobs: Jobs, clock: Clock) -> None:
    """The leases of the earlier run then seem to last for an hour."""
    await made(dreams)
    await claimed(jobs)
    clock.now -= timedelta(hours=1)
    [job] = await jobs.expired(HERE)
    await jobs.fail(job, "crashed")
    clock.now += PAUSES[0]
    assert (await claimed(jobs)).image.attempt == 2


@pytest.mark.gen_test
async def test_what_is_finished_or_gone_has_not_expired(dreams: Dreams, jobs: Jobs, clock: Clock) -> None:
    """Nor what waits in line."""
    await made(dreams, 2)
    await completed(jobs)
    await failed(jobs)
    await made(dreams)
    await dreams.delete(ADA, (await claimed(jobs)).dream.id)
    await made(dreams)
    clock.now += timedelta(days=1)
    assert await jobs.expired(HERE) == []


# ---- equal uploads


@pytest.mark.gen_test
async def test_an_equal_image_is_completed_of_the_same_owner_and_recipe(dreams: Dreams, jobs: Jobs) -> None:
    """The same bytes; found whole, with all its files."""
    same = upload().sha256
    await dreams.create(ADA, Draft(), [upload(), upload(sha256=same)])
    new = (await dreams.create(ADA, Draft(), [upload(sha256=same)])).images[0]
    assert await jobs.equal_image(ADA, new, RECIPE) is None
    await completed(jobs)
    assert await jobs.equal_image(ADA, new, RECIPE) is None
    named = await stored(jobs, await claimed(jobs))
    assert await jobs.equal_image(ADA, new, RECIPE) is None
    done = await jobs.complete(named)
    assert done is not None
    assert await jobs.equal_image(ADA, new, RECIPE) == done.image
    assert await jobs.equal_image(ADA, new, "another recipe") is None
    assert await jobs.equal_image(BOB, new, RECIPE) is None
    await dreams.remove_image(ADA, done.dream.id, done.image.id)
    assert await jobs.equal_image(ADA, new, RECIPE) is None


@pytest.mark.gen_test
async def test_a_deleted_dreams_image_is_equal_to_none(dreams: Dreams, jobs: Jobs) -> None:
    """Its files are on their way out."""
    same = upload().sha256
    old = await dreams.create(ADA, Draft(), [upload(sha256=same)])
    new = (await dreams.create(ADA, Draft(), [upload(sha256=same)])).images[0]
    done = await completed(jobs)
    assert await jobs.equal_image(ADA, new, RECIPE) == done.image
    await dreams.delete(ADA, old.id)
    assert await jobs.equal_image(ADA, new, RECIPE) is None


@pytest.mark.gen_test
async def test_files_are_shared_while_a_living_image_names_them(dreams: Dreams, jobs: Jobs) -> None:
    """From the moment it names them, stored or not; of the same owner, bytes and folder."""
    same = upload().sha256
    first = await dreams.create(ADA, Draft(), [upload(sha256=same)])
    old = (await completed(jobs, folder="f")).image
    await dreams.delete(ADA, first.id)
    assert not await jobs.is_shared(ADA, old)
    second = await dreams.create(ADA, Draft(), [upload(sha256=same)])
    job = await claimed(jobs)
    assert not await jobs.is_shared(ADA, old)
    await stored(jobs, job, "f")
    assert await jobs.is_shared(ADA, old)
    assert not await jobs.is_shared(BOB, old)
    assert not await jobs.is_shared(ADA, replace(old, folder="g"))
    assert not await jobs.is_shared(ADA, replace(old, sha256="0"))
    await dreams.remove_image(ADA, second.id, 1)
    assert not await jobs.is_shared(ADA, old)


@pytest.mark.gen_test
async def test_one_of_two_equal_images_that_completes_at_once_sees_the_other(dreams: Dreams, jobs: Jobs) -> None:
    """Whoever deletes lets go, then looks; whoever shares names, then looks. One of them sees the other."""
    for _ in range(10):
        same = upload().sha256
        first = await dreams.create(ADA, Draft(), [upload(sha256=same)])
        old = await completed(jobs, folder="f")
        await dreams.create(ADA, Draft(), [upload(sha256=same)])
        job = await claimed(jobs)

        async def share(job: Job = job) -> bool:
            await stored(jobs, job, "f")
            return await jobs.equal_image(ADA, job.image, RECIPE) is not None

        async def drop(first: Dream = first, old: Job = old) -> bool:
            await dreams.delete(ADA, first.id)
            return not await jobs.is_shared(ADA, old.image)

        is_there, is_removed = await asyncio.gather(share(), drop())
        assert not (is_there and is_removed)
        await jobs.fail(replace(job, image=rendered(job, "f", state=State.STORING)), "corrupt")


# ---- what the janitor asks


@pytest.mark.gen_test
async def test_nothing_is_to_be_swept_of_a_dream_that_is_whole(dreams: Dreams, jobs: Jobs) -> None:
    """Made, worked on, completed, failed, changed."""
    dream = await made(dreams, 3)
    await completed(jobs)
    await failed(jobs)
    await jobs.release(await claimed(jobs))
    await dreams.update(ADA, dream.id, {"title": "x"})
    assert await swept(jobs) == []


@pytest.mark.gen_test
async def test_a_removed_images_files_are_swept(dreams: Dreams, jobs: Jobs, database: Database, told: Told) -> None:
    """Upload and variants; afterwards the dream has nothing to sweep, and nobody is told of that."""
    dream = await made(dreams, 2)
    done = await completed(jobs)
    await dreams.remove_image(ADA, dream.id, 1)
    await dreams.remove_image(ADA, dream.id, 2)
    told.clear()
    [(found, images)] = await swept(jobs)
    assert found == await dreams.get(ADA, dream.id)
    assert [image.id for image in images] == [1, 2]
    assert images[0] == done.image
    assert (images[1].staged, images[1].keys) == (dream.images[1].staged, [])
    await jobs.swept(found, images)
    assert await swept(jobs) == []
    assert not {"trash", "sweep"} & set(await document(database, dream))
    assert told == []


@pytest.mark.gen_test
async def test_a_deleted_dream_is_swept_with_all_it_had(dreams: Dreams, jobs: Jobs, database: Database) -> None:
    """Its images and those that were removed before; then its document is gone."""
    dream = await made(dreams, 3)
    await completed(jobs)
    await stored(jobs, await claimed(jobs))
    await dreams.remove_image(ADA, dream.id, 1)
    await dreams.delete(ADA, dream.id)
    [(found, images)] = await swept(jobs)
    assert found.deleted
    assert [image.id for image in images] == [1, 2, 3]
    assert [len(image.keys) for image in images] == [3, 3, 0]
    await jobs.swept(found, images)
    assert await database["dreams"].count_documents({}) == 0


@pytest.mark.gen_test
async def test_of_a_swept_dream_its_key_is_left_for_a_day(dreams: Dreams, jobs: Jobs, database: Database) -> None:
    """Nothing of what was told in it."""
    dream = await dreams.create(ADA, Draft(title="secret"), uploads(2), "key")
    await dreams.remove_image(ADA, dream.id, 1)
    await dreams.delete(ADA, dream.id)
    await a_round(jobs)
    left = await document(database, dream)
    assert set(left) == {"_id", "owner", "keys", "deleted", "expires_at"}
    assert left["expires_at"] == dream.created_at + timedelta(days=1)
    assert await swept(jobs) == []
    assert await jobs.staged() == set()
    assert await jobs.owners_waiting() == []
    assert await jobs.expired(HERE) == []


@pytest.mark.gen_test
@pytest.mark.parametrize("end", ["handed back", "crashed", "corrupt"])
async def test_a_try_that_ends_while_storing_lets_go_of_its_files(
    dreams: Dreams, jobs: Jobs, database: Database, end: str
) -> None:
    """But not of the upload, which the next try needs; the image names no files any more."""
    dream = await made(dreams)
    named = await stored(jobs, await claimed(jobs))
    done = await (jobs.release(named) if end == "handed back" else jobs.fail(named, end))
    assert done is not None
    assert (done.image.keys, done.image.folder, done.image.recipe) == ([], None, None)
    assert done.image.staged == dream.images[0].staged
    assert done.dream.sweep
    [(_, [image])] = await swept(jobs)
    assert (image.keys, image.folder, image.staged) == (named.image.keys, named.image.folder, None)
    assert (image.sha256, image.attempt) == (named.image.sha256, 1)
    await a_round(jobs)
    assert await swept(jobs) == []
    assert await dreams.get(ADA, dream.id) == replace(done.dream, sweep=False)


@pytest.mark.gen_test
async def test_what_is_let_go_of_during_a_round_is_left_for_the_next(
    dreams: Dreams, jobs: Jobs, database: Database
) -> None:
    """Also of the same image and attempt: a round forgets exactly what it has removed."""
    await made(dreams)
    await jobs.release(await stored(jobs, await claimed(jobs), "first"))
    [(dream, images)] = await swept(jobs)
    await jobs.release(await stored(jobs, await claimed(jobs), "second"))
    await jobs.swept(dream, images)
    [(dream, images)] = await swept(jobs)
    assert [image.folder for image in images] == ["second"]
    await dreams.delete(ADA, dream.id)
    await jobs.swept(dream, images)
    [(dream, images)] = await swept(jobs)
    assert dream.deleted
    assert [image.folder for image in images] == [None]


@pytest.mark.gen_test
@pytest.mark.parametrize("trash", [[], None])
async def test_a_round_that_was_cut_short_ends_next_time(
    dreams: Dreams, jobs: Jobs, database: Database, trash: list[Any] | None
) -> None:
    """Killed between forgetting the last file and forgetting that there was something."""
    dream = await made(dreams)
    change = {"$set": {"sweep": True} | ({"trash": trash} if trash is not None else {})}
    await database["dreams"].update_one({"_id": ObjectId(dream.id)}, change)
    [(found, images)] = await swept(jobs)
    assert images == []
    await jobs.swept(found, images)
    assert await swept(jobs) == []


@pytest.mark.gen_test
async def test_a_round_twice_is_a_round_once(dreams: Dreams, jobs: Jobs) -> None:
    """After a crash it starts over."""
    await made(dreams)
    await jobs.release(await stored(jobs, await claimed(jobs)))
    await dreams.delete(ADA, (await made(dreams)).id)
    found = await swept(jobs)
    assert len(found) == 2
    for dream, images in found + found:
        await jobs.swept(dream, images)
    assert await swept(jobs) == []


@pytest.mark.gen_test
async def test_staged_names_each_upload_that_is_still_needed(dreams: Dreams, jobs: Jobs) -> None:
    """Until its image is completed or gone; a failed one may be tried again."""
    dream = await made(dreams, 4)
    names = [image.staged for image in dream.images]
    assert await jobs.staged() == set(names)
    await completed(jobs)
    await failed(jobs)
    await stored(jobs, await claimed(jobs))
    assert await jobs.staged() == set(names[1:])
    await dreams.remove_image(ADA, dream.id, 3)
    assert await jobs.staged() == {names[1], names[3]}
    await dreams.delete(ADA, dream.id)
    assert await jobs.staged() == {names[1], names[3]}
    await a_round(jobs)
    assert await jobs.staged() == set()


# ---- the rest


@pytest.mark.gen_test
async def test_every_move_raises_the_revision_by_one(dreams: Dreams, jobs: Jobs, clock: Clock, told: Told) -> None:
    """And is told once, in order, with the dream as it then was."""
    await made(dreams)
    await jobs.release(await stored(jobs, await claimed(jobs)))
    await jobs.fail(await claimed(jobs), "crashed")
    clock.now += PAUSES[0]
    done = await failed(jobs)
    await jobs.retry(done.dream, done.image)
    await completed(jobs)
    assert [dream.revision for dream, _ in told] == list(range(1, 13))
    assert [image.state.value for _, image in told if image is not None] == [
        *("rendering", "storing", "queued"),
        *("rendering", "queued"),
        *("rendering", "failed"),
        "queued",
        *("rendering", "storing", "completed"),
    ]
    assert all(dream.image(1) == image for dream, image in told[1:])


@pytest.mark.gen_test
async def test_work_and_people_at_once_lose_nothing(dreams: Dreams, jobs: Jobs, told: Told) -> None:
    """A text that changes, images that come and go, and images that are finished, all of one dream."""
    dream = await made(dreams, 10)
    told.clear()

    async def work() -> int:
        done = 0
        while (job := await jobs.claim(ADA, HERE)) is not None:
            named = await jobs.store(job, rendered(job, f"f{job.image.id}"))
            done += named is not None and await jobs.complete(named) is not None
        return done

    changes = [dreams.update(ADA, dream.id, {"title": str(number)}) for number in range(5)]
    more = [dreams.add_images(ADA, dream.id, uploads(1), most=50) for _ in range(5)]
    less = [dreams.remove_image(ADA, dream.id, number) for number in (9, 10)]
    await asyncio.gather(work(), work(), *changes, *more, *less)
    await work()
    found = await dreams.get(ADA, dream.id)
    assert sorted(image.id for image in found.images) == [*range(1, 9), *range(11, 16)]
    assert found.status is Status.COMPLETED
    assert sorted(each.revision for each, _ in told) == list(range(2, found.revision + 1))
    # In the order in which they happened; only a claim does not know beforehand whose turn to take.
    claims = [image is not None and image.state is State.RENDERING for _, image in told]
    others = [each.revision for (each, _), is_claim in zip(told, claims, strict=True) if not is_claim]
    assert others == sorted(others)


@pytest.mark.gen_test
async def test_an_absent_database_is_unavailable(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """By every method, and nobody is told."""
    monkeypatch.setattr("storage.mongo.SELECTION_TIMEOUT", 50)
    dream = Dream.from_document(
        {
            "_id": ObjectId(),
            "owner": ADA,
            **{"title": "", "content": "", "mood": None, "lucidity": None, "tags": [], "revision": 1},
            **{name: datetime(2026, 11, 22, tzinfo=UTC) for name in ("dreamed_at", "created_at", "updated_at")},
            "utc_offset": 0,
            "images": [
                {"id": 1, "position": 0, "state": "rendering", "attempt": 1, "tries_left": 3, "staged": "s"}
                | {"sha256": "", "bytes": 1, "format": "jpeg"}
            ],
        }
    )
    job = Job(dream, dream.images[0])
    storing = replace(job, image=replace(job.image, state=State.STORING))
    async with Mongo("mongodb://127.0.0.1:1", "away") as mongo:
        away = Jobs(mongo.database, turns=KeyedLock(), changed=lambda dream, image: told.append((dream, image)))
        results = await asyncio.gather(
            away.indexes(),
            away.owners_waiting(),
            away.claim(ADA, HERE),
            away.store(job, job.image),
            away.renew(job),
            away.complete(storing),
            away.fail(job, "crashed"),
            away.release(job),
            away.expired(HERE),
            away.equal_image(ADA, job.image, RECIPE),
            away.is_shared(ADA, job.image),
            away.retry(dream, replace(job.image, state=State.FAILED)),
            swept(away),
            away.swept(dream, []),
            away.staged(),
            return_exceptions=True,
        )
    assert {type(result) for result in results} == {Unavailable}
    assert told == []


# ---- moving files to another storage


async def sets(jobs: Jobs, pattern: str) -> list[tuple[str, str | None]]:
    return sorted([(owner, image.folder) async for owner, image in jobs.stored(pattern)])


@pytest.mark.gen_test
async def test_each_set_of_files_is_found_once(dreams: Dreams, jobs: Jobs) -> None:
    """Of completed images in folders that match; equal uploads of one owner share theirs, deleted dreams have none."""
    for owner in (ADA, ADA, BOB):
        await made(dreams, owner=owner)
    for owner in (ADA, ADA, BOB):
        await completed(jobs, owner, folder="shared")
    for folder in ("oss/1", "2"):
        await made(dreams)
        await completed(jobs, folder=folder)
    await made(dreams)
    await stored(jobs, await claimed(jobs), folder="3")
    deleted = await made(dreams)
    await completed(jobs, folder="4")
    await dreams.delete(ADA, deleted.id)
    assert await sets(jobs, "^[^/]+$") == sorted([(ADA, "shared"), (BOB, "shared"), (ADA, "2")])
    assert await sets(jobs, "^oss/") == [(ADA, "oss/1")]
    assert await jobs.has_folder("oss/")
    assert not await jobs.has_folder("oss/2")
    assert await jobs.named(["shared", "oss/1", "3", "4", "5"]) == {"shared", "oss/1", "3", "4"}


@pytest.mark.gen_test
async def test_a_move_names_the_new_files_and_keeps_the_old_for_a_while(
    dreams: Dreams, jobs: Jobs, clock: Clock
) -> None:
    """In one update of each dream, for all that share them; the old ones are swept when their time has come."""
    both = [await made(dreams, 2), await made(dreams, 1)]
    for _ in range(3):
        done = await completed(jobs, folder="old")
    theirs = await made(dreams, owner=BOB)
    await completed(jobs, BOB, folder="old")
    before = [await dreams.get(ADA, dream.id) for dream in both]
    assert await jobs.moved(ADA, done.image, "oss/new", clock.now + 2 * SECOND) == 3
    for dream, earlier in zip(both, before, strict=True):
        found = await dreams.get(ADA, dream.id)
        assert found.revision == earlier.revision + 1
        assert [image.keys for image in found.images] == [
            ["oss/new/2048.jpg", "oss/new/320.jpg", "oss/new/original.jpg"] for _ in earlier.images
        ]
        assert [replace(i, folder="", variants={}, original="") for i in found.images] == [
            replace(i, folder="", variants={}, original="") for i in earlier.images
        ]
    assert (await dreams.get(BOB, theirs.id)).images[0].folder == "old"
    assert await jobs.moved(ADA, done.image, "oss/newer", clock.now) == 0, "nobody has the old ones any more"

    assert await swept(jobs) == [], "their addresses may be in use"
    assert await jobs.named(["old", "oss/new"]) == {"old", "oss/new"}
    clock.now += 3 * SECOND
    found_trash = await swept(jobs)
    assert sorted(image.keys for _, images in found_trash for image in images) == [done.image.keys] * 3
    assert not [image for dream, images in found_trash for image in images if await jobs.is_shared(ADA, image)]
    await a_round(jobs)
    assert await swept(jobs) == []
    assert await jobs.named(["old", "oss/new"]) == {"old", "oss/new"}, "the old ones are another owner's still"


@pytest.mark.gen_test
@pytest.mark.parametrize("what", ["image", "dream", "account"])
async def test_what_is_deleted_after_a_move_is_swept_from_both_places_at_once(
    dreams: Dreams, jobs: Jobs, clock: Clock, what: str
) -> None:
    """Whoever deletes a picture does not wait for an address to end."""
    dream = await made(dreams, 2)
    moving = await completed(jobs, folder="old")
    await completed(jobs, folder="other")
    await jobs.moved(ADA, moving.image, "oss/new", clock.now + 9 * SECOND)
    if what == "image":
        await dreams.remove_image(ADA, dream.id, moving.image.id)
    elif what == "dream":
        await dreams.delete(ADA, dream.id)
    else:
        await dreams.delete_all(ADA)
    [(_, images)] = await swept(jobs)
    gone = {"old", "oss/new"} | ({"other"} if what != "image" else set())
    assert {image.folder for image in images} == gone
    await a_round(jobs)
    assert await swept(jobs) == []
    assert await jobs.named(["old", "oss/new"]) == set()


@pytest.mark.gen_test
async def test_a_move_and_other_changes_at_once_lose_nothing(dreams: Dreams, jobs: Jobs, clock: Clock) -> None:
    """The dream is read again where somebody was faster."""
    dream = await made(dreams, 3)
    done = [await completed(jobs, folder=folder) for folder in ("a", "b")]

    async def writes() -> None:
        for number in range(20):
            await dreams.update(ADA, dream.id, {"title": str(number)})

    await asyncio.gather(
        writes(),
        *(jobs.moved(ADA, job.image, f"oss/{job.image.folder}", clock.now) for job in done),
        dreams.remove_image(ADA, dream.id, 3),
    )
    found = await dreams.get(ADA, dream.id)
    assert [image.folder for image in found.images] == ["oss/a", "oss/b"]
    assert found.title == "19"


@pytest.mark.gen_test
async def test_an_equal_upload_during_a_move_keeps_its_files(dreams: Dreams, jobs: Jobs, clock: Clock) -> None:
    """It names the old ones first and looks then, so that one of both sees the other."""
    first, second = upload(), upload()
    second = replace(second, sha256=first.sha256)
    await dreams.create(ADA, Draft(content="x"), [first, second])
    done = await completed(jobs, folder="old")
    late = await claimed(jobs)
    equal = await jobs.equal_image(ADA, late.image, RECIPE)
    assert equal is not None
    named = await jobs.store(late, replace(equal, id=late.image.id))
    assert named is not None
    assert await jobs.moved(ADA, done.image, "oss/new", clock.now) == 1
    assert await jobs.is_shared(ADA, done.image), "the janitor leaves the old ones"
    again = await jobs.equal_image(ADA, late.image, RECIPE)
    assert again is not None
    assert again.folder != named.image.folder, "the second sees that they have moved, and begins anew"
