"""Texts as vectors. A request for them is asked as any other, with the same policies around it; it has texts in place of a
conversation, and its response vectors in place of choices."""

from __future__ import annotations

from collections.abc import Sequence

from app.core.chat import ChatRequest, ChatResponse
from app.core.messages import user
from app.core.values import value

Vector = tuple[float, ...]


@value
class EmbeddingRequest(ChatRequest):
    """Texts to embed. `messages` are the same texts, as budgets count them; `dimensions` None leaves them to the model."""

    texts: tuple[str, ...] = ()
    dimensions: int | None = None


@value
class EmbeddingResponse(ChatResponse):
    """A vector for each text, in their order."""

    vectors: tuple[Vector, ...] = ()


def embedding_of(request: ChatRequest, texts: Sequence[str], dimensions: int | None = None) -> EmbeddingRequest:
    """`request` with texts to embed in place of its conversation."""
    request.context.cache = "off"
    return EmbeddingRequest(
        request.model,
        tuple(map(user, texts)),
        extra=request.extra,
        context=request.context,
        texts=tuple(texts),
        dimensions=dimensions,
    )
