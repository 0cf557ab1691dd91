"""Bundle tools as the toolbox knows them, and as runs of their own where nobody's model calls them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, ClassVar, Final

from app.config.spec import QuorumSpec
from app.config.tools import BundleBudget, BundleToolConfig
from app.core.chat import Generation, JsonObject, ResponseFormat
from app.core.clock import Clock
from app.core.errors import ToolExecutionError
from app.core.messages import user
from app.core.run_events import RunEvent, RunFinished
from app.core.runs import Budget, OrchestrationConfig, RunRequest
from app.core.templates import filled
from app.core.tools import FIRST, EnclosingRun, Priced, ToolCaller, ToolSpec, Version, parse_reference
from app.orchestration.base import BaseOrchestrator
from app.orchestration.bundles.bundle import Bundle
from app.orchestration.bundles.replicate import ReplicateRun
from app.orchestration.charging import purse_inside
from app.orchestration.context import RunContext
from app.orchestration.engine import Engine
from app.orchestration.evidence.extraction import JsonAnswer, TextAnswer
from app.orchestration.tools.offering import DEEPEST, enclosing
from app.reliability.forecast import PlannedCall
from app.tools.failures import failed

OUTPUT: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "meta": {"type": "object", "required": ["task", "k", "models", "seeds", "early_stopped"]},
        "replicates": {"type": "array", "items": {"type": "object", "required": ["id", "model", "data", "quality", "usage"]}},
        "summary": {"type": "object", "required": ["consensus", "disagreements", "confidence", "valid", "failed"]},
    },
    "required": ["meta", "replicates", "summary"],
}


class Bundles:
    """The bundle tools of the configuration in force. They can be called once `engine` is there, which runs what they ask."""

    engine: Engine | None = None

    def __init__(self, spec: QuorumSpec, clock: Clock) -> None:
        self.spec = spec
        self._clock = clock

    def tools(self) -> list[BundleTool]:
        """Those of `spec`."""
        return [BundleTool(reference, config, self, self._clock) for reference, config in self.spec.tools.bundles.items()]


class BundleTool:
    """Asks an orchestration several times, and gives an `EvidenceBundle`."""

    def __init__(self, reference: str, config: BundleToolConfig, bundles: Bundles, clock: Clock) -> None:
        self.spec = spec_of(reference, config)
        self._config = config
        self._bundles = bundles
        self._clock = clock

    @property
    def unavailable(self) -> str | None:
        return "orchestrations are not run here" if self._bundles.engine is None else None

    async def run(self, arguments: dict[str, Any], caller: ToolCaller) -> Any:
        prompt = filled(self._config.prompt, arguments)
        return await (self._alone(prompt, caller) if caller.inside is None else self._inside(prompt, caller, caller.inside))

    async def _inside(self, prompt: str, caller: ToolCaller, inside: EnclosingRun) -> Priced:
        """As a part of the run whose model calls it, which books the calls of models."""
        bundle = self._bundle(prompt, caller, inside)
        async with aclosing(bundle.events()) as events:
            async for event in events:
                inside.tell(event)
        return Priced(bundle.as_json(), bundle.tools_usd)

    async def _alone(self, prompt: str, caller: ToolCaller) -> Priced:
        """As a run of its own: admitted, booked and counted like one."""
        engine = self._engine()
        strategy = BundleOrchestrator(lambda inside: self._bundle(prompt, caller, inside))
        config = OrchestrationConfig(strategy.name)
        run = await engine.admit(
            engine.begin_with(strategy, replace(_request(config, prompt, caller), deadline=caller.deadline))
        )
        result = await run.result()
        if result.error is not None:
            failure = ToolExecutionError(result.error.message, tool=self.spec.name, retry_after=result.error.retry_after)
            failure.code = result.error.code
            raise failure
        took: float | None = result.output.json["summary"]["cost_usd"]
        return Priced(result.output.json, took or 0.0)

    def _bundle(self, prompt: str, caller: ToolCaller, inside: EnclosingRun) -> Bundle:
        """The bundle, inside of a run.

        Raises:
            ToolExecutionError: it is inside of itself, or of too many others.
        """
        config, name = self._config, self.spec.name
        if name in inside.within or len(inside.within) >= DEEPEST:
            raise failed(name, f"it is called inside of {' -> '.join(inside.within)}, where it may not be")
        request = self._asking(prompt, caller)
        purse = purse_inside(inside.purse, _budget(config.budget), request)
        within = replace(
            inside,
            purse=purse or inside.purse,
            needs_prices=inside.needs_prices or config.budget.cost_usd is not None,
            within=(*inside.within, name),
        )
        schema = config.json_schema
        kind = TextAnswer() if schema is None else JsonAnswer(schema)

        def begin(number: int, at_once: int) -> ReplicateRun:
            asked = replace(request, generation=self._generation(number))
            inner = replace(within, max_concurrent_calls=at_once)
            run = self._engine().begin_inside(asked, inner, number=number, own=_budget(config.replicate_budget))
            return ReplicateRun(number, run, kind)

        seeds = tuple(config.seeds[: config.k])
        return Bundle(name, begin, within, k=config.k, seeds=seeds, epsilon=config.epsilon, as_json=schema is not None)

    def _asking(self, prompt: str, caller: ToolCaller) -> RunRequest:
        """What every replicate is asked, but for its seed and temperature."""
        config = self._config
        asked = self._engine().targets.asked(
            strategy=config.strategy,
            recipe=config.recipe,
            models=config.models,
            lead_model=config.lead_model,
            options=config.options,
        )
        deadline = caller.deadline
        if config.budget.seconds is not None:
            own = self._clock.monotonic() + config.budget.seconds
            deadline = own if deadline is None else min(own, deadline)
        request = _request(asked, prompt, caller)
        return replace(request, deadline=deadline, budget=Budget(seconds=config.replicate_budget.seconds))

    def _generation(self, number: int) -> Generation:
        config = self._config
        return Generation(
            temperature=config.temperatures[number % len(config.temperatures)] if config.temperatures else None,
            seed=config.seeds[number % len(config.seeds)] if config.seeds else None,
            response_format=None if config.json_schema is None else ResponseFormat("json_schema", schema=config.json_schema),
        )

    def _engine(self) -> Engine:
        if self._bundles.engine is None:
            raise failed(self.spec.name, "orchestrations are not run here")
        return self._bundles.engine


class BundleOrchestrator(BaseOrchestrator):
    """A bundle as a run of its own. It asks no model itself, and each replicate's calls are reserved when they are made."""

    name: ClassVar[str] = "bundle"
    summary: ClassVar[str] = "A bundle tool that is called over HTTP."
    models_needed: ClassVar[int | None] = 0
    loops: ClassVar[bool] = True

    def __init__(self, make: Callable[[EnclosingRun], Bundle]) -> None:
        super().__init__()
        self._make = make

    def worst_case(self, request: RunRequest, context: RunContext) -> Sequence[PlannedCall]:
        return ()

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        def tell(_: RunEvent) -> None:
            """Its events are this run's own."""

        bundle = self._make(enclosing(context, tell))
        async with aclosing(bundle.events()) as events:
            async for event in events:
                yield event
        yield RunFinished(json=bundle.as_json())


