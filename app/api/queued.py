"""Requests that were accepted before and are run now: from their stored bodies to runs."""

from __future__ import annotations

from typing import Any, Final

import orjson

from app.api.access import allowed_now
from app.api.schemas.chat import ChatBody
from app.api.schemas.orchestrations import OrchestrationBody
from app.core.clock import Clock
from app.core.jobs import QueuedRequest
from app.core.runs import OrchestrationConfig, RunRequest
from app.orchestration.engine import Engine
from app.orchestration.selection import Targets
from app.state.key_ring import KeyRing

CHAT: Final = "/v1/chat/completions"


def config_of(body: OrchestrationBody, targets: Targets) -> OrchestrationConfig:
    """What `body` asks for, with its recipe and the defaults.

    Raises:
        InvalidRequest: it names what is not there.
    """
    return targets.asked(
        strategy=body.strategy,
        recipe=body.recipe,
        models=tuple(body.models),
        lead_model=body.lead_model,
        options=body.options,
    )


class QueuedReader:
    """Reads them by the configuration that is in force when they are run, and by what the keys that asked allow by then."""

    def __init__(self, engine: Engine, keys: KeyRing, clock: Clock) -> None:
        self._engine = engine
        self._keys = keys
        self._clock = clock

    def __call__(self, queued: QueuedRequest, /, *, withdrawn: bool = False) -> RunRequest:
        who = queued.who
        scopes = who.scopes if withdrawn else allowed_now(self._keys, who, "run")
        given = orjson.loads(queued.body)
        told: dict[str, Any] = {
            "tenant": who.tenant,
            "key_id": who.key_id,
            "key_name": who.name,
            "scopes": scopes,
            "request_id": queued.request_id,
            "traceparent": queued.traceparent,
            "deadline": None if queued.deadline is None else self._clock.monotonic() + queued.deadline - self._clock.now(),
            "address": queued.address,
        }
        if queued.path == CHAT:
            chat = ChatBody.model_validate(given)
            return chat.to_core(self._engine.targets.named(chat.model), **told)
        body = OrchestrationBody.model_validate(given)
        return body.to_core(config_of(body, self._engine.targets), deltas="all", **told)
