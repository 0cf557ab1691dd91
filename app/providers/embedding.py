"""A provider's embeddings as a call, so that every policy stands around them as around answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

from app.core.chat import ChatRequest
from app.core.embeddings import EmbeddingRequest
from app.core.model_events import ModelEvent, ResponseFinished
from app.core.models import Call
from app.providers.base import Embedder, Provider


def embedding_call(provider: Provider) -> Call | None:
    """The call that has requests for embeddings answered, None where `provider` has none."""
    if not getattr(provider, "embeds", False):
        return None
    embedder = cast("Embedder", provider)

    async def call(request: ChatRequest) -> AsyncIterator[ModelEvent]:
        yield ResponseFinished(await embedder.embed(cast("EmbeddingRequest", request)))

    return call
