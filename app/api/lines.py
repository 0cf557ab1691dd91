"""Lines of batches: what endpoints they may name, how each becomes a run, and how its result is answered there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypedDict, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from app.api.access import allowed_now
from app.api.errors import problem, validation_fault
from app.api.openai_chat import completion
from app.api.queued import CHAT, config_of
from app.api.schemas.chat import ChatBody
from app.api.schemas.embeddings import EmbeddingsBody, embeddings_answer
from app.api.schemas.orchestrations import OrchestrationBody
from app.core.errors import ErrorReport, InvalidRequest
from app.core.jobs import QueuedRequest
from app.core.run_json import json_bytes
from app.core.runs import OrchestrationOutput
from app.jobs.batch_lines import Dialects, LineRun
from app.orchestration.embeddings import EmbeddingsOrchestrator
from app.orchestration.engine import Engine, Run
from app.state.key_ring import KeyRing

NATIVE: Final = "/v1/orchestrations"
EMBEDDINGS: Final = "/v1/embeddings"
URLS: Final = (CHAT, EMBEDDINGS, NATIVE)
B = TypeVar("B", bound=BaseModel)
_EMBED: Final = EmbeddingsOrchestrator()
_ALONE: Final = ("stream", "background", "webhook", "on_disconnect", "conversation_id")
"""Members that mean nothing for a line: it is no request of its own, and lines are run in no order."""


class _Who(TypedDict):
    tenant: str
    key_id: str
    key_name: str
    scopes: frozenset[str]
    request_id: str
    address: str | None


def dialects(engine: Engine, keys: KeyRing) -> Dialects:
    """Those of all endpoints that lines may name, by the configuration in force when they are run, and by what the key that
    asked allows by then."""

    def prepare(request: QueuedRequest, run_id: str | None) -> LineRun:
        request = replace(request, who=replace(request.who, scopes=allowed_now(keys, request.who, "run")))
        run, answer = _PREPARE[request.path](engine, request, run_id)

        def answered(result: OrchestrationOutput) -> tuple[int, bytes]:
            return (200, answer(result)) if result.error is None else refused(result.error, result.id)

        return LineRun(run, answered)

    return Dialects(prepare, refused)


def refused(error: ErrorReport, run_id: str) -> tuple[int, bytes]:
    """Status and body of a line that failed: the problem that its endpoint would answer with."""
    answer = problem(error, run_id)
    return answer.status_code, bytes(answer.body)


def _native(engine: Engine, request: QueuedRequest, run_id: str | None) -> tuple[Run, Callable[[OrchestrationOutput], bytes]]:
    body = _read(OrchestrationBody, request)
    asking = body.to_core(config_of(body, engine.targets), deltas="none", **_who(request))
    return engine.begin(asking, run_id), json_bytes


def _chat(engine: Engine, request: QueuedRequest, run_id: str | None) -> tuple[Run, Callable[[OrchestrationOutput], bytes]]:
    body = _read(ChatBody, request)
    if body.quorum and body.quorum.conversation_id:
        raise InvalidRequest(_meaningless("quorum.conversation_id"), param="quorum.conversation_id")
    run = engine.begin(body.to_core(engine.targets.named(body.model), **_who(request)), run_id)
    return run, lambda result: completion(result, body.model)


def _vectors(engine: Engine, request: QueuedRequest, run_id: str | None) -> tuple[Run, Callable[[OrchestrationOutput], bytes]]:
    body = _read(EmbeddingsBody, request)
    run = engine.begin_with(_EMBED, body.to_core(**_who(request)), run_id)
    return run, lambda result: embeddings_answer(result, body.model, body.encoding_format)


_PREPARE: Final = {NATIVE: _native, CHAT: _chat, EMBEDDINGS: _vectors}


def _read(model: type[B], request: QueuedRequest) -> B:
    given: Any = orjson.loads(request.body)
    for name in _ALONE:
        if given.get(name):
            raise InvalidRequest(_meaningless(name), param=name)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise validation_fault(error, given) from None


def _meaningless(name: str) -> str:
    return f"{name} means nothing in a line of a batch; leave it out"


def _who(request: QueuedRequest) -> _Who:
    who = request.who
    return {
        "tenant": who.tenant,
        "key_id": who.key_id,
        "key_name": who.name,
        "scopes": who.scopes,
        "request_id": request.request_id,
        "address": request.address,
    }
