"""What was said in a conversation, and what a request adds to it. Pure.

A client sends what is new. So the calls of tools that stand open in the conversation are answered by the results that its next
request begins with: by all of them, or by none, where the user says something else instead; then they are closed as unanswered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import takewhile
from typing import Final

from pydantic import TypeAdapter

from app.core.errors import InvalidRequest
from app.core.messages import Message, Part, TextPart, ToolCallPart, ToolResultPart
from app.core.run_json import json_bytes
from app.core.runs import RunStatus

_UNANSWERED: Final = '{"error":{"code":"unanswered","message":"nobody gave a result for this call"}}'


@dataclass(frozen=True, slots=True)
class KeptTurn:
    """What one run has added: the new messages of its request, and what was said in answer. `created_at` is Unix time in
    seconds, `model` the one that the answer came from."""

    run_id: str
    strategy: str
    recipe: str | None
    status: RunStatus
    model: str | None
    created_at: int
    messages: tuple[Message, ...]

    @property
    def answers(self) -> bool:
        """Whether it begins with results of calls of the turn before it."""
        return bool(self.messages) and self.messages[0].role == "tool"


def packed(value: KeptTurn | Sequence[Message]) -> bytes:
    return json_bytes(value)


def unpacked_turn(stored: bytes) -> KeptTurn:
    return _turn().validate_json(stored)


def unpacked_messages(stored: bytes | None) -> tuple[Message, ...]:
    return _messages().validate_json(stored) if stored else ()


@cache
def _turn() -> TypeAdapter[KeptTurn]:
    """Made on first use: it takes a while."""
    return TypeAdapter(KeptTurn)


@cache
def _messages() -> TypeAdapter[tuple[Message, ...]]:
    return TypeAdapter(tuple[Message, ...])


@dataclass(frozen=True, slots=True)
class Joined:
    """A request in its conversation.

    `messages` is all that a model is to be shown, of which the first `history` were there before. `new` is what the request
    adds, `system` what the system says from now on (None: as before), and `notes` say what its caller may not expect.
    """

    messages: tuple[Message, ...]
    history: int
    new: tuple[Message, ...]
    system: tuple[Message, ...] | None
    notes: tuple[str, ...]


def joined(kept: Sequence[KeptTurn], system: tuple[Message, ...], asked: Sequence[Message], *, most_messages: int) -> Joined:
    """`asked`, after all that was said before it.

    Parameters:
        kept: the turns of the conversation, the oldest first.
        system: what the system says in it, unless the request says otherwise.
        most_messages: how many there may be; the oldest turns are left out.

    Raises:
        InvalidRequest: the request does not go on where the conversation stands.
    """
    own = tuple(message for message in asked if message.role == "system")
    said = [message for message in asked if message.role != "system"]
    if not said:
        raise InvalidRequest("there is no message to answer but the system's", param="messages")
    new, notes = _continued(kept[-1], said) if kept else (tuple(said), ())
    room = most_messages - len(new) - len(own or system)
    before, left_out = _newest(kept, room, answering=new[0].role == "tool")
    if left_out:
        notes = (*notes, f"the oldest {left_out} turns of the conversation are left out: {most_messages} messages may be sent")
    history = (*(own or system), *before)
    return Joined((*history, *new), len(history), new, own or None, notes)


def _continued(last: KeptTurn, said: Sequence[Message]) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    if any(message.role == "assistant" for message in said):
        message = "the conversation has what its models said already; send only what is new: tool results, or the user's words"
        raise InvalidRequest(message, param="messages")
    leading = list(takewhile(lambda message: message.role == "tool", said))
    if any(message.role == "tool" for message in said[len(leading) :]):
        raise InvalidRequest("tool results come before what the user says next", param="messages")
    calls = open_calls(last.messages)
    if not leading:
        closing = (_closed(calls),) if calls else ()
        names = ", ".join(repr(call.name) for call in calls)
        note = (f"calls of the conversation had no result, and are closed as unanswered: {names}",) if calls else ()
        return (*closing, *said), note
    return (*_answering(calls, leading), *said[len(leading) :]), ()


def _answering(calls: Sequence[ToolCallPart], results: Sequence[Message]) -> list[Message]:
    """`results` with the names of the tools they came from.

    Raises:
        InvalidRequest: they are not those of `calls`, each once.
    """
    names = {call.id: call.name for call in calls}
    wanted = Counter(call.id for call in calls)
    given = Counter(part.call_id for message in results for part in message.parts if isinstance(part, ToolResultPart))
    for call_id in given - wanted:
        if call_id in wanted:
            raise InvalidRequest(f"the call {call_id!r} is answered twice; give one result", param="messages")
        known = ", ".join(repr(known) for known in wanted) or "none"
        raise InvalidRequest(f"no call {call_id[:100]!r} is open in the conversation; open are: {known}", param="messages")
    if missing := wanted - given:
        message = f"the calls of one answer are answered together; results are missing for: {', '.join(map(repr, missing))}"
        raise InvalidRequest(message, param="messages")
    return [replace(message, parts=tuple(_named(part, names) for part in message.parts)) for message in results]


def _named(part: Part, names: dict[str, str]) -> Part:
    return replace(part, name=part.name or names[part.call_id]) if isinstance(part, ToolResultPart) else part


def _closed(calls: Sequence[ToolCallPart]) -> Message:
    said = (TextPart(_UNANSWERED),)
    return Message("tool", tuple(ToolResultPart(call.id, said, call.name, is_error=True) for call in calls))


def open_calls(messages: Sequence[Message]) -> tuple[ToolCallPart, ...]:
    """The calls in `messages` that have no result after them."""
    found: list[ToolCallPart] = []
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                found.append(part)
            elif isinstance(part, ToolResultPart):
                answered = next((call for call in found if call.id == part.call_id), None)
                if answered is not None:
                    found.remove(answered)
    return tuple(found)


def _newest(kept: Sequence[KeptTurn], room: int, *, answering: bool) -> tuple[list[Message], int]:
    """The messages of the newest turns that have room, and how many turns were left out. Turns that answer calls of the turn
    before them come with it, or not at all; those that the request itself answers always come."""
    first, size = len(kept), 0
    together = answering
    while first > 0:
        start = first - 1
        while start > 0 and kept[start].answers:
            start -= 1
        size += sum(len(turn.messages) for turn in kept[start:first])
        if (size > room and not together) or kept[start].answers:
            break
        first, together = start, False
    return [message for turn in kept[first:] for message in turn.messages], first


def chain_of(kept: Sequence[KeptTurn]) -> int:
    """How many of the last turns hang together by calls and their results."""
    for number, turn in enumerate(reversed(kept), 1):
        if not turn.answers:
            return number
    return len(kept)
