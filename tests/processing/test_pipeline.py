"""The way of an image from the queue to completion, on a fake database, workers and storage, in fake time.

That it survives real kills is tested in tests/journeys/test_crashes.py.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from config import Images
from processing.pipeline import MAX_PAUSE, PAUSE, RESCAN, STORING, Pipeline
from processing.render import Rejected
from storage.errors import NoSpace, Unavailable
from storage.jobs import LEASE
from storage.model import PAUSES, Dream, Image, State
from storage.staging import Staging
from tests.fake_time import ends, in_fake_time, soon
from tests.processing.fakes import EPOCH, Files, Jobs, Workers, a_dream, an_image, died, now

QUEUED, RENDERING, NAMED = State.QUEUED, State.RENDERING, State.STORING
COMPLETED, FAILED = State.COMPLETED, State.FAILED
AWAY = Unavailable("It does not answer.")
LEASE_SECONDS = LEASE.total_seconds()


class Bench:
    """A pipeline with everything it works with."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.jobs, self.workers, self.files = Jobs(), Workers(workers), Files()
        self.staging = Staging(folder / "staging")
        self.work = folder / "work"
        self.drain = 30.0
        self.folder = folder

    def pipeline(self, **settings: Any) -> Pipeline:
        defaults: dict[str, Any] = dict.fromkeys(Images.__dataclass_fields__)
        defaults |= {"format": "jpeg", "quality": 0, "effort": 0, "keep_originals": True}
        defaults |= {"max_pixels": 100_000_000, "max_frames": 600, "time_limit": 60.0}
        jobs: Any = self.jobs
        workers: Any = self.workers
        files: Any = self.files
        pipeline = Pipeline(
            jobs=jobs,
            references=jobs,
            workers=workers,
            files=files,
            staging=self.staging,
            settings=Images(**(defaults | settings)),
            server="here",
            folder=self.work,
            drain_left=lambda: self.drain,
        )
        self.jobs.wake = pipeline.wake
        return pipeline

    @asynccontextmanager
    async def running(self, **settings: Any) -> AsyncIterator[Pipeline]:
        async with self.pipeline(**settings) as pipeline:
            yield pipeline

    def upload(self, name: str, owner: str = "ada", *images: Image) -> Dream:
        """A dream as it is after the 201, with each upload in staging."""
        images = images or (an_image(sha256=f"sha256 of {name}"),)
        images = tuple(an_image(**_fields(image) | {"staged": f"{name}-{image.id}"}) for image in images)
        for image in images:
            assert image.staged is not None
            self.staging.path(image.staged).write_text("an upload")
        return self.jobs.add(a_dream(name, owner, *images))

    def state(self, name: str, number: int = 1) -> State:
        return self.jobs.image(name, number).state

    def all_are(self, state: State) -> bool:
        return {image.state for dream in self.jobs.dreams.values() for image in dream.images} == {state}

    def leftovers(self) -> list[str]:
        """What lies in the folder of half-done work, and in staging."""
        return sorted(path.name for folder in (self.work, self.folder / "staging") for path in folder.iterdir())


def _fields(image: Image) -> dict[str, Any]:
    fields = {name: getattr(image, name) for name in Image.__dataclass_fields__}
    return {"number": fields.pop("id"), **fields}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, workers=1)


@pytest.fixture
def wide(tmp_path: Path) -> Bench:
    return Bench(tmp_path, workers=3)


# ---- one image


@in_fake_time
async def test_an_image_is_rendered_named_stored_and_completed(bench: Bench) -> None:
    """Its files are those that the dream names, its upload is one of them, and nothing else is left."""
    bench.upload("dream")
    async with bench.running():
        await soon(lambda: bench.all_are(COMPLETED))
        image = bench.jobs.image("dream")
        assert [state for _, _, state in bench.jobs.states] == [RENDERING, NAMED, COMPLETED]
        assert (image.width, image.height, image.animated, image.placeholder) == (4000, 3000, False, "data:")
        assert list(image.variants) == ["320", "1024", "2048"]
        assert image.original is not None
        assert bench.files.contents == {
            image.variants["320"].key: b"320",
            image.variants["2048"].key: b"2048",
            image.original: b"an upload",
        }
        assert bench.files.types == dict.fromkeys(bench.files.contents, "image/jpeg")
        assert all(key.startswith(f"{image.folder}/") for key in bench.files.contents)
        assert bench.leftovers() == []


