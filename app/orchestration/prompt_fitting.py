"""A prompt made to fit the model that is asked: words where the model has no setting, and less where it has no room. Pure.

| the model has no          | then                                                                                    |
|---------------------------|-----------------------------------------------------------------------------------------|
| JSON mode, or schemas     | the prompt asks for the JSON (`fit_json_object`, `fit_json_schema`); the answer is checked |
| system role               | what the system says stands before the first thing that the user says (`fit_system`)    |
| room in its window        | the oldest turns are left out, then the oldest steps with tools since the user's last   |
|                           | words, then the middle of the longest texts (`fit_left_out`)                            |

A call of a tool and its result stay together: both are left out, or neither.

Settings that a model does not take are left out of its call in `providers.fitting`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from app.core.chat import Generation, ToolDefinition
from app.core.messages import Message, Part, TextPart, ToolResultPart, user
from app.core.models import ModelProfile
from app.orchestration.prompts import Prompts
from app.orchestration.quoting import followed_by
from app.orchestration.tasks import BYTES_PER_TOKEN, message_size, tokens_of, tools_size

ANSWER_TOKENS: Final = 1_024
"""Room that is kept for the answer, where the request does not say how long it may be; at most a quarter of the window."""
MOST_CUTS: Final = 32
"""Texts that are cut at most: as many as there are results in one step with tools."""
LEAST_CHARACTERS: Final = 200
"""A text is not cut below this: less of it says nothing."""


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """`notes` say in words what was left out."""

    messages: tuple[Message, ...]
    notes: tuple[str, ...] = ()


def fit_prompt(
    profile: ModelProfile,
    messages: tuple[Message, ...],
    generation: Generation,
    tools: Sequence[ToolDefinition],
    prompts: Prompts,
    *,
    trims: bool,
) -> FittedPrompt:
    """`messages` as `profile` can take them; the very same where nothing has to change.

    Parameters:
        trims: whether what does not fit the context window is left out. Without it the provider has the last word.
    """
    messages = _with_hint(profile, messages, generation, prompts)
    if not profile.capabilities.system and any(message.role == "system" for message in messages):
        messages = _without_system(profile, messages, prompts)
    if not trims or profile.context_window is None:
        return FittedPrompt(messages)
    kept = generation.max_tokens or min(ANSWER_TOKENS, profile.context_window // 4)
    room = profile.context_window - kept
    size = tokens_of(messages, tools)
    if size <= room:
        return FittedPrompt(messages)
    return _trimmed(profile, messages, tools, prompts, size=size, room=room)


def _with_hint(
    profile: ModelProfile, messages: tuple[Message, ...], generation: Generation, prompts: Prompts
) -> tuple[Message, ...]:
    form, can = generation.response_format, profile.capabilities
    if form is None or form.type == "text":
        return messages
    if form.type == "json_schema" and not can.json_schema:
        schema = json.dumps(form.schema or {"type": "object"}, ensure_ascii=False, default=dict)
        return followed_by(messages, prompts.render("fit_json_schema", family=profile.family, schema=schema))
    if form.type == "json_object" and not can.json_object:
        return followed_by(messages, prompts.render("fit_json_object", family=profile.family))
    return messages


def _without_system(profile: ModelProfile, messages: tuple[Message, ...], prompts: Prompts) -> tuple[Message, ...]:
    said = "\n\n".join(message.text for message in messages if message.role == "system")
    others = [message for message in messages if message.role != "system"]
    opening = TextPart(prompts.render("fit_system", family=profile.family, system=said))
    if not others or others[0].role != "user":
        return (user(opening.text), *others)
    first = others[0]
    parts = first.parts
    if parts and isinstance(parts[0], TextPart):
        parts = (TextPart(f"{opening.text}\n\n{parts[0].text}"), *parts[1:])
    else:
        parts = (opening, *parts)
    return (replace(first, parts=parts), *others[1:])


def _trimmed(
    profile: ModelProfile,
    messages: tuple[Message, ...],
    tools: Sequence[ToolDefinition],
    prompts: Prompts,
    *,
    size: int,
    room: int,
) -> FittedPrompt:
    """Without its oldest turns and steps, as many as must go, and without the middle of its longest texts where that is not
    enough."""
    left = _recent(messages, tools, room)
    while tokens_of(left, tools) > room and (step := _oldest_step(left)):
        del left[step.start : step.stop]
    dropped = len(messages) - len(left)
    cut = 0
    for _ in range(MOST_CUTS):
        over = tokens_of(left, tools) - room
        if over <= 0:
            break
        left, shorter = _cut(profile, left, prompts, over * BYTES_PER_TOKEN)
        if not shorter:
            break
        cut += shorter
    if not dropped and not cut:
        return FittedPrompt(messages)
    parts = [f"{dropped} earlier messages"] if dropped else []
    parts += [f"{cut:,} characters in the middle of the longest text"] if cut else []
    note = (
        f"the prompt of about {size:,} tokens does not fit the context window of {profile.name!r} "
        f"({profile.context_window:,}); left out are {' and '.join(parts)}"
    )
    return FittedPrompt(tuple(left), (note,))


def _recent(messages: Sequence[Message], tools: Sequence[ToolDefinition], room: int) -> list[Message]:
    """`messages` without the oldest before the user's last, as many as must go. What the system says stays; with a call of
    tools go the results that belong to it. Every message is counted once."""
    sizes = [message_size(message) for message in messages]
    tokens, characters = sum(size[0] for size in sizes), tools_size(tools) + sum(size[1] for size in sizes)
    last = max((place for place, message in enumerate(messages) if message.role == "user"), default=0)
    kept: list[Message] = []
    place = 0
    while place < last and tokens + characters // BYTES_PER_TOKEN > room:
        if messages[place].role == "system":
            kept.append(messages[place])
            place += 1
            continue
        stop = place + 1
        while stop < last and messages[stop].role == "tool":
            stop += 1
        tokens -= sum(size[0] for size in sizes[place:stop])
        characters -= sum(size[1] for size in sizes[place:stop])
        place = stop
    return [*kept, *messages[place:]]


def _oldest_step(messages: Sequence[Message]) -> range:
    """The places of the oldest call of tools since the user's last message, with its results; empty where it is the last."""
    last = max((place for place, message in enumerate(messages) if message.role == "user"), default=-1)
    steps = [place for place in range(last + 1, len(messages)) if messages[place].role == "assistant"]
    return range(steps[0], steps[1]) if len(steps) > 1 else range(0)


