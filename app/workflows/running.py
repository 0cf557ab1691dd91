"""What one run of a workflow has in common: its journal, what it took, and how it counts, bounds and times what is done."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import orjson

from app.config.workflows import WorkflowAction, WorkflowConfig, WorkflowsConfig
from app.core.chat import JsonObject
from app.core.conditions import Unanswerable
from app.core.errors import DeadlineExceeded, OrchestratorError, QuorumError
from app.core.run_events import RunEvent
from app.core.streams import close, with_deadline
from app.orchestration.context import RunContext
from app.workflows.acting import Acting
from app.workflows.failing import StepFailed
from app.workflows.graph import parts
from app.workflows.halting import Halting
from app.workflows.journal import Journal
from app.workflows.outcome import Tally
from app.workflows.references import Unfound

Find = Callable[[str], Awaitable[tuple[WorkflowConfig, int]]]
"""The workflow that a reference means, and its version; raises NotFound where there is none."""
Mark = Callable[[], AbstractContextManager[None]]
"""Of who must not be cut. It is off while parts of it are under way that have their own, and may wait for all of them."""


LATE_S: Final = 0.1
OUT_OF_TIME: Final = frozenset({"tool_timeout", "deadline_exceeded", "step_timeout"})


class Running:
    """The run.

    Parameters:
        limits: the bounds of all runs.
    """

    def __init__(
        self, context: RunContext, acting: Acting, halting: Halting, journal: Journal, find: Find, limits: WorkflowsConfig
    ) -> None:
        self.context, self.acting, self.halting, self.journal = context, acting, halting, journal
        self.find, self.limits = find, limits
        self.took = Tally()
        self._began = context.clock.monotonic()
        self._count = 0
        self._writing = 0
        self._written = asyncio.Event()
        self._cut: list[tuple[str, Tally]] = []

    def now(self) -> float:
        """On the monotonic clock, in seconds."""
        return self.context.clock.monotonic()

    def facts(self) -> JsonObject:
        """What `${run}` is."""
        return {
            "id": self.context.run_id,
            "cost_usd": self.took.cost_usd,
            "tokens": self.took.tokens,
            "seconds": round(self.now() - self._began, 3),
            "steps_done": self.journal.steps_done,
        }

    def count(self) -> None:
        """Another step is about to begin.

        Raises:
            StepFailed: there were enough.
        """
        self._count += 1
        if self._count > self.limits.max_steps:
            message = f"the run has come to {self.limits.max_steps} steps, workflow_limits.max_steps"
            raise StepFailed(OrchestratorError(message))

    @contextmanager
    def writing(self, action: WorkflowAction | JsonObject) -> Generator[Mark | None]:
        """Where `action` calls a tool that writes, it must not be cut: that has a mark."""
        if not self._writes(action):
            yield None
            return
        self._mark(1)
        try:
            yield self._loose
        finally:
            self._mark(-1)

    @contextmanager
    def _loose(self) -> Generator[None]:
        self._mark(-1)
        try:
            yield
        finally:
            self._mark(1)

    def _mark(self, more: int) -> None:
        self._writing += more
        if not self._writing:
            self._written.set()

    def _writes(self, action: WorkflowAction | JsonObject) -> bool:
        if not isinstance(action, WorkflowAction):
            return "tool" in action and self.acting.writes(action["tool"]["name"])
        inside = (part for place, part in parts(action) if "map" not in place)
        return any(part.tool is not None and self.acting.writes(part.tool.name) for part in inside)

    async def writes_over(self) -> None:
        """Wait until no tool that writes is under way."""
        while self._writing:
            self._written.clear()
            await self._written.wait()

    def bounded(self, output: Any) -> Any:
        """`output`, where it may be kept.

        Raises:
            StepFailed: it is no JSON, or too large.
        """
        most = self.limits.max_result_bytes
        try:
            size = len(orjson.dumps(output))
        except (TypeError, ValueError, RecursionError):
            raise StepFailed(OrchestratorError("its output is no JSON, or nests too deep")) from None
        if size > most:
            raise StepFailed(OrchestratorError(f"its output has {size} bytes; workflow_limits.max_result_bytes is {most}"))
        return output

    async def in_time(self, source: AsyncGenerator[RunEvent], until: float | None) -> AsyncGenerator[RunEvent]:
        """What `source` tells, whose failures are `StepFailed`, until the time `until`.

        Tools and orchestrations keep that time themselves, and so have a little more to say how they ended.
        """
        run_until = self.context.request.deadline

        def timed_out() -> QuorumError:
            if run_until is not None and until is not None and until >= run_until:
                return DeadlineExceeded("the run's deadline passed before it had an answer")
            return OrchestratorError("it was not done in its timeout_s", code="step_timeout")

        timed: AsyncIterator[RunEvent] = source
        if until is not None:
            timed = with_deadline(source, expired=lambda _phase: timed_out(), until=until + LATE_S)
        try:
            async for event in timed:
                yield event
        except StepFailed as error:
            if until is not None and error.error.code in OUT_OF_TIME and self.now() >= until:
                raise StepFailed(timed_out()) from error
            raise
        except QuorumError as error:
            raise StepFailed(error) from error
        except Unfound as error:
            raise StepFailed(OrchestratorError(f"${{{error.reference.text}}} leads to nothing")) from None
        except Unanswerable as error:
            raise StepFailed(OrchestratorError(f"its expression cannot be evaluated: {error}")) from None
        finally:
            await close(timed)

    @contextmanager
    def noting_cuts(self, path: str, took: Callable[[], Tally]) -> Generator[None]:
        """Remember what the step or item at `path` `took` until it was cut, for `note_cuts`."""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            if not self.journal.is_over(path):
                self._cut.append((path, took()))
            raise

    async def note_cuts(self) -> None:
        """Write down what was used by what was cut, for who goes on with the run."""
        cut, self._cut = self._cut, []
        for path, took in cut:
            await self.journal.spent(path, *took.recorded())

    def left_s(self) -> float:
        """Seconds until the run's deadline."""
        until = self.context.request.deadline
        return math.inf if until is None else until - self.now()

    def until(self, timeout_s: float | None) -> float | None:
        """When a try must be over, on the monotonic clock."""
        run_until = self.context.request.deadline
        if timeout_s is None:
            return run_until
        own = self.now() + timeout_s
        return own if run_until is None else min(own, run_until)
