"""What operators see: Prometheus metrics, their labels bounded by the configuration.

`model_counts` and `counting` add to those that are counted on the way of a request. With several workers
`PROMETHEUS_MULTIPROC_DIR` is set before this module is imported, and `/metrics` sums over them.
"""

from __future__ import annotations

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

HTTP_REQUESTS = Counter("quorum_http_requests_total", "HTTP requests answered.", ["route", "method", "status"])
HTTP_SECONDS = Histogram(
    "quorum_http_request_seconds", "Seconds until an HTTP request was answered whole.", ["route"], buckets=_SECONDS
)
OPEN_STREAMS = Gauge("quorum_open_streams", "Event streams open now.", ["dialect"], multiprocess_mode="livesum")
RUNS = Counter("quorum_runs_total", "Runs ended.", ["strategy", "status"])
RUN_SECONDS = Histogram("quorum_run_seconds", "Seconds a run took.", ["strategy"], buckets=_SECONDS)
CANDIDATES = Counter("quorum_candidates_total", "Candidates ended.", ["model", "status"])
ATTEMPTS = Counter("quorum_attempts_total", "Calls to providers, by outcome.", ["provider", "model", "outcome"])
ATTEMPT_SECONDS = Histogram(
    "quorum_attempt_seconds", "Seconds a call to a provider took.", ["provider", "model"], buckets=_SECONDS
)
TTFT_SECONDS = Histogram(
    "quorum_ttft_seconds", "Seconds to the first token of a stream.", ["provider", "model"], buckets=_SECONDS
)
TOKENS = Counter("quorum_tokens_total", "Tokens used.", ["model", "kind"])
COST = Counter("quorum_cost_usd_total", "Dollars spent where the price is known.", ["model"])
WASTED_COST = Counter("quorum_wasted_cost_usd_total", "Dollars spent on answers that were thrown away.", ["strategy"])
HOSTED_RUNS = Gauge("quorum_hosted_runs", "Runs that go on whoever reads them.", multiprocess_mode="livesum")
LOG_APPEND_SECONDS = Histogram(
    "quorum_run_log_append_seconds", "Seconds until Redis had taken a batch of run events.", buckets=_SECONDS
)
LOG_DROPPED_EVENTS = Counter("quorum_run_log_dropped_events_total", "Run events that the log never had.")
RESUMES = Counter("quorum_run_resumes_total", "Readers of a run that came back for the rest of its events.")
RUNS_LOST = Counter("quorum_runs_lost_total", "Runs that ended because their process had died.")
REPLAYS = Counter("quorum_idempotent_replays_total", "Requests answered with what the first one with their key got.")
CONFLICTS = Counter("quorum_idempotent_conflicts_total", "Requests refused for their idempotency key, by reason.", ["reason"])
UNTOLD = Counter(
    "quorum_idempotent_untold_total", "Ends of requests that a store that was away for too long was never told.", ["kind"]
)
TAKEOVERS = Counter("quorum_takeovers_total", "Requests gone on with after their process had died or left.")
CONFIG_RELOADS = Counter("quorum_config_reloads_total", "Reloads of the configuration.", ["outcome"])
RETRIES = Counter("quorum_retries_total", "Calls made again, by the failure before.", ["provider", "model", "failure"])
RETRIES_REFUSED = Counter(
    "quorum_retries_refused_total", "Retries not made for want of time or of budget.", ["provider", "model", "reason"]
)
CACHED = Counter(
    "quorum_cache_answers_total", "Answers to calls that may come from the cache, by where they came from.", ["source"]
)
HEDGES = Counter("quorum_hedges_total", "Second calls, by whether they were heard.", ["provider", "model", "outcome"])
REPAIRS = Counter(
    "quorum_repairs_total",
    "Answers that were not the JSON asked for, by what became of them.",
    ["provider", "model", "outcome"],
)
REFUSALS = Counter("quorum_refused_calls_total", "Calls not made, to spare a provider.", ["provider", "model", "reason"])
BREAKER_STATE = Gauge(
    "quorum_breaker_state",
    "0 closed, 1 half open, 2 open; there from the first change on.",
    ["provider", "model"],
    multiprocess_mode="livemostrecent",
)
BREAKER_TRANSITIONS = Counter(
    "quorum_breaker_transitions_total", "Changes of a breaker as this process saw them.", ["provider", "model", "to"]
)
RUNS_REFUSED = Counter("quorum_refused_runs_total", "Runs not begun, by the limit that stood against them.", ["limit", "scope"])
RESERVED_USD = Gauge("quorum_reserved_usd", "Dollars reserved by runs under way.", multiprocess_mode="livesum")
RESERVED_TOKENS = Gauge("quorum_reserved_tokens", "Tokens reserved by runs under way.", multiprocess_mode="livesum")
SETTLED_USD = Counter("quorum_settled_usd_total", "Dollars that runs with a reservation really used.")
SETTLED_TOKENS = Counter("quorum_settled_tokens_total", "Tokens that runs with a reservation really used.")
TOOL_CALLS = Counter("quorum_tool_calls_total", "Calls of tools, by outcome.", ["tool", "outcome"])
TOOL_SECONDS = Histogram("quorum_tool_seconds", "Seconds a call of a tool took.", ["tool"], buckets=_SECONDS)
TOOL_DECISIONS = Counter("quorum_tool_decisions_total", "Permissions asked for calls of tools.", ["tool", "effect"])
MCP_SERVERS = Gauge("quorum_mcp_server_up", "1 while an MCP server answers.", ["server"], multiprocess_mode="livemostrecent")

