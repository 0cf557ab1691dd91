"""What a strategy is given to work with: the run's models, and ways to ask them that book what they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from app.core.chat import CallContext, ChatRequest, Generation
from app.core.clock import Clock
from app.core.messages import Message
from app.core.models import Model
from app.core.runs import CallRole, RunRequest
from app.orchestration.calls import CandidateCall, Consultation
from app.orchestration.prompts import Prompts


@dataclass(slots=True, eq=False)
class RunContext:
    """One run's surroundings.

    `models` are the selected ones in their order, `lead` the one that leads where the strategy has one (and the request
    named one). `options` is an instance of the strategy's `Options`.
    """

    run_id: str
    request: RunRequest
    models: tuple[Model, ...]
    lead: Model | None
    options: Any
    clock: Clock
    prompts: Prompts
    max_concurrent_calls: int = 16
    _numbers: Any = field(default_factory=lambda: count(1))

    def ask(
        self,
        model: Model,
        messages: tuple[Message, ...] | None = None,
        *,
        replicate: int = 0,
        layer: int = 1,
        generation: Generation | None = None,
        output: bool = False,
    ) -> CandidateCall:
        """A candidate: the run's question put to `model` (or `messages` in its place).

        With `output` what it says is the run's answer as well.
        """
        deltas = self.request.deltas
        incremental = deltas == "all" or (output and deltas == "output")
        request = self._chat(model, messages, generation, incremental=incremental, tools=True)
        return CandidateCall(
            f"c{next(self._numbers)}",
            model,
            request,
            self.clock,
            replicate=replicate,
            layer=layer,
            watched=deltas == "all",
            output=output,
        )

    def consult(
        self,
        role: CallRole,
        model: Model,
        messages: tuple[Message, ...],
        *,
        generation: Generation | None = None,
        output: bool = False,
    ) -> Consultation:
        """A call that makes no candidate: `model` helps the run in `role`. With `output` what it says is the run's answer."""
        incremental = output and self.request.deltas != "none"
        request = self._chat(model, messages, generation, incremental=incremental, tools=False)
        return Consultation(role, model, request, self.clock, output=output)

    def _chat(
        self,
        model: Model,
        messages: tuple[Message, ...] | None,
        generation: Generation | None,
        *,
        incremental: bool,
        tools: bool,
    ) -> ChatRequest:
        run = self.request
        return ChatRequest(
            model.profile.model,
            run.messages if messages is None else messages,
            run.generation if generation is None else generation,
            run.tools if tools else (),
            run.tool_choice if tools else "auto",
            incremental,
            model.profile.extra_body,
            CallContext(self.run_id, run.request_id, run.tenant, run.traceparent, run.deadline),
        )

    def option(self, name: str) -> Any:
        """One option by name, for strategies that share code."""
        options: Mapping[str, Any] | Any = self.options
        return getattr(options, name)
