"""Models that answer by script, at the border where a run calls them, and runs over such models whose laws are checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.core.chat import DEFAULT_GENERATION, ChatRequest, ChatResponse, Choice, FinishReason, Generation, ToolDefinition
from app.core.clock import SystemClock
from app.core.errors import ProviderError
from app.core.messages import Message, ReasoningPart, ToolCallPart, user
from app.core.model_events import (
    ModelEvent,
    ReasoningDelta,
    RefusalDelta,
    ResponseFinished,
    ResponseStarted,
    TextDelta,
    ToolCallDelta,
)
from app.core.models import Capabilities, Model, ModelProfile
from app.core.run_events import RunEvent, RunFailed, RunFinished
from app.core.run_fold import RunFold
from app.core.runs import Deltas, OrchestrationConfig, OrchestrationOutput, RunRequest
from app.core.usage import Usage
from app.orchestration.context import RunContext
from app.orchestration.drive import drive
from app.orchestration.prompts import Prompts
from app.orchestration.simple import SimpleOptions, SimpleOrchestrator

PHASES = {
    "synthesis": "Write the one answer that the conversation above should get.",
    "layer": "Give your own answer to the conversation above",
    "ranking": "Rank the answers from best to worst",
    "judge": "Judge this one answer by these criteria",
    "choice": "Choose the one answer that is most likely to be correct",
    "analysis": "Do not answer the conversation yourself",
}
"""A sentence of each prompt, by which a scripted model knows what it is asked for."""


@dataclass
class Reply:
    """What a model says: `pieces` of text, then `error` if there is one. `hold` keeps it silent after its pieces."""

    pieces: Sequence[str] = ()
    error: ProviderError | None = None
    refusal: str = ""
    tool_calls: tuple[ToolCallPart, ...] = ()
    finish_reason: FinishReason = "stop"
    hold: asyncio.Event | None = None
    reasoning: tuple[ReasoningPart, ...] = ()


def failure(name: str, failure: Any = "overloaded") -> Reply:
    return Reply(error=ProviderError(f"{name} is {failure}", failure=failure, provider="p", model=name))


class Scripted:
    """A model. `says` is its answer as a candidate, the others what it says in that phase; `asked` what it was asked."""

    def __init__(self, name: str, says: str | Reply = "", *, capabilities: Capabilities | None = None, **phases: Any) -> None:
        self.name = name
        self.model = Model(ModelProfile(name, "p", name, capabilities or Capabilities()), self.call)
        self.asked: list[ChatRequest] = []
        self.phases: list[str] = []
        self.open = 0
        self._replies: dict[str, Any] = {"candidate": says or f"the answer of {name}", **phases}

    def profiled(self, **members: Any) -> Model:
        """The model, with this in its profile."""
        return replace(self.model, profile=replace(self.model.profile, **members))

    def prompts(self, phase: str) -> list[str]:
        """The last message of each call of `phase`."""
        return [request.messages[-1].text for request, was in zip(self.asked, self.phases, strict=True) if was == phase]

    async def call(self, request: ChatRequest) -> AsyncIterator[ModelEvent]:
        phase = next((name for name, sign in PHASES.items() if sign in request.messages[-1].text), "candidate")
        self.asked.append(request)
        self.phases.append(phase)
        reply = self._replies.get(phase, f"{phase} by {self.name}")
        if callable(reply):
            reply = reply(request)
        if isinstance(reply, str):
            reply = Reply([reply])
        self.open += 1
        try:
            async for event in self._events(reply, request.incremental):
                yield event
        finally:
            self.open -= 1

    async def _events(self, reply: Reply, incremental: bool) -> AsyncIterator[ModelEvent]:
        if incremental:
            yield ResponseStarted("r", self.name)
            for part in reply.reasoning:
                yield ReasoningDelta(part.text, 0, part.signature, part.redacted)
            for piece in reply.pieces:
                await asyncio.sleep(0)
                yield TextDelta(piece)
            if reply.refusal:
                yield RefusalDelta(reply.refusal)
            for index, call in enumerate(reply.tool_calls):
                yield ToolCallDelta(index, call.arguments, call.id, call.name)
        if reply.hold:
            await reply.hold.wait()
        if reply.error:
            raise reply.error
        thought = "".join(part.text for part in reply.reasoning)
        choice = Choice(0, "".join(reply.pieces), thought, reply.refusal, reply.tool_calls, reply.finish_reason)
        choice = replace(choice, reasoning_parts=reply.reasoning)
        yield ResponseFinished(ChatResponse("r", self.name, (choice,), Usage(3, 2)))


@dataclass
class Ran:
    """What a run did."""

    events: list[RunEvent]
    result: OrchestrationOutput

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]


def prepare(
    models: Sequence[Scripted],
    *,
    lead: Scripted | None = None,
    deltas: Deltas = "all",
    messages: tuple[Message, ...] = (user("What is it?"),),
    generation: Generation = DEFAULT_GENERATION,
    tools: tuple[ToolDefinition, ...] = (),
    prompts: Prompts | None = None,
    limit: int = 16,
    **options: Any,
) -> tuple[RunRequest, RunContext]:
    """A run of `simple` over `models`, ready to begin."""
    config = OrchestrationConfig("simple", tuple(m.name for m in models), lead.name if lead else None, options)
    request = RunRequest(config, messages, generation, tools, deltas=deltas)
    context = RunContext(
        "run_1",
        request,
        tuple(scripted.model for scripted in models),
        lead.model if lead else None,
        SimpleOptions(**options),
        SystemClock(),
        prompts or Prompts(),
        limit,
    )
    return request, context


async def run(models: Sequence[Scripted], **how: Any) -> Ran:
    """Run `simple` to its end."""
    request, context = prepare(models, **how)
    strategy = SimpleOrchestrator()
    strategy.check(request, context)
    return lawful([event async for event in drive(strategy, request, context)], models, "run_1")


def lawful(events: list[RunEvent], models: Sequence[Scripted], run_id: str) -> Ran:
    """Check what holds of every run: one end, all calls closed, and the result is the fold, with or without its `result`."""
    ends = [event for event in events if isinstance(event, (RunFinished, RunFailed))]
    assert ends == [events[-1]]
    assert not any(scripted.open for scripted in models)
    fold = RunFold(run_id)
    for event in (*events[:-1], replace(ends[0], result=None)):
        fold.add(event)
    assert ends[0].result is not None
    assert fold.result() == ends[0].result
    return Ran(events, ends[0].result)
