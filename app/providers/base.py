"""What a provider is: an adapter with one method for generation, and a profile for each of its models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from app.core.chat import ChatRequest
from app.core.model_events import ModelEvent
from app.core.usage import Price

Call = Callable[[ChatRequest], AsyncIterator[ModelEvent]]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do. Checked before a call, so that nothing is dropped silently."""

    tools: bool = True
    parallel_tools: bool = True
    images: bool = True
    documents: bool = False
    json_object: bool = True
    json_schema: bool = True
    reasoning: bool = False
    seed: bool = True
    stop: bool = True
    logprobs: bool = False
    n: bool = False


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """A model under its alias. `price` is None when unknown; `context_window` and `max_output_tokens` are in tokens."""

    name: str
    provider: str
    model: str
    capabilities: Capabilities = Capabilities()
    price: Price | None = None
    family: str = ""
    context_window: int | None = None
    max_output_tokens: int | None = None
    tags: tuple[str, ...] = ()


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
