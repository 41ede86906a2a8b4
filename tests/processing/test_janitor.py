"""What the janitor removes and when, on a fake database and storage, in fake time; orphans also on a real database.

That nothing is left over after real uploads and crashes is tested in tests/journeys.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorDatabase

from processing.janitor import BATCH, EVERY, MAX_PAUSE, PAUSE, UPLOAD_LIFE, Janitor, orphans
from storage.errors import NoSpace, Unavailable
from storage.references import References as RealReferences
from storage.writes import Writes
from tests.fake_time import in_fake_time, soon
from tests.processing.fakes import Files, References, Staging, a_dream, an_image, put_files_of, stored_image

AWAY = Unavailable("It does not answer.")


class Bench:
    """A janitor with everything it works with."""

    def __init__(self) -> None:
        self.references, self.files, self.staging = References(), Files(), Staging()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Janitor]:
        references: Any = self.references
        files: Any = self.files
        staging: Any = self.staging
        async with Janitor(references=references, files=files, staging=staging) as janitor:
            yield janitor

    def delete(self, name: str, *images: Any) -> None:
        """A dream with files to remove."""
        self.references.pending.append((a_dream(name), list(images)))
        for image in images:
            put_files_of(self.files, image)

    @property
    def rounds(self) -> int:
        return self.references.calls.count("pending_deletes")


@pytest.fixture
def bench() -> Bench:
    return Bench()


@in_fake_time
async def test_files_without_a_reference_are_removed_and_confirmed(bench: Bench) -> None:
    """Those of several images at once, and the upload of one that was never rendered."""
    bench.staging.uploads = {"upload-3": 0.0}
    bench.references.staged = {"upload-3"}
    bench.delete("dream", stored_image("a", 1), stored_image("b", 2), an_image(3))
    async with bench.running():
        await soon(lambda: bench.references.confirmed)
    assert bench.references.confirmed == [("dream", [1, 2, 3])]
    assert bench.files.contents == {}
    assert bench.staging.uploads == {}
    assert bench.files.calls == ["delete", "delete"], "an image without files costs no call of the storage"


@in_fake_time
async def test_files_that_another_image_uses_stay(bench: Bench) -> None:
    """The name is removed all the same: the files are the other image's now."""
    bench.references.shared = {"a"}
    bench.delete("dream", stored_image("a"))
    async with bench.running():
        await soon(lambda: bench.references.confirmed)
    assert len(bench.files.contents) == 3
    assert bench.files.calls == []


