"""Run events in our own dialect: `event:` the type, `id:` the number in the run, `data:` JSON."""

from __future__ import annotations

from app.core.errors import ErrorReport
from app.core.run_events import RunEvent, RunFailed
from app.core.run_json import LoggedEvent, logged, plain

__all__ = ["NativeEncoder", "NativeFrames", "plain"]

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


class NativeEncoder:
    """Encodes the events of one run that nobody hosts, numbering them from 1."""

    dialect = "native"
    broken = False

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._seq = 0
        self._frames = NativeFrames()

    def commits(self, event: RunEvent) -> bool:
        return event.type not in _BEFORE_IT_BEGINS

    def failure(self, event: RunEvent) -> ErrorReport | None:
        return event.error if isinstance(event, RunFailed) else None

    def encode(self, event: RunEvent) -> bytes:
        self._seq += 1
        return self._frames.encode(logged(event, self._run_id, self._seq))
