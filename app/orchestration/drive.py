"""One run from its first event to its last: the frame that every strategy runs in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import structlog

from app.core.errors import DeadlineExceeded, OrchestratorError, QuorumError, report
from app.core.lifecycle import stopping
from app.core.run_events import OutputDelta, RunEvent, RunFailed, RunFinished, RunPaused, RunStarted, Warning
from app.core.run_fold import RunFold, parse_json
from app.core.runs import RunRequest, Timing
from app.core.streams import close, with_deadline
from app.orchestration.base import BaseOrchestrator
from app.orchestration.context import RunContext
from app.orchestration.conversations.conversations import OpenConversation
from app.orchestration.conversations.spoken import spoken

TAKES_ITS_TURN: Final = ("succeeded", "needs_review")
"""How a run ends whose answer becomes part of its conversation."""

RunEnd = RunFinished | RunFailed | RunPaused

_log = structlog.get_logger("quorum.run")


async def drive(
    strategy: BaseOrchestrator, request: RunRequest, context: RunContext, fold: RunFold | None = None
) -> AsyncIterator[RunEvent]:
    """The events of a run, numbered by their order: `RunStarted`, the strategy's own, and exactly one end, or what pauses it.

    The end carries the result, which is the fold of all events before it. They are added to `fold` before they are told.
    """
    clock, fold = context.clock, fold or RunFold(context.run_id)
    began = clock.monotonic()
    started = _started(strategy, request, context)
    fold.add(started)
    yield started
    for note in context.conversation.notes if context.conversation else ():
        fold.add(Warning(note))
        yield Warning(note)
    first_output: float | None = None
    end: RunEnd | None = None
    try:
        source = _in_time(strategy, request, context)
        try:
            async for event in source:
                if isinstance(event, (RunFinished, RunFailed, RunPaused)):
                    end = event
                    break
                if first_output is None and isinstance(event, OutputDelta):
                    first_output = (clock.monotonic() - began) * 1000
                fold.add(event)
                yield event
        finally:
            await close(source)
    except asyncio.CancelledError:
        if not context.hosting.draining.was_cut():
            raise
        end = end or RunFailed(report(stopping()))
    except QuorumError as error:
        end = end or RunFailed(report(error))
    except Exception as error:  # the boundary: a strategy's fault is the run's failure, not the server's
        _log.exception("strategy failed", run_id=context.run_id, strategy=strategy.name, error_type=type(error).__name__)
        end = end or RunFailed(report(error))
    for event in context.book.unheard(fold):
        fold.add(event)
        yield event
    end = _judged(end, strategy, fold)
    if isinstance(end, RunFinished) and end.status in TAKES_ITS_TURN and context.conversation is not None:
        end, note = await _kept(end, fold, context, context.conversation)
        if note is not None:
            fold.add(Warning(note))
            yield Warning(note)
    watched = first_output if request.deltas != "none" else None
    before_ms = context.past.before.timing.total_ms if context.past.before else 0.0
    yield _told(end, fold, request, Timing(before_ms + (clock.monotonic() - began) * 1000, watched))


def _started(strategy: BaseOrchestrator, request: RunRequest, context: RunContext) -> RunStarted:
    return RunStarted(
        strategy=strategy.name,
        recipe=request.config.recipe,
        metadata=request.metadata,
        request_id=request.request_id,
        trace_id=request.traceparent.split("-")[1] if request.traceparent else None,
        created_at=context.past.before.created_at if context.past.before else int(context.clock.now()),
        conversation_id=request.conversation_id,
    )


def _in_time(strategy: BaseOrchestrator, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
    """What the strategy tells, until the run's deadline."""

    def expired(_phase: str) -> QuorumError:
        return DeadlineExceeded("the run's deadline passed before it had an answer")

    source = strategy.run(request, context)
    if request.deadline is None or strategy.ends_itself:
        return source
    return with_deadline(source, expired=expired, until=request.deadline)


def _judged(end: RunEnd | None, strategy: BaseOrchestrator, fold: RunFold) -> RunEnd:
    """The end that a strategy has told; a failure where it told none, and one to look at where nobody knows what was done."""
    if end is None:
        return RunFailed(report(OrchestratorError(f"the strategy {strategy.name!r} ended without an answer")))
    if isinstance(end, RunFinished) and end.status == "succeeded" and fold.uncertain:
        return replace(end, status="needs_review")  # a person is to look what came of it
    return end


async def _kept(
    end: RunFinished, fold: RunFold, context: RunContext, conversation: OpenConversation
) -> tuple[RunFinished | RunFailed, str | None]:
    """The end of a run that has taken its turn in a conversation, and what there is to say of that. One whose turn cannot be
    appended has failed: the next request would be answered as if this one had not been made."""
    fold.add(end)
    result = fold.result()
    try:
        return end, await conversation.keep(result, spoken(result.output, context))
    except QuorumError as error:
        return RunFailed(report(error)), None


def _told(end: RunEnd, fold: RunFold, request: RunRequest, timing: Timing) -> RunEnd:
    """The last event as it is told: with the time that the run took and, where it is over, its result."""
    if isinstance(end, RunPaused):
        end = replace(end, timing=timing)
        fold.add(end)
        return end
    if isinstance(end, RunFailed):
        fold.add(RunFailed(end.error, end.status, timing))
        return RunFailed(end.error, end.status, timing, fold.result())
    json, wanted = end.json, request.generation.response_format
    if wanted and wanted.type != "text":
        fold.add(end)
        json = parse_json(fold.result().output.text)
    said = (end.status, end.source_model, end.is_synthesized, end.endings, json, timing)
    fold.add(RunFinished(*said))
    return RunFinished(*said, fold.result())
