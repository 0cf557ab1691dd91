"""A run from outside: what was asked (`RunRequest`), what was decided (`PlanDecision`), what came of it
(`OrchestrationOutput`).

The field names of the result types are the JSON members of the HTTP contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from app.core.approvals import Approval
from app.core.chat import (
    DEFAULT_GENERATION,
    Attempt,
    CacheMode,
    Choice,
    FinishReason,
    Generation,
    JsonObject,
    ToolChoice,
    ToolDefinition,
)
from app.core.errors import ErrorReport
from app.core.messages import Message, ReasoningPart, ToolCallPart
from app.core.tool_runs import ToolRun
from app.core.usage import NO_USAGE, Usage
from app.core.values import value

RunStatus = Literal["queued", "running", "succeeded", "failed", "cancelled", "needs_review", "needs_approval"]
CandidateStatus = Literal["running", "succeeded", "failed", "cancelled"]
CallRole = Literal["analysis", "ranking", "synthesis", "judge", "embedding", "replicate", "step"]
"""`replicate`: an answer inside of a bundle tool, `step`: one inside of a workflow's step. They are candidates there, and none
of the run."""
OnBudget = Literal["fail", "best_so_far"]
LinkOutcome = Literal["answered", "handed_over", "failed", "skipped"]
Deltas = Literal["none", "output", "all"]
"""Who watches: nobody, a reader of the output alone, or a reader of every candidate too."""


@value
class Budget:
    """The most that a run may use: tokens of all kinds, dollars, seconds.

    `on_budget` says what happens where the run's own or its caller's budget cannot hold all of it: `fail` refuses it before
    anything is called, `best_so_far` begins and ends with what it has.
    """

    tokens: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None
    on_budget: OnBudget = "fail"

    @property
    def bounded(self) -> bool:
        """Whether tokens or dollars are."""
        return self.tokens is not None or self.cost_usd is not None


@value
class OrchestrationConfig:
    """A run's options, as the request, its recipe and the defaults agreed on them.

    `models` are names that the registry resolves; empty means all that fit. `options` are the strategy's own, already
    validated against its schema.
    """

    strategy: str
    models: tuple[str, ...] = ()
    lead_model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    recipe: str | None = None


@value
class RunRequest:
    """One prompt to orchestrate.

    `deadline` is on the monotonic clock, in seconds; `key_id` and `key_name` name the API key, `scopes` is what it allows, and
    `address` the network peer's. `cache` is None where the recipe or the configuration decides. With a `conversation_id` the
    first `history` messages are what was said before in that conversation, which the caller did not send.
    """

    config: OrchestrationConfig
    messages: tuple[Message, ...]
    generation: Generation = DEFAULT_GENERATION
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: ToolChoice = "auto"
    budget: Budget = Budget()
    cache: CacheMode | None = None
    deadline: float | None = None
    deltas: Deltas = "none"
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tenant: str = "default"
    key_id: str = ""
    key_name: str = ""
    request_id: str = ""
    traceparent: str | None = None
    scopes: frozenset[str] = frozenset()
    address: str | None = None
    conversation_id: str | None = None
    history: int = 0


@value
class PlanRequest:
    """What a planner decides on: the request and what it knows of it before anything is called.

    `type` is the caller's word for what it asks for, else the task's category; `attributes` say more of it. `tool` is one that
    is asked for by name, with its `arguments`. `facts` are the values of `core.planning.PLAN_VARIABLES`. `now` is Unix time and
    `seconds_left` what the deadline leaves, both in seconds.
    """

    config: OrchestrationConfig
    messages: tuple[Message, ...]
    budget: Budget = Budget()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tenant: str = "default"
    type: str = ""
    attributes: JsonObject = field(default_factory=dict[str, Any])
    tool: str | None = None
    arguments: JsonObject = field(default_factory=dict[str, Any])
    allow_fallback: bool = True
    facts: JsonObject = field(default_factory=dict[str, Any])
    now: float = 0.0
    seconds_left: float | None = None


@value
class Alternative:
    """A way that a run could go, with what it promises: `quality` is how likely it gives a good answer, 0 to 1. Dollars and
    seconds are None where they are not known. The `score` is what that is worth under the policy."""

    strategy: str
    models: tuple[str, ...]
    score: float
    quality: float
    cost_usd: float | None = None
    seconds: float | None = None


@value
class Prospect:
    """What is expected of a model that might be asked: `quality` is how likely its answer is good, 0 to 1. Dollars and seconds
    are None where they are not known."""

    quality: float
    cost_usd: float | None = None
    seconds: float | None = None


RuleOutcome = Literal["chosen", "not_matched", "passed_over", "outdone"]
"""`passed_over`: it fits the request, and what it names cannot be run now. `outdone`: another one that fits promises more."""


@value
class RuleLook:
    """How a planner's rule stood to a request, and why, in words. `target` is what it would have run."""

    rule: str
    outcome: RuleOutcome
    reason: str
    target: str


