"""`move-media` and `orphans`: the stored files of images, while the server runs or not."""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import click

import config
from commands.offline import Offline, offline
from commands.options import cli_errors, config_option, data_option
from config import Config
from processing.janitor import orphans
from processing.mover import Mover, exclusive_lock
from storage.data_folder import CannotStart


@click.command("move-media")
@click.option("--to", required=True, type=click.Choice(["local", "oss"]), help="The storage to move the images to.")
@config_option
@data_option
def move_command(to: str, file: Path | None, data: str | None) -> None:
    """Move all images to one storage.

    The server may keep running. To continue an interrupted move, run the command again.
    """
    with cli_errors():
        mover = asyncio.run(_move(config.load(file, data=data), to))
    if mover.problems:
        click.echo("\n".join(["These images stay where they are:", *(f"  {problem}" for problem in mover.problems)]))
        sys.exit(1)


async def _move(settings: Config, to: str) -> Mover:
    async with offline(settings) as parts:
        _require_store(parts, to)
        if settings.storage.backend != to:
            click.echo(
                f"New images still go to {settings.storage.backend}. Change storage.backend and restart the server."
            )
        with exclusive_lock(settings.data / "moving") as folder:
            mover = Mover(references=parts.references, files=parts.files, to=to, folder=folder)
            await _move_all(mover)
        click.echo(f"Images moved to {to}: {mover.images}.")
        if mover.images:
            days = parts.files.life / 86_400
            click.echo(f"The server removes their old files in {days:.1f} days, when every URL of them has expired.")
    return mover


def _require_store(parts: Offline, to: str) -> None:
    """Raise `CannotStart` if the server could not read the moved images."""
    running = parts.data_folder.running_stores
    if to not in parts.files.stores:
        raise CannotStart("OSS is not set up in the settings. See the section storage in config.yaml.")
    if running and to not in running:
        raise CannotStart("OSS is not set up in the running server. Restart it with the settings of this command.")


async def _move_all(mover: Mover) -> None:
    """Move all images, also those that are completed during the move."""
    seen: set[str | None] = set()
    while sets := [each for each in await mover.waiting() if each[1].folder not in seen]:
        seen |= {image.folder for _, image in sets}
        with click.progressbar(length=len(sets), label="Moving", show_pos=True) as bar:
            await mover.move(sets, lambda: bar.update(1))


def _hours(context: click.Context, parameter: click.Parameter, value: float) -> float:
    if not value >= 0:  # so written, it is also true of nan
        raise click.BadParameter("must be a number of hours, 0 or more.")
    return value


@click.command("orphans")
@click.option("--delete", is_flag=True, help="Remove the files instead of only listing them.")
@click.option(
    "--older-than",
    default=24.0,
    show_default=True,
    callback=_hours,
    help="Minimum age in hours; the dream of a younger file may not be written yet.",
)
@config_option
@data_option
def orphans_command(delete: bool, older_than: float, file: Path | None, data: str | None) -> None:
    """List stored files that belong to no dream. A killed server may leave some."""
    with cli_errors():
        asyncio.run(_orphans(config.load(file, data=data), delete=delete, hours=older_than))


async def _orphans(settings: Config, *, delete: bool, hours: float) -> None:
    count = 0
    async with offline(settings) as parts, AsyncExitStack() as stack:
        if delete:  # copies of a move look like orphans until a dream names them
            stack.enter_context(exclusive_lock(settings.data / "moving"))
        async for keys in orphans(parts.references, parts.files, older_than=3600 * hours):
            count += len(keys)
            for key in keys:
                click.echo(key)
            if delete:
                await parts.files.delete(keys)
    click.echo(f"Orphaned files removed: {count}." if delete else f"Orphaned files: {count}. --delete removes them.")