@in_fake_time
async def test_what_could_not_be_removed_is_not_confirmed(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The janitor tries again after 5, 10, 20, 40 and then 60 seconds, and begins with 5 after a success."""
    bench.files.errors["delete"] = [AWAY] * 6
    bench.delete("dream", stored_image("a"))
    loop = asyncio.get_running_loop()
    async with bench.running() as janitor:
        await asyncio.sleep(1)
        assert bench.references.confirmed == []
        await soon(lambda: bench.references.confirmed, within=600)
        assert loop.time() == pytest.approx(5 + 10 + 20 + 40 + 60 + 60, abs=0.1)
        assert (PAUSE, MAX_PAUSE) == (5.0, 60.0)
        bench.files.errors["delete"] = [NoSpace("The disk is full.")]
        bench.delete("next", stored_image("b"))
        began = loop.time()
        janitor.wake()
        await soon(lambda: len(bench.references.confirmed) == 2)
        assert loop.time() - began == pytest.approx(PAUSE, abs=0.1)
    assert bench.files.contents == {}
    assert caplog.messages[0] == f"files remain to be removed: {AWAY}"
    assert len(caplog.messages) == 7


@in_fake_time
async def test_an_unexpected_error_does_not_end_the_janitor(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback, and the next round works."""
    bench.references.errors["pending_deletes"] = [KeyError("nobody thought of this")]
    bench.delete("dream", stored_image("a"))
    async with bench.running() as janitor:
        await asyncio.sleep(2 * PAUSE)
        assert [record.message for record in caplog.records if record.exc_info] == ["unexpected"]
        janitor.wake()
        await soon(lambda: bench.references.confirmed)


@in_fake_time
async def test_the_janitor_works_when_it_is_woken_and_once_an_hour(bench: Bench) -> None:
    """Else it costs nothing; files that were moved are due without anything that wakes it."""
    async with bench.running() as janitor:
        await asyncio.sleep(EVERY - 1)
        assert bench.rounds == 1
        await asyncio.sleep(2)
        assert bench.rounds == 2
        janitor.wake()
        janitor.wake()
        await asyncio.sleep(1)
        assert bench.rounds == 3
        await asyncio.sleep(EVERY)
        assert bench.rounds == 4


@in_fake_time
async def test_a_wake_during_a_round_is_not_lost(bench: Bench) -> None:
    """The dream that was deleted meanwhile is not in the answer that the round works on."""
    bench.references.seconds["pending_deletes"] = 2.0
    async with bench.running() as janitor:
        await asyncio.sleep(1)
        janitor.wake()
        await asyncio.sleep(4)
        assert bench.rounds == 2


@in_fake_time
async def test_at_the_start_no_upload_can_be_on_its_way(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What no dream needs is from a run that was cut short; later, an upload has a day to become a dream."""
    caplog.set_level(logging.INFO)
    bench.staging.uploads = {"cut off": 0.0, "queued": 1e6}
    bench.references.staged = {"queued"}
    async with bench.running() as janitor:
        assert bench.staging.uploads == {"queued": 1e6}
        assert caplog.messages == ["removed 1 unfinished uploads of an earlier run"]
        bench.staging.uploads |= {"on its way": UPLOAD_LIFE - 1, "forgotten": UPLOAD_LIFE}
        janitor.wake()
        await asyncio.sleep(1)
        assert set(bench.staging.uploads) == {"queued", "on its way"}
    assert len(caplog.messages) == 1


# ---- orphans


async def found(files: Files, references: Any, older_than: float = 86_400.0) -> list[str]:
    stored: Any = files
    return [key async for keys in orphans(references, stored, older_than=older_than) for key in keys]


@in_fake_time
async def test_an_orphan_is_old_and_in_a_folder_that_nobody_names() -> None:
    """A younger file may be named in a moment."""
    files, references = Files(), References()
    for folder in ("named", "old", "young"):
        put_files_of(files, stored_image(folder))
    files.at = {key: time.time() - (86_400 + 60 if key.startswith("old") else 86_400 - 60) for key in files.contents}
    files.at |= {key: 0.0 for key in files.contents if key.startswith("named")}
    references.named = {"named"}
    assert await found(files, references) == ["old/2048.jpg", "old/320.jpg", "old/original-x.jpg"]
    assert len(await found(files, references, older_than=0.0)) == 6


@in_fake_time
async def test_the_database_is_asked_about_many_folders_at_once() -> None:
    """But not about all of them, so that a million files take no more memory than a few hundred."""
    files, references = Files(), References()
    files.contents = {f"folder{number}/320.jpg": b"" for number in range(2 * BATCH + 3)}
    assert len(await found(files, references)) == 2 * BATCH + 3
    assert references.batches == [BATCH, BATCH, 3]


@pytest.mark.gen_test
async def test_files_pending_deletion_are_no_orphans(
    database: AsyncIOMotorDatabase[dict[str, Any]],
) -> None:
    """Files that were moved stay until no URL of them is valid: `orphans --delete` must not remove them earlier."""
    until = datetime.now(UTC) + timedelta(days=2)
    trash = [{"id": 1, "attempt": 1, "folder": "moved away", "until": until}, {"id": 2, "folder": "failed"}]
    living = {"_id": ObjectId(), "owner": ObjectId(), "images": [{"id": 1, "folder": "oss/here"}], "trash": trash}
    await database["dreams"].insert_one(living)
    files = Files()
    for folder in ("moved away", "failed", "oss/here", "nobody's"):
        put_files_of(files, stored_image(folder))
    references = RealReferences(database, writes=Writes(database, changed=lambda *_: None))
    assert {key.rpartition("/")[0] for key in await found(files, references)} == {"nobody's"}
