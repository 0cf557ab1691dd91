"""The body of `POST /v1/chat/completions`: what the official SDKs send, plus `quorum`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from app.api.schemas.messages import (
    Body,
    MessageBody,
    ResponseFormatBody,
    ToolBody,
    ToolChoiceBody,
    tool_choice,
)
from app.api.schemas.orchestrations import CONVERSATION, BudgetBody, ConversationId
from app.core.chat import CacheMode, Generation, ReasoningEffort
from app.core.errors import CapabilityMissing
from app.core.runs import Budget, Deltas, OnBudget, OrchestrationConfig, RunRequest

_UNSUPPORTED = {
    "logit_bias": "no token is biased here",
    "audio": "audio is not served",
    "prediction": "predicted outputs are not served",
    "web_search_options": "web search is not served; give the model a tool",
    "functions": "use `tools`",
    "function_call": "use `tool_choice`",
}


class StreamOptionsBody(Body):
    include_usage: bool = False
    include_obfuscation: bool = False


class QuorumMember(Body):
    """What OpenAI's dialect has no word for."""

    options: dict[str, Any] = Field(default_factory=dict, description="The strategy's options.")
    budget: BudgetBody | None = None
    on_budget: OnBudget = "fail"
    cache: CacheMode | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    conversation_id: ConversationId | None = CONVERSATION


class ChatBody(Body):
    """A chat completion. `model` is a model alias, `provider/model`, a recipe, or `quorum/<strategy>`."""

    model: str = Field(min_length=1, max_length=256)
    messages: list[MessageBody] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptionsBody | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    n: int | None = Field(default=None, ge=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    response_format: ResponseFormatBody | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[ToolBody] | None = None
    tool_choice: ToolChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: ReasoningEffort | None = None
    quorum: QuorumMember | None = None
    metadata: dict[str, Any] | None = Field(default=None, description="Comes back in the run's result.")
    # Taken and without effect: they tell OpenAI about the caller or its storage, not the model what to say.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    modalities: list[Literal["text"]] | None = None
    # Known and refused by name.
    logit_bias: dict[str, float] | None = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    functions: Any = None
    function_call: Any = None

    def to_core(self, config: OrchestrationConfig, **who: Any) -> RunRequest:
        """The run that this asks for, under `config` (what `model` stands for).

        Raises:
            InvalidRequest: members that do not fit together.
            CapabilityMissing: a member that is known and not served.
        """
        self._refuse_unsupported()
        tools = tuple(tool.to_core() for tool in self.tools) if self.tools else ()
        own = self.quorum
        if own and own.options:
            config = OrchestrationConfig(
                config.strategy, config.models, config.lead_model, {**config.options, **own.options}, config.recipe
            )
        deltas: Deltas = "output" if self.stream else "none"
        return RunRequest(
            config,
            tuple([message.to_core() for message in self.messages]),
            self._generation(),
            tools,
            tool_choice(self.tool_choice),
            (own.budget or BudgetBody()).to_core(own.on_budget) if own else Budget(),
            own.cache if own else None,
            deltas=deltas,
            metadata={**(self.metadata or {}), **(own.metadata if own else {})},
            conversation_id=own.conversation_id if own else None,
            **who,
        )

    def _generation(self) -> Generation:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Generation(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            stop=stop,
            seed=self.seed,
            n=self.n or 1,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            response_format=self.response_format.to_core() if self.response_format else None,
            logprobs=bool(self.logprobs),
            top_logprobs=self.top_logprobs,
            reasoning_effort=self.reasoning_effort,
            parallel_tool_calls=self.parallel_tool_calls,
        )

    def _refuse_unsupported(self) -> None:
        for member in _UNSUPPORTED.keys() & self.model_fields_set:
            if getattr(self, member) is not None:
                raise CapabilityMissing(f"{member} cannot be honoured: {_UNSUPPORTED[member]}", param=member)
