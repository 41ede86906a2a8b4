"""How a command reports an error, and the options that commands share."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from commands.options import cli_errors, config_option, data_option
from config import ConfigError
from storage.data_folder import CannotStart
from storage.errors import Refused, Unavailable
from storage.mongod import MongodFailed, MongodMissing


@click.command()
@config_option
@data_option
def show(file: Path | None, data: str | None) -> None:
    click.echo(f"{file} {data}")


def test_the_options_may_be_left_out() -> None:
    """Then the settings decide."""
    assert CliRunner().invoke(show).output == "None None\n"
    assert CliRunner().invoke(show, ["--config", "mine.yaml", "--data", "here"]).output == "mine.yaml here\n"


@pytest.mark.parametrize("error", [CannotStart, MongodMissing, MongodFailed, Refused, Unavailable])
def test_an_error_that_a_host_can_act_on_is_its_sentence(error: type[Exception]) -> None:
    """Without a traceback, and with exit code 1."""
    with pytest.raises(click.ClickException) as caught, cli_errors():
        raise error("The disk is full.")
    assert "The disk is full." in caught.value.message
    assert caught.value.exit_code == 1
    assert caught.value.__cause__ is None


def test_every_mistake_of_the_settings_has_a_line() -> None:
    """A host repairs them all at once."""
    with pytest.raises(click.ClickException) as caught, cli_errors():
        raise ConfigError(["a: one", "b: two"])
    assert caught.value.message == "The settings have mistakes:\n  a: one\n  b: two"


def test_a_bug_keeps_its_traceback() -> None:
    """An exception that nobody expected is not reduced to a sentence."""
    with pytest.raises(ZeroDivisionError), cli_errors():
        raise ZeroDivisionError