@value
class PlanDecision:
    """What will run and why. Estimates are None where nothing is known to base them on.

    Where the strategy chooses: `options` of the one that was chosen, the `task` as it was seen, how diverse the models are
    (0 to 1), the best `alternatives` with the chosen one among them, why models were `set_aside`, and what is expected of each
    of the others (`prospects`).

    Where a planner decided: the `rule` that it went by (None where none fitted), the `rules` that were looked at in their
    order, and the `recipe`, or the `tool` that is run directly. `fallbacks` then name what goes in its place, and `set_aside`
    those of them that cannot. `targets` are what is tried, one after the other, in the words of the configuration: with
    these a run goes on that was paused.
    """

    strategy: str
    models: tuple[str, ...]
    lead_model: str | None = None
    fallbacks: tuple[str, ...] = ()
    reason: str = ""
    estimated_cost_usd: float | None = None
    estimated_seconds: float | None = None
    estimated_quality: float | None = None
    options: JsonObject = field(default_factory=dict[str, Any])
    task: JsonObject | None = None
    diversity: float | None = None
    alternatives: tuple[Alternative, ...] = ()
    set_aside: Mapping[str, str] = field(default_factory=dict[str, str])
    prospects: Mapping[str, Prospect] = field(default_factory=dict[str, Prospect])
    recipe: str | None = None
    tool: str | None = None
    rule: str | None = None
    rules: tuple[RuleLook, ...] = ()
    targets: tuple[JsonObject, ...] = ()


@value
class Candidate:
    """One model's answer inside a run, with what it took. Times in milliseconds since the candidate started.

    A `cached` answer was not asked for: it came from the cache or was shared with another call, and costs nothing here.
    `wasted_cost_usd` is what hedges took whose answer was not waited for; it is not part of `cost_usd`. `sealed_reasoning`
    stands beside calls of tools: its vendor wants it back with their results.
    """

    id: str
    model: str
    provider: str
    replicate: int = 0
    status: CandidateStatus = "running"
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCallPart, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage = NO_USAGE
    cached: bool = False
    cost_usd: float | None = None
    latency_ms: float = 0.0
    ttft_ms: float | None = None
    score: float | None = None
    layer: int = 1
    attempts: tuple[Attempt, ...] = ()
    error: ErrorReport | None = None
    wasted_cost_usd: float | None = None
    sealed_reasoning: tuple[ReasoningPart, ...] = ()


@value
class HelperCall:
    """A call that made no candidate: an analysis, a ranking, a synthesis, a judgement. Booked like one."""

    role: CallRole
    model: str
    provider: str
    status: CandidateStatus
    usage: Usage = NO_USAGE
    cost_usd: float | None = None
    latency_ms: float = 0.0
    attempts: tuple[Attempt, ...] = ()
    error: ErrorReport | None = None
    cached: bool = False
    wasted_cost_usd: float | None = None


CacheWord = Literal["hit", "partial", "miss"]


def cache_word(calls: Sequence[Candidate | HelperCall]) -> CacheWord:
    """How much of what was to be called came from the cache, or was shared with other calls."""
    cached = sum(call.cached for call in calls)
    return "miss" if not cached else "hit" if cached == len(calls) else "partial"


@value
class PathLink:
    """What became of one link of a chain. `link` is its place in the chain as configured, from 1.

    `failure` is the class that it handed over, or failed, with; `reason` says it in words. One that was skipped was not asked.
    """

    link: int
    model: str
    outcome: LinkOutcome
    candidate_id: str | None = None
    failure: str | None = None
    reason: str | None = None


@value
class Analysis:
    """What the analysis phase found. `text` is its prose, `data` its structured part (`peer_ranking`: Borda points)."""

    kind: str
    model: str | None = None
    text: str = ""
    data: JsonObject | None = None
    error: ErrorReport | None = None


@value
class Consensus:
    method: str
    winner: Any = None
    agreement: float | None = None
    confidence: float | None = None
    clusters: tuple[JsonObject, ...] = ()
    dissent: tuple[JsonObject, ...] = ()
    needs_review: bool = False


@value
class BundleMetadata:
    task: str
    k: int
    models: tuple[str, ...]
    seeds: tuple[int, ...] = ()
    early_stopped: bool = False


@value
class EvidenceBundle:
    """The statistics over replicates: `replicates` and `summary` in the shape of the contract's section on consensus."""

    meta: BundleMetadata
    replicates: tuple[JsonObject, ...] = ()
    summary: JsonObject = field(default_factory=dict[str, Any])


@value
class Output:
    """The one answer. `choices` holds all of them where more than one was asked for, else it is empty.

    `json` is the parsed text where a JSON response format was asked for and the text is JSON.
    """

    text: str = ""
    json: Any = None
    tool_calls: tuple[ToolCallPart, ...] = ()
    reasoning: str = ""
    refusal: str = ""
    logprobs: JsonObject | None = None
    choices: tuple[Choice, ...] = ()
    finish_reason: FinishReason | None = None
    source_model: str | None = None
    is_synthesized: bool = False


@value
class Timing:
    """Milliseconds since the run started. `first_output_ms` is None where nobody watched or nothing was said."""

    total_ms: float = 0.0
    first_output_ms: float | None = None


@value
class OrchestrationOutput:
    """The result of a run. A cost is None when the price of any part of it is unknown. `waiting` says what a paused one waits
    for."""

    id: str
    status: RunStatus
    strategy: str
    output: Output = Output()
    object: str = "orchestration"
    recipe: str | None = None
    candidates: tuple[Candidate, ...] = ()
    calls: tuple[HelperCall, ...] = ()
    analysis: Analysis | None = None
    consensus: Consensus | None = None
    evidence: EvidenceBundle | None = None
    plan: PlanDecision | None = None
    path: tuple[PathLink, ...] = ()
    tool_calls: tuple[ToolRun, ...] = ()
    approvals: tuple[Approval, ...] = ()
    waiting: str | None = None
    usage: Usage = NO_USAGE
    cost_usd: float | None = None
    wasted_cost_usd: float | None = None
    timing: Timing = Timing()
    warnings: tuple[str, ...] = ()
    error: ErrorReport | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    request_id: str = ""
    trace_id: str | None = None
    created_at: int = 0
    conversation_id: str | None = None
