"""Native frames of a run's events, without a service."""

from __future__ import annotations

from app.api.native_events import NativeFrames
from app.core.errors import ErrorReport
from app.core.run_events import RunEvent
from app.core.run_json import LoggedEvent, logged


class NativeEncoder:
    """Encodes the events of one run that nobody hosts, numbering them from 1."""

    dialect = "native"
    broken = False

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._seq = 0
        self._frames = NativeFrames()

    def commits(self, event: RunEvent) -> bool:
        return self._frames.commits(self._numbered(event))

    def failure(self, event: RunEvent) -> ErrorReport | None:
        return self._frames.failure(self._numbered(event))

    def encode(self, event: RunEvent) -> bytes:
        self._seq += 1
        return self._frames.encode(self._numbered(event))

    def interrupt(self, error: ErrorReport) -> bytes:
        return self._frames.interrupt(error)

    def _numbered(self, event: RunEvent) -> LoggedEvent:
        return logged(event, self._run_id, self._seq)
