"""The options that commands share, and how a command reports an error.

It must not know what the commands do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from config import ConfigError
from storage.data_folder import CannotStart
from storage.errors import Error
from storage.mongod import MongodFailed, MongodMissing

_file = click.Path(path_type=Path, dir_okay=False)
config_option = click.option("--config", "file", type=_file, help="Settings file.  [default: config.yaml]")
data_option = click.option("--data", help="Folder for everything that the server stores. Overrides data.")


@contextmanager
def cli_errors() -> Iterator[None]:
    """Turn an error that the administrator can mend into its sentence on stderr and exit code 1.

    Every other exception is a bug, and keeps its traceback. Raises `click.ClickException`.
    """
    try:
        yield
    except ConfigError as error:
        mistakes = "\n".join(f"  {mistake}" for mistake in error.mistakes)
        raise click.ClickException(f"The settings have mistakes:\n{mistakes}") from None
    except (CannotStart, MongodMissing, MongodFailed, Error) as error:
        raise click.ClickException(str(error)) from None
