"""The body of `POST /v1/embeddings`: what the official SDKs send, plus `quorum`."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field
from typing_extensions import TypedDict

from app.api.schemas.messages import Body
from app.api.schemas.orchestrations import BudgetBody
from app.core.messages import user
from app.core.runs import Budget, OrchestrationConfig, OrchestrationOutput, RunRequest

MOST_TEXTS = 2_048
"""As OpenAI takes at once."""
Encoding = Literal["float", "base64"]


class EmbeddingsMember(Body):
    """What OpenAI's dialect has no word for."""

    budget: BudgetBody | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class EmbeddingsBody(Body):
    """Texts to embed. `model` is a model alias or `provider/model`. Arrays of tokens are not taken: vocabularies differ."""

    model: str = Field(min_length=1, max_length=256)
    input: str | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)] = Field(description="A text, or several.")
    dimensions: int | None = Field(default=None, ge=1, le=100_000, description="Of each vector, where the model allows.")
    encoding_format: Encoding = "float"
    user: str | None = Field(default=None, description="Taken, and not passed on.")
    quorum: EmbeddingsMember = EmbeddingsMember()

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.input,) if isinstance(self.input, str) else tuple(self.input)

    def to_core(self, **who: Any) -> RunRequest:
        options = {"texts": self.texts, "dimensions": self.dimensions}
        config = OrchestrationConfig("embeddings", (self.model,), options=options)
        budget = self.quorum.budget.to_core("fail") if self.quorum.budget else Budget()
        return RunRequest(config, (user("\n".join(self.texts)),), budget=budget, metadata=self.quorum.metadata, **who)


class EmbeddingRow(TypedDict):
    """One vector, as floats or as base64 of 32-bit floats, little endian."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsSummary(TypedDict):
    run_id: str
    cost_usd: float | None


class EmbeddingsAnswer(TypedDict):
    """OpenAI's list of embeddings, with `quorum` beside it."""

    object: Literal["list"]
    data: list[EmbeddingRow]
    model: str
    usage: dict[str, int]
    quorum: EmbeddingsSummary


def embeddings_answer(result: OrchestrationOutput, model: str, encoding: Encoding) -> bytes:
    """The answer's body."""
    vectors: Sequence[Sequence[float]] = result.output.json
    rows = [
        {"object": "embedding", "index": index, "embedding": vector if encoding == "float" else _packed(vector)}
        for index, vector in enumerate(vectors)
    ]
    used = {"prompt_tokens": result.usage.input_tokens, "total_tokens": result.usage.total_tokens}
    summary = {"run_id": result.id, "cost_usd": result.cost_usd}
    return orjson.dumps({"object": "list", "data": rows, "model": model, "usage": used, "quorum": summary})


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(array("f", vector).tobytes()).decode()
