"""The newest events of a run in memory: those that its readers here still want, and those that the log still lacks."""

from __future__ import annotations

from typing import Final

from app.core.run_json import LoggedEvent

_KEPT_EVENTS: Final = 2048
_KEPT_BYTES: Final = 1_000_000
"""Events that the log has are kept up to this, for readers here; older ones are read from the log."""


class EventWindow:
    """The events that follow number `after`. Bounded by `most_events` and `most_bytes` while the log lacks them (Redis away),
    by less when it has them.

    `last` is the number of the newest event, `stored` that of the newest that the log has, `lost` counts those that were
    dropped before the log had them.
    """

    def __init__(self, most_events: int, most_bytes: int, after: int = 0) -> None:
        self.last = after
        self.stored = after
        self.lost = 0
        self._first = after + 1
        self._events: list[LoggedEvent] = []
        self._bytes = 0
        self._most_events = most_events
        self._most_bytes = most_bytes

    def add(self, event: LoggedEvent) -> None:
        self._events.append(event)
        self._bytes += len(event.data)
        self.last = event.seq
        if len(self._events) > _KEPT_EVENTS or self._bytes > _KEPT_BYTES:
            self._trim()

    def holds(self, after: int) -> bool:
        """Whether every event that follows number `after` is here or still to come."""
        return after >= self._first - 1

    def since(self, after: int, most: int | None = None) -> list[LoggedEvent]:
        """The events that follow number `after`, which must be held."""
        start = max(after, self._first - 1) + 1 - self._first
        return self._events[start : None if most is None else start + most]

    def pending(self, most: int, most_bytes: int) -> list[LoggedEvent]:
        """The next events for the log: up to `most`, and `most_bytes` unless one alone is larger."""
        found, size = self.since(self.stored, most), 0
        for number, event in enumerate(found):
            size += len(event.data)
            if size > most_bytes and number:
                return found[:number]
        return found

    def _trim(self) -> None:
        half = len(self._events) // 2
        stored = self.stored - self._first + 1
        if stored > 0:
            self._drop(min(half, stored))
        if len(self._events) > self._most_events or self._bytes > self._most_bytes:
            self._drop(max(1, len(self._events) // 2))

    def _drop(self, count: int) -> None:
        self._bytes -= sum(len(event.data) for event in self._events[:count])
        del self._events[:count]
        self._first += count
        behind = self._first - 1 - self.stored
        if behind > 0:
            self.lost += behind
            self.stored = self._first - 1
