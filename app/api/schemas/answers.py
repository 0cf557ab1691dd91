"""The shapes of answers that are not a run's result, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from app.config.spec import ProviderKind
from app.core.chat import FinishReason
from app.core.errors import ErrorReport, FailureClass
from app.core.models import Capabilities
from app.core.runs import OrchestrationOutput, PathLink, RunStatus
from app.core.usage import FlatPrice


class OpenAIError(TypedDict):
    """What OpenAI's SDKs read of an error."""

    message: str
    type: str
    code: str
    param: str | None


class ProblemProvider(TypedDict):
    """The provider whose failure this is; `request_id` is its own, for its support."""

    name: str | None
    model: str | None
    failure: FailureClass
    status: int | None
    request_id: str | None


class _ProblemBase(TypedDict):
    type: str
    title: str
    status: int
    detail: str
    instance: str
    error: OpenAIError
    request_id: str


class Problem(_ProblemBase, total=False):
    """An RFC 9457 problem that also carries OpenAI's `error`. A failed run adds its id, its causes and its result."""

    provider: ProblemProvider
    causes: tuple[ErrorReport, ...]
    run_id: str
    result: OrchestrationOutput


class _ModelBase(TypedDict):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    kind: Literal["model", "recipe", "strategy"]


class ModelEntry(_ModelBase, total=False):
    """Something that `model` may name. Prices: dollars per million tokens. `fingerprint` changes with what it is made of;
    `learned`, of recipes and strategies, are the versions of what was learned that are in force for who asks."""

    provider: str
    model: str
    family: str
    capabilities: Capabilities
    price_per_mtok: FlatPrice | None
    priced: bool
    context_window: int | None
    max_output_tokens: int | None
    tags: tuple[str, ...]
    strategy: str
    models: tuple[str, ...]
    lead_model: str | None
    description: str | None
    fingerprint: str
    learned: tuple[str, ...]


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[ModelEntry]
    next_cursor: str | None


class BreakerEntry(TypedDict):
    """A circuit breaker: one a model, provider and credential, the same on all replicas.

    `retry_after_s` is how long an open one refuses, `pause_s` how long the provider's own rate limit holds calls back; both are
    null where that is not so. `trips` counts openings in a row. `shared` is false while the state store is away.
    """

    id: str
    object: Literal["breaker"]
    provider: str
    model: str
    state: Literal["closed", "open", "half_open"]
    generation: int
    trips: int
    retry_after_s: float | None
    pause_s: float | None
    shared: bool


class BreakerList(TypedDict):
    object: Literal["list"]
    data: list[BreakerEntry]
    next_cursor: str | None


class StrategyEntry(TypedDict):
    """A strategy; `model` is its name in OpenAI's dialect, `options` the JSON schema of its options."""

    id: str
    object: Literal["strategy"]
    summary: str
    model: str
    options: dict[str, Any]


class StrategyList(TypedDict):
    object: Literal["list"]
    data: list[StrategyEntry]
    next_cursor: str | None


class ProviderEntry(TypedDict):
    """A provider without its credential. `dynamic` ones were registered at run time."""

    name: str
    object: Literal["provider"]
    kind: ProviderKind | str
    vendor: str | None
    base_url: str | None
    has_key: bool
    dynamic: bool


class ProviderList(TypedDict):
    object: Literal["list"]
    data: list[ProviderEntry]
    next_cursor: str | None


class Health(TypedDict):
    status: Literal["ok"]


class _ReadinessBase(TypedDict):
    status: Literal["ready", "degraded", "draining"]


class Readiness(_ReadinessBase, total=False):
    state: Literal["ok", "away"]


class Reloaded(TypedDict):
    """What is in force now."""

    status: Literal["reloaded"]
    path: str | None
    providers: int
    models: int
    recipes: int
    warnings: tuple[str, ...]


class ChatMessage(TypedDict, total=False):
    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning_content: str
    tool_calls: list[dict[str, Any]]


class ChatChoice(TypedDict):
    index: int
    message: ChatMessage
    logprobs: dict[str, Any] | None
    finish_reason: FinishReason


class QuorumSummary(TypedDict):
    """What OpenAI's dialect has no word for."""

    run_id: str
    strategy: str
    status: str
    source_model: str | None
    confidence: float | None
    agreement: float | None
    cost_usd: float | None
    candidates: int
    path: tuple[PathLink, ...]
    warnings: tuple[str, ...]
    conversation_id: str | None


class ChatCompletion(TypedDict):
    """OpenAI's chat completion, with `quorum` beside it."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: dict[str, Any]
    quorum: QuorumSummary


class RunRequestSummary(TypedDict):
    """What is kept of a request: not its prompt."""

    models: list[str]
    messages: int
    request_id: str
    trace_id: str | None
    metadata: dict[str, Any]
    conversation_id: NotRequired[str]


class RunEntry(TypedDict):
    """A kept run in a list. Times in seconds since the epoch."""

    id: str
    object: Literal["orchestration"]
    status: RunStatus
    strategy: str
    recipe: str | None
    created_at: int
    finished_at: int | None
    request: RunRequestSummary


class RunList(TypedDict):
    object: Literal["list"]
    data: list[RunEntry]
    next_cursor: str | None
