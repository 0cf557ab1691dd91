"""Doing what steps do outside of the workflow: asking an orchestration, calling a tool."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import orjson

from app.config.workflows import StepBudget
from app.core.budgets import NOTHING
from app.core.chat import Generation, JsonObject, ResponseFormat
from app.core.errors import QuorumError
from app.core.messages import ToolCallPart, user
from app.core.run_events import RunEvent
from app.core.run_fold import total_usage
from app.core.runs import Budget, OrchestrationOutput, RunRequest
from app.core.streams import close
from app.core.tools import EnclosingRun
from app.orchestration.charging import purse_inside
from app.orchestration.context import RunContext
from app.orchestration.engine import Engine
from app.orchestration.inner_run import InnerRun
from app.orchestration.tools.calling import ServedCall, Terms
from app.orchestration.tools.offering import caller_of, enclosing
from app.reliability.purse import booked
from app.workflows.effects import Effects, call_id
from app.workflows.failing import StepFailed, StepWaits
from app.workflows.halting import Halting
from app.workflows.journal import Journal
from app.workflows.levels import Means
from app.workflows.outcome import Outcome, Tally

_ENDED_WELL = ("succeeded", "needs_review")


class Acting:
    """What steps of one run do. Each method tells what happens, and leaves what came of it in an `Outcome`.

    Parameters:
        within: the tools and workflows that the run is inside of.
    """

    def __init__(
        self, context: RunContext, engine: Engine, journal: Journal, halting: Halting, within: tuple[str, ...]
    ) -> None:
        self._context, self._engine, self._journal, self._within = context, engine, journal, within
        self._halting = halting
        self._number = 0
        self.effects = Effects()
        self.effects.take_over(journal, context.past.returned)

    async def orchestration(
        self, asked: JsonObject, outcome: Outcome, until: float | None, means: Means, *, undoing: bool
    ) -> AsyncGenerator[RunEvent]:
        """Ask what `asked`, an orchestration without references, says. What takes a step back is no budget's to refuse.

        Raises:
            StepFailed: it gave no answer.
            QuorumError: it is impossible.
        """
        inside = replace(self._enclosing(means), purse=None) if undoing else self._enclosing(means)
        before = outcome.own.size
        run = self._engine.begin_inside(request_of(self._engine, self._context.request, asked, until), inside)
        inner = InnerRun(run, "step")
        self._context.book.add(inner)
        try:
            async with aclosing(inner.events()) as events:
                async for event in events:
                    outcome.own.add(event)
                    yield event
        finally:
            if inner.result is None:  # it was cut, and nobody hears of its calls
                outcome.own.settle(before, inner.cut())
        if undoing:
            self._book(outcome.own.since(before))
        result = inner.result
        if result is None or result.status not in _ENDED_WELL:
            if result is not None and result.error is not None:
                raise StepFailed(result.error)
            raise RuntimeError(f"the run {run.id} ended without an answer")
        _answered(outcome, result)

    def _enclosing(self, means: Means) -> EnclosingRun:
        def tell(_: RunEvent) -> None:
            """Its events are told by who runs it."""

        spending = self._context.spending
        purse, priced = means.purse or spending.purse, spending.needs_prices or means.needs_prices
        around = enclosing(self._context, tell)
        return replace(around, within=self._within, is_step=True, purse=purse, needs_prices=priced)

    def means(self, budget: StepBudget | None, around: Means) -> Means:
        """What all that a step with `budget` does draws on: its tries, the items of its map, the steps of its workflow."""
        if budget is None:
            return around
        own = self._own(budget)
        purse = purse_inside(around.purse or self._context.spending.purse, own, self._context.request)
        return Means(purse, around.needs_prices or own.cost_usd is not None)

    def _own(self, budget: StepBudget) -> Budget:
        whole, share = self._context.request.budget, budget.share
        tokens, dollars = [budget.tokens], [budget.cost_usd]
        if share is not None:
            tokens.append(None if whole.tokens is None else max(1, int(whole.tokens * share)))
            dollars.append(None if whole.cost_usd is None else whole.cost_usd * share)
        return Budget(
            min((one for one in tokens if one is not None), default=None),
            min((one for one in dollars if one is not None), default=None),
        )

    def writes(self, name: str) -> bool:
        """Whether the tool `name` may change the world."""
        toolbox = self._context.toolbox
        try:
            return toolbox is None or toolbox.find(name).spec.side_effect == "write"
        except QuorumError:
            return True

    async def tool(
        self, call: JsonObject, path: str, try_: int, outcome: Outcome, until: float | None, means: Means, *, undoing: bool
    ) -> AsyncGenerator[RunEvent]:
        """Call a tool with arguments without references. What writes is begun in the journal before. Where it takes a step back
        nobody is asked, and no budget refuses it.

        Raises:
            StepFailed: it has failed, or may not be called.
            StepWaits: a person must agree first.
        """
        toolbox = self._context.toolbox
        if toolbox is None:
            raise StepFailed(QuorumError("this runtime has no tools of its own", code="tool_unavailable"))
        registered = toolbox.find(call["name"])
        cut, again = False, bool(call.get("idempotent"))
        if registered.spec.side_effect == "write":
            doubted = self._journal.cut(path, try_)
            cut = doubted and not again
            if not cut:
                await self._journal.begin(path, try_, registered.spec.name)
                if not undoing:
                    self.effects.begin(path, registered.spec.name, again=again, doubted=doubted)
        spending, past = self._context.spending, self._context.past
        purse, priced = means.purse or spending.purse, spending.needs_prices or means.needs_prices
        spending = replace(spending, purse=purse, needs_prices=priced)
        context = replace(self._context, spending=spending, past=replace(past, taken=cut))
        if undoing:
            context.approvals = spending.purse = None
        caller = replace(caller_of(context), deadline=until)
        terms = Terms(context, caller, "policy", (registered.spec.name,))
        self._number += 1
        part = ToolCallPart(call_id(path, try_), registered.spec.name, orjson.dumps(call.get("arguments") or {}).decode())
        served = ServedCall(terms, part, self._number, registered, repeated=False)
        yield served.called()
        source, before = served.events(), outcome.own.size
        try:
            async for event in source:
                outcome.own.add(event)
                yield event
        finally:
            await close(source)
        if undoing:
            self._book(outcome.own.since(before))
        self.effects.end(path, served.run.error, made=served.waits_for is None)
        if served.waits_for is not None:
            if registered.spec.side_effect == "write":
                await self._journal.waits(path, try_)
            self._halting.approvals.append(served.waits_for)
            raise StepWaits
        if served.run.error is not None:
            raise StepFailed(served.run.error)
        outcome.output = served.run.result

    def _book(self, took: Tally) -> None:
        """Count what was used beyond what any budget held."""
        purse = self._context.spending.purse
        if purse is not None:
            purse.book(NOTHING, booked(total_usage(took.calls), took.cost_usd))


def request_of(engine: Engine, outer: RunRequest, asked: JsonObject, until: float | None) -> RunRequest:
    """What an orchestration without references asks, in a run that `outer` has asked for.

    Raises:
        InvalidRequest: there is no such strategy or recipe.
    """
    schema = asked.get("schema")
    form = None if schema is None else ResponseFormat("json_schema", schema=schema)
    config = engine.targets.asked(
        strategy=asked.get("strategy"),
        recipe=asked.get("recipe"),
        models=tuple(asked.get("models") or ()),
        lead_model=asked.get("lead_model"),
        options=asked.get("options") or {},
    )
    return RunRequest(
        config,
        (user(asked["input"] if isinstance(asked["input"], str) else orjson.dumps(asked["input"]).decode()),),
        replace(_generation(outer.generation, asked.get("generation") or {}), response_format=form),
        cache=outer.cache,
        deadline=until,
        tenant=outer.tenant,
        key_id=outer.key_id,
        key_name=outer.key_name,
        request_id=outer.request_id,
        traceparent=outer.traceparent,
        scopes=outer.scopes,
        address=outer.address,
    )


def _generation(outer: Generation, own: JsonObject) -> Generation:
    """The settings of the run's request, with what the step says."""
    stated = {name: tuple(value) if name == "stop" else value for name, value in own.items() if value not in (None, [])}
    return replace(outer, **stated)


def _answered(outcome: Outcome, result: OrchestrationOutput) -> None:
    said, consensus = result.output, result.consensus
    outcome.output = {
        "text": said.text or said.refusal,
        "json": said.json,
        "source_model": said.source_model,
        "finish_reason": said.finish_reason,
        "strategy": result.strategy,
        "status": result.status,
    }
    if consensus is not None:
        outcome.facts["confidence"], outcome.facts["agreement"] = consensus.confidence, consensus.agreement
