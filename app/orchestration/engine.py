"""Runs requests: chooses strategy and models, drives the run, counts and logs what came of it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

import structlog

from app.config.spec import QuorumSpec
from app.core.clock import Clock
from app.core.errors import InvalidRequest
from app.core.run_events import RunEvent, RunFailed, RunFinished
from app.core.runs import OrchestrationOutput, RunRequest
from app.core.streams import close
from app.observability import metrics
from app.orchestration.base import BaseOrchestrator
from app.orchestration.context import RunContext
from app.orchestration.drive import drive
from app.orchestration.prompts import Prompts
from app.orchestration.selection import ModelSource, Targets, select
from app.orchestration.strategies import Strategies, parse_options

_log = structlog.get_logger("quorum.run")


@dataclass(frozen=True, slots=True)
class Run:
    """A run that may begin: everything about it that could be refused has been checked."""

    id: str
    strategy: BaseOrchestrator
    request: RunRequest
    context: RunContext

    async def events(self) -> AsyncGenerator[RunEvent]:
        """What happens, to its end. Closing this cancels the run."""
        clock = self.context.clock
        began = clock.monotonic()
        end: RunFinished | RunFailed | None = None
        source = drive(self.strategy, self.request, self.context)
        try:
            async for event in source:
                if isinstance(event, (RunFinished, RunFailed)):
                    end = event
                    self._note(event)
                yield event
        finally:
            if end is None:
                seconds = clock.monotonic() - began
                metrics.run_abandoned(self.strategy.name, seconds)
                _log.info(
                    "run cancelled",
                    run_id=self.id,
                    request_id=self.request.request_id,
                    strategy=self.strategy.name,
                    ms=round(seconds * 1000, 1),
                )
            await close(source)

    async def result(self) -> OrchestrationOutput:
        """The fold of `events`."""
        result: OrchestrationOutput | None = None
        async for event in self.events():
            if isinstance(event, (RunFinished, RunFailed)):
                result = event.result
        if result is None:
            raise RuntimeError(f"run {self.id} ended without a result")
        return result

    def _note(self, end: RunFinished | RunFailed) -> None:
        metrics.run_ended(end)
        result = end.result
        if result is None:
            return
        _log.info(
            "run ended",
            run_id=self.id,
            request_id=self.request.request_id,
            strategy=result.strategy,
            recipe=result.recipe,
            status=result.status,
            candidates=len(result.candidates),
            source_model=result.output.source_model,
            tokens=result.usage.total_tokens,
            cost_usd=result.cost_usd,
            ms=round(result.timing.total_ms, 1),
            error=result.error.code if result.error else None,
        )


class Engine:
    """Makes runs of requests, by the configuration in force.

    Parameters:
        source: the models.
        strategies: the strategies.
        spec: the configuration; `configure` replaces it for runs that begin later.
    """

    def __init__(self, source: ModelSource, strategies: Strategies, spec: QuorumSpec, clock: Clock) -> None:
        self.strategies = strategies
        self._source = source
        self._clock = clock
        self.configure(spec)

    def configure(self, spec: QuorumSpec) -> None:
        """Take a new configuration.

        Raises:
            ConfigError: a prompt in it is wrong; the old one stays.
        """
        patterns = {name: pattern.prompt for name, pattern in spec.analyses.items()}
        self._prompts = Prompts(spec.prompts, patterns)
        self.targets = Targets(spec)
        self.spec = spec

    def begin(self, request: RunRequest) -> Run:
        """Check `request` and prepare its run. Nothing is called yet.

        Raises:
            InvalidRequest: it asks for something impossible, unknown or beyond the limits.
        """
        strategy = self.strategies.get(request.config.strategy)
        return self.begin_with(strategy, request)

    def begin_with(self, strategy: BaseOrchestrator, request: RunRequest) -> Run:
        """As `begin`, with a strategy that need not be registered."""
        self._check_limits(request)
        options = parse_options(strategy, request.config.options)
        generation = self.targets.generation(request.generation, request.config.recipe)
        deadline = request.deadline
        if request.budget.seconds is not None:
            own = self._clock.monotonic() + request.budget.seconds
            deadline = own if deadline is None else min(own, deadline)
        if generation is not request.generation or deadline is not request.deadline:
            request = replace(request, generation=generation, deadline=deadline)
        selected = select(self._source, self.spec, strategy, request)
        run_id = new_run_id()
        context = RunContext(
            run_id=run_id,
            request=request,
            models=selected.models,
            lead=selected.lead,
            options=options,
            clock=self._clock,
            prompts=self._prompts,
            max_concurrent_calls=self.spec.limits.max_concurrent_calls,
        )
        strategy.check(request, context)
        return Run(run_id, strategy, request, context)

    def _check_limits(self, request: RunRequest) -> None:
        limits, generation = self.spec.limits, request.generation
        if not request.messages:
            raise InvalidRequest("there is no message to answer", param="messages")
        if len(request.messages) > limits.max_messages:
            message = f"{len(request.messages)} messages; at most {limits.max_messages} are taken"
            raise InvalidRequest(message, param="messages")
        if generation.max_tokens is not None and generation.max_tokens > limits.max_tokens:
            message = f"max_tokens is {generation.max_tokens}; at most {limits.max_tokens} may be asked for"
            raise InvalidRequest(message, param="max_tokens")
        if generation.n > limits.max_choices:
            raise InvalidRequest(f"n is {generation.n}; at most {limits.max_choices} may be asked for", param="n")


def new_run_id() -> str:
    """`run_` and 24 characters that no other run has: 96 random bits."""
    return "run_" + os.urandom(12).hex()
