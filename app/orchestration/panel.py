"""Models that are asked side by side: who begins when is the strategy's to say, and who still speaks may be let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from app.core.run_events import CandidateFailed, CandidateFinished, RunEvent
from app.core.streams import merge
from app.orchestration.calls import Member


class Panel:
    """The calls of a run, in the order in which they are to begin.

    A strategy starts some, reads `events`, and starts more as answers come, or stops reading: then `let_go` tells what has
    become of those that were still at work.

    Parameters:
        most: how many may be at work at once.
    """

    def __init__(self, calls: Sequence[Member], most: int) -> None:
        self.calls = tuple(calls)
        self.ended: list[Member] = []
        """Those that have answered or failed, in the order in which they did."""
        self._most = most
        self._gates = [asyncio.Event() for _ in calls]
        self._wanted = 0
        self._begun = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def running(self) -> int:
        return self._begun - len(self.ended)

    @property
    def wanted(self) -> int:
        """How many were to begin so far."""
        return self._wanted

    @property
    def waiting(self) -> tuple[Member, ...]:
        """Those that nobody has started."""
        return self.calls[self._wanted :]

    @property
    def unheard(self) -> tuple[Member, ...]:
        """Those that have not ended, started or not."""
        ended = set(map(id, self.ended))
        return tuple(call for call in self.calls if id(call) not in ended)

    def start(self, count: int) -> None:
        """Have the next `count` begin, as soon as there is room."""
        self._wanted = min(len(self.calls), self._wanted + count)
        while self._begun < self._wanted and self.running < self._most:
            self._gates[self._begun].set()
            self._begun += 1

    def start_one_in(self, seconds: float | None) -> None:
        """Have the next one begin after so many seconds, in place of what was said of it before; never, where None."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self.start, 1)

    async def events(self) -> AsyncGenerator[RunEvent]:
        """What those tell that were started, until they have all ended; `ended` has a call before its last event is given."""
        sources = [_when(gate, call) for gate, call in zip(self._gates, self.calls, strict=True)]
        try:
            async with aclosing(merge(sources)) as events:
                async for event in events:
                    if isinstance(event, (CandidateFinished, CandidateFailed)):
                        self._note(event)
                    yield event
                    if not self.running:
                        return
        finally:
            self.start_one_in(None)

    def ended_with(self, event: RunEvent) -> Member | None:
        """Who has ended with `event`, the last one that was given; None where nobody has."""
        return self.ended[-1] if self.ended and self.ended[-1].last is event else None

    def _note(self, event: CandidateFinished | CandidateFailed) -> None:
        for call in self.calls:
            if call.last is event:
                self.ended.append(call)
                self.start(0)
                return

    def let_go(self) -> list[RunEvent]:
        """The ends of those that were cut off. Said after `events` was closed."""
        cut = [call for call in self.calls[: self._begun] if call.candidate.status == "cancelled"]
        return [CandidateFailed(call.candidate) for call in cut]


async def _when(gate: asyncio.Event, call: Member) -> AsyncGenerator[RunEvent]:
    await gate.wait()
    async with aclosing(call.events()) as events:
        async for event in events:
            yield event
