"""A bundle: the replicates of one question, asked in rounds until the summary of their answers is stable, and that summary.

1. As many replicates as may settle it (all, without an epsilon) are asked at once.
2. When they have answered, and the summary is stable, that is the end: fewer would not have made it so.
3. Else the next round is asked, until there are k.

Replicates that fail count as asked. Where all have, the bundle fails.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

import orjson

from app.core.chat import JsonObject
from app.core.errors import QuorumError
from app.core.run_events import EvidenceUpdated, RunEvent
from app.core.run_fold import RunFold, total_cost, total_usage
from app.core.run_json import json_bytes
from app.core.runs import BundleMetadata, EvidenceBundle
from app.core.streams import merge
from app.core.tools import EnclosingRun
from app.orchestration.bundles.replicate import ReplicateRun
from app.orchestration.bundles.summary import Summary, stable, summed_up, sureness, wanted
from app.orchestration.consensus.counting import LARGE_CHARACTERS, worth_telling
from app.orchestration.evidence.bundle import Replicate, evidence_bundle
from app.orchestration.evidence.weights import PanelWeights
from app.tools.failures import failed

_SHOWN: Final = 400
"""Characters of a failed replicate's reason that are told where all have failed."""


class Bundle:
    """The replicates of one call of a bundle tool. `evidence` is there when `events` is over.

    Parameters:
        tool: its name.
        begin: makes the replicate of a number, from 0 on, with so many calls at once.
        inside: the run that this is a part of.
        k: how many replicates there are at most.
        epsilon: see `summary`; None where all are asked.
        as_json: whether answers are JSON that follows a schema, else texts.
    """

    evidence: EvidenceBundle

    def __init__(
        self,
        tool: str,
        begin: Callable[[int, int], ReplicateRun],
        inside: EnclosingRun,
        *,
        k: int,
        seeds: tuple[int, ...] = (),
        epsilon: float | None = None,
        as_json: bool,
    ) -> None:
        self._tool, self._begin, self._inside = tool, begin, inside
        self._k, self._seeds, self._epsilon, self._as_json = k, seeds, epsilon, as_json
        self._asked: list[ReplicateRun] = []
        self._heard: list[ReplicateRun] = []
        self._summary: Summary | None = None
        self._early = False

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Ask, and tell of the evidence as it grows.

        Raises:
            ToolExecutionError: no replicate has given an answer that counts, or none can be begun.
        """
        self._inside.beside(self)
        self._ask(self._next())
        yield EvidenceUpdated("bundle_started", EvidenceBundle(self._meta()))
        while True:
            async with aclosing(self._round(self._asked[len(self._heard) :])) as events:
                async for event in events:
                    yield event
            await self._sum_up()
            left = self._k - len(self._asked)
            self._early = left > 0 and self._epsilon is not None and stable(self._summary, left, self._epsilon)
            if self._early or not left:
                break
            self._ask(self._next())
        self.evidence = self._evidence()
        yield EvidenceUpdated("bundle_ready", self.evidence)
        if self._summary is None:
            raise failed(self._tool, f"none of its {len(self._heard)} replicates gave an answer that counts: {self._reasons()}")

    def unheard(self, fold: RunFold) -> Iterator[RunEvent]:
        """As `Unheard` of the run that it is inside of."""
        for one in self._asked:
            yield from one.unheard(fold)

    @property
    def tools_usd(self) -> float:
        """Dollars for the tools that replicates have called."""
        return sum(one.tools_usd for one in self._asked)

    def as_json(self) -> JsonObject:
        """The evidence as the tool's result."""
        return orjson.loads(json_bytes(self.evidence))

    # ---- asking

    def _next(self) -> int:
        """How many to begin next."""
        left = self._k - len(self._asked)
        return left if self._epsilon is None else wanted(self._summary, left, self._epsilon)

    def _ask(self, count: int) -> None:
        """Make the next `count` replicates.

        Raises:
            ToolExecutionError: what they ask is impossible, by the configuration or by what its caller may use.
        """
        first = len(self._asked)
        each = max(1, self._inside.max_concurrent_calls // count)
        try:
            self._asked += [self._begin(number, each) for number in range(first, first + count)]
        except QuorumError as error:
            raise failed(self._tool, f"its replicates cannot be asked: {error.message}") from error

    async def _round(self, batch: Sequence[ReplicateRun]) -> AsyncGenerator[RunEvent]:
        sources = [one.events() for one in batch]
        async with aclosing(merge(sources, limit=self._inside.max_concurrent_calls)) as events:
            async for event in events:
                if not isinstance(event, ReplicateRun):
                    yield event
                    continue
                self._heard.append(event)
                self._heard.sort(key=lambda one: one.number)  # so that ties do not go by who was quick
                if self._inside.watched:
                    yield EvidenceUpdated("replicate_done", EvidenceBundle(self._meta(), self._replicates()))
                    if worth_telling(len(self._heard)) and await self._sum_up():
                        yield EvidenceUpdated("partial_summary", self._evidence())

    # ---- telling

    async def _sum_up(self) -> bool:
        """Make the summary of what was heard, long answers in a thread, so that other runs go on meanwhile; whether there is
        anything to tell."""
        answers = self._answers()
        if sum(len(str(one.read.data)) for one in answers) < LARGE_CHARACTERS:
            self._summary = summed_up(answers, as_json=self._as_json)
        else:
            self._summary = await asyncio.to_thread(summed_up, answers, as_json=self._as_json)
        return self._summary is not None

    def _answers(self) -> list[Replicate]:
        return [one.answer for one in self._heard if one.answer is not None]

    def _replicates(self) -> tuple[JsonObject, ...]:
        return tuple(one.as_json() for one in self._heard)

    def _meta(self) -> BundleMetadata:
        context = self._asked[0].run.context
        names = tuple(model.profile.name for model in context.models)
        return BundleMetadata(context.task.category, self._k, names, self._seeds, self._early)

    def _evidence(self) -> EvidenceBundle:
        answers, summary = self._answers(), self._summary
        if summary is None:
            return EvidenceBundle(self._meta(), self._replicates(), self._took(answers))
        made = evidence_bundle(
            self._meta(),
            answers,
            consensus=summary.consensus,
            disagreements=summary.disagreements,
            distances=summary.distances,
            confidence=sureness(summary, answers, self._weights()),
            interval=None if summary.number is None else (summary.number.low, summary.number.high),
            **({} if summary.number is None else {"coverage": summary.number.coverage}),
        )
        return replace(made, replicates=self._replicates(), summary={**made.summary, **self._took(answers)})

    def _weights(self) -> PanelWeights:
        context = self._asked[0].run.context
        return context.lessons.weights([model.profile for model in context.models])

    def _took(self, answers: Sequence[Replicate]) -> dict[str, Any]:
        calls = [call for one in self._asked for call in one.calls]
        cost, usage = total_cost(calls), total_usage(calls)
        wasted = sum(call.wasted_cost_usd or 0.0 for call in calls)
        return {
            "valid": sum(one.read.valid for one in answers),
            "failed": sum(not one.read.valid for one in answers),
            "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
            "cost_usd": None if cost is None else cost + wasted + self.tools_usd,
        }

    def _reasons(self) -> str:
        said = Counter("; ".join(one.read.errors)[:_SHOWN] for one in self._answers())
        return " | ".join(f"{reason} ({count} times)" if count > 1 else reason for reason, count in said.items())
