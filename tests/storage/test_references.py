"""Who names which files, in a real database: equal uploads, pending deletions, and moves to another storage."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from storage.dreams import Dreams
from storage.jobs import Jobs
from storage.model import Draft, Dream, Job, State
from storage.references import References
from tests.storage.conftest import (
    ADA,
    BOB,
    HERE,
    RECIPE,
    SECOND,
    Clock,
    Database,
    Published,
    a_round,
    claimed,
    completed,
    document,
    failed,
    made,
    pending,
    rendered,
    stored,
    upload,
    uploads,
)

# ---- equal uploads


@pytest.mark.gen_test
async def test_an_equal_image_is_completed_of_the_same_owner_and_recipe(
    dreams: Dreams, jobs: Jobs, references: References
) -> None:
    """An image of the same bytes is found with all its files."""
    same = upload().sha256
    await dreams.create(ADA, Draft(), [upload(), upload(sha256=same)])
    new = (await dreams.create(ADA, Draft(), [upload(sha256=same)])).images[0]
    assert await references.equal_image(ADA, new, RECIPE) is None
    await completed(jobs)
    assert await references.equal_image(ADA, new, RECIPE) is None
    named = await stored(jobs, await claimed(jobs))
    assert await references.equal_image(ADA, new, RECIPE) is None
    done = await jobs.complete(named)
    assert done is not None
    assert await references.equal_image(ADA, new, RECIPE) == done.image
    assert await references.equal_image(ADA, new, "another recipe") is None
    assert await references.equal_image(BOB, new, RECIPE) is None
    await dreams.remove_image(ADA, done.dream.id, done.image.id)
    assert await references.equal_image(ADA, new, RECIPE) is None


@pytest.mark.gen_test
async def test_a_deleted_dreams_image_is_equal_to_none(dreams: Dreams, jobs: Jobs, references: References) -> None:
    """Its files wait to be removed."""
    same = upload().sha256
    old = await dreams.create(ADA, Draft(), [upload(sha256=same)])
    new = (await dreams.create(ADA, Draft(), [upload(sha256=same)])).images[0]
    done = await completed(jobs)
    assert await references.equal_image(ADA, new, RECIPE) == done.image
    await dreams.delete(ADA, old.id)
    assert await references.equal_image(ADA, new, RECIPE) is None


@pytest.mark.gen_test
async def test_files_are_shared_while_a_living_image_names_them(
    dreams: Dreams, jobs: Jobs, references: References
) -> None:
    """From the moment an image of the same owner, bytes and folder names them, stored or not."""
    same = upload().sha256
    first = await dreams.create(ADA, Draft(), [upload(sha256=same)])
    old = (await completed(jobs, folder="f")).image
    await dreams.delete(ADA, first.id)
    assert not await references.is_shared(ADA, old)
    second = await dreams.create(ADA, Draft(), [upload(sha256=same)])
    job = await claimed(jobs)
    assert not await references.is_shared(ADA, old)
    await stored(jobs, job, "f")
    assert await references.is_shared(ADA, old)
    assert not await references.is_shared(BOB, old)
    assert not await references.is_shared(ADA, replace(old, folder="g"))
    assert not await references.is_shared(ADA, replace(old, sha256="0"))
    await dreams.remove_image(ADA, second.id, 1)
    assert not await references.is_shared(ADA, old)


@pytest.mark.gen_test
async def test_one_of_two_equal_images_that_completes_at_once_sees_the_other(
    dreams: Dreams, jobs: Jobs, references: References
) -> None:
    """A deletion gives up the files, then looks; an equal image names them, then looks. One sees the other."""
    for _ in range(10):
        same = upload().sha256
        first = await dreams.create(ADA, Draft(), [upload(sha256=same)])
        old = await completed(jobs, folder="f")
        await dreams.create(ADA, Draft(), [upload(sha256=same)])
        job = await claimed(jobs)

        async def share(job: Job = job) -> bool:
            await stored(jobs, job, "f")
            return await references.equal_image(ADA, job.image, RECIPE) is not None

        async def drop(first: Dream = first, old: Job = old) -> bool:
            await dreams.delete(ADA, first.id)
            return not await references.is_shared(ADA, old.image)

        is_there, is_removed = await asyncio.gather(share(), drop())
        assert not (is_there and is_removed)
        await jobs.fail(replace(job, image=rendered(job, "f", state=State.STORING)), "corrupt")


# ---- what the janitor asks


@pytest.mark.gen_test
async def test_nothing_is_to_be_swept_of_a_dream_that_is_whole(
    dreams: Dreams, jobs: Jobs, references: References
) -> None:
    """A dream that was created, worked on and edited has nothing to remove."""
    dream = await made(dreams, 3)
    await completed(jobs)
    await failed(jobs)
    await jobs.release(await claimed(jobs))
    await dreams.update(ADA, dream.id, {"title": "x"})
    assert await pending(references) == []


@pytest.mark.gen_test
async def test_a_removed_images_files_are_swept(
    dreams: Dreams, jobs: Jobs, references: References, database: Database, published: Published
) -> None:
    """Upload and variants are pending; once they are confirmed, no field is left, and nothing is published."""
    dream = await made(dreams, 2)
    done = await completed(jobs)
    await dreams.remove_image(ADA, dream.id, 1)
    await dreams.remove_image(ADA, dream.id, 2)
    published.clear()
    [(found, images)] = await pending(references)
    assert found == await dreams.get(ADA, dream.id)
    assert [image.id for image in images] == [1, 2]
    assert images[0] == done.image
    assert (images[1].staged, images[1].keys) == (dream.images[1].staged, [])
    await references.confirm_deletes(found, images)
    assert await pending(references) == []
    assert not {"trash", "sweep"} & set(await document(database, dream))
    assert published == []


@pytest.mark.gen_test
async def test_a_deleted_dream_is_swept_with_all_it_had(
    dreams: Dreams, jobs: Jobs, references: References, database: Database
) -> None:
    """Its images and those removed earlier are pending; once they are confirmed, the document is gone."""
    dream = await made(dreams, 3)
    await completed(jobs)
    await stored(jobs, await claimed(jobs))
    await dreams.remove_image(ADA, dream.id, 1)
    await dreams.delete(ADA, dream.id)
    [(found, images)] = await pending(references)
    assert found.deleted
    assert [image.id for image in images] == [1, 2, 3]
    assert [len(image.keys) for image in images] == [3, 3, 0]
    await references.confirm_deletes(found, images)
    assert await database["dreams"].count_documents({}) == 0


@pytest.mark.gen_test
async def test_of_a_swept_dream_its_key_is_left_for_a_day(
    dreams: Dreams, jobs: Jobs, references: References, database: Database
) -> None:
    """Nothing that the person wrote is left."""
    dream = await dreams.create(ADA, Draft(title="secret"), uploads(2), "key")
    await dreams.remove_image(ADA, dream.id, 1)
    await dreams.delete(ADA, dream.id)
    await a_round(references)
    left = await document(database, dream)
    assert set(left) == {"_id", "owner", "keys", "deleted", "expires_at", "last"}
    assert left["expires_at"] == dream.created_at + timedelta(days=1)
    assert await pending(references) == []
    assert await references.staged_names() == set()
    assert await jobs.owners_waiting() == []
    assert await jobs.expired(HERE) == []


@pytest.mark.gen_test
@pytest.mark.parametrize("end", ["released", "crashed", "corrupt"])
async def test_a_try_that_ends_while_storing_lets_go_of_its_files(
    dreams: Dreams, jobs: Jobs, references: References, database: Database, end: str
) -> None:
    """The files become pending deletions; the upload stays, because the next try needs it."""
    dream = await made(dreams)
    named = await stored(jobs, await claimed(jobs))
    done = await (jobs.release(named) if end == "released" else jobs.fail(named, end))
    assert done is not None
    assert (done.image.keys, done.image.folder, done.image.recipe) == ([], None, None)
    assert done.image.staged == dream.images[0].staged
    assert done.dream.sweep
    [(_, [image])] = await pending(references)
    assert (image.keys, image.folder, image.staged) == (named.image.keys, named.image.folder, None)
    assert (image.sha256, image.attempt) == (named.image.sha256, 1)
    await a_round(references)
    assert await pending(references) == []
    assert await dreams.get(ADA, dream.id) == replace(done.dream, sweep=False)


@pytest.mark.gen_test
async def test_what_is_let_go_of_during_a_round_is_left_for_the_next(
    dreams: Dreams, jobs: Jobs, references: References, database: Database
) -> None:
    """Also if it is of the same image and attempt: a round confirms exactly what it has removed."""
    await made(dreams)
    await jobs.release(await stored(jobs, await claimed(jobs), "first"))
    [(dream, images)] = await pending(references)
    await jobs.release(await stored(jobs, await claimed(jobs), "second"))
    await references.confirm_deletes(dream, images)
    [(dream, images)] = await pending(references)
    assert [image.folder for image in images] == ["second"]
    await dreams.delete(ADA, dream.id)
    await references.confirm_deletes(dream, images)
    [(dream, images)] = await pending(references)
    assert dream.deleted
    assert [image.folder for image in images] == [None]


@pytest.mark.gen_test
@pytest.mark.parametrize("trash", [[], None])
async def test_a_round_that_was_cut_short_ends_next_time(
    dreams: Dreams, references: References, database: Database, trash: list[Any] | None
) -> None:
    """A crash between the two updates of a confirmation leaves a dream without entries."""
    dream = await made(dreams)
    change = {"$set": {"sweep": True} | ({"trash": trash} if trash is not None else {})}
    await database["dreams"].update_one({"_id": ObjectId(dream.id)}, change)
    [(found, images)] = await pending(references)
    assert images == []
    await references.confirm_deletes(found, images)
    assert await pending(references) == []


@pytest.mark.gen_test
async def test_a_round_twice_is_a_round_once(dreams: Dreams, jobs: Jobs, references: References) -> None:
    """After a crash the janitor starts over."""
    await made(dreams)
    await jobs.release(await stored(jobs, await claimed(jobs)))
    await dreams.delete(ADA, (await made(dreams)).id)
    found = await pending(references)
    assert len(found) == 2
    for dream, images in found + found:
        await references.confirm_deletes(dream, images)
    assert await pending(references) == []


@pytest.mark.gen_test
async def test_staged_names_each_upload_that_is_still_needed(
    dreams: Dreams, jobs: Jobs, references: References
) -> None:
    """Until its image is completed or deleted; a failed one may be retried."""
    dream = await made(dreams, 4)
    names = [image.staged for image in dream.images]
    assert await references.staged_names() == set(names)
    await completed(jobs)
    await failed(jobs)
    await stored(jobs, await claimed(jobs))
    assert await references.staged_names() == set(names[1:])
    await dreams.remove_image(ADA, dream.id, 3)
    assert await references.staged_names() == {names[1], names[3]}
    await dreams.delete(ADA, dream.id)
    assert await references.staged_names() == {names[1], names[3]}
    await a_round(references)
    assert await references.staged_names() == set()


# ---- moving files to another storage


async def sets(references: References, pattern: str) -> list[tuple[str, str | None]]:
    return sorted([(owner, image.folder) async for owner, image in references.stored_sets(pattern)])


@pytest.mark.gen_test
async def test_each_set_of_files_is_found_once(dreams: Dreams, jobs: Jobs, references: References) -> None:
    """One for each folder of completed images that matches; equal uploads of one owner share one."""
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
    assert await sets(references, "^[^/]+$") == sorted([(ADA, "shared"), (BOB, "shared"), (ADA, "2")])
    assert await sets(references, "^oss/") == [(ADA, "oss/1")]
    assert await references.has_folder("oss/")
    assert not await references.has_folder("oss/2")
    assert await references.named_folders(["shared", "oss/1", "3", "4", "5"]) == {"shared", "oss/1", "3", "4"}


@pytest.mark.gen_test
async def test_a_move_names_the_new_files_and_keeps_the_old_for_a_while(
    dreams: Dreams, jobs: Jobs, references: References, clock: Clock
) -> None:
    """One update of each dream moves all images that share them; the old files are due after their time."""
    both = [await made(dreams, 2), await made(dreams, 1)]
    for _ in range(3):
        done = await completed(jobs, folder="old")
    theirs = await made(dreams, owner=BOB)
    await completed(jobs, BOB, folder="old")
    before = [await dreams.get(ADA, dream.id) for dream in both]
    assert await references.relocate(ADA, done.image, "oss/new", clock.now + 2 * SECOND) == 3
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
    assert await references.relocate(ADA, done.image, "oss/newer", clock.now) == 0, "nobody has the old ones any more"

    assert await pending(references) == [], "their addresses may be in use"
    assert await references.named_folders(["old", "oss/new"]) == {"old", "oss/new"}
    clock.now += 3 * SECOND
    found_trash = await pending(references)
    assert sorted(image.keys for _, images in found_trash for image in images) == [done.image.keys] * 3
    assert not [image for dream, images in found_trash for image in images if await references.is_shared(ADA, image)]
    await a_round(references)
    assert await pending(references) == []
    assert await references.named_folders(["old", "oss/new"]) == {"old", "oss/new"}, (
        "the old ones are another owner's still"
    )


@pytest.mark.gen_test
@pytest.mark.parametrize("what", ["image", "dream", "account"])
async def test_what_is_deleted_after_a_move_is_swept_from_both_places_at_once(
    dreams: Dreams, jobs: Jobs, references: References, clock: Clock, what: str
) -> None:
    """A deletion does not wait until URLs have ended."""
    dream = await made(dreams, 2)
    moving = await completed(jobs, folder="old")
    await completed(jobs, folder="other")
    await references.relocate(ADA, moving.image, "oss/new", clock.now + 9 * SECOND)
    if what == "image":
        await dreams.remove_image(ADA, dream.id, moving.image.id)
    elif what == "dream":
        await dreams.delete(ADA, dream.id)
    else:
        await dreams.delete_all(ADA)
    [(_, images)] = await pending(references)
    gone = {"old", "oss/new"} | ({"other"} if what != "image" else set())
    assert {image.folder for image in images} == gone
    await a_round(references)
    assert await pending(references) == []
    assert await references.named_folders(["old", "oss/new"]) == set()


@pytest.mark.gen_test
async def test_a_move_and_other_changes_at_once_lose_nothing(
    dreams: Dreams, jobs: Jobs, references: References, clock: Clock
) -> None:
    """A dream that changed meanwhile is read again."""
    dream = await made(dreams, 3)
    done = [await completed(jobs, folder=folder) for folder in ("a", "b")]

    async def writes() -> None:
        for number in range(20):
            await dreams.update(ADA, dream.id, {"title": str(number)})

    await asyncio.gather(
        writes(),
        *(references.relocate(ADA, job.image, f"oss/{job.image.folder}", clock.now) for job in done),
        dreams.remove_image(ADA, dream.id, 3),
    )
    found = await dreams.get(ADA, dream.id)
    assert [image.folder for image in found.images] == ["oss/a", "oss/b"]
    assert found.title == "19"


@pytest.mark.gen_test
async def test_an_equal_upload_during_a_move_keeps_its_files(
    dreams: Dreams, jobs: Jobs, references: References, clock: Clock
) -> None:
    """It names the old files first and then looks, so that the upload or the move sees the other."""
    first, second = upload(), upload()
    second = replace(second, sha256=first.sha256)
    await dreams.create(ADA, Draft(content="x"), [first, second])
    done = await completed(jobs, folder="old")
    late = await claimed(jobs)
    equal = await references.equal_image(ADA, late.image, RECIPE)
    assert equal is not None
    named = await jobs.store(late, replace(equal, id=late.image.id))
    assert named is not None
    assert await references.relocate(ADA, done.image, "oss/new", clock.now) == 1
    assert await references.is_shared(ADA, done.image), "the janitor leaves the old ones"
    again = await references.equal_image(ADA, late.image, RECIPE)
    assert again is not None
    assert again.folder != named.image.folder, "the second sees that they have moved, and begins anew"
