"""Errors as answers: one table from error codes to statuses, one body for problem-details clients and OpenAI's SDKs alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.api.ratelimit import ratelimit_headers
from app.config.faults import deepest
from app.core.errors import BudgetExceeded, ErrorReport, InvalidRequest, LimitExceeded, QuorumError, report
from app.core.runs import OrchestrationOutput

PROBLEM_JSON = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Row:
    """How an error code is answered. `retry` is our word to clients that would otherwise ask again by themselves."""

    status: int
    type: str
    title: str
    retry: bool = False


_BAD = "invalid_request_error"
_API = "api_error"
_ROWS: dict[str, Row] = {
    "invalid_request": Row(400, _BAD, "The request is not valid"),
    "not_found": Row(404, _BAD, "There is no such thing"),
    "capability_missing": Row(400, _BAD, "No model can do this"),
    "config_invalid": Row(400, _BAD, "The configuration is not valid"),
    "too_large": Row(413, _BAD, "The body is too large"),
    "headers_too_large": Row(431, _BAD, "A header is too large"),
    "gone": Row(410, _BAD, "This is not kept any more"),
    "method_not_allowed": Row(405, _BAD, "This method is not served here"),
    "unsupported_media_type": Row(415, _BAD, "The body must be JSON"),
    "body_timeout": Row(408, _BAD, "The body came too slowly", retry=True),
    "unauthorized": Row(401, "authentication_error", "A valid API key is needed"),
    "forbidden": Row(403, "permission_error", "The key may not do this"),
    "audit_broken": Row(409, _BAD, "The audit trail was changed"),
    "conflict": Row(409, _BAD, "This conflicts with something that is there"),
    "idempotency_in_progress": Row(409, _BAD, "The same request is being answered", retry=True),
    "conversation_busy": Row(409, _BAD, "Another run is taking its turn in this conversation", retry=True),
    "conversation_changed": Row(409, _BAD, "The conversation went on without this run"),
    "idempotency_mismatch": Row(422, _BAD, "The key was used for another request"),
    "limit_exceeded": Row(429, "rate_limit_error", "A limit was reached", retry=True),
    "budget_exceeded": Row(429, "insufficient_quota", "The budget is used up"),
    "state_unavailable": Row(503, _API, "The state store is away", retry=True),
    "draining": Row(503, _API, "The service is stopping", retry=True),
    "step_timeout": Row(504, _API, "A step of a workflow was too slow"),
    "deadline_exceeded": Row(504, _API, "The deadline passed"),
    "cancelled": Row(499, _API, "The run was cancelled"),
    "all_candidates_failed": Row(502, _API, "Too few candidates answered"),
    "owner_lost": Row(502, _API, "The process that ran it has died", retry=True),
    "gave_up": Row(502, _API, "The job was given up"),
    "low_quality": Row(502, _API, "The answer did not pass a check"),
    "orchestration_failed": Row(502, _API, "The run failed"),
    "tool_failed": Row(502, _API, "A tool failed"),
    "tool_output_invalid": Row(502, _API, "A tool gave what it does not promise"),
    "tool_timeout": Row(504, _API, "A tool was too slow"),
    "tool_unavailable": Row(503, _API, "A tool cannot be reached now", retry=True),
    "tool_forbidden": Row(403, "permission_error", "No rule allows this tool"),
    "approval_needed": Row(403, "permission_error", "A person must agree first"),
    "approval_denied": Row(403, "permission_error", "A person has said no"),
    "approval_expired": Row(403, "permission_error", "Nobody has agreed in time"),
    "effect_uncertain": Row(409, _BAD, "Whether a tool took effect is not known"),
    "internal_error": Row(500, _API, "An internal error"),
}
_PROVIDER_ROWS: dict[str, Row] = {
    "connection": Row(502, _API, "The provider could not be reached"),
    "timeout": Row(504, _API, "The provider was too slow"),
    "rate_limited": Row(429, "rate_limit_error", "The provider's rate limit was reached", retry=True),
    "quota_exhausted": Row(429, "insufficient_quota", "The provider's quota is used up"),
    "request_too_large": Row(429, "rate_limit_error", "The request is larger than the provider's limit"),
    "overloaded": Row(503, _API, "The provider is overloaded", retry=True),
    "server_error": Row(502, _API, "The provider failed"),
    "incomplete": Row(502, _API, "The provider's answer broke off"),
    "auth": Row(502, _API, "The provider refused our credential"),
    "not_found": Row(502, _API, "The provider does not know this model"),
    "invalid_request": Row(400, _BAD, "The provider refused the request"),
    "context_length": Row(400, _BAD, "The prompt is longer than the model takes"),
    "content_filtered": Row(400, _BAD, "The provider filtered the content"),
    "invalid_output": Row(502, _API, "The provider's answer has the wrong shape"),
    "breaker_open": Row(503, _API, "The provider is left alone for now", retry=True),
    "pacing": Row(503, _API, "The provider is used to its limit", retry=True),
    "cancelled": Row(499, _API, "The call was cancelled"),
}
_OPENAI_CODES = {"context_length": "context_length_exceeded", "quota_exhausted": "insufficient_quota"}
"""Codes that OpenAI's clients look for by name."""
_DEFAULT_RETRY_AFTER_S = 1.0