@in_fake_time
async def test_an_image_costs_four_database_calls(bench: Bench) -> None:
    """It is claimed, compared, stored and completed; nobody asks for another one that is not there."""
    async with bench.running() as pipeline:
        bench.jobs.calls.clear()
        bench.upload("dream")
        pipeline.wake("ada", "dream")
        await soon(lambda: bench.all_are(COMPLETED))
        await asyncio.sleep(RESCAN / 2)
        assert sorted(bench.jobs.calls) == ["claim", "complete", "equal_image", "store"]


@in_fake_time
async def test_the_dream_names_every_file_before_it_is_stored(bench: Bench) -> None:
    """Otherwise a crash in between would leave a file that nobody knows of."""
    bench.upload("dream")

    def named(key: str) -> None:
        assert bench.state("dream") is NAMED
        assert key in bench.jobs.image("dream").keys

    bench.files.before_put = named
    async with bench.running():
        await soon(lambda: bench.all_are(COMPLETED))
    assert len(bench.files.contents) == 3


@in_fake_time
async def test_the_key_of_an_original_cannot_be_guessed(wide: Bench) -> None:
    """The URL of a variant reveals the folder, so the name of the original has 128 random bits of its own."""
    for number in range(20):
        wide.upload(f"dream {number}")
    async with wide.running():
        await soon(lambda: wide.all_are(COMPLETED))
    names = set()
    for dream in wide.jobs.dreams.values():
        image = dream.images[0]
        assert image.original is not None
        folder, _, name = image.original.rpartition("/")
        assert folder == image.folder
        assert name.startswith("original-") and name.endswith(".jpg")
        secret = name.removeprefix("original-").removesuffix(".jpg")
        assert len(bytes.fromhex(secret)) == 16
        assert not [key for key in image.keys if secret in key and key != image.original]
        names.add(secret)
    assert len(names) == 20


@in_fake_time
async def test_originals_are_kept_only_where_the_settings_say_so(bench: Bench) -> None:
    """Else the upload is removed once its variants are stored."""
    bench.upload("dream")
    async with bench.running(keep_originals=False):
        await soon(lambda: bench.all_are(COMPLETED))
        assert bench.jobs.image("dream").original is None
        assert sorted(bench.files.contents.values()) == [b"2048", b"320"]
        assert bench.leftovers() == []


# ---- whose turn it is


@in_fake_time
async def test_owners_are_served_in_turn(bench: Bench) -> None:
    """Many photos of one person do not hold up the one of another."""
    bench.upload("a", "ada", *[an_image(number, sha256=f"{number}") for number in range(1, 6)])
    bench.upload("b", "bob")
    bench.upload("c", "ada")
    async with bench.running():
        await soon(lambda: bench.all_are(COMPLETED))
    assert bench.workers.rendered[:2] == ["a-1", "b-1"]
    assert bench.workers.rendered[2:] == ["a-2", "a-3", "a-4", "a-5", "c-1"]


@in_fake_time
async def test_a_hint_is_kept_until_nothing_is_queued(bench: Bench) -> None:
    """Without a look at the whole queue, each dream that was named gets its turn, and none is asked for again."""
    async with bench.running() as pipeline:
        bench.upload("a", "ada", an_image(1, sha256="1"), an_image(2, sha256="2"))
        bench.upload("b")
        bench.jobs.calls.clear()
        pipeline.wake("ada", "a")
        pipeline.wake("ada", "b")
        began = asyncio.get_running_loop().time()
        await soon(lambda: bench.all_are(COMPLETED), within=RESCAN / 2)
        assert asyncio.get_running_loop().time() - began < 4
        await asyncio.sleep(1)
        assert bench.jobs.calls.count("claim") <= 4, "one for each image, and for a hint that came too late"


@in_fake_time
async def test_work_without_a_hint_is_found_within_15_seconds(bench: Bench) -> None:
    """As after a write by another process."""
    async with bench.running():
        bench.upload("dream")
        await asyncio.sleep(RESCAN - 0.1)
        assert bench.state("dream") is QUEUED
        await asyncio.sleep(2)
        assert bench.state("dream") is COMPLETED


