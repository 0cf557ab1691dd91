from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import orjson
import pytest

from app.api.errors import problem
from app.core import errors
from app.core.errors import (
    AllCandidatesFailed,
    ConfigError,
    ConversationBusy,
    ErrorReport,
    FailureClass,
    InProgress,
    LimitExceeded,
    ProviderError,
    QuorumError,
    ToolExecutionError,
    report,
)
from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Loopback, as_json
from tests.support.serving import Serving, serving, upstream

RETRYABLE = {"rate_limited", "overloaded", "breaker_open", "pacing"}
STATUSES = {
    "connection": 502,
    "timeout": 504,
    "rate_limited": 429,
    "quota_exhausted": 429,
    "request_too_large": 429,
    "overloaded": 503,
    "server_error": 502,
    "incomplete": 502,
    "auth": 502,
    "not_found": 502,
    "invalid_request": 400,
    "context_length": 400,
    "invalid_output": 502,
    "breaker_open": 503,
    "pacing": 503,
}
"""The table of section 6 of the design: each failure class and its status when alone."""

OWN = {
    "QuorumError": 500,
    "InvalidRequest": 400,
    "NotFound": 404,
    "Gone": 410,
    "CapabilityMissing": 400,
    "ConfigError": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "ConflictError": 409,
    "InProgress": 409,
    "ConversationBusy": 409,
    "LimitExceeded": 429,
    "StateUnavailable": 503,
    "LowQuality": 502,
    "OrchestratorError": 502,
    "AllCandidatesFailed": 502,
    "DeadlineExceeded": 504,
    "BudgetExceeded": 429,
    "RunCancelled": 499,
    "ToolExecutionError": 502,
}


def test_every_failure_class_has_a_status() -> None:
    assert STATUSES.keys() | {"content_filtered", "cancelled"} == set(get_args(FailureClass))


@pytest.mark.parametrize(
    ("failure", "status", "streamed"),
    [
        (failure, status, streamed)
        for failure, status in STATUSES.items()
        for streamed in (False, True)
        if not (streamed and failure == "incomplete")  # of a stream that has begun, so its status is out
    ],
)
async def test_a_lone_models_failure_has_its_own_status(service: Serving, failure: str, status: int, streamed: bool) -> None:
    prompt = f"Who? [[mock: fault={failure} retry_after=2.3]]"
    body = {"model": "quorum/direct", "messages": [{"role": "user", "content": prompt}], "stream": streamed}
    answer = await service.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-should-retry"] == ("true" if failure in RETRYABLE else "false")
    assert answer.headers.get("retry-after") == ("3" if status in (429, 503) else None)
    found = answer.json()
    assert found["provider"]["failure"] == failure
    assert found["status"] == status
    assert found["detail"] == found["error"]["message"]
    assert found["run_id"] == answer.headers["x-quorum-run-id"] if not streamed else True


@pytest.mark.parametrize(("failure", "status"), STATUSES.items())
async def test_a_panel_whose_models_all_fail_is_a_502_with_each_reason(service: Serving, failure: str, status: int) -> None:
    answer = await service.client.post(
        "/v1/orchestrations", json={"input": f"Who? [[mock: fault={failure}]]", "strategy": "simple"}
    )
    assert answer.status_code == 502
    found = answer.json()
    assert [cause["failure"] for cause in found["causes"]] == [failure] * 3
    assert [candidate["status"] for candidate in found["result"]["candidates"]] == ["failed"] * 3
    assert found["result"]["id"] == found["run_id"]


def everyone(root: type[QuorumError]) -> Iterator[type[QuorumError]]:
    yield root
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from everyone(kind)


def made(kind: type[QuorumError]) -> QuorumError:
    if kind is AllCandidatesFailed:
        return AllCandidatesFailed("none", reports=(report(QuorumError("a")), report(QuorumError("b"))))
    if kind is ToolExecutionError:
        return ToolExecutionError("broke", tool="t")
    if kind is ConversationBusy:
        return ConversationBusy("wrong", 1.0)
    if kind is InProgress:
        return InProgress(1.0)
    if kind is LimitExceeded:
        return LimitExceeded("enough", retry_after=0.2)
    if kind is ConfigError:
        return ConfigError("wrong", faults=("line 1",))
    return kind("it happened", param="p")


@pytest.mark.parametrize("kind", [kind for kind in everyone(QuorumError) if kind is not ProviderError])
def test_each_of_our_errors_has_its_status_and_both_shapes(kind: type[QuorumError]) -> None:
    error = made(kind)
    answer = problem(report(error), "req_1")
    assert answer.status_code == OWN[kind.__name__]
    found = orjson.loads(answer.body)
    assert {"type", "title", "status", "detail", "instance"} <= found.keys()
    assert {"message", "type", "code", "param"} == found["error"].keys()
    assert found["error"]["message"] == found["detail"] == error.message
    assert found["title"] != "An internal error" or kind is QuorumError
    assert ("retry-after" in answer.headers) is (
        answer.status_code == 503 or kind in (LimitExceeded, InProgress, ConversationBusy)
    )
    assert answer.headers["x-should-retry"] in ("true", "false")


def test_an_error_that_is_not_ours_keeps_its_text_to_itself() -> None:
    answer = problem(report(RuntimeError("the password is hunter2")), "req_1")
    assert answer.status_code == 500
    assert b"hunter2" not in answer.body


def test_a_lone_candidates_failure_answers_for_the_run() -> None:
    cause = ErrorReport("ProviderError", "rate_limited", "slow down", failure="rate_limited")
    answer = problem(report(AllCandidatesFailed("none", reports=(cause,))), "req_1")
    assert answer.status_code == 429


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/nowhere", 404),
        ("GET", "/v1/orchestrations/", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/healthz", 405),
        ("GET", "/docs/../../etc/passwd", 404),
    ],
)
async def test_what_is_not_there(service: Serving, method: str, path: str, status: int) -> None:
    answer = await service.client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/v1/models"])
async def test_a_request_id_comes_back(service: Serving, path: str) -> None:
    answer = await service.client.get(path, headers={"x-request-id": "my-id/7"})
    assert answer.headers["x-request-id"] == "my-id/7"


@pytest.mark.parametrize("bad", ["", "two words", "x" * 129, "t\u00e4g"])
async def test_a_bad_request_id_is_replaced(service: Serving, bad: str) -> None:
    answer = await service.client.get("/nowhere", headers={"x-request-id": bad.encode("latin-1")})
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_a_trace_goes_on_to_the_provider(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with Loopback(as_json({}, 500)) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        for header in (trace, "nonsense"):
            await service.client.post(
                "/v1/orchestrations",
                json={"input": "Hi", "strategy": "direct", "models": ["m"]},
                headers={"traceparent": header},
            )
        assert [request.headers.get("traceparent") for request in provider.received] == [trace, None]


async def test_a_deadline_header_ends_the_run(service: Serving) -> None:
    body = {"input": "Who? [[mock: latency=5000]]", "strategy": "direct"}
    answer = await service.client.post("/v1/orchestrations", json=body, headers={"x-quorum-deadline-ms": "50"})
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"


@pytest.mark.parametrize("bad", ["0", "-1", "soon", "1.5", "3600001", "9" * 400, "\u0661"])
async def test_a_bad_deadline_is_named(service: Serving, bad: str) -> None:
    answer = await service.client.post(
        "/v1/orchestrations", json={"input": "Hi"}, headers={"x-quorum-deadline-ms": bad.encode()}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "X-Quorum-Deadline-Ms"
