"""A whole chat completions body as a `ChatResponse`, and the pieces of it that a stream shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import orjson

from app.core.chat import ChatResponse, Choice, FinishReason, JsonObject
from app.core.errors import FailureClass
from app.core.messages import ReasoningPart, ToolCallPart
from app.core.usage import NO_USAGE, Usage
from app.providers.http_provider import DialectError, Failure
from app.providers.openai.errors import failure_of_body

_REASONING_FIELDS = ("reasoning_content", "reasoning")
"""DeepSeek, Moonshot, Z.ai, xAI, vLLM, Fireworks say `reasoning_content`; OpenRouter, Groq, Cerebras, Together `reasoning`."""

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    # Words that leak through from the servers behind routers, and Mistral's, Together's and Z.ai's own.
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "refusal": "content_filter",
}

_BROKEN_OFF: dict[str, FailureClass] = {
    "error": "server_error",  # OpenRouter, Mistral
    "network_error": "server_error",  # Z.ai
    "insufficient_system_resource": "overloaded",  # DeepSeek
    "abort": "incomplete",  # vLLM, SGLang
}
"""Finish reasons that say that the answer is not whole."""


def decode_response(body: Any, headers: Mapping[str, str]) -> ChatResponse:
    """The response of a whole body.

    Raises:
        DialectError: it is an error, or has no choices.
    """
    choices = body.get("choices")
    if body.get("error") or not choices:
        raise DialectError(failure_of_body(body))
    id_ = string_of(body.get("id"))
    return ChatResponse(
        id=id_,
        model=string_of(body.get("model")),
        choices=tuple(_choice(row, index, id_) for row, index in zip(choices, _indexes(choices), strict=True)),
        usage=usage_of(body.get("usage")),
        created=count_of(body.get("created")),
        provider_request_id=request_id(headers),
    )


def _indexes(choices: list[dict[str, Any]]) -> list[int]:
    """The choices' indexes; their positions where these are missing or not distinct."""
    given = [index for row in choices if isinstance(index := row.get("index"), int) and index >= 0]
    return given if len(set(given)) == len(choices) else list(range(len(choices)))


def _choice(row: dict[str, Any], index: int, response_id: str) -> Choice:
    native = string_of(row.get("finish_reason")) or None
    check_finish(native, row)
    message: dict[str, Any] = row.get("message") or {}
    text, thoughts = content_of(message.get("content"))
    reasoning = reasoning_of(message) or thoughts
    calls = tuple(_tool_call(call, number, response_id) for number, call in enumerate(_calls(message)))
    return Choice(
        index=index,
        text=text,
        reasoning=reasoning,
        refusal=string_of(message.get("refusal")),
        tool_calls=calls,
        finish_reason=finish_reason(native, called=bool(calls)),
        native_finish_reason=native,
        logprobs=logprobs_of(row),
        reasoning_parts=(ReasoningPart(reasoning),) if reasoning else (),
    )


def _calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The tool calls, of which the legacy `function_call` is one."""
    if calls := message.get("tool_calls"):
        return calls
    legacy = message.get("function_call")
    return [{"function": legacy}] if legacy else []


def _tool_call(call: dict[str, Any], number: int, response_id: str) -> ToolCallPart:
    function: dict[str, Any] = call.get("function") or {}
    return ToolCallPart(
        id=string_of(call.get("id")) or made_up_id(response_id, number),
        name=string_of(function.get("name")),
        arguments=arguments_of(function.get("arguments")),
    )


def string_of(value: Any) -> str:
    """A member that must be text; empty where it is missing.

    Raises:
        TypeError: it is something else.
    """
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError(f"text expected, {type(value).__name__} found")


def count_of(value: Any) -> int:
    """A number as a count; 0 for what is none."""
    return int(value) if isinstance(value, int | float) and 0 < value < 1e15 else 0


def made_up_id(response_id: str, number: int) -> str:
    """An id for a tool call that came without one."""
    return f"call_{number}_{response_id}"


def arguments_of(arguments: Any) -> str:
    """The arguments as JSON text; some servers send the object itself."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else orjson.dumps(arguments).decode()


def content_of(content: Any) -> tuple[str, str]:
    """Text and reasoning of a content member: a string, or a list of parts (Mistral's magistral models)."""
    if isinstance(content, str):
        return content, ""
    text, thoughts = "", ""
    for part in cast("list[Any]", content or ()):
        if isinstance(part, str):
            text += part
        elif part.get("type") == "thinking":
            thoughts += content_of(part.get("thinking"))[0]
        else:
            text += part.get("text") or ""
    return text, thoughts


def reasoning_of(message: dict[str, Any]) -> str:
    """The reasoning in a message or delta: the plain member, else OpenRouter's `reasoning_details`."""
    for name in _REASONING_FIELDS:
        value = message.get(name)
        if value and isinstance(value, str):
            return value
    details = message.get("reasoning_details")
    if not details:
        return ""
    return "".join(detail.get("text") or detail.get("summary") or "" for detail in details)


def logprobs_of(choice: dict[str, Any]) -> JsonObject | None:
    logprobs = choice.get("logprobs")
    if not logprobs:
        return None
    return {name: tokens for name, tokens in logprobs.items() if tokens and isinstance(tokens, list)} or None


def check_finish(native: str | None, choice: dict[str, Any]) -> None:
    """Raise when the choice carries an error or ends with a reason that means one.

    Raises:
        DialectError: with the class of that error.
    """
    if choice.get("error"):
        raise DialectError(failure_of_body(choice))
    if native in _BROKEN_OFF:
        raise DialectError(Failure(_BROKEN_OFF[native], f"the answer broke off with finish reason {native!r}", code=native))


def finish_reason(native: str | None, *, called: bool) -> FinishReason:
    """The vendor's word as ours. An answer that asks for tools ends with `tool_calls`, also where the vendor says `stop`
    (OpenAI does when `tool_choice` names the function)."""
    ours = _FINISH_REASONS.get(native.lower(), "stop") if native else "stop"
    return "tool_calls" if called and ours == "stop" else ours


def usage_of(usage: dict[str, Any] | None) -> Usage:
    """Usage in our meaning: output with reasoning, input with what was cached.

    xAI leaves reasoning out of `completion_tokens`; whoever does is known by the total, which has it. Grok on Azure reports
    more cached tokens than prompt tokens; what is cached cannot be more than there is.
    """
    if not usage:
        return NO_USAGE
    prompt, completion = count_of(usage.get("prompt_tokens")), count_of(usage.get("completion_tokens"))
    input_details: dict[str, Any] = usage.get("prompt_tokens_details") or {}
    output_details: dict[str, Any] = usage.get("completion_tokens_details") or {}
    reasoning = count_of(output_details.get("reasoning_tokens")) or count_of(usage.get("reasoning_tokens"))
    if reasoning and count_of(usage.get("total_tokens")) == prompt + completion + reasoning:
        completion += reasoning
    cached = input_details.get("cached_tokens") or next((n for name in _CACHE_READ if (n := usage.get(name))), 0)
    written = input_details.get("cache_write_tokens") or usage.get("cache_creation_input_tokens")
    cached_input = min(count_of(cached), prompt)
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cached_input_tokens=cached_input,
        cache_write_tokens=min(count_of(written), prompt - cached_input),
        reasoning_tokens=min(reasoning, completion),
    )


_CACHE_READ = ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
"""Where else cached tokens are said: DeepSeek, Moonshot, Databricks."""


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's id of the request: OpenAI's header, or Azure's."""
    return headers.get("x-request-id") or headers.get("apim-request-id")
