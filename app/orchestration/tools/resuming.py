"""A panel that was paused goes on: it had chosen before, so its winner goes on, and nobody else is asked again.

What it had come to is told again: what its members had said and done, who had failed or was cut, and what it had counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from app.core.errors import InvalidRequest, QuorumError
from app.core.models import Model
from app.core.run_events import (
    ApprovalDecided,
    CandidateFailed,
    CandidateFinished,
    CandidateScored,
    CandidateStarted,
    EvidenceUpdated,
    HelperFinished,
    LinkPassed,
    PlanMade,
    RunEvent,
    ToolCalled,
    ToolReturned,
    Warning,
)
from app.core.runs import Candidate, OrchestrationOutput
from app.core.tool_runs import ToolRun
from app.orchestration.context import RunContext
from app.orchestration.tools.member import ToolMember
from app.orchestration.tools.pausing import UNSETTLED, is_of, own_ids


@dataclass(frozen=True, slots=True)
class Chosen:
    """Who had won a panel before it was paused: the `model` that sits on `seat`, asked for the `replicate`-th time. What it
    writes is `unwanted` where the panel had not settled it, for that reason. `ids` is what those of its calls begin with."""

    seat: str
    model: Model
    replicate: int
    ids: str
    unwanted: str | None = None


def chosen(context: RunContext) -> Chosen | None:
    """Who goes on with a run that was paused; None where it never was.

    Raises:
        InvalidRequest: its model is not there any more.
    """
    before = context.past.before
    if before is None:
        return None
    for one in before.candidates:
        ids = own_ids(context.run_id, one.model, one.replicate)
        if one.layer == 1 and any(asked.call_id.startswith(f"{ids}_") for asked in before.approvals):
            model = next((model for model in context.models if model.profile.name == one.model), None)
            if model is None:
                raise InvalidRequest(f"{one.model!r}, who was to go on, is not among the models any more", param="models")
            return Chosen(one.id, model, one.replicate, ids, _unwanted(before))
    return None


def _unwanted(before: OrchestrationOutput) -> str | None:
    found = (one.reason.removeprefix(UNSETTLED) for one in before.approvals if one.reason.startswith(UNSETTLED))
    return next(found, None)


async def gone_on(context: RunContext, choice: Chosen, winner: ToolMember) -> AsyncGenerator[RunEvent]:
    """The rest of a run that has `choice`, with what was before, to its end, or to the next pause.

    Raises:
        QuorumError: no model answers, or a tool has failed and is to fail the run.
    """
    before = context.past.before
    assert before is not None  # noqa: S101 - somebody was chosen
    if before.plan is not None:
        yield PlanMade(before.plan)
    finished = [one for one in context.past.finished if is_of(one, choice.seat)]
    for event in told_again(context, before, [one for one in before.tool_calls if not one.id.startswith(f"{choice.ids}_")]):
        yield event
    context.past.finished[:] = finished
    names = dict.fromkeys((*(one.model for one in before.candidates), *(one.profile.name for one in context.models)))
    models = {one.profile.name: one for one in context.models if one.profile.capabilities.tools}
    others = [models[name] for name in names if name in models and name != choice.model.profile.name]
    warned = Counter(before.warnings)
    told: set[str] = set()
    failure: QuorumError | None = None
    try:
        async with aclosing(winner.go_on(others, choice.unwanted)) as events:
            async for event in events:
                if isinstance(event, Warning) and warned[event.message]:
                    warned[event.message] -= 1
                    continue
                if isinstance(event, CandidateStarted):
                    told.add(event.candidate_id)
                yield event
    except QuorumError as error:
        failure = error
    for event in lost(before, told):
        yield event
    if failure is not None:
        raise failure
    review = before.consensus is not None and before.consensus.needs_review
    yield winner.end("needs_review" if review else "succeeded")


def told_again(context: RunContext, before: OrchestrationOutput, calls: list[ToolRun]) -> Iterator[RunEvent]:
    """What had come of a run when it was paused, and is not done again.

    Parameters:
        calls: those of tools that are not to be made by what goes on.
    """
    context.book.reserve([one.id for one in before.candidates])
    for call in before.calls:
        yield HelperFinished(call)
    for candidate in context.past.finished:
        yield _started(candidate)
        yield CandidateFinished(candidate)
    for link in before.path:
        yield LinkPassed(link)
    if before.evidence is not None:
        yield EvidenceUpdated("bundle_ready", before.evidence, before.consensus)
    decided = {one.call_id: one for one in before.approvals if one.status != "pending"}
    for call in calls:
        yield ToolCalled(call.id, call.step, call.name, call.arguments, call.version, call.side_effect, call.candidate_id)
        if call.status not in ("running", "needs_approval"):
            if call.id in decided:
                yield ApprovalDecided(decided[call.id])
            yield ToolReturned(call)
    notes = Counter(context.conversation.notes if context.conversation else ())  # which are told already
    for message in (Counter(before.warnings) - notes).elements():
        yield Warning(message)


def lost(before: OrchestrationOutput, told: Collection[str]) -> Iterator[RunEvent]:
    """Who had failed before, or was cut, but for those that were `told` of; and the scores of all. They are told last: readers
    who were there forget such candidates where a run goes on, and come to the same order so."""
    for candidate in before.candidates:
        if candidate.status in ("failed", "cancelled") and candidate.id not in told:
            yield _started(candidate)
            yield CandidateFailed(candidate)
    for candidate in before.candidates:
        if candidate.score is not None and candidate.status == "succeeded":
            yield CandidateScored(candidate.id, candidate.score)


def _started(one: Candidate) -> CandidateStarted:
    return CandidateStarted(one.id, one.model, one.provider, one.replicate, one.layer)
