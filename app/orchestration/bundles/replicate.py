"""One replicate of a bundle: a run of its own inside of the one that asks for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from app.core.chat import JsonObject
from app.core.run_events import RunEvent
from app.core.run_fold import RunFold, total_cost, total_usage
from app.core.runs import HelperCall, OrchestrationOutput
from app.orchestration.evidence.bundle import Replicate
from app.orchestration.evidence.extraction import AnswerKind, Extracted, extract
from app.orchestration.inner_run import InnerRun
from app.orchestration.run import Run


class ReplicateRun:
    """A replicate; `answer` is there when it is over. Its models' calls are helper calls of the run that it is inside of.

    Parameters:
        number: its place among the replicates, from 0.
        kind: how its answer is read.
    """

    answer: Replicate | None = None

    def __init__(self, number: int, run: Run, kind: AnswerKind) -> None:
        self.number = number
        self.run = run
        self._kind = kind
        self._inner = InnerRun(run, "replicate")

    async def events(self) -> AsyncGenerator[RunEvent | ReplicateRun]:
        """Its calls as they end, and last itself, with its answer."""
        async with aclosing(self._inner.events()) as events:
            async for event in events:
                yield event
        self.answer = self._answered(self._inner.result)
        yield self

    def unheard(self, fold: RunFold) -> Iterator[RunEvent]:
        """As `Unheard` of the run that it is inside of."""
        return self._inner.unheard(fold)

    @property
    def calls(self) -> tuple[HelperCall, ...]:
        """The calls of its models that are over."""
        return self._inner.calls

    @property
    def tools_usd(self) -> float:
        """Dollars for the tools that it called itself."""
        return self._inner.tools_usd

    def as_json(self) -> JsonObject:
        """It as evidence, in the shape of the contract, with what it took besides."""
        result, request = self._inner.result, self.run.request
        found: JsonObject = dict(self.answer.as_json()) if self.answer is not None else {}
        found["seed"] = request.generation.seed
        cost = total_cost(self.calls)
        found["cost_usd"] = None if cost is None else cost + self.tools_usd
        if result is not None:
            found["latency_ms"] = round(result.timing.total_ms, 1)
            if result.error is not None:
                found["error"] = result.error.code
            if result.warnings:
                found["warnings"] = list(result.warnings)
        return found

    def _answered(self, result: OrchestrationOutput | None) -> Replicate:
        model = result.output.source_model if result is not None else None
        name = model or self.run.context.models[0].profile.name
        return Replicate(f"r{self.number + 1}", name, _read(result, self._kind), total_usage(self.calls))


def _read(result: OrchestrationOutput | None, kind: AnswerKind) -> Extracted:
    """What it says; with the reason where that is no answer."""
    if result is None:
        return Extracted(errors=("ended without a result",))
    if result.status not in ("succeeded", "needs_review"):
        return Extracted(errors=(result.error.message if result.error is not None else f"ended as {result.status}",))
    output = result.output
    if output.finish_reason == "length":
        return Extracted(errors=("was cut off: it is longer than max_tokens",))
    if output.refusal and not output.text.strip():
        return Extracted(errors=(f"refused: {output.refusal[:300]}",))
    return extract(output.text, kind)
