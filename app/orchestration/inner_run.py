"""A run inside of another: its models' calls are helper calls of the run that it is inside of."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator

from app.core.run_events import CandidateFailed, CandidateFinished, HelperFinished, RunEvent, RunFailed, RunFinished
from app.core.run_fold import RunFold
from app.core.runs import CallRole, Candidate, HelperCall, OrchestrationOutput
from app.core.streams import close
from app.orchestration.drive import drive
from app.orchestration.run import Run


class InnerRun:
    """A run inside of another; `result` is there when `events` is over.

    Parameters:
        role: what the calls of its candidates are in the other run.
    """

    result: OrchestrationOutput | None = None

    def __init__(self, run: Run, role: CallRole) -> None:
        self.run = run
        self._role: CallRole = role
        self._fold = RunFold(run.id)
        self._begun = False
        self._calls: list[HelperCall] = []

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Its calls, as they end."""
        self._begun = True
        source = drive(self.run.strategy, self.run.request, self.run.context, self._fold)
        try:
            async for event in source:
                if isinstance(event, RunFinished | RunFailed):
                    self.result = event.result
                call = self._book(event)
                if call is not None:
                    yield HelperFinished(call)
        finally:
            await close(source)

    def unheard(self, fold: RunFold) -> Iterator[RunEvent]:
        """As `Unheard` of the run that it is inside of."""
        for call in self.cut():
            if not fold.has(call):
                yield HelperFinished(call)

    def cut(self) -> tuple[HelperCall, ...]:
        """Its calls, once nothing of it is under way any more; where it was cut, also those that had not ended."""
        if self._begun and self.result is None:
            for event in self.run.context.book.unheard(self._fold):
                self._fold.add(event)
                self._book(event)
        return self.calls

    @property
    def calls(self) -> tuple[HelperCall, ...]:
        """The calls of its models that are over."""
        return tuple(self._calls)

    @property
    def tools_usd(self) -> float:
        """Dollars for the tools that it called itself."""
        return sum(tool.cost_usd for tool in self._fold.result().tool_calls)

    def _book(self, event: RunEvent) -> HelperCall | None:
        """The call that `event` is the end of."""
        match event:
            case CandidateFinished() | CandidateFailed():
                call = _helping(event.candidate, self._role)
            case HelperFinished():
                call = event.call
            case _:
                return None
        self._calls.append(call)
        return call


def _helping(candidate: Candidate, role: CallRole) -> HelperCall:
    return HelperCall(
        role=role,
        model=candidate.model,
        provider=candidate.provider,
        status=candidate.status,
        usage=candidate.usage,
        cost_usd=candidate.cost_usd,
        latency_ms=candidate.latency_ms,
        attempts=candidate.attempts,
        error=candidate.error,
        cached=candidate.cached,
        wasted_cost_usd=candidate.wasted_cost_usd,
    )
