"""What the log of a hosted run has, and what it lacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Literal

import orjson

from app.config.spec import RunsConfig
from app.core.clock import Clock
from app.core.run_events import RunFailed, RunFinished, RunPaused
from app.core.run_json import RESYNC, LoggedEvent, event_json, json_bytes
from app.core.runs import OrchestrationOutput
from app.orchestration.run import Run
from app.orchestration.runs.window import EventWindow
from app.state.run_records import BEGAN_WITH, TURNS_SEEN, Append, Appended, Ownership, Snapshot

CHUNK_EVENTS: Final = 500
CHUNK_BYTES: Final = 1_000_000
"""The most of a run that is sent to the log at once."""

OnDisconnect = Literal["cancel", "continue"]
Record = dict[str, str | bytes]


class RunLog:
    """The writes of one run, one after the other.

    Parameters:
        window: its events.
        record: what the log is told of the run where it does not know it.
        state: the state of all events but the last one of the run.
    """

    def __init__(
        self,
        whose: Ownership,
        config: RunsConfig,
        clock: Clock,
        window: EventWindow,
        *,
        record: Record,
        state: Callable[[], Snapshot],
    ) -> None:
        self.recorded = asyncio.Event()
        """Set once the log knows the run."""
        if whose.epoch > 1:
            self.recorded.set()
        self.written = asyncio.Event()
        """Set once the log knows that the run has ended, or is paused."""
        self.settled = False
        """The log has all of it, or will never have."""
        self.renewed = 0.0
        """When it was last written, on the event loop's clock."""
        self._whose = whose
        self._config = config
        self._clock = clock
        self._window = window
        self._record = record
        self._state = state
        self._snapshot: Snapshot | None = None
        self._snapshot_sent = window.last
        self._bytes = 0
        self._snapshot_bytes = 0

    def add(self, event: LoggedEvent) -> None:
        """The newest event."""
        self._window.add(event)
        self._bytes += len(event.data)

    def due(self, now: float, heartbeat_s: float, *, over: bool) -> bool:
        """Whether there is something to write."""
        if self.settled:
            return False
        return self._window.last > self._window.stored or over or now - self.renewed >= heartbeat_s

    def next_append(self, end: RunFinished | RunFailed | RunPaused | None, result: Callable[[], OrchestrationOutput]) -> Append:
        """What the log lacks, or as much of it as is sent at once.

        Parameters:
            end: the run's last event, or the one that pauses it, once it is there.
            result: what has come of the run.
        """
        window = self._window
        self._take_snapshot()
        events = window.pending(CHUNK_EVENTS, CHUNK_BYTES)
        last = end is not None and window.stored + len(events) == window.last
        waits_ms = max(0, int((end.expires_at - self._clock.now()) * 1000)) if isinstance(end, RunPaused) else 0
        return Append(
            self._whose,
            self._config.keep_s * 1000 + waits_ms,
            self._config.events_keep_s * 1000 + waits_ms,
            events,
            None if self.recorded.is_set() else self._record,
            self._snapshot,
            self._snapshot_sent + 1,
            end.status if last and end else "",
            json_bytes(result()) if last else b"",
        )

    def appended(self, append: Append, reply: Appended, now: float) -> None:
        """Take note of what the log has answered."""
        self.renewed = now
        if reply.outcome == "lost":
            self.settled = True
            return
        if reply.outcome == "missing":  # Redis was emptied: begin again, with a snapshot for what it does not have
            self.recorded.clear()
            self._window.lost += 1
            return
        self.recorded.set()
        if append.events:
            self._window.stored = max(self._window.stored, append.events[-1].seq)
        if append.snapshot:
            self._snapshot, self._snapshot_sent, self._window.lost = None, append.snapshot.seq, 0
        if append.status:
            self.settled = True
            self.written.set()

    def _take_snapshot(self) -> None:
        """When the log has come to half of its bound, or lacks dropped events: the state now, for who wants older ones.

        The events since the snapshot before stay, so that only a reader who is far behind meets it.
        """
        if self._snapshot is not None or not self._window.last:
            return
        config = self._config
        full = (
            self._window.last - self._snapshot_sent >= config.max_events // 2
            or self._bytes - self._snapshot_bytes >= config.max_event_bytes // 2
        )
        if full or self._window.lost:
            self._snapshot = self._state()
            self._snapshot_bytes = self._bytes


def record_of(run: Run, created_us: int, on_disconnect: OnDisconnect, resumable: str) -> Record:
    """What is kept of `run` beside its events."""
    request = run.request
    about: dict[str, Any] = {
        "models": [model.profile.name for model in run.context.models],
        "messages": len(request.messages),
        "request_id": request.request_id,
        "trace_id": request.traceparent.split("-")[1] if request.traceparent else None,
        "metadata": request.metadata,
    }
    if request.conversation_id is not None:
        about["conversation_id"] = request.conversation_id
    fields: Record = {
        "strategy": run.strategy.name,
        "created_at": str(created_us // 1_000_000),
        "on_disconnect": on_disconnect,
        "request": json_bytes(about),
    }
    if resumable:
        fields["resumable"] = resumable
        if run.strategy.keeps_steps:
            fields["ends_itself"] = "1"
            fields[BEGAN_WITH] = orjson.dumps(
                {"strategy": run.strategy.name, "options": dict(run.strategy.began_with(run.context))}
            )
    if run.context.conversation is not None:
        fields[TURNS_SEEN] = str(run.context.conversation.seen)
    signals = run.strategy.signals(run.context)
    if signals:
        fields["signals"] = orjson.dumps(dict(signals))
    if request.config.recipe:
        fields["recipe"] = request.config.recipe
    return fields


def resync_event(run_id: str, seq: int, result: bytes) -> LoggedEvent:
    """`resync`: forget what was before; `result` is all of it up to event `seq`, and the next one follows that."""
    members = {"reason": "trimmed", "result": orjson.Fragment(result)}
    return LoggedEvent(seq, RESYNC, event_json(RESYNC, run_id, seq, members))
