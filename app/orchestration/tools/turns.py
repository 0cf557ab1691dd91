"""What was said with tools of the service before calls were handed to the client, kept until the client comes back.

A client sees its own calls only, so it cannot give the rest back: which tools of the service were called, and what they said.
Each call that is handed to it gets an id that names the run (`call_<run>_<number>`); where a request has calls of such ids,
what their run had said stands in the conversation again, with the vendor's own ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import orjson
from pydantic import TypeAdapter

from app.core.errors import InvalidRequest, StateUnavailable
from app.core.messages import Message, Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart, unsealed
from app.core.models import ModelProfile
from app.orchestration.context import RunContext

KEEP_S: Final = 86_400
"""A client has a day to come back with the results of its calls."""
MOST_NAME: Final = 64
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_-]")
_HANDED: Final = re.compile(r"call_([0-9a-f]{24})_\d+")


@dataclass(frozen=True, slots=True)
class Turn:
    """A message of the run's own. `speaker` is the provider and the family of the model that said it, None for results."""

    message: Message
    speaker: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What a run said, and by the ids that its client was given those of the calls that were handed to it."""

    turns: tuple[Turn, ...]
    ids: dict[str, str]


def speaker_of(profile: ModelProfile) -> tuple[str, str]:
    return profile.provider, profile.family


def for_model(turns: Sequence[Turn], profile: ModelProfile) -> tuple[Message, ...]:
    """`turns` as `profile` may be shown them: seals of another vendor over reasoning and calls are left out."""
    speaker = speaker_of(profile)
    return tuple(turn.message if turn.speaker in (None, speaker) else unsealed(turn.message) for turn in turns)


def handed_over(run_id: str, calls: Sequence[ToolCallPart]) -> dict[str, str]:
    """New ids for the calls that a client gets, each with the old one."""
    run = run_id.removeprefix("run_")
    return {f"call_{run}_{number}": call.id for number, call in enumerate(calls, 1)}


def transcript(turns: Sequence[Turn], handed: Mapping[str, str]) -> tuple[Message, ...]:
    """`turns` as a stored conversation has them: with who spoke, and with the calls that are the client's under the ids that it
    was given (`handed` has the old ones)."""
    given = {own: new for new, own in handed.items()}
    return tuple(
        replace(turn.message, speaker=turn.speaker, parts=tuple(_renamed(part, given) for part in turn.message.parts))
        for turn in turns
        if turn.message.parts
    )


def _renamed(part: Part, given: Mapping[str, str]) -> Part:
    return replace(part, id=given.get(part.id, part.id)) if isinstance(part, ToolCallPart) else part


async def keep(context: RunContext, kept: Kept, *, wrote: bool) -> str | None:
    """Keep what the run said; why it could not be, if so.

    Parameters:
        wrote: whether a tool that writes was run, which a model that does not know of it would call again.

    Raises:
        StateUnavailable: it could not be, and a tool that writes was run.
    """
    if context.turns is None:
        return "nothing keeps what the tools of the service have said: the model will not know of it any more"
    try:
        await context.turns.put(context.request.tenant, context.run_id, _kept().dump_json(kept), keep_s=KEEP_S)
    except StateUnavailable as error:
        if wrote:
            raise
        return f"what the tools of the service have said is not kept ({error.message}): the model will not know of it any more"
    return None


async def conversation(context: RunContext) -> tuple[list[Turn], list[str]]:
    """The messages of the request, with what earlier runs of it had said with tools; and what is to be said of that.

    Raises:
        InvalidRequest: a call of those runs was handed to the client, and has no result.
    """
    before, messages = context.request.messages[: context.request.history], context.request.messages[context.request.history :]
    known = [Turn(message) for message in before]  # of a stored conversation, which has all of it
    runs = dict.fromkeys(
        f"run_{found[1]}"
        for message in messages
        if message.role == "assistant"
        for part in message.parts
        if isinstance(part, ToolCallPart) and (found := _HANDED.fullmatch(part.id))
    )
    if not runs or context.turns is None:
        return [*known, *(Turn(message) for message in messages)], []
    kept: dict[str, Kept] = {}
    notes: list[str] = []
    for run_id in runs:
        found = await context.turns.get(context.request.tenant, run_id)
        if found is None:
            notes.append(f"what the run {run_id!r} had said with tools of the service is not kept any more")
        else:
            kept[run_id] = _kept().validate_json(found)
    _check_answered(messages, kept.values())
    return [*known, *_restored(messages, kept)], notes


def _check_answered(messages: Sequence[Message], kept: Iterable[Kept]) -> None:
    """Raises InvalidRequest: a call that was handed to the client has no result; vendors refuse that, by ids of their own."""
    answered = {part.call_id for message in messages for part in message.parts if isinstance(part, ToolResultPart)}
    missing = [handed for one in kept for handed in one.ids if handed not in answered]
    if missing:
        message = f"the calls of one answer are answered together; results are missing for: {', '.join(map(repr, missing))}"
        raise InvalidRequest(message, param="messages")


def _restored(messages: Sequence[Message], kept: dict[str, Kept]) -> list[Turn]:
    ids = {handed: own for one in kept.values() for handed, own in one.ids.items()}
    turns: list[Turn] = []
    for message in messages:
        calls = [part for part in message.parts if isinstance(part, ToolCallPart) and part.id in ids]
        if message.role == "assistant" and calls:
            turns += kept.pop("run_" + calls[0].id.split("_")[1], Kept((), {})).turns
        else:
            turns.append(Turn(_with_own_ids(message, ids)))
    return turns


def _with_own_ids(message: Message, ids: dict[str, str]) -> Message:
    if message.role != "tool":
        return message
    parts: list[Part] = [
        replace(part, call_id=ids.get(part.call_id, part.call_id)) if isinstance(part, ToolResultPart) else part
        for part in message.parts
    ]
    return replace(message, parts=tuple(parts))


def said(text: str, reasoning: Sequence[ReasoningPart], calls: Sequence[ToolCallPart]) -> Message:
    """An assistant's turn, as vendors read it back: they refuse arguments that are no JSON object, which are put into one, and
    names that no function may have, though their own models make them up (`multi_tool_use.parallel`)."""
    parts: list[Part] = [*reasoning]
    if text:
        parts.append(TextPart(text))
    return Message("assistant", (*parts, *(_readable(call) for call in calls)))


def name_to_tell(name: str) -> str:
    """A tool's name as vendors take it: of these letters and so long (OpenAI, "Function calling"; Anthropic, "Tool use")."""
    return _NO_NAME.sub("_", name)[:MOST_NAME] or "_"


def _readable(call: ToolCallPart) -> ToolCallPart:
    call = replace(call, name=name_to_tell(call.name))
    try:
        readable = not call.arguments.strip() or isinstance(orjson.loads(call.arguments), dict)
    except orjson.JSONDecodeError:
        readable = False
    return call if readable else replace(call, arguments=orjson.dumps({"arguments": call.arguments}).decode())


@cache
def _kept() -> TypeAdapter[Kept]:
    """Made on first use: it takes a while."""
    return TypeAdapter(Kept)
