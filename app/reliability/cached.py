"""What may be kept of an answer, under which name, and how it is told again. Nothing here asks anybody."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

import orjson
from pydantic import TypeAdapter

from app.core.chat import ChatRequest, ChatResponse
from app.core.model_events import ModelEvent, ResponseFinished, unfold
from app.core.models import ModelProfile
from app.core.usage import NO_USAGE

KEPT: Final = frozenset({"stop", "tool_calls"})
"""How an answer ends that is whole and unfiltered."""
_RESPONSE = TypeAdapter(ChatResponse)


def digest(profile: ModelProfile, request: ChatRequest) -> str:
    """A name for all that the answer depends on: the model and its provider, and the request as the model gets it.

    Who asks is not in it; answers are kept for each tenant by itself.
    """
    asked = {
        "provider": profile.provider,
        "model": request.model,
        "messages": request.messages,
        "generation": request.generation,
        "tools": request.tools,
        "tool_choice": request.tool_choice,
        "extra": request.extra,
        "replicate": request.context.replicate,
    }
    return hashlib.sha256(orjson.dumps(asked, default=dict, option=orjson.OPT_SORT_KEYS)).hexdigest()[:40]


def keepable(response: ChatResponse) -> bool:
    """Whether every choice of it is whole and nothing of it was filtered."""
    return all(choice.finish_reason in KEPT and not choice.refusal for choice in response.choices)


def packed(response: ChatResponse) -> bytes:
    return orjson.dumps(response, default=dict)


def unpacked(stored: bytes) -> ChatResponse:
    """The inverse of `packed`."""
    return _RESPONSE.validate_python(orjson.loads(stored))


def told_again(response: ChatResponse, *, incremental: bool) -> Iterable[ModelEvent]:
    """An answer as one who did not ask for it gets it: it has used nothing."""
    free = replace(response, usage=NO_USAGE)
    return unfold(free) if incremental else iter((ResponseFinished(free),))


def deltas_of(response: ChatResponse) -> Iterator[ModelEvent]:
    """What a stream says before its end, of an answer that came as a whole."""
    return (event for event in unfold(response) if not isinstance(event, ResponseFinished))