def spec_of(reference: str, config: BundleToolConfig) -> ToolSpec:
    """What is known of a bundle tool before it runs."""
    parsed = parse_reference(reference)
    name, version = (parsed.name, Version(*parsed.version or FIRST)) if parsed else (reference, FIRST)
    return ToolSpec(
        name=name,
        description=f"{config.description.strip()}\n{_documentation(config)}",
        input_schema=config.input,
        version=version,
        output_schema=OUTPUT,
        side_effect="read",
        source="orchestration",
        timeout_s=config.timeout_s,
        cost_usd=config.cost_usd,
        scopes=frozenset(config.scopes),
        deprecated=config.deprecated,
        max_result_bytes=config.max_result_bytes,
        max_calls=config.max_calls,
    )


def _documentation(config: BundleToolConfig) -> str:
    asked = f"the recipe {config.recipe!r}" if config.recipe is not None else f"the strategy {config.strategy!r}"
    most = f"up to {config.k} times" if config.epsilon is not None else f"{config.k} times"
    return (
        f"Asks {asked} {most}, independently. Of the result, `summary.consensus` is what the answers agree on, "
        "`summary.confidence` how likely that is right (0 to 1), `summary.disagreements` where they differ, and `replicates` "
        "are the answers."
    )


def _budget(config: BundleBudget) -> Budget:
    return Budget(config.tokens, config.cost_usd, config.seconds)


def _request(config: OrchestrationConfig, prompt: str, caller: ToolCaller) -> RunRequest:
    return RunRequest(
        config,
        (user(prompt),),
        tenant=caller.tenant,
        key_id=caller.key_id,
        key_name=caller.key_name,
        request_id=caller.request_id,
        traceparent=caller.traceparent,
        scopes=caller.scopes,
        address=caller.address,
    )
