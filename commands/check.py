"""`check`: tests everything that a server needs."""

import asyncio
import sys
from pathlib import Path

import click

import config
from commands.options import cli_errors, config_option, data_option
from config import Config
from processing.checks import run_checks
from storage.data_folder import DataFolder


@click.command("check")
@config_option
@data_option
def check_command(file: Path | None, data: str | None) -> None:
    """Test the settings, the database, the workers and the storage. The exit code is 1 if one of them fails."""
    with cli_errors():
        settings = config.load(file, data=data)
        source = file or config.DEFAULT_FILE
        _report(True, "settings", f"from {source} and the environment; the data folder is {settings.data}")
        sys.exit(0 if asyncio.run(_check(settings)) else 1)


async def _check(settings: Config) -> bool:
    all_good = True
    with DataFolder(settings, allow_running=True) as data_folder:
        async for finding in run_checks(settings, data_folder):
            _report(finding.good, finding.part, finding.detail)
            all_good &= finding.good
    return all_good


def _report(good: bool, part: str, detail: str) -> None:
    click.echo(f"{'ok  ' if good else 'FAIL'}  {part:<16} {detail}")