@in_fake_time
async def test_an_owners_oldest_dream_comes_first(bench: Bench) -> None:
    """In whichever order the hints came; ids of dreams ascend in time."""
    async with bench.running() as pipeline:
        for name in ("c", "a", "b"):
            bench.upload(name)
            pipeline.wake("ada", name)
        await soon(lambda: bench.all_are(COMPLETED))
    assert bench.workers.rendered == ["a-1", "b-1", "c-1"]


# ---- how much at once


@in_fake_time
async def test_as_many_are_rendered_at_once_as_there_are_workers(wide: Bench) -> None:
    """No fewer, and no more: those would hold a lease while they wait."""
    for number in range(9):
        wide.upload(f"dream {number}", f"owner {number}")
    async with wide.running():
        await asyncio.sleep(0.5)
        assert [state for _, _, state in wide.jobs.states] == [RENDERING] * 3
        await soon(lambda: wide.all_are(COMPLETED))
        assert asyncio.get_running_loop().time() < 3.2
    assert wide.workers.most_running == 3


@in_fake_time
async def test_rendering_goes_on_while_images_are_stored(wide: Bench) -> None:
    """A slow storage has several at once, and the images in hand are bounded."""
    wide.files.seconds["put"] = 20.0
    for number in range(40):
        wide.upload(f"dream {number}")
    async with wide.running():
        await asyncio.sleep(15)
        bound = 3 + STORING * 3
        assert len(wide.workers.rendered) == bound
        assert [wide.state(f"dream {number}") for number in range(40)].count(QUEUED) == 40 - bound
        await soon(lambda: wide.all_are(COMPLETED), within=200)


@in_fake_time
async def test_one_worker_stores_8_at_once(bench: Bench) -> None:
    """A distant storage is worth more at once than one processor renders."""
    bench.files.seconds["put"] = 100.0
    for number in range(12):
        bench.upload(f"dream {number}")
    async with bench.running():
        await asyncio.sleep(50)
        assert [bench.state(f"dream {number}") for number in range(12)].count(NAMED) == 9
        bench.drain = 0.0


@in_fake_time
async def test_images_in_progress_are_counted(bench: Bench) -> None:
    """How many are rendered, and how many are stored, for the metrics."""
    bench.files.seconds["put"] = 5.0
    bench.upload("a", "ada")
    bench.upload("b", "bob")
    async with bench.running() as pipeline:
        await asyncio.sleep(0.5)
        assert pipeline.in_progress() == (1, 0)
        await asyncio.sleep(1)
        assert pipeline.in_progress() == (1, 1)
        await soon(lambda: bench.all_are(COMPLETED))
        assert pipeline.in_progress() == (0, 0)


ERRORS = [Unavailable("The database does not answer."), NoSpace("Its disk is full."), ValueError("of no kind we know")]


@pytest.mark.parametrize("error", ERRORS)
@in_fake_time
async def test_claims_that_fail_cost_no_render_permit(wide: Bench, error: Exception) -> None:
    """However many fail, as many images as before are rendered at once afterwards."""
    wide.jobs.errors["claim"] = [error] * 20
    for number in range(6):
        wide.upload(f"dream {number}", f"owner {number}")
    async with wide.running():
        await soon(lambda: wide.all_are(COMPLETED), within=600)
    assert wide.workers.most_running == 3


