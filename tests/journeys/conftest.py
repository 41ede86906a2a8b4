"""Runs each journey whose result depends on the storage twice: on disk and on OSS."""

from collections.abc import Iterator

import pytest

from tests.client import Server
from tests.oss_server import OssServer

ON_OSS_TOO = {
    "test_every_kind_of_picture_goes_in_and_all_events_come_in_order",
    "test_the_same_bytes_again_are_not_rendered_again",
    "test_a_failed_picture_has_a_reason_and_can_be_retried",
    "test_kill_9_of_the_server_loses_nothing",
    "test_kill_9_of_a_worker_costs_one_image_one_try",
    "test_the_original_is_untouched_and_private",
    "test_an_idempotency_key_stores_once",
    "test_an_image_removed_in_the_middle_is_gone",
    "test_deleting_the_account_deletes_everything",
    "test_sigterm_finishes_or_hands_back_the_work",
    "test_sigterm_with_no_time_hands_everything_back",
    "test_the_log_has_nothing_private",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function.__name__ in ON_OSS_TOO:
        metafunc.parametrize("storage", ["local", "oss"], indirect=True)


@pytest.fixture(autouse=True)
def storage(request: pytest.FixtureRequest) -> Iterator[OssServer | None]:
    """The OSS server on which every server of this test stores its files, or None for the disk."""
    if getattr(request, "param", "local") == "local":
        yield None
        return
    with OssServer() as oss:
        Server.oss = oss
        yield oss
        Server.oss = None
