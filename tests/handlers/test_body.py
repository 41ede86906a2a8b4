"""The state machine of a request's body: every phase with every event, and the ways through it."""

import math

import pytest

from handlers.body import LINGER, STALL, TABLE, Action, Event, Phase, RequestBody

# For each phase: the events that change something, the next phase, and what to do. All others change nothing.
GRID = """
reading:   piece taking take, ended running run, refused lingering linger, answered reading finish,
           silent reading hang_up, closed finished abandon
taking:    taken reading nothing, silent taking hang_up, closed abandoned nothing
abandoned: taken finished abandon
running:   answered running finish, closed finished abandon
lingering: silent lingering finish, closed finished nothing
finished:
"""
EXPECTED = {
    (Phase(phase), Event(event)): (Phase(after), Action(action.replace("_", " ")))
    for phase, _, cells in (row.partition(":") for row in GRID.replace(",\n", ",").strip().splitlines())
    for event, after, action in (cell.split() for cell in cells.split(",") if cell.strip())
}


def body(length: int | None = 100, **headers: str) -> RequestBody:
    size = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    return RequestBody({**size, **headers})


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", Event)
def test_every_phase_answers_every_event(phase: Phase, event: Event) -> None:
    """As the grid above says; an event that does not belong to a phase changes nothing."""
    found = body()
    found.phase = phase
    expected = EXPECTED.get((phase, event), (phase, Action.NOTHING))
    assert (found.on(event), found.phase) == (expected[1], expected[0])


def test_every_phase_is_reached_and_left() -> None:
    """But the first is where a body begins, and the last is its end."""
    reached = {phase for phase, _ in TABLE.values()}
    assert reached | {Phase.READING} == set(Phase)
    assert {phase for phase, _ in TABLE} == set(Phase) - {Phase.FINISHED}


def test_a_body_that_arrives_is_handed_over_piece_by_piece() -> None:
    """The method runs after the last one, and its answer ends the request."""
    found = body(100)
    for size in (60, 40):
        assert found.piece(size) is Action.TAKE
        assert found.on(Event.TAKEN) is Action.NOTHING
    assert found.ended() is Action.RUN
    assert found.answered() is Action.FINISH
    assert found.on(Event.CLOSED) is Action.ABANDON
    assert found.on(Event.CLOSED) is Action.NOTHING


def test_a_refusal_lingers_while_bytes_are_on_their_way() -> None:
    """The answer goes out at once; the rest is thrown away, and the method does not run."""
    found = body(100)
    assert found.piece(60) is Action.TAKE
    found.on(Event.TAKEN)
    assert found.answered() is Action.LINGER
    assert found.piece(20) is Action.NOTHING
    assert found.left == 20
    assert found.piece(20) is Action.NOTHING
    assert found.ended() is Action.NOTHING
    assert found.on(Event.CLOSED) is Action.NOTHING


@pytest.mark.parametrize("length", [0, 100])
def test_a_refusal_of_what_has_come_ends_the_request(length: int) -> None:
    """Nothing more is on its way: the connection stays usable."""
    found = body(length)
    if length:
        found.piece(length)
        found.on(Event.TAKEN)
    assert found.answered() is Action.FINISH


def test_a_client_that_waits_for_consent_sends_nothing() -> None:
    """With `Expect: 100-continue` a refusal ends the request, unless the body comes all the same."""
    assert body(100, Expect="100-Continue").answered() is Action.FINISH
    eager = body(100, Expect="100-continue")
    eager.piece(10)
    eager.on(Event.TAKEN)
    assert eager.answered() is Action.LINGER


def test_nothing_is_released_while_a_piece_is_in_hand() -> None:
    """A thread may be writing it; its end releases everything."""
    found = body(100)
    found.piece(60)
    assert found.on(Event.CLOSED) is Action.NOTHING
    assert found.on(Event.TAKEN) is Action.ABANDON
    assert found.answered() is Action.NOTHING
    assert found.ended() is Action.NOTHING


@pytest.mark.parametrize(
    ("headers", "length", "left"),
    [
        ({}, 0, 0),
        ({"Content-Length": "7"}, 7, 7),
        ({"Content-Length": "seven"}, 0, 0),
        ({"Transfer-Encoding": "chunked"}, None, math.inf),
        ({"Transfer-Encoding": "chunked", "Content-Length": "7"}, None, math.inf),
    ],
)
def test_the_length_is_what_the_headers_say(headers: dict[str, str], length: int | None, left: float) -> None:
    """A chunked body does not say it."""
    found = RequestBody(headers)
    assert (found.length, found.left) == (length, left)


def test_a_chunked_body_is_whole_when_it_has_ended() -> None:
    """Until then a refusal lingers, however much has come."""
    refused, taken = body(None), body(None)
    for each in (refused, taken):
        each.piece(1000)
        each.on(Event.TAKEN)
    assert refused.answered() is Action.LINGER
    taken.ended()
    assert taken.left == 0
    assert taken.answered() is Action.FINISH


def test_patience_ends_with_what_is_waited_for() -> None:
    """A minute for the next byte, a few seconds for the rest of what is refused, and for ever where nothing comes."""
    found = body(100)
    assert found.patience == STALL
    found.piece(60)
    assert found.patience == STALL
    found.on(Event.TAKEN)
    found.piece(40)
    assert found.patience is None
    found.on(Event.TAKEN)
    found.ended()
    assert found.patience is None
    assert body(0).patience is None
    refused = body(100)
    refused.answered()
    assert refused.patience == LINGER
    refused.on(Event.CLOSED)
    assert refused.patience is None
