"""Gemini's embeddings on the wire ("Gemini API: models.batchEmbedContents")."""

from __future__ import annotations

from typing import Any

from app.core.embeddings import EmbeddingRequest, EmbeddingResponse
from app.core.usage import Usage
from app.providers.http_provider import DialectError, Failure

_BYTES_A_TOKEN = 4


def encode_embeddings(request: EmbeddingRequest) -> dict[str, Any]:
    """The body: each text a request of its own."""
    name = request.model if "/" in request.model else f"models/{request.model}"
    size = {} if request.dimensions is None else {"outputDimensionality": request.dimensions}
    asked = [{"model": name, "content": {"parts": [{"text": text}]}, **size} for text in request.texts]
    return {"requests": asked, **(request.extra or {})}


def decode_embeddings(body: Any, request: EmbeddingRequest) -> EmbeddingResponse:
    """The vectors, which come in the order of the texts. Gemini does not say what was used: it is reckoned by the bytes."""
    rows = body["embeddings"]
    if len(rows) != len(request.texts):
        raise DialectError(Failure("invalid_output", f"{len(request.texts)} texts were sent, and {len(rows)} vectors came"))
    return EmbeddingResponse(
        id="",
        model=request.model,
        choices=(),
        usage=Usage(sum(-(-len(text.encode()) // _BYTES_A_TOKEN) for text in request.texts), 0),
        vectors=tuple(tuple(map(float, row["values"])) for row in rows),
    )
