"""Everything that can go wrong, as one tree. The domain knows no HTTP status; `api/errors.py` maps these to statuses.

QuorumError                        message, code (a stable word for programs), param (the request member at fault)
├── InvalidRequest                 the caller asked for something impossible
│   ├── NotFound                   a name that nothing answers to
│   ├── Gone                       what was asked for was there, and is not kept any more
│   └── CapabilityMissing          no chosen model can do what was asked
├── ConfigError                    the configuration is wrong (carries its faults, each with its line)
├── Unauthorized / Forbidden       no valid key / a key without the scope
├── ConflictError                  the same thing is already there
│   ├── InProgress                 it is under way (retry_after)
│   └── ConversationBusy           another run is taking its turn there (retry_after)
├── LimitExceeded                  a limit of ours (retry_after)
├── StateUnavailable               Redis is away and the promise needs it
├── OrchestratorError              a run could not be made or finished
│   ├── AllCandidatesFailed        fewer answers than asked for; carries each candidate's reason
│   ├── LowQuality                 an answer did not pass a check
│   ├── DeadlineExceeded           the run's time was up
│   ├── BudgetExceeded             the run's money or tokens were up
│   └── RunCancelled               by the caller
├── ToolExecutionError             a tool failed
└── ProviderError                  a provider failed (failure class, status, provider, model, retry_after, request id)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from app.core.budgets import Quota

from app.core.usage import NO_USAGE, Usage

Failed = Literal[
    "connection",
    "timeout",
    "rate_limited",
    "quota_exhausted",
    "request_too_large",
    "overloaded",
    "server_error",
    "incomplete",
    "auth",
    "not_found",
    "invalid_request",
    "context_length",
    "content_filtered",
    "invalid_output",
    "breaker_open",
    "pacing",
]
"""Why a provider gave no answer, where somebody waited for it."""
FailureClass = Literal[Failed, "cancelled"]

ToolFailure = Literal["tool_failed", "tool_timeout", "tool_unavailable", "tool_output_invalid"]


class QuorumError(Exception):
    """The root. `message` names what was wrong and what would be right."""

    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code


class InvalidRequest(QuorumError):
    code = "invalid_request"


class NotFound(InvalidRequest):
    code = "not_found"


class Gone(InvalidRequest):
    code = "gone"


class CapabilityMissing(InvalidRequest):
    code = "capability_missing"


class ConfigError(QuorumError):
    """`faults` are lines of the form `quorum.yaml:12:5: what was wrong, and what would be right`."""

    code = "config_invalid"

    def __init__(self, message: str, *, faults: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults


class Unauthorized(QuorumError):
    code = "unauthorized"


class Forbidden(QuorumError):
    code = "forbidden"


class ConflictError(QuorumError):
    code = "conflict"


class InProgress(ConflictError):
    """The same request is being answered. `retry_after` in seconds."""

    code = "idempotency_in_progress"

    def __init__(self, retry_after: float) -> None:
        message = "a request with this Idempotency-Key is being answered; ask again, or wait for it with `Prefer: wait`"
        super().__init__(message, param="Idempotency-Key")
        self.retry_after = retry_after


class ConversationBusy(ConflictError):
    """Another run is taking its turn in the conversation. `retry_after` in seconds."""

    code = "conversation_busy"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message, param="conversation_id")
        self.retry_after = retry_after


class LimitExceeded(QuorumError):
    """`retry_after` in seconds, None where waiting does not help. `quotas` are the limits that the caller is under."""

    code = "limit_exceeded"

    def __init__(
        self, message: str, *, retry_after: float | None = None, param: str | None = None, quotas: tuple[Quota, ...] = ()
    ) -> None:
        super().__init__(message, param=param)
        self.retry_after = retry_after
        self.quotas = quotas


class StateUnavailable(QuorumError):
    code = "state_unavailable"


class OrchestratorError(QuorumError):
    code = "orchestration_failed"


class LowQuality(OrchestratorError):
    code = "low_quality"


class DeadlineExceeded(OrchestratorError):
    code = "deadline_exceeded"


class BudgetExceeded(OrchestratorError):
    """`retry_after` in seconds, None where waiting does not help. `quotas` are the limits that the caller is under."""

    code = "budget_exceeded"

    def __init__(
        self, message: str, *, retry_after: float | None = None, param: str | None = None, quotas: tuple[Quota, ...] = ()
    ) -> None:
        super().__init__(message, param=param)
        self.retry_after = retry_after
        self.quotas = quotas


class RunCancelled(OrchestratorError):
    code = "cancelled"


class ToolExecutionError(QuorumError):
    """A tool was called and did not do its work. `retry_after` in seconds, where the tool may be back by then. Where its answer
    was cut off, `failure` is `incomplete`: it may have taken effect."""

    code = "tool_failed"

    def __init__(
        self,
        message: str,
        *,
        tool: str,
        code: ToolFailure = "tool_failed",
        retry_after: float | None = None,
        failure: FailureClass | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.tool = tool
        self.retry_after = retry_after
        self.failure: FailureClass | None = failure


class ProviderError(QuorumError):
    """One provider call failed.

    `failure` is the class that every policy decides by; `status` is the HTTP status the provider answered with, None where
    it did not answer; `retry_after` is the provider's own hint in seconds; `should_retry` its explicit word on retrying;
    `provider_request_id` is the provider's id for its support; `usage` is what the call is known to have used all the same.
    """

    code = "provider_error"

    def __init__(
        self,
        message: str,
        *,
        failure: FailureClass,
        provider: str,
        model: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        provider_code: str | None = None,
        provider_request_id: str | None = None,
        param: str | None = None,
        usage: Usage = NO_USAGE,
    ) -> None:
        super().__init__(message, code=failure, param=param)
        self.failure: FailureClass = failure
        self.provider = provider
        self.model = model
        self.status = status
        self.retry_after = retry_after
        self.should_retry = should_retry
        self.provider_code = provider_code
        self.provider_request_id = provider_request_id
        self.usage = usage


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An error as data: what a result, an event or a problem document says of it."""

    type: str
    code: str
    message: str
    param: str | None = None
    failure: FailureClass | None = None
    provider: str | None = None
    model: str | None = None
    status: int | None = None
    retry_after: float | None = None
    provider_request_id: str | None = None
    causes: tuple[ErrorReport, ...] = ()


