"""When a mock model asks for tools, which, and with what arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, cast

import orjson

from app.core.chat import ChatRequest, NamedTool, ToolDefinition
from app.core.messages import Message, ToolCallPart, ToolResultPart
from app.providers.mock import arithmetic
from app.providers.mock.schema_values import Known, instance

_PARALLEL = re.compile(r"\b(?:in parallel|both|each|all of|at once)\b", re.IGNORECASE)
_ASKED = re.compile(r"\b(?:tools?|functions?|look(?:s|ing)? (?:it )?up)\b", re.IGNORECASE)
_PIECE = re.compile(r"[A-Za-z][a-z]+|[A-Z]+")
_VERBS = frozenset(
    ("get", "set", "do", "run", "make", "the", "for", "a", "an", "of", "to", "in", "call", "fetch", "tool", "is", "and")
)
_PLACE = re.compile(r"(?<=[a-z,:] )[A-Z][\w'’-]+(?: [A-Z][\w'’-]+)*")
_QUOTED = re.compile(r"[\"“]([^\"”]{1,200})[\"”]")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def results(messages: Sequence[Message]) -> tuple[ToolResultPart, ...]:
    """The tool results that the conversation ends with; they are answered, whatever the choice of tools says."""
    if not messages or messages[-1].role != "tool":
        return ()
    start = max((n for n, message in enumerate(messages) if message.role == "assistant"), default=-1)
    return tuple(part for message in messages[start + 1 :] for part in message.parts if isinstance(part, ToolResultPart))


def said(result: ToolResultPart) -> str:
    """What a tool said: of an object whose only member is `result`, as the service's own tools give it, that alone."""
    text = result.text.strip()
    try:
        value: Any = orjson.loads(text) if text.startswith("{") else None
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict) and list(cast("dict[str, Any]", value)) == ["result"]:
        value = cast("dict[str, Any]", value)["result"]
        return value.strip() if isinstance(value, str) else orjson.dumps(value).decode()
    return text


def calls(request: ChatRequest, question: str) -> tuple[ToolCallPart, ...]:
    """The calls that the prompt asks for, none where it asks for none.

    A tool is asked for when the prompt names it, uses a word of its name, or asks for "a tool"; with `required`, the first
    one is called anyway. Asked for "both" or "each", all tools that fit are called, or the one that fits for each thing named.
    """
    chosen = _chosen(request, question)
    if not chosen:
        return ()
    parallel = request.generation.parallel_tool_calls is not False and _PARALLEL.search(question) is not None
    if not parallel:
        return (_call(chosen[0], question, 0),)
    if len(chosen) == 1:
        chosen = chosen * max(1, min(4, len(_things(question))))
    return tuple(_call(tool, question, number) for number, tool in enumerate(chosen))


def _chosen(request: ChatRequest, question: str) -> list[ToolDefinition]:
    match request.tool_choice:
        case "none":
            return []
        case NamedTool(name):
            return [tool for tool in request.tools if tool.name == name]
        case _:
            words = {_stem(word) for word in re.findall(r"\w+", question)}
            fit = [tool for tool in request.tools if tool.name in question or words & set(_words(tool.name))]
            anyway = request.tool_choice == "required" or _ASKED.search(question)
            return fit or (list(request.tools[:1]) if anyway else [])


def _words(name: str) -> Iterator[str]:
    for piece in _PIECE.findall(name):
        if piece.lower() not in _VERBS:
            yield _stem(piece)


def _stem(word: str) -> str:
    return word.lower().rstrip("s")


def _things(question: str) -> list[str]:
    return list(dict.fromkeys(_PLACE.findall(question) or _NUMBER.findall(question)))


def _call(tool: ToolDefinition, question: str, number: int) -> ToolCallPart:
    arguments = orjson.dumps(instance(tool.parameters, _known(question, number))).decode()
    seal = blake2b(f"{tool.name}{arguments}{number}".encode(), digest_size=9).hexdigest()
    return ToolCallPart(f"call_{seal}", tool.name, arguments)


def _known(question: str, number: int) -> Known:
    """What the prompt offers for arguments, by the names that arguments usually have."""
    things = _things(question)
    thing = things[number % len(things)] if things else question
    quoted = found[1] if (found := _QUOTED.search(question)) else question
    values: dict[str, Any] = dict.fromkeys(
        ("city", "location", "place", "country", "name", "person", "subject", "topic", "symbol"), thing
    )
    values |= dict.fromkeys(("query", "q", "question", "prompt", "input", "text", "message"), quoted)
    if sum_ := arithmetic.expression(question):
        values |= {"expression": sum_, "formula": sum_, "sum": sum_}
    numbers = [float(x) if "." in x else int(x) for x in _NUMBER.findall(question)]
    for names in (("a", "b", "c"), ("x", "y", "z"), ("left", "right")):
        values |= dict(zip(names, numbers, strict=False))
    if numbers:
        values |= dict.fromkeys(("n", "number", "value", "amount", "count"), numbers[number % len(numbers)])
    return Known(values, thing)