@in_fake_time
async def test_a_database_that_is_away_is_asked_once_a_second(wide: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """All lanes together, so that neither the database nor the log is flooded."""
    wide.jobs.errors["claim"] = [AWAY] * 1000
    wide.upload("dream")
    async with wide.running():
        await asyncio.sleep(10.5)
        assert wide.jobs.calls.count("claim") == 11
        assert [record.message for record in caplog.records] == [str(AWAY)] * 11
        assert PAUSE == 1.0


@pytest.mark.parametrize("failure", [died("crashed"), Rejected("corrupt", "not a picture"), OSError("disk")])
@in_fake_time
async def test_images_that_fail_cost_no_render_permit(wide: Bench, failure: Any) -> None:
    """Whatever ends a try, the next image takes its place."""
    wide.workers.results = [failure] * 6
    for number in range(12):
        wide.upload(f"dream {number}", f"owner {number}")
    async with wide.running():
        await soon(lambda: all(wide.state(f"dream {n}") in (COMPLETED, FAILED) for n in range(12)))
        wide.workers.most_running = 0
        for number in range(12, 18):
            wide.upload(f"dream {number}", f"owner {number}")
        await asyncio.sleep(RESCAN + 5)
        assert wide.state("dream 17") is COMPLETED
    assert wide.workers.most_running == 3


# ---- what goes wrong


@in_fake_time
async def test_a_picture_that_cannot_be_rendered_fails_at_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Trying again would not help, so the upload stays for the person to look at."""
    caplog.set_level(logging.INFO)
    bench.workers.results = [Rejected("corrupt", "SyntaxError")]
    bench.upload("dream")
    async with bench.running():
        await soon(lambda: bench.all_are(FAILED))
        image = bench.jobs.image("dream")
        assert (image.error, image.attempt, image.staged) == ("corrupt", 1, "dream-1")
        assert bench.files.contents == {}
        assert bench.leftovers() == ["dream-1"]
    assert "dream=dream image=1 attempt=1 failed for good: corrupt (SyntaxError)" in caplog.messages


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (died("crashed"), "crashed"),
        (died("timed_out"), "timed_out"),
        (Rejected("out_of_memory", "MemoryError"), "out_of_memory"),
        (RuntimeError("nobody thought of this"), "crashed"),
    ],
)
@in_fake_time
async def test_what_may_pass_is_tried_three_times(bench: Bench, failure: Any, code: str) -> None:
    """After a second, after eight more, and then no more."""
    bench.workers.results = [failure] * 3
    bench.upload("dream")
    async with bench.running():
        await asyncio.sleep(1.5)
        assert (bench.state("dream"), bench.jobs.image("dream").attempt) == (QUEUED, 2)
        await soon(lambda: bench.all_are(FAILED))
        taken = asyncio.get_running_loop().time()
        assert sum(pause.total_seconds() for pause in PAUSES) + 3 < taken < 12.5
        image = bench.jobs.image("dream")
        assert (image.error, image.attempt) == (code, 3)


@in_fake_time
async def test_the_second_try_succeeds_without_a_look_at_the_queue(bench: Bench) -> None:
    """The pipeline wakes itself when the pause is over."""
    bench.workers.results = [died()]
    bench.upload("dream")
    async with bench.running():
        await soon(lambda: bench.all_are(COMPLETED), within=RESCAN / 2)
        assert bench.jobs.image("dream").attempt == 2
        assert asyncio.get_running_loop().time() < 3.2


@in_fake_time
async def test_a_missing_upload_is_lost(bench: Bench) -> None:
    """No worker is bothered with it."""
    bench.upload("dream")
    bench.staging.remove("dream-1")
    async with bench.running():
        await soon(lambda: bench.all_are(FAILED))
        assert bench.jobs.image("dream").error == "upload_lost"
        assert bench.workers.most_running == 0


@pytest.mark.parametrize("method", ["equal_image", "store", "complete"])
@pytest.mark.parametrize("error", [AWAY, NoSpace("Its disk is full.")])
@in_fake_time
async def test_what_must_be_recorded_is_repeated(bench: Bench, method: str, error: Exception) -> None:
    """A database that is away for a while costs no second rendering."""
    bench.jobs.errors[method] = [error] * 5
    bench.upload("dream")
    async with bench.running():
        await soon(lambda: bench.all_are(COMPLETED))
        assert asyncio.get_running_loop().time() > 6
        assert bench.jobs.image("dream").attempt == 1
        assert bench.workers.rendered == ["dream-1"]


@in_fake_time
async def test_a_failure_is_recorded_even_if_the_database_is_away(bench: Bench) -> None:
    """Otherwise the image would be processing until its lease expires."""
    bench.workers.results = [Rejected("corrupt", "")]
    bench.jobs.errors["fail"] = [AWAY] * 5
    bench.upload("dream")
    async with bench.running():
        await soon(lambda: bench.all_are(FAILED), within=RESCAN / 2)


@in_fake_time
async def test_an_unexpected_error_costs_one_image_its_try(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback, and other images go on."""
    bench.jobs.errors["store"] = [KeyError("nobody thought of this")]
    bench.upload("dream")
    bench.upload("other")
    async with bench.running():
        await soon(lambda: bench.all_are(COMPLETED))
    assert bench.jobs.image("dream").attempt == 2
    assert bench.jobs.image("other").attempt == 1
    assert [record.message for record in caplog.records if record.exc_info] == ["dream=dream image=1: unexpected"]


# ---- a storage that is away


@in_fake_time
async def test_a_storage_that_is_away_is_waited_for(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The rendered files are kept, the lease is renewed, and the pauses grow to a quarter of a minute."""
    bench.files.errors["put"] = [AWAY] * 30
    bench.upload("dream")
    async with bench.running():
        await soon(lambda: bench.all_are(COMPLETED), within=600)
        taken = asyncio.get_running_loop().time()
    # Three files are put at once, ten tries each: 1 + 2 + 4 + 8 + 6 * 15 seconds, a quarter more or less.
    assert 0.75 * 105 < taken < 1.25 * 105 + 2
    assert MAX_PAUSE == 15.0
    assert (bench.jobs.image("dream").attempt, bench.workers.rendered) == (1, ["dream-1"])
    assert bench.jobs.calls.count("renew") >= 30
    assert [record.message for record in caplog.records] == [f"dream=dream image=1: waits: {AWAY}"] * 3


@pytest.mark.parametrize("error", [AWAY, NoSpace("The disk is full.")])
@in_fake_time
async def test_files_that_cannot_be_stored_fail_the_try(bench: Bench, error: Exception) -> None:
    """A full disk, or a file that is gone while it waits: once all puts have ended, the image is tried again."""
    bench.upload("dream")
    bench.files.errors["put"] = [error]

    def lose(key: str) -> None:
        for path in bench.work.rglob(key.rpartition("/")[2]):
            path.unlink()
        bench.files.before_put = lambda key: None

    bench.files.before_put = lose
    async with bench.running():
        await soon(lambda: bench.jobs.image("dream").attempt == 2)
        assert len(bench.jobs.unreferenced) == 3
        assert bench.files.putting == 0
        assert set(bench.files.contents) <= set(bench.jobs.unreferenced)
        await soon(lambda: bench.all_are(COMPLETED))
        assert bench.jobs.image("dream").attempt == 2


@in_fake_time
async def test_no_put_is_under_way_when_a_failure_is_recorded(bench: Bench) -> None:
    """A file that comes later would be nobody's."""
    bench.upload("dream")
    bench.files.seconds["put"] = 5.0
    full: list[Exception] = [NoSpace("The disk is full.")]

    def first_fails(key: str) -> None:
        if full:
            raise full.pop()

    bench.files.before_put = first_fails
    async with bench.running():
        await soon(lambda: bench.jobs.image("dream").attempt == 2)
        assert bench.files.putting == 0
        assert len(bench.files.contents) == 2
        assert set(bench.files.contents) < set(bench.jobs.unreferenced)


@in_fake_time
async def test_an_unexpected_error_of_the_storage_is_a_crash(bench: Bench) -> None:
    """It is not taken for an outage, so the image does not wait for ever."""
    bench.files.errors["put"] = [RuntimeError("of no kind we know")] * 9
    bench.upload("dream")
    async with bench.running():
        await soon(lambda: bench.all_are(FAILED))
        assert bench.jobs.image("dream").error == "crashed"


# ---- equal uploads


@in_fake_time
async def test_an_equal_upload_shares_the_files(bench: Bench) -> None:
    """It is neither rendered nor stored, and keeps its own id and format."""
    bench.upload("first", "ada", an_image(1, sha256="same"))
    async with bench.running():
        await soon(lambda: bench.all_are(COMPLETED))
        before = dict(bench.files.contents)
        bench.upload("second", "ada", an_image(7, sha256="same", format="PNG"))
        await soon(lambda: bench.all_are(COMPLETED))
        first, second = bench.jobs.image("first"), bench.jobs.image("second", 7)
        assert (second.folder, second.variants, second.original) == (first.folder, first.variants, first.original)
        assert (second.format, second.width, second.staged) == ("PNG", 4000, None)
        assert bench.files.contents == before
        assert bench.workers.rendered == ["first-1"]
        assert bench.leftovers() == []


@pytest.mark.parametrize("settings", [{"quality": 90}, {"format": "webp"}, {"effort": 3}, {"keep_originals": False}])
@in_fake_time
async def test_other_settings_make_other_files(bench: Bench, settings: dict[str, Any]) -> None:
    """Files that were made in another way are not shared."""
    bench.upload("first", "ada", an_image(1, sha256="same"))
    async with bench.running():
        await soon(lambda: bench.all_are(COMPLETED))
    bench.upload("second", "ada", an_image(1, sha256="same"))
    async with bench.running(**settings):
        await soon(lambda: bench.all_are(COMPLETED))
    assert bench.jobs.image("first").folder != bench.jobs.image("second").folder
    assert bench.workers.rendered == ["first-1", "second-1"]


@in_fake_time
async def test_an_equal_image_that_is_deleted_meanwhile_is_not_relied_on(bench: Bench) -> None:
    """Its files may be gone, so the second upload is queued again, loses no try, and is rendered by itself."""
    bench.upload("first", "ada", an_image(1, sha256="same"))
    async with bench.running():
        await soon(lambda: bench.all_are(COMPLETED))
        first = bench.jobs.image("first")
        bench.jobs.seconds["store"] = 1.0
        bench.upload("second", "ada", an_image(1, sha256="same"))
        await soon(lambda: bench.jobs.calls.count("store") == 2)
        del bench.jobs.dreams["first"]
        await soon(lambda: bench.all_are(COMPLETED))
        second = bench.jobs.image("second")
        assert second.folder != first.folder
        assert second.attempt == 1
        assert bench.files.calls.count("delete") == 0, "the files of the first are the janitor's"
        assert bench.workers.rendered == ["first-1", "second-1"]


@in_fake_time
async def test_another_equal_image_is_not_the_one_that_was_named(bench: Bench) -> None:
    """Equal uploads may have two sets of files; that one is still there says nothing of the other."""
    bench.upload("first", "ada", an_image(1, sha256="same"))
    async with bench.running():
        await soon(lambda: bench.all_are(COMPLETED))
        first = bench.jobs.image("first")
        bench.jobs.seconds["store"] = 1.0
        bench.upload("second", "ada", an_image(1, sha256="same"))
        await soon(lambda: bench.jobs.calls.count("store") == 2)
        fields = _fields(first) | {"folder": "elsewhere"}
        bench.jobs.dreams["first"] = a_dream("first", "ada", an_image(**fields))
        await soon(lambda: bench.all_are(COMPLETED))
        assert bench.jobs.image("second").folder == "elsewhere"


@in_fake_time
async def test_files_that_are_shared_survive_the_deletion_of_the_second_image(bench: Bench) -> None:
    """They belong to the first one too."""
    bench.upload("first", "ada", an_image(1, sha256="same"))
    async with bench.running():
        await soon(lambda: bench.all_are(COMPLETED))
        bench.jobs.seconds["complete"] = 1.0
        bench.upload("second", "ada", an_image(1, sha256="same"))
        await soon(lambda: bench.state("second") is NAMED)
        del bench.jobs.dreams["second"]
        await asyncio.sleep(3)
        assert len(bench.files.contents) == 3
        assert "delete" not in bench.files.calls


# ---- deletions


@in_fake_time
async def test_an_image_deleted_while_it_is_rendered_is_not_stored(bench: Bench) -> None:
    """Nothing is put, so nothing has to be removed."""
    bench.upload("dream")
    async with bench.running():
        await asyncio.sleep(0.5)
        del bench.jobs.dreams["dream"]
        await asyncio.sleep(3)
        assert bench.files.calls == []
        assert bench.leftovers() == ["dream-1"], "the janitor removes the upload"


@in_fake_time
async def test_an_image_deleted_while_it_is_stored_leaves_no_file(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """The janitor may have looked before the last file was put."""
    caplog.set_level(logging.INFO)
    bench.files.seconds["put"] = 1.0
    bench.files.errors["delete"] = [AWAY]
    bench.upload("dream")
    async with bench.running():
        await soon(lambda: bench.state("dream") is NAMED)
        del bench.jobs.dreams["dream"]
        await soon(lambda: len(bench.files.contents) == 3)
        await soon(lambda: not bench.files.contents)
    assert "dream=dream image=1: it was deleted while it was processed" in caplog.messages


@in_fake_time
async def test_an_image_deleted_while_it_waits_for_the_storage_is_given_up(bench: Bench) -> None:
    """The files that were put before are removed."""
    bench.upload("dream")
    bench.files.errors["put"] = [AWAY]
    async with bench.running():
        await soon(lambda: len(bench.files.contents) == 2)
        del bench.jobs.dreams["dream"]
        await soon(lambda: not bench.files.contents)
        await asyncio.sleep(30)
        assert bench.files.calls.count("put") == 3


# ---- start


@in_fake_time
async def test_a_start_takes_up_what_an_earlier_run_left(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Its own leases cost a try, for the picture may have brought the server down; another server's stay."""
    leased = {"state": RENDERING, "lease_until": EPOCH + timedelta(hours=1)}
    bench.upload("ours", "ada", an_image(1, lease_owner="here/1", **leased))
    bench.upload("theirs", "ada", an_image(1, lease_owner="there/1", **leased))
    bench.upload("queued", "bob")
    (bench.work / "half done").mkdir(parents=True)
    async with bench.running():
        assert list(bench.work.iterdir()) == []
        assert (bench.state("ours"), bench.jobs.image("ours").attempt) == (QUEUED, 2)
        await soon(lambda: bench.state("ours") is bench.state("queued") is COMPLETED, within=RESCAN / 2)
        assert bench.state("theirs") is RENDERING
    assert bench.work.stat().st_mode & 0o777 == 0o700
    assert "failed again in 1 s: crashed (an earlier run of the server left it)" in caplog.text


# ---- leases


@in_fake_time
async def test_leases_are_renewed_while_images_are_in_hand(bench: Bench) -> None:
    """However long rendering takes, nobody else takes the image."""
    bench.workers.seconds = 3 * LEASE_SECONDS
    bench.upload("dream")
    async with bench.running():
        for _ in range(20):
            await asyncio.sleep(LEASE_SECONDS / 8)
            until = bench.jobs.image("dream").lease_until
            assert until is not None
            assert until > now() + LEASE / 2
        await soon(lambda: bench.all_are(COMPLETED), within=LEASE_SECONDS)
        assert bench.jobs.image("dream").attempt == 1
        bench.jobs.calls.clear()
        await asyncio.sleep(LEASE_SECONDS)
        assert "renew" not in bench.jobs.calls, "it is in hand no more"


@in_fake_time
async def test_a_lease_that_cannot_be_renewed_in_time_costs_nothing(bench: Bench) -> None:
    """After a laptop's sleep every lease has expired, and what is in hand goes on."""
    bench.workers.seconds = 2 * LEASE_SECONDS
    bench.jobs.errors["renew"] = [AWAY] * 1000
    bench.upload("dream")
    async with bench.running():
        await soon(lambda: bench.all_are(COMPLETED), within=3 * LEASE_SECONDS)
        assert bench.jobs.image("dream").attempt == 1
        assert bench.jobs.calls.count("renew") >= 6


@in_fake_time
async def test_an_expired_lease_of_another_server_costs_its_image_a_try(bench: Bench) -> None:
    """That server has crashed, so this one takes the image."""
    lease = {"state": RENDERING, "lease_owner": "there/1", "lease_until": EPOCH + timedelta(seconds=20)}
    bench.upload("dream", "ada", an_image(1, **lease))
    async with bench.running():
        await asyncio.sleep(RESCAN + 1)
        assert bench.state("dream") is RENDERING
        await soon(lambda: bench.all_are(COMPLETED))
        assert bench.jobs.image("dream").attempt == 2


# ---- stop


@in_fake_time
async def test_a_stop_lets_images_in_hand_end(wide: Bench) -> None:
    """Both that are rendered and that are stored; no other is begun."""
    wide.files.seconds["put"] = 4.0
    for number in range(9):
        wide.upload(f"dream {number}", f"owner {number}")
    async with wide.running():
        await asyncio.sleep(1.5)
    states = [wide.state(f"dream {number}") for number in range(9)]
    assert (states.count(COMPLETED), states.count(QUEUED)) == (6, 3)
    assert asyncio.get_running_loop().time() < 7
    assert wide.leftovers() == ["dream 6-1", "dream 7-1", "dream 8-1"]


@in_fake_time
async def test_a_stop_hands_back_what_takes_too_long(wide: Bench) -> None:
    """Back in the queue, with the try not counted and no file left that no dream names."""
    wide.drain = 2.0
    wide.workers.seconds = 1.0
    wide.files.seconds["put"] = 100.0
    wide.upload("stored", "ada")
    async with wide.running():
        await soon(lambda: wide.state("stored") is NAMED)
        wide.workers.seconds = 100.0
        wide.upload("rendered", "bob")
        await soon(lambda: wide.state("rendered") is RENDERING)
        began = asyncio.get_running_loop().time()
    assert 2.0 <= asyncio.get_running_loop().time() - began < 2.1
    assert wide.all_are(QUEUED)
    for name in ("stored", "rendered"):
        image = wide.jobs.image(name)
        assert (image.attempt, image.lease_owner, image.variants) == (1, None, {})
    assert len(wide.jobs.unreferenced) == 3
    assert wide.leftovers() == ["rendered-1", "stored-1"]


@in_fake_time
async def test_an_idle_pipeline_stops_at_once(wide: Bench) -> None:
    """Nobody waits for the end of the drain."""
    pipeline = wide.pipeline()
    await pipeline.__aenter__()
    await asyncio.sleep(1)
    assert await ends(pipeline.__aexit__(), within=30) < 0.1


@in_fake_time
async def test_a_claim_that_a_stop_cuts_off_leaves_no_lease(bench: Bench) -> None:
    """Its answer is waited for, because the database carries it out all the same."""
    bench.drain = 0.0
    bench.jobs.seconds["claim"] = 3.0
    bench.upload("dream")
    async with bench.running():
        await asyncio.sleep(1)
    assert [state for _, _, state in bench.jobs.states] == [RENDERING, QUEUED]
    assert bench.jobs.image("dream").lease_owner is None


@in_fake_time
async def test_a_claim_that_finds_nothing_may_be_cut_off_too(bench: Bench) -> None:
    """Then there is no lease to release."""
    bench.drain = 0.0
    bench.jobs.seconds["claim"] = 3.0
    async with bench.running() as pipeline:
        pipeline.wake("ada")
        await asyncio.sleep(1)
    assert bench.jobs.states == []


@in_fake_time
async def test_a_claim_that_fails_during_the_stop_does_not_hold_it_up(bench: Bench) -> None:
    """A database that goes away in that moment once kept the server from ever ending."""
    bench.drain = 0.0
    bench.jobs.seconds["claim"] = 3.0
    bench.jobs.errors["claim"] = [AWAY] * 100
    bench.upload("dream")
    pipeline = bench.pipeline()
    await pipeline.__aenter__()
    await asyncio.sleep(1)
    assert await ends(pipeline.__aexit__(), within=60) < 3


@in_fake_time
async def test_images_are_claimed_no_more_during_a_stop(bench: Bench) -> None:
    """A retry or an upload in its last moments waits for the next start."""
    bench.upload("dream")
    pipeline = bench.pipeline()
    await pipeline.__aenter__()
    await asyncio.sleep(0.5)
    stopping = asyncio.create_task(pipeline.__aexit__())
    await asyncio.sleep(0.1)
    bench.upload("late")
    pipeline.wake("ada", "late")
    await stopping
    assert (bench.state("dream"), bench.state("late")) == (COMPLETED, QUEUED)


@in_fake_time
async def test_leases_are_renewed_during_a_stop(bench: Bench) -> None:
    """A long drain is no reason to lose what it waits for."""
    bench.drain = 3 * LEASE_SECONDS
    bench.workers.seconds = 2 * LEASE_SECONDS
    bench.upload("dream")
    async with bench.running():
        await asyncio.sleep(1)
    assert bench.state("dream") is COMPLETED
    assert bench.jobs.calls.count("renew") == 8


@in_fake_time
async def test_a_stop_without_a_database_ends(bench: Bench) -> None:
    """The next start takes the image back."""
    bench.drain = 0.0
    bench.workers.seconds = 100.0
    bench.jobs.errors["release"] = [AWAY] * 9
    bench.upload("dream")
    pipeline = bench.pipeline()
    await pipeline.__aenter__()
    await asyncio.sleep(1)
    assert await ends(pipeline.__aexit__(), within=60) < 0.1
    assert bench.state("dream") is RENDERING
    assert bench.leftovers() == ["dream-1"]


@in_fake_time
async def test_a_failure_that_cannot_be_recorded_is_handed_back_at_a_stop(bench: Bench) -> None:
    """A database that comes back just then gets the image without a lease."""
    bench.drain = 0.0
    bench.workers.results = [died()]
    bench.jobs.errors["fail"] = [AWAY] * 1000
    bench.upload("dream")
    async with bench.running():
        await asyncio.sleep(5)
    assert (bench.state("dream"), bench.jobs.image("dream").lease_owner) == (QUEUED, None)
