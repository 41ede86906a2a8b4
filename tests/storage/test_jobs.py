"""The work on images, in a real database: claims, moves, late reports, and leases that run out."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId

from storage.dreams import Dreams
from storage.errors import Unavailable
from storage.jobs import LEASE, MAX_PAUSE, Jobs
from storage.model import FAILURES, PAUSES, Draft, Dream, IllegalMove, Job, State, Status, milliseconds
from storage.mongo import Mongo
from storage.references import References
from storage.writes import ROUNDS, Writes
from tests.storage.conftest import (
    ADA,
    BOB,
    HERE,
    SECOND,
    THERE,
    Clock,
    Database,
    Published,
    a_round,
    claimed,
    completed,
    document,
    failed,
    made,
    profiled,
    rendered,
    stored,
    upload,
    uploads,
)

# ---- claim


@pytest.mark.gen_test
async def test_a_claim_takes_the_oldest_first(dreams: Dreams, jobs: Jobs) -> None:
    """The owner's dreams in the order of their creation, and the images of each in order."""
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
async def test_a_claim_is_under_a_lease(dreams: Dreams, jobs: Jobs, clock: Clock, published: Published) -> None:
    """The lease names the server and is unique; each claim raises the revision and is published."""
    dream = await made(dreams, 2)
    published.clear()
    one, two = await claimed(jobs), await claimed(jobs)
    assert one.image.state is two.image.state is State.RENDERING
    assert one.image.lease_until == clock.now.replace(microsecond=123_000) + LEASE
    assert one.image.lease_owner != two.image.lease_owner
    assert str(one.image.lease_owner).startswith(f"{HERE}/")
    assert (one.image.attempt, one.image.tries_left, one.image.staged) == (1, 3, dream.images[0].staged)
    assert (one.dream.revision, two.dream.revision) == (2, 3)
    assert published == [(one.dream, one.image), (two.dream, two.image)]
    assert two.dream == await dreams.get(ADA, dream.id)


@pytest.mark.gen_test
async def test_claims_at_once_get_different_images(dreams: Dreams, jobs: Jobs) -> None:
    """However many servers claim at once, each image goes to one of them."""
    for _ in range(3):
        await made(dreams, 4)
    found = await asyncio.gather(*(jobs.claim(ADA, server) for server in (HERE, THERE) for _ in range(10)))
    taken = [(job.dream.id, job.image.id) for job in found if job is not None]
    assert len(taken) == len(set(taken)) == 12


@pytest.mark.gen_test
async def test_a_claim_is_of_its_owners_images(dreams: Dreams, jobs: Jobs) -> None:
    """The images of other owners stay queued, and `owners_waiting` lists their owners."""
    await made(dreams, owner=BOB)
    assert await jobs.owners_waiting() == [BOB]
    assert await jobs.claim(ADA, HERE) is None
    await made(dreams)
    assert sorted(await jobs.owners_waiting()) == sorted([ADA, BOB])
    assert (await claimed(jobs, BOB)).dream.owner == BOB
    assert await jobs.owners_waiting() == [ADA]


@pytest.mark.gen_test
async def test_nothing_of_a_deleted_dream_is_claimed(dreams: Dreams, jobs: Jobs) -> None:
    """A deleted dream has no work."""
    await dreams.delete(ADA, (await made(dreams)).id)
    assert await jobs.claim(ADA, HERE) is None


@pytest.mark.gen_test
@pytest.mark.parametrize("crowd", [1, 40])
async def test_a_claim_is_found_by_its_index(dreams: Dreams, jobs: Jobs, database: Database, crowd: int) -> None:
    """Without a sort or a scan, among many finished dreams and many queued images of other owners."""
    for number in range(crowd):
        done = await made(dreams, 2)
        states = {"images.$[].state": State.COMPLETED, "images.$[].lease_until": None}
        await database["dreams"].update_one({"_id": ObjectId(done.id)}, {"$set": states})
        await made(dreams, owner=BOB if number % 2 else str(ObjectId()))
    for _ in range(5 if crowd > 1 else 1):
        await made(dreams, 2)
    record = await profiled(database, "find", lambda: jobs.claim(ADA, HERE))
    assert record["planSummary"] == "IXSCAN { images.state: 1, owner: 1, _id: 1 }"
    assert not record.get("hasSortStage")
    assert (record["keysExamined"], record["docsExamined"]) == (1, 1)
    record = await profiled(database, "findAndModify", lambda: jobs.claim(ADA, HERE))
    assert (record["keysExamined"], record["docsExamined"]) == (1, 1)


