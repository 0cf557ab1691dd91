"""The shape of `quorum.yaml`: what may be configured, with its defaults and bounds.

Every class forbids unknown members, so that a misspelt one is named instead of ignored. The published JSON schema is made
of these classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr

from app.config.audit import AuditConfig
from app.config.conversations import ConversationsConfig
from app.config.jobs import BatchesConfig, JobsConfig, WebhooksConfig
from app.config.learning import LearningConfig, ReviewsConfig
from app.config.planning import PlannerConfig
from app.config.shape import Name, Scope, Spec
from app.config.tools import ApprovalsConfig, ToolsConfig
from app.config.workflows import WorkflowConfig, WorkflowsConfig
from app.core.chat import CacheMode

ProviderKind = Literal["openai", "openai_compatible", "anthropic", "gemini", "mock", "replay"]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
Alias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$")]
"""A model's name in requests. It may look like a vendor's own, as `openai/gpt-4o` or `llama3:8b`."""


class RequestConfig(Spec):
    """How long a call to a provider may take, in seconds. A model's own settings replace its provider's as a whole."""

    connect_s: float = Field(default=5.0, gt=0, description="Until the connection stands.")
    first_token_s: float = Field(default=60.0, gt=0, description="Until the first token of a stream.")
    idle_s: float = Field(default=60.0, gt=0, description="Between two chunks of a stream.")
    total_s: float = Field(default=600.0, gt=0, description="The whole call.")


class RetryConfig(Spec):
    """When a failed call is made again: before its first token, by failure class. Waits are in seconds."""

    enabled: bool = True
    max_retries: int = Field(default=2, ge=0, le=10)
    base_s: float = Field(default=0.5, gt=0, description="The n-th wait is random, up to base_s times 2 to the power of n.")
    max_delay_s: float = Field(default=8.0, gt=0, description="The longest wait of our own choice.")
    max_hint_s: float = Field(default=20.0, gt=0, description="A provider that asks for a longer wait is not retried.")


class RetryBudgetConfig(Spec):
    """How many retries a worker may make over all models, so that a failing provider is not stormed."""

    share: float = Field(default=0.2, ge=0, le=1, description="Retries per call.")
    per_second: float = Field(default=10.0, ge=0, le=10_000, description="Retries a second besides.")


class CircuitBreakerConfig(Spec):
    """When a failing model is left alone. Decided over all replicas."""

    enabled: bool = True
    window_s: float = Field(default=10.0, ge=0.1, le=3600)
    min_calls: int = Field(default=20, ge=1, description="Calls in the window, below which nothing is decided.")
    failure_share: float = Field(default=0.5, gt=0, le=1)
    slow_first_token_s: float = Field(default=30.0, gt=0, description="A stream whose first token takes longer is slow.")
    slow_share: float = Field(default=0.8, gt=0, le=1, description="The share of slow ones among streamed calls.")
    open_s: float = Field(default=10.0, ge=0.1, description="How long it stays open at first; doubled each time.")
    max_open_s: float = Field(default=120.0, ge=0.1)
    probes: int = Field(default=3, ge=1, le=100, description="Calls that try a half-open one, over all replicas.")
    probe_lease_s: float = Field(default=10.0, ge=0.1, description="A probe whose process dies is given up after this time.")


class PaceConfig(Spec):
    """What a rate limit of the provider (429) does: calls pause, on all replicas. In seconds."""

    enabled: bool = True
    default_s: float = Field(default=0.5, gt=0, description="The pause where the provider names none.")
    max_s: float = Field(default=60.0, gt=0, description="The longest pause.")
    max_wait_s: float = Field(default=2.0, ge=0, description="A call waits for its end that long; else it is refused.")


class BulkheadConfig(Spec):
    """How many calls may be under way at once, in each worker."""

    max_concurrent: int | None = Field(default=None, ge=1, le=100_000, description="Without it there is no bound.")
    max_wait_s: float = Field(default=1.0, ge=0, description="A call waits that long for its turn, then it is refused.")


class HedgeConfig(Spec):
    """A second call where the first takes unusually long, for answers without tools; who speaks first is heard."""

    enabled: bool = False
    quantile: float = Field(default=0.95, ge=0.5, lt=1, description="Of the model's own times to the first token: the delay.")
    min_calls: int = Field(default=20, ge=5, le=100_000, description="Calls that must have been timed before.")
    max_share: float = Field(default=0.05, gt=0, le=1, description="Hedges per call, at most.")


class RepairConfig(Spec):
    """Answers that are to be JSON are checked, and asked again with the fault told where nobody has seen them yet."""

    enabled: bool = True


class ReliabilityOverrides(Spec):
    """What of `reliability` is different here; members left out are as they are one level above."""

    retry: RetryConfig | None = None
    breaker: CircuitBreakerConfig | None = None
    pace: PaceConfig | None = None
    bulkhead: BulkheadConfig | None = None
    repair: RepairConfig | None = None
    hedge: HedgeConfig | None = None


class RecipeReliability(Spec):
    """What of `reliability` is different for the calls of a recipe. Breakers, pauses and bulkheads belong to the models."""

    retry: RetryConfig | None = None
    repair: RepairConfig | None = None
    hedge: HedgeConfig | None = None


class ReliabilityConfig(Spec):
    """What stands around a call to a model."""

    retry: RetryConfig = RetryConfig()
    retry_budget: RetryBudgetConfig = RetryBudgetConfig()
    breaker: CircuitBreakerConfig = CircuitBreakerConfig()
    pace: PaceConfig = PaceConfig()
    bulkhead: BulkheadConfig = Field(default=BulkheadConfig(), description="For each provider.")
    repair: RepairConfig = RepairConfig()
    hedge: HedgeConfig = HedgeConfig()


class LLMProvider(Spec):
    """One vendor connection."""

    kind: ProviderKind
    vendor: str | None = Field(
        default=None, description="For openai_compatible: a known vendor, which fills in what is left out."
    )
    base_url: str | None = Field(default=None, description="Without it the vendor's own.")
    api_key: SecretStr | None = Field(default=None, description="Best as ${OPENAI_API_KEY}, never in the file itself.")
    headers: dict[str, str] = Field(default_factory=dict, description="Sent with every call.")
    query: dict[str, str] = Field(default_factory=dict, description="Added to every URL, as Azure's api-version.")
    timeouts: RequestConfig = RequestConfig()
    max_connections: int = Field(default=1000, ge=1, le=100_000)
    options: dict[str, Any] = Field(default_factory=dict, description="For mock and replay: personas, the file to replay.")
    reliability: ReliabilityOverrides = Field(
        default=ReliabilityOverrides(), description="For its models; the bulkhead is for all of them together."
    )


class CapabilitiesConfig(Spec):
    """What a model can do; what is left out is known from the vendor or assumed."""

    tools: bool | None = None
    parallel_tools: bool | None = None
    images: bool | None = None
    documents: bool | None = None
    json_object: bool | None = None
    json_schema: bool | None = None
    reasoning: bool | None = None
    seed: bool | None = None
    stop: bool | None = None
    logprobs: bool | None = None
    n: bool | None = None
    system: bool | None = None
    sampling: bool | None = Field(default=None, description="Whether it takes temperature, top_p and penalties.")


class PriceConfig(Spec):
    """Dollars per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached_input: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)
    reasoning: float | None = Field(default=None, ge=0, description="Without it reasoning costs what output costs.")


