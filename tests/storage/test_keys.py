"""The data folder's lock, its secret, and what a command beside a running server may know."""

from pathlib import Path

import pytest

from config import Auth, Config, Secret
from storage.keys import CannotStart, Keys
from tests.storage.conftest import mode


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return Config(data=tmp_path / "data")


def test_what_is_made_at_the_first_start_is_kept(settings: Config) -> None:
    """The secret and the name stay, for nobody else to read; a key for one purpose does not serve another."""
    with Keys(settings) as keys:
        secret, server = keys.secret, keys.server
        assert keys.derived("a") != keys.derived("b")
    with Keys(settings) as keys:
        assert (keys.secret, keys.server) == (secret, server)
    assert len(secret) >= 32
    assert mode(settings.data) == 0o700
    assert mode(settings.data / "secret") == 0o600


def test_a_secret_of_the_settings_is_taken(tmp_path: Path) -> None:
    """And none is made."""
    with Keys(Config(data=tmp_path, auth=Auth(secret=Secret("s" * 32)))) as keys:
        assert keys.secret == b"s" * 32
    assert not (tmp_path / "secret").exists()


def test_one_server_at_a_time(settings: Config) -> None:
    """The second is told so; after the first has gone it may start."""
    with Keys(settings, opens=("local",)), pytest.raises(CannotStart, match="Another Dreamlog is running"):
        Keys(settings, opens=("local",)).__enter__()
    with Keys(settings, opens=("local",)):
        pass


def test_a_command_beside_a_server_knows_its_storages(settings: Config) -> None:
    """With no server it holds the folder itself, so that none starts meanwhile, nor another command."""
    with Keys(settings, opens=("local", "oss")), Keys(settings, beside=True) as beside:
        assert beside.running == ("local", "oss")
    with Keys(settings, beside=True) as alone:
        assert alone.running == ()
        for more in ({"opens": ("local",)}, {"beside": True}):
            with pytest.raises(CannotStart, match="Another Dreamlog"):
                Keys(settings, **more).__enter__()


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """With the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match="cannot be used: Not a directory"):
        Keys(Config(data=tmp_path / "file" / "data")).__enter__()