class AllCandidatesFailed(OrchestratorError):
    """`reports` holds one report a failed candidate, in the order of the run's models."""

    code = "all_candidates_failed"

    def __init__(self, message: str, *, reports: tuple[ErrorReport, ...]) -> None:
        super().__init__(message)
        self.reports = reports


def report(error: BaseException) -> ErrorReport:
    """The public account of `error`. An error that is not ours is reported without its text, which may hold secrets."""
    match error:
        case ProviderError():
            return ErrorReport(
                type="ProviderError",
                code=error.code,
                message=error.message,
                param=error.param,
                failure=error.failure,
                provider=error.provider,
                model=error.model,
                status=error.status,
                retry_after=error.retry_after,
                provider_request_id=error.provider_request_id,
            )
        case AllCandidatesFailed():
            return ErrorReport("AllCandidatesFailed", error.code, error.message, causes=error.reports)
        case ToolExecutionError():
            return ErrorReport(
                type(error).__name__,
                error.code,
                error.message,
                param=error.param,
                failure=error.failure,
                retry_after=error.retry_after,
            )
        case LimitExceeded() | BudgetExceeded() | InProgress() | ConversationBusy():
            return ErrorReport(
                type(error).__name__, error.code, error.message, param=error.param, retry_after=error.retry_after
            )
        case QuorumError():
            return ErrorReport(type(error).__name__, error.code, error.message, param=error.param)
        case _:
            return ErrorReport(
                "InternalError", "internal_error", "an internal error; the log has its details under this request id"
            )