def row_of(error: ErrorReport) -> Row:
    """How `error` is answered. A run whose candidates all failed for one lone candidate answers with that one's failure."""
    if error.code == "all_candidates_failed" and len(error.causes) == 1:
        return row_of(error.causes[0])
    table = _ROWS if error.failure is None else _PROVIDER_ROWS
    return table.get(error.code, _ROWS["internal_error"])


def openai_error(error: ErrorReport) -> dict[str, Any]:
    """The `error` member that OpenAI's SDKs read."""
    row = row_of(error)
    code = _OPENAI_CODES.get(error.code, error.code)
    return {"message": error.message, "type": row.type, "code": code, "param": error.param}


def problem(
    error: ErrorReport,
    request_id: str,
    *,
    run_id: str | None = None,
    result: OrchestrationOutput | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    """An RFC 9457 answer that also carries OpenAI's `error`; of a run that failed, its id, `headers` and what came of it."""
    row = row_of(error)
    body: dict[str, Any] = {
        "type": f"urn:quorum:error:{error.code}",
        "title": row.title,
        "status": row.status,
        "detail": error.message,
        "instance": f"urn:quorum:request:{request_id}",
        "error": openai_error(error),
        "request_id": request_id,
    }
    if error.failure is not None:
        body["provider"] = {
            "name": error.provider,
            "model": error.model,
            "failure": error.failure,
            "status": error.status,
            "request_id": error.provider_request_id,
        }
    if error.causes:
        body["causes"] = error.causes
    if run_id is not None:
        body["run_id"] = run_id
    if result is not None:
        body["result"] = result
    return Response(orjson.dumps(body, default=dict), row.status, {**headers, **error_headers(error)}, PROBLEM_JSON)


def error_headers(error: ErrorReport) -> dict[str, str]:
    """`x-should-retry`, and `Retry-After` with 409, 429 and 503 where asking again may help."""
    row = row_of(error)
    headers = {"x-should-retry": "true" if row.retry else "false"}
    if row.status in (409, 429, 503) and (row.retry or error.retry_after is not None):
        seconds = _DEFAULT_RETRY_AFTER_S if error.retry_after is None else error.retry_after
        headers["retry-after"] = str(max(1, -int(-seconds // 1)))
    if row.status == 401:
        headers["www-authenticate"] = "Bearer"
    return headers


def validation_fault(error: ValidationError | RequestValidationError, body: Any = None) -> InvalidRequest:
    """The fault of `body` that tells most, by the path of its member, with the number of the others."""
    faults: list[Any] = list(error.errors())
    if isinstance(error, RequestValidationError):  # of the path, the query or the headers: the first step says which
        faults = [{**fault, "loc": fault["loc"][1:]} for fault in faults]
        body = {step: None for fault in faults for step in fault["loc"][:1]}
    told = deepest(faults, body)
    more = f" (and {told.others} more)" if told.others else ""
    return InvalidRequest(f"{told.member or 'the body'}: {told.what}{more}", param=told.member or None)


_HTTP_CODES: Mapping[int, str] = {
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
}


async def answer_error(request: Request, error: Exception) -> Response:
    """The exception handler for everything that is ours or the framework's."""
    request_id: str = request.scope.get("request_id", "")
    match error:
        case LimitExceeded() | BudgetExceeded():
            response = problem(report(error), request_id)
            response.headers.update(ratelimit_headers(error.quotas))
            return response
        case QuorumError():
            return problem(report(error), request_id)
        case RequestValidationError() | ValidationError():
            return problem(report(validation_fault(error)), request_id)
        case HTTPException():
            code = _HTTP_CODES.get(error.status_code, "invalid_request" if error.status_code < 500 else "internal_error")
            path = request.url.path
            message = f"there is nothing at {path!r}; see /docs" if error.status_code == 404 else str(error.detail)
            return problem(ErrorReport("HTTPException", code, message), request_id)
        case _:
            return problem(report(error), request_id)
