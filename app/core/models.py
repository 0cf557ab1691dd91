"""What is known of a model before it is called, and the shape of a call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from app.core.chat import ChatRequest, JsonObject
from app.core.model_events import ModelEvent
from app.core.usage import Price

Call = Callable[[ChatRequest], AsyncIterator[ModelEvent]]
"""A way to have a request answered; a provider's `stream` is one."""

Policy = Callable[[Call], Call]
"""Something that stands around a call: the same shape outside and inside."""


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
    system: bool = True
    sampling: bool = True


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """A model under its alias. `price` is None when unknown; `context_window` and `max_output_tokens` are in tokens.

    `quality` is how often it is taken to be right before anything was measured, 0 to 1; None where nobody has said.
    """

    name: str
    provider: str
    model: str
    capabilities: Capabilities = Capabilities()
    price: Price | None = None
    family: str = ""
    context_window: int | None = None
    max_output_tokens: int | None = None
    tags: tuple[str, ...] = ()
    extra_body: JsonObject | None = None
    quality: float | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model ready to be called: its profile, and the call with every policy around it.

    `embed` is the call for requests for embeddings, None where its provider has none.
    """

    profile: ModelProfile
    call: Call
    embed: Call | None = None
