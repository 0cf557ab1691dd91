"""What a run that was taken over need not do again: what its log shows finished."""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson
from pydantic import TypeAdapter

from app.core.budgets import NOTHING
from app.core.errors import ConflictError, QuorumError, report
from app.core.run_reading import read_result
from app.core.runs import Budget, Candidate, OrchestrationOutput
from app.core.tool_runs import ToolRun
from app.orchestration.context import RunContext
from app.orchestration.run import Run
from app.reliability.purse import booked
from app.state.run_records import RunRecords

_CANDIDATE = TypeAdapter(Candidate)
_TOOL_RUN = TypeAdapter(ToolRun)
_AT_ONCE = 1_000
UNLOGGED = 1_000_000
"""More than a process sends of a run while its log is away."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A run that was taken over: the epoch of this ownership, and the number that its events follow.

    That is far above the number of the log's last event: the dead process may have sent events that never came into the log,
    and who has read those must not find their numbers taken by others.

    One that was `paused` had no process, so nothing of it was under way; one that is `cancelled` is to end.
    """

    epoch: int
    after: int
    paused: bool = False
    cancelled: bool = False


def left_of(budget: Budget, before: OrchestrationOutput) -> Budget:
    """What is left of the seconds of `budget` for a run that was paused: those that it was paused are not counted."""
    if budget.seconds is None:
        return budget
    return replace(budget, seconds=max(0.001, budget.seconds - before.timing.total_ms / 1000))


def check_same(strategy: str, before: OrchestrationOutput) -> None:
    """Raises ConflictError: what had come of a run when it was last paused is another strategy's than that it asks for now."""
    if strategy != before.strategy:
        message = f"the run was paused in the strategy {before.strategy!r}, and what it asks for runs {strategy!r} now"
        raise ConflictError(message)


def withdrawing(run: Run, refusal: QuorumError | None) -> Run:
    """`run`, which had begun. Where there is a `refusal`, since nobody may have it run any more, it only takes back what it
    did, and fails with that.

    Raises:
        QuorumError: the refusal, of a run that takes nothing back.
    """
    if refusal is not None:
        if not run.strategy.keeps_steps:
            raise refusal
        hosting = run.context.hosting
        hosting.withdrawn = hosting.withdrawn or report(refusal)
    return run


def go_on_from(context: RunContext, before: OrchestrationOutput) -> None:
    """What had come of a run when it was last paused is settled: it is not booked again."""
    context.past.settled_ids = frozenset(one.id for one in before.candidates)
    if context.spending.purse is not None:
        context.spending.purse.book_apart(NOTHING, booked(before.usage, before.cost_usd))


def read_paused(content: bytes) -> OrchestrationOutput | None:
    """What had come of a run when it was last paused; None where it never was."""
    return read_result(content) if content else None


async def finished_work(
    records: RunRecords, tenant: str, run_id: str, before: OrchestrationOutput | None
) -> tuple[list[Candidate], dict[str, ToolRun]]:
    """The candidates that have answered, in the order in which they did, and the calls of tools that are over, by their ids.
    Of a log that was trimmed, those that it still has, and all that had come of the run when it was last paused (`before`).

    Raises:
        StateUnavailable: Redis is away.
    """
    found: dict[str, Candidate] = {}
    returned: dict[str, ToolRun] = {}
    if before is not None:
        found = {one.id: one for one in before.candidates if one.status == "succeeded"}
        returned = {one.id: one for one in before.tool_calls if one.status not in ("running", "needs_approval")}
    after = 0
    while events := await records.events(tenant, run_id, after, most=_AT_ONCE):
        after = events[-1].seq
        for event in events:
            if event.type == "candidate.finished":
                candidate = _CANDIDATE.validate_python(orjson.loads(event.data)["candidate"])
                found[candidate.id] = candidate
            elif event.type == "tool.returned":
                call = _TOOL_RUN.validate_python(orjson.loads(event.data)["call"])
                returned[call.id] = call
    return list(found.values()), returned
