"""OpenAI's embeddings on the wire (OpenAI API reference, "Embeddings")."""

from __future__ import annotations

from typing import Any

from app.core.embeddings import EmbeddingRequest, EmbeddingResponse
from app.core.usage import Usage
from app.providers.http_provider import DialectError, Failure


def encode_embeddings(request: EmbeddingRequest) -> dict[str, Any]:
    """The body. Floats are asked for: a vendor that only knows those needs no word for it."""
    body: dict[str, Any] = {"model": request.model, "input": list(request.texts), "encoding_format": "float"}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return {**body, **(request.extra or {})}


def decode_embeddings(body: Any, request: EmbeddingRequest) -> EmbeddingResponse:
    """The vectors by their `index`."""
    rows = sorted(body["data"], key=lambda row: row.get("index", 0))
    if len(rows) != len(request.texts):
        raise DialectError(Failure("invalid_output", f"{len(request.texts)} texts were sent, and {len(rows)} vectors came"))
    used: dict[str, Any] = body.get("usage") or {}
    return EmbeddingResponse(
        id="",
        model=body.get("model") or request.model,
        choices=(),
        usage=Usage(used.get("prompt_tokens") or 0, 0),
        vectors=tuple(tuple(map(float, row["embedding"])) for row in rows),
    )
