"""Counting how long things took."""

from meters import BOUNDS, Durations, RequestMeters


def test_a_duration_counts_under_every_bound_that_it_does_not_exceed() -> None:
    """As Prometheus' `le`, which includes the bound itself."""
    durations = Durations()
    for seconds in (0.0, 0.005, 0.006, 61.0):
        durations.observe(seconds)
    assert durations.cumulative() == [2, *[3] * (len(BOUNDS) - 1), 4]
    assert durations.count == 4
    assert durations.total == 0.0 + 0.005 + 0.006 + 61.0


def test_bounds_ascend() -> None:
    """The search for a bound relies on it."""
    assert list(BOUNDS) == sorted(set(BOUNDS))


def test_requests_count_by_method_route_and_status() -> None:
    """Durations are counted without the status."""
    requests = RequestMeters()
    requests.observe("GET", "/api/dreams", 200, 0.002)
    requests.observe("GET", "/api/dreams", 401, 0.001)
    requests.observe("POST", "/api/dreams", 201, 0.3)
    assert requests.ended["GET", "/api/dreams", 401] == 1
    assert requests.durations["GET", "/api/dreams"].count == 2
    assert requests.durations["POST", "/api/dreams"].total == 0.3


def test_a_request_without_a_duration_only_counts() -> None:
    """It leaves the other durations of its route alone."""
    requests = RequestMeters()
    requests.observe("GET", "/api/dreams/{dream_id}", 200, 0.002)
    requests.observe("GET", "/api/dreams/{dream_id}", 304, None)
    assert requests.ended["GET", "/api/dreams/{dream_id}", 304] == 1
    assert requests.durations["GET", "/api/dreams/{dream_id}"].count == 1
