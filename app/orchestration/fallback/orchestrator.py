"""fallback: a chain of models, of which the next one is asked where one fails, refuses, or does not pass a check.

    order      `links`: the chain as configured, or by how reliable its models have been
    skip       `links.Conditions`: what a model cannot do, and what a condition rules out
    ask        `turn`: the request transformed, the model asked, the answer transformed and checked
    hand over  here: by the class of the failure, until one answers

An answer that nothing has to pass is shown as it comes. Words that were shown are taken back (`OutputReset`) before another
model speaks, never repeated. With checks a chain is a cascade: Chen et al., "FrugalGPT" (2023).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import ClassVar

from app.core.errors import AllCandidatesFailed, InvalidRequest, QuorumError, report
from app.core.run_events import LinkPassed, OutputReset, PlanMade, RunEvent, RunFinished, Warning
from app.core.runs import LinkOutcome, PathLink, PlanDecision, RunRequest
from app.orchestration.analysis import own_generation
from app.orchestration.base import BaseOrchestrator, NamedModel, StrategyOptions
from app.orchestration.context import RunContext
from app.orchestration.fallback.links import Conditions, Link, chain_of, ordered
from app.orchestration.fallback.options import FallbackOptions
from app.orchestration.fallback.turn import OVER_BUDGET, Failure, Turn
from app.orchestration.fallback.worst import worst_calls
from app.providers.fitting import missing
from app.reliability.forecast import PlannedCall


class FallbackOrchestrator(BaseOrchestrator):
    """Asks one model after the other until one answers."""

    name: ClassVar[str] = "fallback"
    summary: ClassVar[str] = "A chain: the next model is asked where one fails, refuses, or does not pass a check."
    Options: ClassVar[type[StrategyOptions]] = FallbackOptions

    def models_of(self, options: StrategyOptions) -> Sequence[NamedModel]:
        assert isinstance(options, FallbackOptions)  # noqa: S101 - the engine gives what `Options` says
        links = [NamedModel(link.model, ("chain", index, "model")) for index, link in enumerate(options.chain)]
        judges = [
            NamedModel(link.check.judge.model, ("chain", index, "check", "judge", "model"), helps=True)
            for index, link in enumerate(options.chain)
            if link.check and link.check.judge
        ]
        others = [
            NamedModel(link.check.agree.model, ("chain", index, "check", "agree", "model"), helps=True)
            for index, link in enumerate(options.chain)
            if link.check and link.check.agree
        ]
        return [*links, *judges, *others]

    def check(self, request: RunRequest, context: RunContext) -> None:
        links = chain_of(context)
        lack = links[0].lack
        if lack is not None and all(link.lack for link in links):
            raise lack
        for link in links:
            _check_link(link, request, context)

    def plan(self, request: RunRequest, context: RunContext) -> PlanDecision:
        return _plan(ordered(chain_of(context), context), context)

    def worst_case(self, request: RunRequest, context: RunContext) -> Sequence[PlannedCall]:
        return worst_calls(context, chain_of(context))

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        links = ordered(chain_of(context), context)
        yield PlanMade(_plan(links, context))
        walk = _Walk(context, links)
        async with aclosing(walk.events()) as events:
            async for event in events:
                yield event


class _Walk:
    """From link to link, until one answers."""

    def __init__(self, context: RunContext, links: Sequence[Link]) -> None:
        self._context = context
        self._links = links
        self._failures: list[tuple[Link, Failure]] = []
        self._rejected: tuple[Link, Turn] | None = None

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Ask, and tell of each link what became of it.

        Raises:
            QuorumError: the failure that is not handed over, or the only one there was.
            AllCandidatesFailed: more than one was asked and nobody answered.
            InvalidRequest: every link was skipped.
        """
        skipped: list[str] = []
        conditions = Conditions(self._context)
        for place, link in enumerate(self._links, 1):
            reason = await conditions.skips(link)
            if reason is not None:
                skipped.append(f"{link.name!r}: {reason}")
                yield _passed(link, "skipped", reason=reason)
                continue
            turn = Turn(self._context, link, last=place == len(self._links))
            async with aclosing(turn.events()) as events:
                async for event in events:
                    yield event
            failure = turn.failure
            if failure is None:
                yield _passed(link, "answered", turn)
                yield turn.ending
                return
            self._failures.append((link, failure))
            if failure.word == "low_quality":
                self._rejected = link, turn
            hands_over = failure.word == OVER_BUDGET or link.options.hands_over(failure.word)
            if place == len(self._links) or not hands_over:
                yield _passed(link, "failed", turn)
                for event in self._so_far(failure):
                    yield event
                    if isinstance(event, RunFinished):
                        return
                raise self._end(failure, link)
            yield _passed(link, "handed_over", turn)
            if failure.word != "low_quality":  # which is how a cascade is meant to go
                yield Warning(f"{link.name!r} hands over ({failure.word}): {failure.error.message}")
            if turn.said:
                yield OutputReset(f"{link.name!r} failed after it had begun to answer ({failure.word})")
        if self._failures:
            for event in self._so_far(self._failures[-1][1]):
                yield event
                if isinstance(event, RunFinished):
                    return
            raise self._end(self._failures[-1][1], None)
        raise InvalidRequest(f"every link of the chain is skipped. {'; '.join(skipped)}", param="options.chain")

    def _so_far(self, failure: Failure) -> Iterator[RunEvent]:
        """Where the budget held no better answer, the last one that did not pass, if there is one."""
        if failure.word != OVER_BUDGET or self._rejected is None:
            return
        link, turn = self._rejected
        yield Warning(
            f"the budget holds no further link; the output is the answer of {link.name!r}, which did not pass its check"
        )
        yield LinkPassed(PathLink(link.number, link.name, "answered", turn.candidate_id, reason=failure.error.message))
        yield from turn.rejected()
        yield turn.rejected_ending()

    def _end(self, failure: Failure, refusing: Link | None) -> QuorumError:
        """What the run fails with: the failure itself where it is the only one or is not handed over, else all of them.

        Parameters:
            refusing: the last link asked, where no other was left or it does not hand over.
        """
        if (
            len(self._failures) == 1
            or failure.word == OVER_BUDGET
            or (refusing and not refusing.options.hands_over(failure.word))
        ):
            return failure.error
        reasons = "; ".join(f"{link.name!r} ({failed.word}): {failed.error.message}" for link, failed in self._failures)
        reports = tuple(report(failed.error) for _, failed in self._failures)
        return AllCandidatesFailed(f"none of the {len(self._failures)} models asked gave an answer. {reasons}", reports=reports)


