"""Request bodies of the Messages API."""

from __future__ import annotations

from typing import Any, assert_never

from app.core.chat import ChatRequest, Generation, NamedTool, ResponseFormat, ToolChoice, ToolDefinition
from app.core.errors import CapabilityMissing
from app.core.messages import Message, ToolCallPart
from app.providers.anthropic.content import Block, conversation
from app.providers.anthropic.schema import supported
from app.providers.anthropic.thinking import thinking

DEFAULT_MAX_TOKENS = 4096
"""Anthropic demands a bound; this one every model allows."""

DEFAULT_MAX_TOKENS_WITH_REASONING = 16_384
"""Thinking counts towards the bound too; every model that thinks allows this one."""

_JSON_INSTRUCTION = "Answer with one JSON object and nothing else: no code fence, no text before or after it."


def encode(request: ChatRequest) -> dict[str, Any]:
    """The body for `request`.

    Raises:
        CapabilityMissing: it asks for something that Anthropic does not do.
        InvalidRequest: one of its parts cannot be read.
    """
    generation = request.generation
    _refuse_missing(generation)
    system, turns = conversation(request.messages)
    if generation.response_format is not None and generation.response_format.type == "json_object":
        system.append({"type": "text", "text": _JSON_INSTRUCTION})
    max_tokens = _max_tokens(generation)
    body: dict[str, Any] = {"model": request.model, "max_tokens": max_tokens, "messages": turns}
    if system:
        body["system"] = system
    if request.incremental:
        body["stream"] = True
    if generation.temperature is not None:
        body["temperature"] = generation.temperature
    if generation.top_p is not None:
        body["top_p"] = generation.top_p
    if generation.stop:
        body["stop_sequences"] = list(generation.stop)
    body |= _tools(request)
    body |= thinking(request.model, generation, request.tool_choice if request.tools else "auto", max_tokens)
    if output := _output_format(generation.response_format):
        body["output_config"] = {**body.get("output_config", {}), "format": output}
    return {**body, **request.extra} if request.extra else body


def _refuse_missing(generation: Generation) -> None:
    missing = {
        "n": generation.n > 1,
        "seed": generation.seed is not None,
        "logprobs": generation.logprobs or generation.top_logprobs is not None,
        "presence_penalty": bool(generation.presence_penalty),
        "frequency_penalty": bool(generation.frequency_penalty),
    }
    for name, asked in missing.items():
        if asked:
            raise CapabilityMissing(f"Anthropic has no {name!r}; leave it out or choose another model", param=name)
    if generation.temperature is not None and generation.temperature > 1:
        raise CapabilityMissing(
            f"Anthropic's temperature goes from 0 to 1, and {generation.temperature:g} is over it", param="temperature"
        )


def _max_tokens(generation: Generation) -> int:
    if generation.max_tokens is not None:
        return generation.max_tokens
    reasons = generation.reasoning_effort not in {None, "none"}
    return DEFAULT_MAX_TOKENS_WITH_REASONING if reasons else DEFAULT_MAX_TOKENS


def _output_format(wanted: ResponseFormat | None) -> Block | None:
    """Structured output in the form without a beta header (doc page "Structured outputs")."""
    if wanted is None or wanted.type != "json_schema":
        return None
    return {"type": "json_schema", "schema": supported(wanted.schema or {"type": "object"})}


def _tools(request: ChatRequest) -> dict[str, Any]:
    if request.tools:
        choice = _tool_choice(request.tool_choice, request.generation.parallel_tool_calls)
        return {"tools": [_tool(tool) for tool in request.tools], **({"tool_choice": choice} if choice else {})}
    # A conversation with tool calls needs their tools declared, even where none may be called any more.
    called = _tools_called(request.messages)
    if not called:
        return {}
    return {"tools": [_tool(ToolDefinition(name)) for name in called], "tool_choice": {"type": "none"}}


def _tools_called(messages: tuple[Message, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.name for message in messages for part in message.parts if isinstance(part, ToolCallPart)))


def _tool(tool: ToolDefinition) -> Block:
    schema = supported(tool.parameters) if tool.strict else {"type": "object", **tool.parameters}
    block: Block = {"name": tool.name, "input_schema": schema}
    if tool.description:
        block["description"] = tool.description
    if tool.strict:
        block["strict"] = True
    return block


def _tool_choice(choice: ToolChoice, parallel: bool | None) -> Block | None:
    single = {"disable_parallel_tool_use": True} if parallel is False else {}
    match choice:
        case "auto":
            return {"type": "auto", **single} if single else None
        case "required":
            return {"type": "any", **single}
        case "none":
            return {"type": "none"}
        case NamedTool(name):
            return {"type": "tool", "name": name, **single}
        case _:
            assert_never(choice)
