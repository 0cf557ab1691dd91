"""What a provider is: an adapter with one method for generation, and a profile for each of its models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from app.core.chat import ChatRequest
from app.core.embeddings import EmbeddingRequest, EmbeddingResponse
from app.core.model_events import ModelEvent
from app.core.models import Call, Capabilities, ModelProfile


@dataclass(frozen=True, slots=True)
class Availability:
    """The outcome of a check: reached and accepted, in how many milliseconds, or why not."""

    provider: str
    available: bool
    latency_ms: float | None = None
    models: tuple[str, ...] = ()
    error: str | None = None


class Provider(Protocol):
    """A connection to a vendor."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    def stream(self, request: ChatRequest) -> AsyncIterator[ModelEvent]:
        """Answer `request`: deltas and `ResponseFinished`, or that one alone when `request.incremental` is false.

        Raises:
            ProviderError: the call failed, before or in the middle of the answer. Nothing else is raised.
        """
        ...

    async def check(self) -> Availability:
        """Ask the vendor something cheap that needs the credential. Never raises."""
        ...

    async def aclose(self) -> None: ...


class Embedder(Protocol):
    """A provider that embeds texts, besides being a `Provider`."""

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResponse:
        """A vector for each text of `request`.

        Raises:
            ProviderError: the call failed. Nothing else is raised.
        """
        ...


__all__ = ["Availability", "Call", "Capabilities", "Embedder", "ModelProfile", "Provider"]
