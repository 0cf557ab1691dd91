"""Every key name in Redis, in one place.

All begin with `quorum:`. The part in braces is the hash tag: what one script touches shares it, so that it lies in one slot of
a cluster. A key that belongs to a tenant has the tenant in its hash tag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class RegistryKeys:
    """A small table that every process holds in memory: its records (a hash), its version (a counter), its channel."""

    records: str
    version: str
    channel: str


API_KEYS: Final = RegistryKeys("quorum:{keys}:records", "quorum:{keys}:version", "quorum:{keys}:changed")
REVOKED_API_KEYS: Final = "quorum:{keys}:revoked"
"""A hash from key id to the time of its revocation, in seconds since the epoch."""

PROVIDERS: Final = RegistryKeys("quorum:{providers}:records", "quorum:{providers}:version", "quorum:{providers}:changed")

WORKFLOWS: Final = RegistryKeys("quorum:{workflows}:tenants", "quorum:{workflows}:version", "quorum:{workflows}:changed")
"""Its records are, by tenant, the bytes of all that it has stored."""

WORKFLOW_CHANGES: Final = "quorum:{workflows}:changes"
"""A stream of what changed lately. An id is the version, and the time in microseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class WorkflowKeys:
    """What a tenant has stored, all hashes: the records by `name@version`, by name the versions that are kept with their
    sizes, and by name the number that was given last. They lie in the slot of `WORKFLOWS`: a change is told as it is made."""

    records: str
    names: str
    numbers: str


def workflow_keys(tenant: str) -> WorkflowKeys:
    """The keys of a tenant's workflows."""
    tag = f"quorum:{{workflows}}:of:{tenant}"
    return WorkflowKeys(f"{tag}:records", f"{tag}:names", f"{tag}:numbers")


CONFIGURATION: Final = RegistryKeys("quorum:{config}:records", "quorum:{config}:version", "quorum:{config}:changed")
"""Only its version counts: each process reads its configuration from its own file."""

BREAKERS: Final = RegistryKeys("quorum:{breakers}:records", "quorum:{breakers}:version", "quorum:{breakers}:changed")


def breaker_window(breaker_id: str) -> str:
    """A hash from `slot:member` to a count, of the calls of a breaker that ended lately."""
    return f"quorum:{{breakers}}:window:{breaker_id}"


@dataclass(frozen=True, slots=True)
class RunKeys:
    """What is stored of one run: its record (a hash), its events (a stream, whose ids are the events' numbers), and where it
    has some, what became of its steps and which signals it was sent (hashes)."""

    record: str
    events: str
    steps: str
    signals: str


def run_keys(tenant: str, run_id: str) -> RunKeys:
    """The keys of a run. Another tenant's run has other keys, so that it cannot be found."""
    tag = f"quorum:{{{tenant}:{run_id}}}"
    return RunKeys(f"{tag}:run", f"{tag}:events", f"{tag}:steps", f"{tag}:signals")


SIGNALLED: Final = "quorum:{signals}:due"
"""A hash of the runs that were sent a signal and may go on, as `tenant:run`: the digest of the request that has the run, and
which signal it was."""


@dataclass(frozen=True, slots=True)
class BatchKeys:
    """What is stored of a batch: its record (a hash), the names of its lines while they come, the parts that are over
    (both sets), and for each part its lines (a text), their results, what is said of those that wait, and what those that have
    their result used, as long as that may not be booked yet (hashes by place)."""

    record: str
    names: str
    over: str

    def lines(self, part: int) -> str:
        return f"{self.record}:lines:{part}"

    def results(self, part: int) -> str:
        return f"{self.record}:results:{part}"

    def waiting(self, part: int) -> str:
        return f"{self.record}:waiting:{part}"

    def owed(self, part: int) -> str:
        return f"{self.record}:owed:{part}"


def batch_keys(tenant: str, batch_id: str) -> BatchKeys:
    """The keys of a batch."""
    tag = f"quorum:{{{tenant}:{batch_id}}}:batch"
    return BatchKeys(tag, f"{tag}:names", f"{tag}:over")


def batch_index(tenant: str) -> str:
    """A sorted set of a tenant's batches by the time they came, in microseconds since the epoch."""
    return f"quorum:{{{tenant}}}:batches"


def deliveries_key(tenant: str, subject: str) -> str:
    """What became of the deliveries that tell the end of a run: a list."""
    return f"quorum:{{{tenant}:{subject}}}:deliveries"


def run_index(tenant: str) -> str:
    """A sorted set of a tenant's runs by the time they began, in microseconds since the epoch."""
    return f"quorum:{{{tenant}}}:runs"


JOBS: Final = "quorum:{jobs}:"
"""The beginning of every key of the queue; `jobs.lua` says which there are."""

JOB_STREAM: Final = "quorum:{jobs}:stream"
"""A stream of ids: that there is something to do."""

DEAD_JOBS: Final = "quorum:{jobs}:dead:"
"""With a tenant: a list of its jobs that were given up, the newest first."""

RUN_OWNERS: Final = "quorum:{runs}:owner:"
"""With the id of a process: the channel on which it is told the runs that it is to cancel."""


def admission_record(tenant: str, operation: str) -> str:
    """A hash: what a run has reserved, or that it is over."""
    return f"quorum:{{tenant:{tenant}}}:admitted:{operation}"


def limit_use(tenant: str, scope: str, kind: str) -> str:
    """How much of a limit is used: of a day and of a minute a hash, of runs at once a sorted set of leases."""
    return f"quorum:{{tenant:{tenant}}}:used:{kind}:{scope}"