class ModelConfig(Spec):
    """A model at a provider, under an alias."""

    provider: Name
    model: str = Field(min_length=1, description="The provider's own name for it.")
    family: str | None = Field(default=None, description="Models of one family tend to err together.")
    quality: float | None = Field(
        default=None, ge=0, le=1, description="How often it is taken to be right, before anything was learned of it."
    )
    capabilities: CapabilitiesConfig = CapabilitiesConfig()
    price: PriceConfig | None = None
    context_window: int | None = Field(default=None, ge=1)
    max_output_tokens: int | None = Field(default=None, ge=1)
    tags: tuple[str, ...] = ()
    timeouts: RequestConfig | None = None
    extra_body: dict[str, Any] = Field(default_factory=dict, description="Put into each request body as it is.")
    reliability: ReliabilityOverrides = ReliabilityOverrides()


class GenerationConfig(Spec):
    """Sampling and limits; what is left out is the model's own."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: ReasoningEffort | None = None


class OrchestratorConfig(Spec):
    """A recipe: a named orchestration, usable wherever a model name is."""

    strategy: str = "simple"
    models: tuple[str, ...] = ()
    lead_model: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    generation: GenerationConfig = GenerationConfig()
    cache: CacheMode | None = Field(default=None, description="For requests that say nothing; without it the default.")
    reliability: RecipeReliability = RecipeReliability()
    description: str | None = None


class DefaultsConfig(Spec):
    """What a request that says nothing gets."""

    strategy: str = "simple"
    models: tuple[str, ...] = Field(default=(), description="Without them: all models, up to limits.max_default_models.")
    lead_model: str | None = None
    generation: GenerationConfig = GenerationConfig()
    cache: CacheMode = Field(default="off", description="Whether answers may come from the cache.")


class AnalysisPattern(Spec):
    """A named analysis for the simple strategy: a prompt, where `{question}` and `{answers}` stand for what they say."""

    prompt: str = Field(min_length=1)
    description: str | None = None


class LimitsConfig(Spec):
    """Bounds on what a request may ask for."""

    max_body_bytes: int = Field(default=20_000_000, ge=1_000)
    max_json_depth: int = Field(default=64, ge=4, le=200)
    max_header_bytes: int = Field(default=8_192, ge=256)
    max_messages: int = Field(default=2_000, ge=1)
    max_models: int = Field(default=32, ge=1)
    max_default_models: int = Field(default=3, ge=1)
    max_tokens: int = Field(default=200_000, ge=1)
    max_concurrent_calls: int = Field(default=16, ge=1, description="Model calls at once in one run.")
    max_choices: int = Field(default=8, ge=1)
    default_max_tokens: int = Field(
        default=4_096, ge=1, description="max_tokens of a call that names none, where a budget or a token limit applies."
    )
    local_share: float = Field(
        default=1.0, gt=0, le=1, description="The share of a limit that each worker allows by itself while Redis is away."
    )


class DayBudget(Spec):
    """The most that may be used in a day of UTC; what is left out is not bounded."""

    usd_per_day: float | None = Field(default=None, gt=0, le=1_000_000)
    tokens_per_day: int | None = Field(default=None, ge=1, le=1_000_000_000_000)


class Allowance(Spec):
    """What a tenant or a key may use, over all replicas; what is left out is not bounded."""

    budget: DayBudget = DayBudget()
    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    tokens_per_minute: int | None = Field(default=None, ge=1, le=50_000_000)
    concurrent_runs: int | None = Field(default=None, ge=1, le=100_000)


class RunsConfig(Spec):
    """Runs that are kept: streams of events in our own dialect, so that readers may leave and come back."""

    on_disconnect_grace_s: float = Field(
        default=10.0, ge=0, le=3600, description="A run without any reader is cancelled after it, unless it is to go on."
    )
    keep_s: int = Field(default=86_400, ge=1, le=31_536_000, description="Results are kept for so long.")
    events_keep_s: int = Field(default=3_600, ge=1, le=31_536_000, description="Events, since the last of them.")
    max_events: int = Field(default=10_000, ge=16, le=1_000_000, description="The newest events kept of a run.")
    max_event_bytes: int = Field(default=8_000_000, ge=65_536, description="The same in bytes.")


class KeyConfig(Allowance):
    """An API key from the configuration; `quorum keys create` makes stored ones."""

    name: Name
    key: SecretStr
    tenant: Name = "default"
    scopes: tuple[Scope, ...] = ("run", "read")


class CacheConfig(Spec):
    """Answers that are given again to the same question of the same tenant, where a request or a recipe wants that."""

    ttl_s: int = Field(default=3_600, ge=1, le=31_536_000, description="Answers are given again for so long.")
    max_answer_bytes: int = Field(default=1_000_000, ge=1_024, description="Longer answers are not kept.")


class IdempotencyConfig(Spec):
    """Requests with the header Idempotency-Key."""

    keep_s: int = Field(default=86_400, ge=60, le=31_536_000, description="Answers are given again for so long.")
    max_answer_bytes: int = Field(default=8_000_000, ge=1_024, description="Longer answers are not kept.")
    max_wait_s: float = Field(default=60.0, ge=0, le=3600, description="The longest that `Prefer: wait` waits.")


class QuorumSpec(Spec):
    """Providers, models, recipes, limits and keys of a Quorum service."""

    version: Literal[1] = 1
    providers: dict[Name, LLMProvider] = Field(default_factory=dict)
    models: dict[Alias, ModelConfig] = Field(default_factory=dict)
    recipes: dict[Name, OrchestratorConfig] = Field(default_factory=dict)
    defaults: DefaultsConfig = DefaultsConfig()
    limits: LimitsConfig = LimitsConfig()
    keys: tuple[KeyConfig, ...] = ()
    stored_keys: dict[Name, Allowance] = Field(
        default_factory=dict, description="What stored keys may use, by their id or their name."
    )
    tenants: dict[Name, Allowance] = Field(default_factory=dict, description="What tenants may use, all their keys together.")
    analyses: dict[Name, AnalysisPattern] = Field(default_factory=dict)
    prompts: dict[str, str] = Field(default_factory=dict, description="Overrides of the built-in prompts, by name.")
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="Private hosts that providers registered at run time may use."
    )
    reliability: ReliabilityConfig = ReliabilityConfig()
    runs: RunsConfig = RunsConfig()
    idempotency: IdempotencyConfig = IdempotencyConfig()
    cache: CacheConfig = CacheConfig()
    learning: LearningConfig = LearningConfig()
    reviews: ReviewsConfig = ReviewsConfig()
    conversations: ConversationsConfig = ConversationsConfig()
    audit: AuditConfig = AuditConfig()
    jobs: JobsConfig = JobsConfig()
    batches: BatchesConfig = BatchesConfig()
    webhooks: WebhooksConfig = WebhooksConfig()
    tools: ToolsConfig = ToolsConfig()
    workflows: dict[Name, WorkflowConfig] = Field(default_factory=dict)
    workflow_limits: WorkflowsConfig = WorkflowsConfig()
    planner: PlannerConfig = PlannerConfig()
    approvals: ApprovalsConfig = ApprovalsConfig()
