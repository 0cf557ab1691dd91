"""A request made to fit a model: what the model cannot do is refused before the call, documents it cannot read become text.

Formats of JSON that it has no setting for are left out of its call at the very end (`plainly`): the prompt asks for them in
words, and the policies in between check the answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Final

from app.core.chat import DEFAULT_GENERATION, ChatRequest, Generation, ResponseFormat, ToolDefinition
from app.core.errors import CapabilityMissing
from app.core.messages import DocumentPart, ImagePart, Message, Part, TextPart, ToolCallPart, ToolResultPart
from app.core.model_events import ModelEvent
from app.core.models import Call, ModelProfile
from app.core.streams import close
from app.providers.documents import document_text

_IMAGE, _DOCUMENT, _LINK, _TOOL = 1, 2, 4, 8

_REFUSALS = {
    "tools": ("cannot call tools", "leave the tools out", "tools"),
    "images": ("takes no images", "leave the images out", "messages"),
    "documents": ("takes no documents by URL", "send the document itself, which is then read as text", "messages"),
    "reasoning": ("has no reasoning effort to set", "leave reasoning_effort out", "reasoning_effort"),
    "seed": ("takes no seed", "leave seed out", "seed"),
    "stop": ("takes no stop sequences", "leave stop out", "stop"),
    "logprobs": ("gives no logprobs", "leave logprobs out", "logprobs"),
    "n": ("gives one answer a call", "leave n out, or ask the model several times", "n"),
    "sampling": ("takes no settings of sampling", "leave temperature, top_p and penalties out", "temperature"),
}
"""By capability: what a model without it does, what to do instead, and which member of the request asks for it."""


_SAMPLING: Final = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
"""The settings of sampling, each with the value that changes nothing."""


def missing(
    profile: ModelProfile, messages: Sequence[Message], generation: Generation, tools: Sequence[ToolDefinition]
) -> CapabilityMissing | None:
    """The error for the first thing asked that the model cannot do, or None when it can do it all."""
    return _lack(profile, _contents(messages), generation, tools)


async def fit(profile: ModelProfile, request: ChatRequest) -> ChatRequest:
    """`request` as the model can take it; the very same object where nothing has to change.

    Documents become text where the model takes none, `max_tokens` is bounded by what the model can write, and settings that
    say what the model does anyway are left out.

    Raises:
        CapabilityMissing: the model cannot do what is asked; says what would work.
        InvalidRequest: a document cannot be read.
    """
    contents = _contents(request.messages)
    lack = _lack(profile, contents, request.generation, request.tools)
    if lack is not None:
        raise lack
    generation = request.generation
    if generation is not DEFAULT_GENERATION:
        generation = _bounded(profile, generation)
    messages = request.messages
    if contents & _DOCUMENT and not profile.capabilities.documents:
        messages = tuple([await _as_text(message) for message in messages])
    if messages is request.messages and generation is request.generation:
        return request
    return replace(request, messages=messages, generation=generation)


def fitted(profile: ModelProfile, call: Call) -> Call:
    """`call`, asked with requests made to fit. One that fits as it is goes through without anything put in its way."""

    def ask(request: ChatRequest) -> AsyncIterator[ModelEvent]:
        return call(request) if _fits(profile, request) else _fit_and_ask(profile, call, request)

    return ask


def plainly(profile: ModelProfile, call: Call) -> Call:
    """`call`, asked without the formats that the model has no setting for, or with the nearest that it has."""
    can = profile.capabilities
    if can.json_schema and can.json_object:
        return call

    def ask(request: ChatRequest) -> AsyncIterator[ModelEvent]:
        form = request.generation.response_format
        if form is None or form.type == "text" or (can.json_schema if form.type == "json_schema" else can.json_object):
            return call(request)
        nearest = ResponseFormat("json_object") if form.type == "json_schema" and can.json_object else None
        return call(replace(request, generation=replace(request.generation, response_format=nearest)))

    return ask


async def _fit_and_ask(profile: ModelProfile, call: Call, request: ChatRequest) -> AsyncIterator[ModelEvent]:
    source = call(await fit(profile, request))
    try:
        async for event in source:
            yield event
    finally:
        await close(source)


def _fits(profile: ModelProfile, request: ChatRequest) -> bool:
    contents, generation = _contents(request.messages), request.generation
    if _lack(profile, contents, generation, request.tools) is not None:
        return False
    if contents & _DOCUMENT and not profile.capabilities.documents:
        return False
    return generation is DEFAULT_GENERATION or _bounded(profile, generation) is generation


def _contents(messages: Iterable[Message]) -> int:
    """What there is beside text, as a sum of flags: one pass, nothing made."""
    found = 0
    for message in messages:
        for part in message.parts:
            kind = part.__class__
            if kind is TextPart:
                continue
            if kind is ImagePart:
                found |= _IMAGE
            elif isinstance(part, DocumentPart):
                found |= _DOCUMENT if part.data is not None else _LINK
            elif kind is ToolCallPart:
                found |= _TOOL
            elif isinstance(part, ToolResultPart):
                found |= _TOOL
                if any(inner.__class__ is ImagePart for inner in part.content):
                    found |= _IMAGE
    return found


def _lack(
    profile: ModelProfile, contents: int, generation: Generation, tools: Sequence[ToolDefinition]
) -> CapabilityMissing | None:
    can = profile.capabilities
    if (tools or contents & _TOOL) and not can.tools:
        return _refusal(profile, "tools")
    if contents & _IMAGE and not can.images:
        return _refusal(profile, "images")
    if contents & _LINK and not can.documents:
        return _refusal(profile, "documents")
    if generation is DEFAULT_GENERATION:
        return None
    if generation.reasoning_effort not in (None, "none") and not can.reasoning:
        return _refusal(profile, "reasoning")
    if generation.seed is not None and not can.seed:
        return _refusal(profile, "seed")
    if generation.stop and not can.stop:
        return _refusal(profile, "stop")
    if (generation.logprobs or generation.top_logprobs) and not can.logprobs:
        return _refusal(profile, "logprobs")
    if generation.n > 1 and not can.n:
        return _refusal(profile, "n")
    if not can.sampling and any(getattr(generation, name) not in (None, plain) for name, plain in _SAMPLING.items()):
        return _refusal(profile, "sampling")
    return None


def _refusal(profile: ModelProfile, capability: str) -> CapabilityMissing:
    what, instead, param = _REFUSALS[capability]
    return CapabilityMissing(
        f"model {profile.name!r} {what}; {instead}, or choose a model with the capability {capability!r} "
        f"(GET /v1/models lists them); if this one has it, set capabilities.{capability} for it in the configuration",
        param=param,
    )


def _bounded(profile: ModelProfile, generation: Generation) -> Generation:
    """`generation` without what would be refused though it asks for nothing the model does not do anyway."""
    can, most = profile.capabilities, profile.max_output_tokens
    if most is not None and generation.max_tokens is not None and generation.max_tokens > most:
        generation = replace(generation, max_tokens=most)
    if generation.parallel_tool_calls is not None and not can.parallel_tools:
        generation = replace(generation, parallel_tool_calls=None)
    if generation.reasoning_effort == "none" and not can.reasoning:
        generation = replace(generation, reasoning_effort=None)
    if not can.sampling and any(getattr(generation, name) is not None for name in _SAMPLING):
        generation = replace(generation, **dict.fromkeys(_SAMPLING))
    return generation


async def _as_text(message: Message) -> Message:
    if not any(part.__class__ is DocumentPart for part in message.parts):
        return message
    parts: list[Part] = [
        TextPart(await document_text(part)) if isinstance(part, DocumentPart) else part for part in message.parts
    ]
    return replace(message, parts=tuple(parts))
