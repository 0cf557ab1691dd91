"""A question put to a Quorum service: its event stream, read back into run events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson
from pydantic import TypeAdapter, ValidationError

from app.cli.asking.question import Question
from app.core.errors import Forbidden, InvalidRequest, OrchestratorError, QuorumError, Unauthorized
from app.core.run_events import (
    AnalysisFinished,
    ApprovalDecided,
    ApprovalRequested,
    CandidateDelta,
    CandidateFailed,
    CandidateFinished,
    CandidateStarted,
    OutputDelta,
    OutputReset,
    PlanMade,
    RunEvent,
    RunFailed,
    RunFinished,
    ToolReturned,
    Warning,
)
from app.providers.sse import SseDecoder, SseTooLarge

CONNECT_S: Final = 5.0
SILENCE_S: Final = 60.0
"""The service comments every 15 s when it has nothing to say."""
PROBE_S: Final = 1.0
_READ: Final = (
    PlanMade,
    CandidateStarted,
    CandidateDelta,
    CandidateFinished,
    CandidateFailed,
    AnalysisFinished,
    ToolReturned,
    ApprovalRequested,
    ApprovalDecided,
    OutputDelta,
    OutputReset,
    Warning,
    RunFinished,
    RunFailed,
)
"""The events that are shown; others are passed over, so that an older command reads a newer service."""
_REFUSED: Final = frozenset({400, 404, 413, 422})


async def reachable(url: str) -> bool:
    """Whether a Quorum service listens at `url`."""
    try:
        async with client_of(url, None) as client:
            answer = await client.get("/healthz", timeout=PROBE_S)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return answer.status_code == 200 and "x-request-id" in answer.headers and answer.text.startswith('{"status":')


async def events(question: Question, *, url: str, key: str | None) -> AsyncGenerator[RunEvent]:
    """The run's events. Closing this closes the connection, by which the service cancels the run.

    Raises:
        InvalidRequest: the service refuses the question as impossible.
        QuorumError: it cannot be reached, refuses the key, or breaks off.
    """
    try:
        async with (
            client_of(url, key) as client,
            client.stream("POST", "/v1/orchestrations", json=body_of(question)) as answer,
        ):
            if answer.status_code != 200:
                raise refusal_of(url, answer.status_code, await answer.aread())
            async for event in read_events(answer.aiter_bytes()):
                yield event
                if isinstance(event, (RunFinished, RunFailed)):
                    return
    except (httpx.HTTPError, httpx.InvalidURL, SseTooLarge) as error:
        reason = str(error) or type(error).__name__
        raise OrchestratorError(f"the service at {url} cannot be reached or broke off: {reason}") from None
    raise OrchestratorError(f"the service at {url} broke off before the run had ended")


def body_of(question: Question) -> dict[str, Any]:
    """The request body of `POST /v1/orchestrations`."""
    generation = {"temperature": question.temperature, "max_tokens": question.max_tokens}
    messages = [{"role": "user", "content": question.text}]
    if question.system is not None:
        messages.insert(0, {"role": "system", "content": question.system})
    return {
        "input": messages,
        "strategy": question.strategy,
        "recipe": question.recipe,
        "models": list(question.models),
        "lead_model": question.lead_model,
        "options": dict(question.options),
        "generation": {name: value for name, value in generation.items() if value is not None},
        "stream": True,
        "conversation_id": question.conversation_id,
    }


def client_of(url: str, key: str | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=url,
        headers={"authorization": f"Bearer {key}"} if key else None,
        timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S),
        trust_env=urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1"),  # no proxy leads to this machine
    )


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[RunEvent]:
    """The events of a native event stream, those of `_READ`.

    Raises:
        OrchestratorError: one is not what it should be.
    """
    decoder = SseDecoder()
    async for chunk in chunks:
        for kind, data in decoder.feed(chunk):
            adapter = _adapters().get(kind.decode(errors="replace"))
            if adapter is None:
                continue
            try:
                yield adapter.validate_python(orjson.loads(data))
            except (orjson.JSONDecodeError, ValidationError):
                message = f"the service sent an event {kind!r} that this version of quorum does not understand"
                raise OrchestratorError(message) from None


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    return {event.type: TypeAdapter[Any](event) for event in _READ}


def refusal_of(url: str, status: int, body: bytes) -> QuorumError:
    try:
        error = orjson.loads(body)["error"]
        message, code, param = str(error["message"]), str(error["code"]), error.get("param")
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return OrchestratorError(f"{url} answered {status}, and not as a Quorum service does; name yours with --url")
    if status == 401:
        return Unauthorized(f"{message}; give --key, or set QUORUM_API_KEY")
    if status == 403:
        return Forbidden(message)
    kind = InvalidRequest if status in _REFUSED else OrchestratorError
    return kind(message, code=code, param=param)
