"""What a link changes of the request before it is asked, and of the answer before it is given."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, assert_never

from app.core.chat import Generation, ToolDefinition
from app.core.json_schemas import at_pointer
from app.core.messages import DocumentPart, ImagePart, Message, TextPart, system
from app.core.patterns import compiled
from app.core.run_fold import parse_json
from app.core.runs import RunRequest
from app.orchestration.fallback.options import Extract, Pointer, Replace, RequestTransform, ResponseStep, Strip

MAX_CHARACTERS: Final = 1_000_000
"""Of an answer, before and after each step."""
_FENCE = re.compile(r"\A```[^\n`]{0,40}\n(.*)\n```\Z", re.DOTALL)
_DROPPED: Final[dict[str, Any]] = {
    "response_format": None,
    "stop": (),
    "seed": None,
    "logprobs": False,
    "reasoning_effort": None,
    "temperature": None,
    "top_p": None,
}
"""What a generation setting is once it is left out."""


class Untransformable(Exception):
    """An answer that a step cannot be done with: why, in words that follow a model's name."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a link asks its model."""

    messages: tuple[Message, ...]
    generation: Generation
    tools: tuple[ToolDefinition, ...]


def asked(request: RunRequest, transform: RequestTransform) -> Asked:
    """`request` as `transform` has it."""
    generation, tools, messages = request.generation, request.tools, request.messages
    dropped = {name: _DROPPED[name] for name in transform.drop if name in _DROPPED}
    if "logprobs" in dropped:
        dropped["top_logprobs"] = None
    settings = {name: getattr(transform.generation, name) for name in transform.generation.model_fields_set}
    if dropped or settings:
        generation = replace(generation, **{**dropped, **settings})
    if "tools" in transform.drop:
        tools = ()
    if "images" in transform.drop:
        messages = _without(messages, ImagePart)
    if "documents" in transform.drop:
        messages = _without(messages, DocumentPart)
    return Asked(_around_system(messages, transform.prepend_system, transform.append_system), generation, tools)


def _without(messages: tuple[Message, ...], kind: type[ImagePart | DocumentPart]) -> tuple[Message, ...]:
    if not any(isinstance(part, kind) for message in messages for part in message.parts):
        return messages
    kept = [replace(message, parts=tuple(part for part in message.parts if not isinstance(part, kind))) for message in messages]
    return tuple(message if message.parts else replace(message, parts=(TextPart(""),)) for message in kept)


def _around_system(messages: tuple[Message, ...], before: str | None, after: str | None) -> tuple[Message, ...]:
    if before is None and after is None:
        return messages
    own = messages[0].text if messages and messages[0].role == "system" else None
    text = "\n\n".join(piece for piece in (before, own, after) if piece)
    return (system(text), *(messages if own is None else messages[1:]))


def transformed(text: str, steps: Sequence[ResponseStep]) -> str:
    """`text` after all `steps`.

    Raises:
        Untransformable: a step finds nothing in it, or it grows too long.
    """
    for step in steps:
        if len(text) > MAX_CHARACTERS:
            raise Untransformable(f"gave an answer of more than {MAX_CHARACTERS} characters")
        text = _step(text, step)
    return text


def _step(text: str, step: ResponseStep) -> str:
    match step:
        case Strip():
            fenced = _FENCE.match(text.strip())
            return (fenced[1] if fenced else text).strip()
        case Extract():
            pattern = compiled(step.pattern)
            found = pattern.search(text)
            piece = found.group(1 if pattern.groups else 0) if found else None
            if piece is None:
                raise Untransformable(f"gave an answer in which {step.pattern!r} is not found")
            return piece
        case Replace():
            replaced = compiled(step.pattern).replaced(text, step.text, most=MAX_CHARACTERS)
            if replaced is None:
                raise Untransformable(f"gave an answer that {step.pattern!r} makes too long")
            return replaced
        case Pointer():
            return _pointed(text, step.pointer)
        case _:
            assert_never(step)


def _pointed(text: str, pointer: str) -> str:
    value = parse_json(text)
    if value is None:
        raise Untransformable("gave an answer that is no JSON")
    try:
        value = at_pointer(value, pointer)
    except LookupError:
        raise Untransformable(f"gave JSON that has nothing at {pointer!r}") from None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