def _cut(profile: ModelProfile, messages: list[Message], prompts: Prompts, over: int) -> tuple[list[Message], int]:
    """`messages` without about `over` bytes in the middle of the longest text, and how many characters that were."""
    texts = [
        (len(text.text), place, number, inner)
        for place, message in enumerate(messages)
        for number, part in enumerate(message.parts)
        for inner, text in _texts(part)
    ]
    if not texts:
        return messages, 0
    length, place, number, inner = max(texts)
    message = messages[place]
    part = message.parts[number]
    text = dict(_texts(part))[inner].text
    width = max(1.0, len(text.encode("utf-8", "surrogatepass")) / max(1, length))
    mark = prompts.render("fit_left_out", family=profile.family, count=f"{length:,}")
    keep = max(LEAST_CHARACTERS, length - round(over / width) - len(mark) - 8)
    if keep + len(mark) + 4 >= length:
        return messages, 0
    mark = prompts.render("fit_left_out", family=profile.family, count=f"{length - keep:,}")
    shorter = TextPart(f"{text[: keep // 2]}\n\n{mark}\n\n{text[length - keep // 2 :]}")
    parts = (*message.parts[:number], _with_text(part, inner, shorter), *message.parts[number + 1 :])
    return [*messages[:place], replace(message, parts=parts), *messages[place + 1 :]], length - keep


def _texts(part: Part) -> Iterator[tuple[int, TextPart]]:
    """The texts in a part that may be cut, by their place in it."""
    if isinstance(part, TextPart):
        yield 0, part
    elif isinstance(part, ToolResultPart):
        yield from ((place, text) for place, text in enumerate(part.content) if isinstance(text, TextPart))


def _with_text(part: Part, place: int, text: TextPart) -> Part:
    if not isinstance(part, ToolResultPart):
        return text
    return replace(part, content=(*part.content[:place], text, *part.content[place + 1 :]))
