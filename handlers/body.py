"""The body of one request while it arrives: how much is left, and what to do next.

Pure: it must not know Tornado, sockets or what the bytes mean.

                       PIECE                ENDED
    taking <─────────────────────> reading ───────> running
      │        TAKEN                  │                │
      │ CLOSED                        │ REFUSED        │ CLOSED
      v                 TAKEN, CLOSED v                │
    abandoned ──────> finished <── lingering           │
                         ^                             │
                         └─────────────────────────────┘

`TABLE` has every transition. An event that is not in it changes nothing: what arrives after a refusal is thrown away.
"""

import math
from collections.abc import Mapping
from enum import StrEnum

STALL = 60.0  # seconds without a byte after which the server gives a sender up
LINGER = 5.0  # seconds in which the rest of a refused body is thrown away; nginx's lingering_timeout


class Phase(StrEnum):
    READING = "reading"  # waits for the next piece; also while there is no body
    TAKING = "taking"  # the handler has a piece in hand, perhaps in a thread
    ABANDONED = "abandoned"  # the connection closed while the handler worked on a piece
    RUNNING = "running"  # the whole body is here, and the handler's method runs
    LINGERING = "lingering"  # the request is refused, and the client still sends
    FINISHED = "finished"


class Event(StrEnum):
    PIECE = "piece"  # bytes have come
    TAKEN = "taken"  # the handler is done with them
    ENDED = "ended"  # the last byte is here
    REFUSED = "refused"  # the handler has its answer, and bytes are still on their way
    ANSWERED = "answered"  # the handler has its answer, and nothing more is on its way
    SILENT = "silent"  # the time for the next byte is over
    CLOSED = "closed"  # the connection has gone, or the whole answer is sent


class Action(StrEnum):
    NOTHING = "nothing"
    TAKE = "take"  # give the piece to the handler
    RUN = "run"  # call the handler's method
    LINGER = "linger"  # send the answer, keep the connection, abandon the request
    FINISH = "finish"  # end the answer; when bytes are still on their way, the connection ends with it
    HANG_UP = "hang up"  # close the connection without an answer
    ABANDON = "abandon"  # the request is over: release what the handler holds


TABLE: dict[tuple[Phase, Event], tuple[Phase, Action]] = {
    (Phase.READING, Event.PIECE): (Phase.TAKING, Action.TAKE),
    (Phase.READING, Event.ENDED): (Phase.RUNNING, Action.RUN),
    (Phase.READING, Event.REFUSED): (Phase.LINGERING, Action.LINGER),
    (Phase.READING, Event.ANSWERED): (Phase.READING, Action.FINISH),
    (Phase.READING, Event.SILENT): (Phase.READING, Action.HANG_UP),
    (Phase.READING, Event.CLOSED): (Phase.FINISHED, Action.ABANDON),
    (Phase.TAKING, Event.TAKEN): (Phase.READING, Action.NOTHING),
    (Phase.TAKING, Event.SILENT): (Phase.TAKING, Action.HANG_UP),
    (Phase.TAKING, Event.CLOSED): (Phase.ABANDONED, Action.NOTHING),
    (Phase.ABANDONED, Event.TAKEN): (Phase.FINISHED, Action.ABANDON),
    (Phase.RUNNING, Event.ANSWERED): (Phase.RUNNING, Action.FINISH),
    (Phase.RUNNING, Event.CLOSED): (Phase.FINISHED, Action.ABANDON),
    (Phase.LINGERING, Event.SILENT): (Phase.LINGERING, Action.FINISH),
    (Phase.LINGERING, Event.CLOSED): (Phase.FINISHED, Action.NOTHING),
}


class RequestBody:
    """The state of one request's body. Each method reports an event and returns what to do."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.phase = Phase.READING
        self.length: int | None = None  # bytes; None for a chunked body, which does not say
        if "Transfer-Encoding" not in headers:
            length = headers.get("Content-Length", "0")
            self.length = int(length) if length.isdecimal() else 0
        self._left = math.inf if self.length is None else self.length
        self._awaits_consent = headers.get("Expect", "").lower() == "100-continue"  # nothing comes before our 100

    @property
    def left(self) -> float:
        """Bytes that have not come yet; infinite where the length is unknown."""
        return self._left

    @property
    def patience(self) -> float | None:
        """Seconds to wait for the next event before reporting SILENT; None: for ever."""
        if self.phase is Phase.LINGERING:
            return LINGER
        return STALL if self.phase in (Phase.READING, Phase.TAKING) and self._left > 0 else None

    def piece(self, size: int) -> Action:
        self._left -= size
        self._awaits_consent = False
        return self.on(Event.PIECE)

    def ended(self) -> Action:
        self._left = 0
        return self.on(Event.ENDED)

    def answered(self) -> Action:
        """The handler has its answer, before its method or in it."""
        return self.on(Event.REFUSED if self._left > 0 and not self._awaits_consent else Event.ANSWERED)

    def on(self, event: Event) -> Action:
        self.phase, action = TABLE.get((self.phase, event), (self.phase, Action.NOTHING))
        return action