JOBS = Counter("quorum_jobs_total", "Jobs that this process had, by what became of them.", ["kind", "outcome"])
JOB_WAIT_SECONDS = Histogram("quorum_job_wait_seconds", "Seconds until a job was begun.", ["kind"], buckets=_SECONDS)
JOBS_RECLAIMED = Counter("quorum_jobs_reclaimed_total", "Jobs taken from processes that had died.")
JOBS_GIVEN_UP = Counter("quorum_jobs_given_up_total", "Jobs that nobody is to do any more: dead letters.", ["kind"])
QUEUE = Gauge("quorum_queue_jobs", "Jobs in the queue, of all tenants.", ["state"], multiprocess_mode="livemostrecent")
QUEUE_WORKERS = Gauge("quorum_queue_workers", "Processes of `quorum worker` alive.", multiprocess_mode="livemostrecent")
BATCH_LINES = Counter("quorum_batch_lines_total", "Lines of batches run by this process.", ["outcome"])
WEBHOOKS = Counter("quorum_webhook_deliveries_total", "Deliveries of webhooks, by what became of them.", ["outcome"])

OBSERVATIONS = Counter("quorum_observations_total", "Runs to learn from, by what became of them.", ["outcome"])
FEEDBACK = Counter("quorum_feedback_total", "Judgements taken, by where they came from and what they say.", ["source", "kind"])
REVIEWS_QUEUED = Counter("quorum_reviews_queued_total", "Runs that needed a review, by what became of them.", ["outcome"])
REVIEWS_DECIDED = Counter("quorum_reviews_decided_total", "Reviews decided.", ["decision"])
REVIEWS_PENDING = Gauge(
    "quorum_reviews_pending", "Reviews that are to be decided, of all tenants.", multiprocess_mode="livemostrecent"
)
REVIEW_OLDEST = Gauge("quorum_review_oldest_seconds", "How long the oldest of them waits.", multiprocess_mode="livemostrecent")
APPROVALS_REQUESTED = Counter("quorum_approvals_requested_total", "Calls of tools that a person was asked to agree to.")
APPROVALS_DECIDED = Counter("quorum_approvals_decided_total", "What became of them.", ["decision"])
APPROVAL_SECONDS = Histogram(
    "quorum_approval_wait_seconds",
    "Seconds until one was decided, or had expired.",
    buckets=(1, 15, 60, 900, 3600, 14400, 86400),
)
APPROVALS_PENDING = Gauge("quorum_approvals_pending", "Approvals that are to be decided.", multiprocess_mode="livemostrecent")
APPROVAL_OLDEST = Gauge("quorum_approval_oldest_seconds", "How long the oldest waits.", multiprocess_mode="livemostrecent")
TRAININGS = Counter("quorum_trainings_total", "Trainings that came by themselves, by what became of them.", ["outcome"])
BAD_ARTEFACTS = Counter("quorum_bad_artefacts_total", "Lessons that could not be used, so that the priors held.")
ARTEFACTS = Gauge(
    "quorum_artefact_info",
    "1 for what was learned and is in force.",
    ["scope", "kind", "version"],
    multiprocess_mode="livemostrecent",
)
LEARNING_ROWS = Gauge(
    "quorum_learning_rows", "Judged runs that what is in force was learned from.", ["scope"], multiprocess_mode="livemostrecent"
)
CALIBRATION_ERROR = Gauge(
    "quorum_calibration_error",
    "How far the share of right outcomes lies from the confidence in force, in what was judged lately.",
    ["scope"],
    multiprocess_mode="livemostrecent",
)
CALIBRATION_JUDGED = Gauge(
    "quorum_calibration_judged",
    "Judged outcomes that tell it, at what each still counts.",
    ["scope"],
    multiprocess_mode="livemostrecent",
)
AUDIT_RECORDS = Counter("quorum_audit_records_total", "Audit records in their chain.", ["action", "decision"])
AUDIT_FAILURES = Counter(
    "quorum_audit_failures_total", "Audit records that were not in their chain at once, by what became of them.", ["outcome"]
)
AUDIT_FAULTS = Counter("quorum_audit_faults_total", "Audit chains found other than they were written.", ["kind"])
AUDIT_APPEND_SECONDS = Histogram(
    "quorum_audit_append_seconds", "Seconds until the store had taken a batch of audit records.", buckets=_SECONDS
)
AUDIT_WAITING = Gauge("quorum_audit_waiting", "Audit records that wait for the store.", multiprocess_mode="livesum")
AUDIT_LAG = Gauge("quorum_audit_lag_seconds", "How long the oldest of them waits.", multiprocess_mode="livemax")


def exposition() -> tuple[bytes, str]:
    """All metrics as Prometheus reads them, over every worker of this machine, and their content type."""
    registry: CollectorRegistry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST
