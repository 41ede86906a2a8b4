"""The data folder's lock, its secret, and the storages that a running server has open."""

from pathlib import Path

import pytest

from config import Auth, Config, Secret
from storage.data_folder import CannotStart, DataFolder
from tests.storage.conftest import mode


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return Config(data=tmp_path / "data")


def test_what_is_made_at_the_first_start_is_kept(settings: Config) -> None:
    """Secret and name survive a restart, only this user can read them, and each purpose has its own key."""
    with DataFolder(settings) as data_folder:
        secret, server = data_folder.secret, data_folder.server
        assert data_folder.derive_key("a") != data_folder.derive_key("b")
    with DataFolder(settings) as data_folder:
        assert (data_folder.secret, data_folder.server) == (secret, server)
    assert len(secret) >= 32
    assert mode(settings.data) == 0o700
    assert mode(settings.data / "secret") == 0o600


def test_a_secret_of_the_settings_is_taken(tmp_path: Path) -> None:
    """Then no file with a secret is written."""
    with DataFolder(Config(data=tmp_path, auth=Auth(secret=Secret("s" * 32)))) as data_folder:
        assert data_folder.secret == b"s" * 32
    assert not (tmp_path / "secret").exists()


def test_one_server_at_a_time(settings: Config) -> None:
    """The second does not start; it may once the first has ended."""
    with DataFolder(settings, stores=("local",)), pytest.raises(CannotStart, match="Another Dreamlog is running"):
        DataFolder(settings, stores=("local",)).__enter__()
    with DataFolder(settings, stores=("local",)):
        pass


def test_a_command_reads_which_storages_the_running_server_has_open(settings: Config) -> None:
    """Without a server, the command takes the lock, so that no server and no other command starts meanwhile."""
    with DataFolder(settings, stores=("local", "oss")), DataFolder(settings, allow_running=True) as command:
        assert command.running_stores == ("local", "oss")
    with DataFolder(settings, allow_running=True) as command:
        assert command.running_stores == ()
        for more in ({"stores": ("local",)}, {"allow_running": True}):
            with pytest.raises(CannotStart, match="Another Dreamlog"):
                DataFolder(settings, **more).__enter__()


def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    """The message has the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match="cannot be used: Not a directory"):
        DataFolder(Config(data=tmp_path / "file" / "data")).__enter__()
