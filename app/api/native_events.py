"""Run events in our own dialect: `event:` the type, `id:` the number in the run, `data:` JSON."""

from __future__ import annotations

from app.core.errors import ErrorReport
from app.core.run_json import LoggedEvent

_BEFORE_IT_BEGINS = frozenset({"run.started", "plan.made", "link.passed"})


class NativeFrames:
    """Frames of events that are numbered already: of a run that goes on, or of its log.

    Parameters:
        at_once: whether the stream has begun before its first event, so that a failure is never an HTTP status.
    """

    dialect = "native"
    broken = False

    def __init__(self, *, at_once: bool = False) -> None:
        self._at_once = at_once

    def commits(self, event: LoggedEvent) -> bool:
        return self._at_once or event.type not in _BEFORE_IT_BEGINS

    def failure(self, event: LoggedEvent) -> ErrorReport | None:
        return None if self._at_once else event.error

    def encode(self, event: LoggedEvent) -> bytes:
        return b"event: %b\nid: %d\ndata: %b\n\n" % (event.type.encode(), event.seq, event.data)

    def interrupt(self, error: ErrorReport) -> bytes:
        return b": %b; the run goes on: read on with Last-Event-ID\n\n" % error.message.encode()