@dataclass(frozen=True, slots=True)
class IdempotencyKeys:
    """What is stored of a request with an idempotency key: its record (a hash) and its answer's body (a stream of pieces)."""

    record: str
    body: str


def idempotency_keys(tenant: str, digest: str) -> IdempotencyKeys:
    """The keys of a request. `digest` stands for its route and its key."""
    tag = f"quorum:{{{tenant}:{digest}}}"
    return IdempotencyKeys(f"{tag}:idempotent", f"{tag}:answer")


IDEMPOTENT_LEASES: Final = "quorum:{idempotent}:leases"
"""A sorted set of the requests under way, as `tenant:digest`, by the end of their lease in milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class AnswerKeys:
    """What is kept of a question: its answer, and who is asking for it now."""

    answer: str
    leader: str


def answer_keys(tenant: str, digest: str) -> AnswerKeys:
    """The keys of a question. `digest` stands for all of it."""
    tag = f"quorum:{{{tenant}:{digest}}}"
    return AnswerKeys(f"{tag}:cached", f"{tag}:leader")


def turns_key(tenant: str, run_id: str) -> str:
    """What a run said with tools before it handed calls to its client: a text."""
    return f"quorum:{{{tenant}:{run_id}}}:turns"


@dataclass(frozen=True, slots=True)
class ConversationKeys:
    """What is stored of a conversation: its record (a hash), its turns (a list), and which run is taking one (a text)."""

    record: str
    turns: str
    lease: str


def conversation_keys(tenant: str, conversation_id: str) -> ConversationKeys:
    """The keys of a conversation. Another tenant's has other keys, so that it cannot be found. An id has no colon in it."""
    tag = f"quorum:{{{tenant}:{conversation_id}}}"
    return ConversationKeys(f"{tag}:conversation", f"{tag}:said", f"{tag}:speaking")


LEARNED: Final = RegistryKeys("quorum:{learning}:records", "quorum:{learning}:version", "quorum:{learning}:changed")
"""By scope: the version of what was learned there and is in force."""

JUDGED: Final = "quorum:{learning}:judged"
"""A hash from tenant to the number of judgements since it was last learned from them."""

TRAINING_LEASE: Final = "quorum:{learning}:lease"
TRAINED: Final = "quorum:{learning}:trained"
"""The process that trains, while it does; and a mark that is there for as long as nothing is to be trained by itself."""

SHARED: Final = "*"
"""The scope of what all tenants have in common; no tenant's name."""


@dataclass(frozen=True, slots=True)
class LearningKeys:
    """What is kept of a scope to learn from: its runs and its judgements (hashes), both indices by time (sorted sets), how its
    models have been doing (a hash and its index), and what was learned before (a hash and its index)."""

    observed: str
    feedback: str
    unjudged: str
    judged: str
    history: str
    seen: str
    told: str
    lessons: str
    versions: str


def learning_keys(scope: str) -> LearningKeys:
    """The keys of a scope: a tenant, or `SHARED`."""
    tag = f"quorum:{{learned:{scope}}}"
    return LearningKeys(
        f"{tag}:observed",
        f"{tag}:feedback",
        f"{tag}:unjudged",
        f"{tag}:judged",
        f"{tag}:history",
        f"{tag}:seen",
        f"{tag}:told:",
        f"{tag}:lessons",
        f"{tag}:versions",
    )


REVIEWING: Final = "quorum:{reviewing}:tenants"
"""A set of the tenants that ever had a review."""


@dataclass(frozen=True, slots=True)
class ReviewKeys:
    """The review queue of a tenant: its entries and its decisions (hashes), and both indices by time (sorted sets)."""

    entries: str
    decisions: str
    pending: str
    decided: str


def review_keys(tenant: str) -> ReviewKeys:
    """The keys of a tenant's review queue."""
    tag = f"quorum:{{reviews:{tenant}}}"
    return ReviewKeys(f"{tag}:entries", f"{tag}:decisions", f"{tag}:pending", f"{tag}:decided")


AUDITED: Final = "quorum:{auditing}:tenants"
"""A set of the tenants that ever had an audit record."""


@dataclass(frozen=True, slots=True)
class AuditKeys:
    """The audit trail of a tenant: its records (a stream, whose ids are the records' numbers), and what stands for those that
    are not kept any more (JSON)."""

    records: str
    checkpoint: str


def audit_keys(tenant: str) -> AuditKeys:
    """The keys of a tenant's audit trail."""
    tag = f"quorum:{{audit:{tenant}}}"
    return AuditKeys(f"{tag}:records", f"{tag}:checkpoint")


APPROVING: Final = "quorum:{approving}:tenants"
"""A set of the tenants that ever had an approval asked for."""


@dataclass(frozen=True, slots=True)
class ApprovalKeys:
    """The approvals of a tenant: entries, decisions, expiries in milliseconds, who has used them (hashes), both indices by time
    (sorted sets), and the runs that wait for none of theirs any more, each with the digest of its request (a hash)."""

    entries: str
    decisions: str
    pending: str
    decided: str
    expiries: str
    ready: str
    used: str


def approval_keys(tenant: str) -> ApprovalKeys:
    """The keys of a tenant's approvals."""
    tag = f"quorum:{{approvals:{tenant}}}"
    return ApprovalKeys(
        f"{tag}:entries",
        f"{tag}:decisions",
        f"{tag}:pending",
        f"{tag}:decided",
        f"{tag}:expiries",
        f"{tag}:ready",
        f"{tag}:used",
    )


def approvals_of_run(tenant: str, run_id: str) -> str:
    """A set of the ids of a run's approvals, or of the word `deleted` where it was."""
    return f"quorum:{{approvals:{tenant}}}:run:{run_id}"