def _passed(link: Link, outcome: LinkOutcome, turn: Turn | None = None, *, reason: str | None = None) -> LinkPassed:
    failure = turn.failure if turn else None
    return LinkPassed(
        PathLink(
            link=link.number,
            model=link.name,
            outcome=outcome,
            candidate_id=turn.candidate_id if turn else None,
            failure=failure.word if failure else None,
            reason=failure.error.message if failure else reason,
        )
    )


def _plan(links: Sequence[Link], context: RunContext) -> PlanDecision:
    options: FallbackOptions = context.options
    names = [link.name for link in links]
    how = "by how reliably they have answered" if options.dynamic else "in this order"
    checked = sum(link.options.check is not None for link in links)
    then = f"; {checked} of them must pass a check" if checked else ""
    reason = f"{len(names)} models are asked {how}, the next one where one hands over{then}"
    return PlanDecision("fallback", tuple(names), fallbacks=tuple(names[1:]), reason=reason)


def _check_link(link: Link, request: RunRequest, context: RunContext) -> None:
    where = f"options.chain.{link.number - 1}"
    most, asked = context.max_tokens, link.asked.generation.max_tokens
    if most is not None and asked is not None and asked > most:
        message = f"max_tokens is {asked}; at most {most} may be asked for"
        raise InvalidRequest(message, param=f"{where}.request.generation.max_tokens")
    if request.generation.n > 1 and not link.options.live:
        message = f"n is {request.generation.n}, but an answer that is transformed or checked is one; leave n out"
        raise InvalidRequest(message, param="n")
    agree = link.options.check.agree if link.options.check else None
    if agree is not None:
        asked_too = link.asked
        lack = missing(context.named[agree.model].profile, asked_too.messages, asked_too.generation, asked_too.tools)
        if lack is not None:
            raise InvalidRequest(f"who is to agree cannot be asked this: {lack.message}", param=f"{where}.check.agree.model")
    if link.options.check and link.options.check.judge:
        judge = context.named[link.options.check.judge.model]
        lack = missing(judge.profile, request.messages, own_generation(context, judge), ())
        if lack is not None:
            raise InvalidRequest(f"the judge cannot read the request: {lack.message}", param=f"{where}.check.judge.model")
