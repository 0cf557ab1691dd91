"""One call to one model: the request, and the whole response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from app.core.errors import ErrorReport, FailureClass
from app.core.messages import Message, ReasoningPart, ToolCallPart
from app.core.usage import NO_USAGE, Usage
from app.core.values import value

if TYPE_CHECKING:
    from app.core.budgets import Purse

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
JsonObject = Mapping[str, Any]
"""A JSON object whose shape is the caller's or the vendor's, such as a JSON schema."""


@value
class ToolDefinition:
    """A function that a model may ask for. `parameters` is a JSON schema of type object."""

    name: str
    description: str | None = None
    parameters: JsonObject = field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool | None = None


@value
class NamedTool:
    """The choice of one tool by name."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool


@value
class ResponseFormat:
    """The shape of the answer. `schema` is for `json_schema` alone."""

    type: Literal["text", "json_object", "json_schema"]
    name: str = "answer"
    schema: JsonObject | None = None
    strict: bool | None = None
    description: str | None = None


@value
class Generation:
    """Sampling and limits. None leaves a setting to the model."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int = 1
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    reasoning_effort: ReasoningEffort | None = None
    parallel_tool_calls: bool | None = None


DEFAULT_GENERATION = Generation()

CacheMode = Literal["use", "refresh", "off"]
"""Whether answers come from the cache, are asked anew and replace what is there, or have nothing to do with it."""

AttemptOutcome = Literal["ok", "error", "cancelled"]


@value
class Attempt:
    """One HTTP call to a provider. `started_at` is Unix time in seconds."""

    started_at: float
    latency_ms: float
    outcome: AttemptOutcome
    error: ErrorReport | None = None


@dataclass(slots=True, eq=False)
class CallContext:
    """What travels with a call and is not part of its meaning: who asked, until when, and the attempts made so far.

    `deadline` is on the monotonic clock, in seconds. Policies append to `attempts`. `purse` is there where a budget applies.
    `retries` says how often a call is made again after a failure of each class, in place of what is configured. `cache` says
    whether an answer may come from the cache; one of another `replicate` does not count. A call that is `unplanned` is not part
    of what its run was admitted with. Policies set `cached` where no call
    was made for this one, `used` to what it used where they know although there was no answer, and add to `wasted` what calls
    used whose answer was not waited for.
    """

    run_id: str = ""
    request_id: str = ""
    tenant: str = "default"
    traceparent: str | None = None
    deadline: float | None = None
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    purse: Purse | None = None
    retries: Mapping[FailureClass, int] | None = None
    cache: CacheMode = "off"
    replicate: int = 0
    unplanned: bool = False
    cached: bool = False
    used: Usage | None = None
    wasted: Usage = NO_USAGE


@value
class ChatRequest:
    """A prompt for one model.

    `model` is the provider's own name for it. `incremental` says whether anybody watches: without it an adapter makes one
    unary call. `extra` goes into the provider's request body as it is.
    """

    model: str
    messages: tuple[Message, ...]
    generation: Generation = DEFAULT_GENERATION
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: ToolChoice = "auto"
    incremental: bool = False
    extra: JsonObject | None = None
    context: CallContext = field(default_factory=CallContext, compare=False, repr=False)


@value
class Choice:
    """One answer of a response. `native_finish_reason` is the vendor's own word, `logprobs` OpenAI's shape."""

    index: int = 0
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCallPart, ...] = ()
    finish_reason: FinishReason = "stop"
    native_finish_reason: str | None = None
    logprobs: JsonObject | None = None
    reasoning_parts: tuple[ReasoningPart, ...] = ()


@value
class ChatResponse:
    """A whole response. `created` is Unix time in seconds; `model` is what the provider says it used."""

    id: str
    model: str
    choices: tuple[Choice, ...]
    usage: Usage = NO_USAGE
    created: int = 0
    provider_request_id: str | None = None