@pytest.mark.gen_test
async def test_a_claim_of_a_dream_that_is_known_reads_nothing_first(
    dreams: Dreams, jobs: Jobs, database: Database
) -> None:
    """One update by the dream's id claims its images in order, and none of another dream."""
    first, second = await made(dreams), await made(dreams, 2)
    await database.command("profile", 2)
    found = [await jobs.claim(ADA, HERE, second.id) for _ in range(3)]
    await database.command("profile", 0)
    assert [job and (job.dream.id, job.image.id) for job in found] == [(second.id, 1), (second.id, 2), None]
    commands = await database["system.profile"].find({"ns": f"{database.name}.dreams"}).to_list(None)
    assert [next(iter(each["command"])) for each in commands] == ["findAndModify"] * 3
    assert await jobs.claim(BOB, HERE, first.id) is None
    assert (await claimed(jobs)).dream.id == first.id


@pytest.mark.gen_test
async def test_claims_that_are_always_too_late_come_to_an_end(
    dreams: Dreams, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `ROUNDS` rounds in which other servers took the image first, the claim raises."""
    await made(dreams, 3)
    asked = []

    async def too_late(owner: str, server: str, dream_id: str) -> None:
        asked.append(dream_id)

    monkeypatch.setattr(jobs, "_claim", too_late)
    with pytest.raises(Unavailable, match="Try again in a moment"):
        await jobs.claim(ADA, HERE)
    assert len(asked) == ROUNDS


# ---- store and complete


@pytest.mark.gen_test
async def test_an_image_is_named_then_completed(dreams: Dreams, jobs: Jobs, published: Published) -> None:
    """The dream names the files before the first is stored, and clients see them when all are."""
    dream = await made(dreams)
    job = await claimed(jobs)
    published.clear()
    named = await stored(jobs, job)
    assert named.image == rendered(job, state=State.STORING, lease_until=named.image.lease_until)
    done = await jobs.complete(named)
    assert done is not None
    assert done.image == replace(named.image, state=State.COMPLETED, staged=None, lease_until=None)
    assert done.dream == await dreams.get(ADA, dream.id)
    assert done.dream.status is Status.COMPLETED
    assert [(dream.revision, image) for dream, image in published] == [(3, named.image), (4, done.image)]


@pytest.mark.gen_test
async def test_storing_prolongs_the_lease(dreams: Dreams, jobs: Jobs, clock: Clock) -> None:
    """Rendering may have used most of the lease."""
    await made(dreams)
    job = await claimed(jobs)
    clock.now += LEASE - SECOND
    assert (await stored(jobs, job)).image.lease_until == clock.now.replace(microsecond=123_000) + LEASE


@pytest.mark.gen_test
async def test_asking_again_after_a_lost_answer_gets_it(dreams: Dreams, jobs: Jobs) -> None:
    """The write took effect and the connection lost the answer: the same call finds its effect and returns it."""
    dream = await made(dreams)
    job = await claimed(jobs)
    named = await stored(jobs, job)
    assert await stored(jobs, job) == named
    done = await jobs.complete(named)
    assert await jobs.complete(named) == done
    assert (await dreams.get(ADA, dream.id)).revision == 4


@pytest.mark.gen_test
async def test_asking_again_after_a_lost_failure_finds_it(dreams: Dreams, jobs: Jobs, published: Published) -> None:
    """The first time nothing was published, because the answer never came."""
    await made(dreams)
    job = await claimed(jobs)
    first = await jobs.fail(job, "corrupt")
    published.clear()
    assert await jobs.fail(job, "corrupt") == first
    assert [image.status for _, image in published if image is not None] == [Status.FAILED]


@pytest.mark.gen_test
async def test_a_lease_is_renewed_while_it_is_held(
    dreams: Dreams, jobs: Jobs, clock: Clock, published: Published
) -> None:
    """In both leased states; a renewal changes no revision and is not published."""
    dream = await made(dreams)
    job = await claimed(jobs)
    for storing in (False, True):
        step = await stored(jobs, job) if storing else job
        before = await dreams.get(ADA, dream.id)
        published.clear()
        clock.now += LEASE - SECOND
        assert await jobs.renew(step)
        clock.now += LEASE - SECOND
        assert await jobs.expired() == []
        assert (await dreams.get(ADA, dream.id)).revision == before.revision
        assert published == []
    await jobs.complete(step)
    assert not await jobs.renew(step)


# ---- too late


async def every_late_report(jobs: Jobs, job: Job, published: Published, database: Database) -> AsyncIterator[str]:
    """Each report on `job`, which has been taken away; it must change and publish nothing."""
    before = await database["dreams"].find().to_list(None)
    published.clear()
    storing = replace(job, image=rendered(job, state=State.STORING))
    for report, call in {
        "store": jobs.store(job, rendered(job)),
        "complete": jobs.complete(storing),
        "failed for good": jobs.fail(job, "corrupt"),
        "failed while storing": jobs.fail(storing, "corrupt"),
        "to be tried again": jobs.fail(job, "crashed"),
        "to be stored again": jobs.fail(storing, "storage_unavailable"),
        "released": jobs.release(job),
        "released while storing": jobs.release(storing),
    }.items():
        assert await call is None, report
        assert await database["dreams"].find().to_list(None) == before, report
        assert published == [], report
        yield report
    assert not await jobs.renew(job)
    assert await database["dreams"].find().to_list(None) == before


async def nothing_comes_of(jobs: Jobs, job: Job, published: Published, database: Database) -> None:
    assert len([report async for report in every_late_report(jobs, job, published, database)]) == 8


@pytest.mark.gen_test
async def test_an_older_attempt_changes_nothing(
    dreams: Dreams, jobs: Jobs, published: Published, database: Database
) -> None:
    """The image was queued, claimed, completed or failed meanwhile: the late report changes nothing."""
    await made(dreams)
    late = await claimed(jobs)
    await jobs.fail(late, "crashed")
    await nothing_comes_of(jobs, late, published, database)
    await database["dreams"].update_many({}, {"$set": {"images.$[].not_before": None}})
    second = await claimed(jobs)
    await nothing_comes_of(jobs, late, published, database)
    named = await stored(jobs, second)
    await nothing_comes_of(jobs, late, published, database)
    await jobs.complete(named)
    await nothing_comes_of(jobs, late, published, database)


@pytest.mark.gen_test
async def test_another_lease_of_the_same_attempt_changes_nothing(
    dreams: Dreams, jobs: Jobs, published: Published, database: Database
) -> None:
    """A released image keeps its attempt; only the lease distinguishes its next job."""
    await made(dreams)
    late = await claimed(jobs)
    await jobs.release(late)
    await nothing_comes_of(jobs, late, published, database)
    second = await claimed(jobs)
    assert second.image.attempt == late.image.attempt
    await nothing_comes_of(jobs, late, published, database)
    await stored(jobs, second)
    await nothing_comes_of(jobs, late, published, database)


@pytest.mark.gen_test
async def test_a_result_after_a_retry_changes_nothing(
    dreams: Dreams, jobs: Jobs, published: Published, database: Database
) -> None:
    """A person asked for a retry while a slow worker still had the old attempt."""
    await made(dreams)
    late = await claimed(jobs)
    done = await jobs.fail(late, "corrupt")
    assert done is not None
    await jobs.retry(done.dream, done.image)
    await nothing_comes_of(jobs, late, published, database)
    await claimed(jobs)
    await nothing_comes_of(jobs, late, published, database)


@pytest.mark.gen_test
@pytest.mark.parametrize("others", [0, 1])
async def test_a_deleted_images_result_changes_nothing(
    dreams: Dreams, jobs: Jobs, published: Published, database: Database, others: int
) -> None:
    """Nor does the image change that is now in its place."""
    dream = await made(dreams, 1 + others)
    late = await claimed(jobs)
    await dreams.remove_image(ADA, dream.id, late.image.id)
    await nothing_comes_of(jobs, late, published, database)


@pytest.mark.gen_test
async def test_a_deleted_dreams_result_changes_nothing(
    dreams: Dreams, jobs: Jobs, references: References, published: Published, database: Database
) -> None:
    """Neither while its files wait to be removed, nor after."""
    dream = await made(dreams)
    late = await claimed(jobs)
    await dreams.delete(ADA, dream.id)
    await nothing_comes_of(jobs, late, published, database)
    await a_round(references)
    await nothing_comes_of(jobs, late, published, database)


@pytest.mark.gen_test
async def test_of_two_reports_at_once_one_counts(dreams: Dreams, jobs: Jobs, published: Published) -> None:
    """An image that completes and fails at once does one of both, and one change is published."""
    for _ in range(10):
        dream = await made(dreams)
        named = await stored(jobs, await claimed(jobs))
        published.clear()
        done, gone = await asyncio.gather(jobs.complete(named), jobs.fail(named, "corrupt"))
        assert (done is None) is not (gone is None)
        state = (await dreams.get(ADA, dream.id)).images[0].state
        assert state is (State.COMPLETED if done is not None else State.FAILED)
        assert len(published) == 1


@pytest.mark.gen_test
async def test_a_report_that_makes_no_sense_is_an_error(dreams: Dreams, jobs: Jobs) -> None:
    """A move or a code that the tables lack never reaches the database."""
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
async def test_what_cannot_pass_fails_at_once(dreams: Dreams, jobs: Jobs, published: Published, code: str) -> None:
    """No second worker reads a damaged file."""
    dream = await made(dreams)
    job = await claimed(jobs)
    published.clear()
    done = await jobs.fail(job, code)
    assert done is not None
    assert (done.image.state, done.image.error, done.image.tries_left) == (State.FAILED, code, 0)
    assert (done.image.attempt, done.image.staged) == (1, job.image.staged)
    assert done.dream == await dreams.get(ADA, dream.id)
    assert done.dream.status is Status.FAILED
    assert published == [(done.dream, done.image)]
    assert await jobs.claim(ADA, HERE) is None


@pytest.mark.gen_test
@pytest.mark.parametrize("storing", [False, True])
async def test_what_can_pass_is_tried_three_times(
    dreams: Dreams, jobs: Jobs, clock: Clock, published: Published, storing: bool
) -> None:
    """A growing pause follows each try but the last; then the image stays failed."""
    await made(dreams)
    for attempt, pause in enumerate((*PAUSES, None), 1):
        job = await claimed(jobs)
        assert (job.image.attempt, job.image.tries_left, job.image.error) == (attempt, 4 - attempt, None)
        published.clear()
        done = await jobs.fail(await stored(jobs, job) if storing else job, "storage_unavailable")
        assert done is not None
        assert published[-1] == (done.dream, done.image)
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
    """Neither another image of the dream nor a later dream waits for it."""
    first = await made(dreams, 2)
    second = await made(dreams)
    await jobs.fail(await claimed(jobs), "crashed")
    found = [await claimed(jobs), await claimed(jobs)]
    assert [(job.dream.id, job.image.id) for job in found] == [(first.id, 2), (second.id, 1)]


@pytest.mark.gen_test
async def test_a_clock_that_jumps_back_leaves_no_image_waiting(dreams: Dreams, jobs: Jobs, clock: Clock) -> None:
    """A pause that now seems to last longer than any pause of ours counts as over; a shorter one does not."""
    await made(dreams)
    await jobs.fail(await claimed(jobs), "crashed")
    assert max(PAUSES) < MAX_PAUSE
    clock.now -= MAX_PAUSE - PAUSES[0]
    assert await jobs.claim(ADA, HERE) is None
    clock.now -= timedelta(milliseconds=1)
    assert (await claimed(jobs)).image.attempt == 2


@pytest.mark.gen_test
async def test_what_is_handed_back_is_in_line_at_once(dreams: Dreams, jobs: Jobs, published: Published) -> None:
    """A released try does not count, however often: the image was not to blame."""
    dream = await made(dreams)
    for _ in range(5):
        job = await claimed(jobs)
        published.clear()
        back = await jobs.release(job)
        assert back is not None
        assert (back.image.state, back.image.attempt, back.image.tries_left) == (State.QUEUED, 1, 3)
        assert (back.image.lease_owner, back.image.lease_until) == (None, None)
        assert published == [(back.dream, back.image)]
        assert back.dream == await dreams.get(ADA, dream.id)


@pytest.mark.gen_test
async def test_what_is_handed_back_keeps_the_tries_it_had_used(dreams: Dreams, jobs: Jobs, clock: Clock) -> None:
    """A stop during the second try repeats the second try."""
    await made(dreams)
    await jobs.fail(await claimed(jobs), "crashed")
    clock.now += PAUSES[0]
    back = await jobs.release(await claimed(jobs))
    assert back is not None
    assert (back.image.attempt, back.image.tries_left) == (2, 2)


@pytest.mark.gen_test
@pytest.mark.parametrize("end", ["released", "tried again", "failed"])
async def test_files_of_a_try_that_ended_while_storing_become_pending_deletions(
    dreams: Dreams, jobs: Jobs, database: Database, end: str
) -> None:
    """In the same update: the image names no files any more, the dream's `trash` does, and the janitor is woken."""
    dream = await made(dreams)
    named = await stored(jobs, await claimed(jobs))
    ends = {"released": lambda: jobs.release(named), "tried again": lambda: jobs.fail(named, "crashed")}
    done = await ends.get(end, lambda: jobs.fail(named, "corrupt"))()
    assert done is not None
    assert (done.image.keys, done.image.folder, done.image.recipe, done.dream.sweep) == ([], None, None, True)
    found = await document(database, dream)
    [entry] = found["trash"]
    assert (entry["folder"], entry["original"], entry["staged"]) == (named.image.folder, named.image.original, None)
    assert set(entry["variants"]) == set(named.image.variants)


@pytest.mark.gen_test
async def test_a_try_that_ended_while_rendering_leaves_nothing_to_remove(dreams: Dreams, jobs: Jobs) -> None:
    """It has named no files yet."""
    await made(dreams)
    done = await jobs.release(await claimed(jobs))
    assert done is not None
    assert not done.dream.sweep


# ---- retry


@pytest.mark.gen_test
@pytest.mark.parametrize("code", ["corrupt", "crashed"])
async def test_a_retry_gives_a_failed_image_all_its_tries(
    dreams: Dreams, jobs: Jobs, clock: Clock, published: Published, code: str
) -> None:
    """The retry is another attempt, without the error, with the upload that staging has kept."""
    dream = await made(dreams)
    job = await claimed(jobs)
    for pause in PAUSES if code == "crashed" else ():
        await jobs.fail(job, code)
        clock.now += pause
        job = await claimed(jobs)
    done = await jobs.fail(job, code)
    assert done is not None
    published.clear()
    again = await jobs.retry(done.dream, done.image)
    assert again is not None
    image = again.images[0]
    assert (image.state, image.attempt, image.tries_left) == (State.QUEUED, done.image.attempt + 1, 3)
    assert (image.error, image.staged, image.lease_owner) == (None, dream.images[0].staged, None)
    assert (again.revision, again.status) == (done.dream.revision + 1, Status.PROCESSING)
    assert again == await dreams.get(ADA, dream.id)
    assert published == [(again, image)]
    assert (await claimed(jobs)).image.attempt == image.attempt


@pytest.mark.gen_test
async def test_of_two_retries_one_counts(dreams: Dreams, jobs: Jobs, published: Published) -> None:
    """Two devices press the button at once; an image that was deleted is not retried."""
    dream = await made(dreams)
    done = await failed(jobs)
    published.clear()
    results = await asyncio.gather(*(jobs.retry(done.dream, done.image) for _ in range(5)))
    assert sum(result is not None for result in results) == 1
    assert len(published) == 1
    await dreams.delete(ADA, dream.id)
    assert await jobs.retry(done.dream, done.image) is None


@pytest.mark.gen_test
async def test_the_size_of_a_header_stays_until_rendering_knows(dreams: Dreams, jobs: Jobs) -> None:
    """A failure and a retry keep the size, so that the page keeps the picture's place free."""
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
    """All jobs of this server in both leased states, and none of another server."""
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
    """Nor is it a prefix of another server's name."""
    await made(dreams, 4)
    for server in ("a.c", "a.cd", "abc", "a+c"):
        await claimed(jobs, server=server)
    assert [job.image.id for job in await jobs.expired("a.c")] == [1]
    assert [job.image.id for job in await jobs.expired("a+c")] == [4]
    assert await jobs.expired("a") == []
    assert await jobs.expired(".*") == []


@pytest.mark.gen_test
async def test_a_lease_that_runs_out_is_anyones_to_take_back(dreams: Dreams, jobs: Jobs, clock: Clock) -> None:
    """Not before its end, and no other lease."""
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
async def test_of_one_dream_only_the_leases_that_ran_out_are_taken_back(
    dreams: Dreams, jobs: Jobs, clock: Clock
) -> None:
    """A lease that ends in this very millisecond is still valid."""
    await made(dreams, 2)
    await claimed(jobs)
    clock.now += SECOND
    await claimed(jobs)
    clock.now += LEASE
    assert [job.image.id for job in await jobs.expired()] == [1]
    clock.now += timedelta(milliseconds=1)
    assert [job.image.id for job in await jobs.expired()] == [1, 2]


@pytest.mark.gen_test
async def test_a_start_takes_back_although_the_clock_jumped_back(dreams: Dreams, jobs: Jobs, clock: Clock) -> None:
    """Although the leases of the earlier run then seem to last for an hour."""
    await made(dreams)
    await claimed(jobs)
    clock.now -= timedelta(hours=1)
    [job] = await jobs.expired(HERE)
    await jobs.fail(job, "crashed")
    clock.now += PAUSES[0]
    assert (await claimed(jobs)).image.attempt == 2


@pytest.mark.gen_test
async def test_what_is_finished_or_gone_has_not_expired(dreams: Dreams, jobs: Jobs, clock: Clock) -> None:
    """Nor has a queued image."""
    await made(dreams, 2)
    await completed(jobs)
    await failed(jobs)
    await made(dreams)
    await dreams.delete(ADA, (await claimed(jobs)).dream.id)
    await made(dreams)
    clock.now += timedelta(days=1)
    assert await jobs.expired(HERE) == []


# ---- the rest


@pytest.mark.gen_test
async def test_every_move_raises_the_revision_by_one(
    dreams: Dreams, jobs: Jobs, clock: Clock, published: Published
) -> None:
    """Each move is published once, in order, with the dream as the move left it."""
    await made(dreams)
    await jobs.release(await stored(jobs, await claimed(jobs)))
    await jobs.fail(await claimed(jobs), "crashed")
    clock.now += PAUSES[0]
    done = await failed(jobs)
    await jobs.retry(done.dream, done.image)
    await completed(jobs)
    assert [dream.revision for dream, _ in published] == list(range(1, 13))
    assert [image.state.value for _, image in published if image is not None] == [
        *("rendering", "storing", "queued"),
        *("rendering", "queued"),
        *("rendering", "failed"),
        "queued",
        *("rendering", "storing", "completed"),
    ]
    assert all(dream.image(1) == image for dream, image in published[1:])


@pytest.mark.gen_test
async def test_work_and_people_at_once_lose_nothing(dreams: Dreams, jobs: Jobs, published: Published) -> None:
    """Edits, added and removed images and finished work, all of one dream at once, are published in order."""
    dream = await made(dreams, 10)
    published.clear()

    async def work() -> int:
        done = 0
        while (job := await jobs.claim(ADA, HERE)) is not None:
            named = await jobs.store(job, rendered(job, f"f{job.image.id}"))
            done += named is not None and await jobs.complete(named) is not None
        return done

    changes = [dreams.update(ADA, dream.id, {"title": str(number)}) for number in range(5)]
    more = [dreams.add_images(ADA, dream.id, uploads(1), max_images=50) for _ in range(5)]
    less = [dreams.remove_image(ADA, dream.id, number) for number in (9, 10)]
    await asyncio.gather(work(), work(), *changes, *more, *less)
    await work()
    found = await dreams.get(ADA, dream.id)
    assert sorted(image.id for image in found.images) == [*range(1, 9), *range(11, 16)]
    assert found.status is Status.COMPLETED
    assert [each.revision for each, _ in published] == list(range(2, found.revision + 1)), "each once, in order"


@pytest.mark.gen_test
async def test_an_absent_database_is_unavailable(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every method raises, and nothing is published."""
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
        writes = Writes(mongo.database, changed=lambda dream, image: published.append((dream, image)))
        away = Jobs(mongo.database, writes=writes)
        results = await asyncio.gather(
            away.indexes(),
            away.owners_waiting(),
            away.claim(ADA, HERE),
            away.claim(ADA, HERE, dream.id),
            away.store(job, job.image),
            away.renew(job),
            away.complete(storing),
            away.fail(job, "crashed"),
            away.release(job),
            away.expired(HERE),
            away.retry(dream, replace(job.image, state=State.FAILED)),
            return_exceptions=True,
        )
    assert {type(result) for result in results} == {Unavailable}
    assert published == []


# ---- documents of other versions


@pytest.mark.gen_test
async def test_an_image_in_an_unknown_state_is_no_work(
    dreams: Dreams, jobs: Jobs, database: Database, clock: Clock, published: Published
) -> None:
    """It is never claimed, expired or moved; the dream's other images are."""
    dream = await made(dreams, 2)
    job = await claimed(jobs)
    odd = {"images.0.state": "archived", "images.0.lease_until": datetime(2000, 1, 1, tzinfo=UTC)}
    await database["dreams"].update_one({"_id": ObjectId(dream.id)}, {"$set": odd})
    await nothing_comes_of(jobs, job, published, database)
    before = (await document(database, dream))["images"][0]
    assert await jobs.expired(HERE) == []
    assert (await completed(jobs)).image.id == 2
    assert await jobs.claim(ADA, HERE) is None
    found = await dreams.get(ADA, dream.id)
    assert (found.images[0].state, found.status) == (State.UNKNOWN, Status.PROCESSING)
    with pytest.raises(IllegalMove):
        await jobs.retry(found, found.images[0])
    assert (await document(database, dream))["images"][0] == before


@pytest.mark.gen_test
async def test_the_queue_has_a_length_and_an_age(dreams: Dreams, jobs: Jobs, database: Database, clock: Clock) -> None:
    """Since when the oldest has been queued survives a failed try, and begins anew with a retry."""
    assert await jobs.queue() == (0, None)
    begin = milliseconds(clock.now)
    await dreams.create(ADA, Draft(title="a dream"), uploads(2))
    clock.now += timedelta(minutes=5)
    other = await dreams.create(BOB, Draft(title="another"), uploads(1))
    assert await jobs.queue() == (3, begin)
    first = await jobs.claim(ADA, "server")
    assert first is not None
    assert await jobs.queue() == (2, begin)
    await jobs.fail(first, "timed_out")
    assert await jobs.queue() == (3, begin)
    await database["dreams"].update_one({"_id": ObjectId(other.id)}, {"$unset": {"images.0.queued_at": True}})
    await dreams.delete(ADA, first.dream.id)
    assert await jobs.queue() == (1, other.created_at)
    job = await jobs.claim(BOB, "server")
    assert job is not None
    failed = await jobs.fail(job, "corrupt")
    assert failed is not None
    clock.now += timedelta(minutes=5)
    assert await jobs.retry(failed.dream, failed.image) is not None
    assert await jobs.queue() == (1, milliseconds(clock.now))
