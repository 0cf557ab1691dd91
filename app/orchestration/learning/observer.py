"""Watches runs end, and tells Redis in batches what may be learned from them. Nothing waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

import structlog

from app.config.spec import LearningConfig
from app.core.clock import Clock
from app.core.errors import StateUnavailable
from app.core.runs import OrchestrationOutput, RunRequest
from app.observability import metrics
from app.orchestration.learning.hashing import TermHash, asked_text
from app.orchestration.learning.taught import Noted, Taught, note, unread
from app.state.flusher import Flusher
from app.state.observations import ObservationStore

MOST_WAITING: Final = 2_000
"""Runs that wait for Redis; of those beyond it the oldest are not learned from."""
_AT_ONCE: Final = 100

_log = structlog.get_logger("quorum.learning")


class Observer(Protocol):
    """Who is told of every run that ends."""

    def ended(self, request: RunRequest, result: OrchestrationOutput, taught: Taught | None, category: str | None) -> None:
        """A run has ended with `result`; `taught` is what its strategy says of it, `category` the task's, where it is known.
        Does not wait, and does not raise."""
        ...


class Observations:
    """Keeps what runs can teach, as `LearningConfig.observe` says.

    Parameters:
        config: in force now; may be replaced.
    """

    def __init__(self, store: ObservationStore, hashed: TermHash, clock: Clock, config: LearningConfig) -> None:
        self.config = config
        self._store = store
        self._hashed = hashed
        self._clock = clock
        self._waiting: deque[tuple[str, Noted]] = deque()
        self._flushing = asyncio.Lock()
        self._flusher = Flusher("observations", self.flush)

    def start(self) -> None:
        self._flusher.start()

    async def close(self) -> None:
        await self._flusher.close()

    def ended(self, request: RunRequest, result: OrchestrationOutput, taught: Taught | None, category: str | None) -> None:
        observe = self.config.observe
        if observe == "off" or (taught is None and observe == "panels") or result.status not in ("succeeded", "needs_review"):
            return
        if taught is None:
            taught = unread(result)
        if taught is None:
            return
        terms = self._hashed.counts(asked_text(request.messages), (category,) if category else ())
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            metrics.OBSERVATIONS.labels("dropped").inc()
        noted = note(result, taught, at=self._clock.now(), category=category, terms=terms)
        self._waiting.append((request.tenant, noted))

    async def flush(self) -> None:
        """Tell Redis of what waits. After it that is told, or waits on since Redis is away."""
        async with self._flushing:
            await self._flush()

    async def _flush(self) -> None:
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
            by_tenant: dict[str, list[Noted]] = {}
            for tenant, noted in some:
                by_tenant.setdefault(tenant, []).append(noted)
            try:
                for tenant, all_of in by_tenant.items():
                    rows = [row for noted in all_of if (row := _row(noted))]
                    if not rows:
                        continue
                    await self._store.put(tenant, rows, keep_runs=self.config.keep_runs, keep_s=self.config.keep_s)
            except StateUnavailable:
                self._waiting.extendleft(reversed(some))
                return
            metrics.OBSERVATIONS.labels("kept").inc(len(some))


def _row(noted: Noted) -> tuple[str, bytes] | None:
    try:
        return noted.run_id, noted.as_json()
    except TypeError as fault:  # a label out of a text that is no Unicode
        _log.warning("a run cannot be learned from", run_id=noted.run_id, reason=str(fault))
        return None
