"""A response as it arrives. `fold` makes the whole of the parts, `unfold` the parts of the whole.

A stream is `ResponseStarted`, deltas, `ResponseFinished`; a unary call is `ResponseFinished` alone. Either way the last event
carries the whole response, so who does not watch needs no second way of reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from app.core.chat import ChatResponse, Choice, FinishReason, JsonObject
from app.core.messages import ReasoningPart, ToolCallPart
from app.core.values import value


@value
class ResponseStarted:
    id: str
    model: str
    created: int = 0


@value
class TextDelta:
    text: str
    choice: int = 0
    logprobs: JsonObject | None = None


@value
class ReasoningDelta:
    """A piece of reasoning. A `signature` or `redacted` seals the piece before it; what follows starts a new part."""

    text: str
    choice: int = 0
    signature: str | None = None
    redacted: str | None = None


@value
class RefusalDelta:
    text: str
    choice: int = 0


@value
class ToolCallDelta:
    """A piece of the tool call `index` of its choice. `id` and `name` come with the first piece, `arguments` in pieces."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None
    choice: int = 0
    signature: str | None = None


@value
class ResponseFinished:
    response: ChatResponse


PIECES: Final = 32
"""How many pieces of a text are kept before they become one string."""

Delta = TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta
ModelEvent = ResponseStarted | TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta | ResponseFinished


class _Text:
    """Text that comes in pieces: each takes some fifty bytes beside its characters, so now and then they become one."""

    __slots__ = ("_pieces", "_sections")

    def __init__(self) -> None:
        self._sections: list[str] = []
        self._pieces: list[str] = []

    def append(self, piece: str) -> None:
        pieces = self._pieces
        pieces.append(piece)
        if len(pieces) == PIECES:
            self._sections.append("".join(pieces))
            pieces.clear()

    def __str__(self) -> str:
        return "".join((*self._sections, *self._pieces) if self._sections else self._pieces)


class _ChoiceBuilder:
    __slots__ = ("logprobs", "reasoning", "refusal", "sealed", "text", "tools")

    def __init__(self) -> None:
        self.text = _Text()
        self.reasoning = _Text()
        self.refusal = _Text()
        self.logprobs: dict[str, list[Any]] = {}
        self.sealed: list[ReasoningPart] = []
        self.tools: dict[int, list[str | None]] = {}  # index -> [id, name, signature, *arguments]

    def seal(self, delta: ReasoningDelta) -> None:
        text = str(self.reasoning)[sum(len(part.text) for part in self.sealed) :]
        self.sealed.append(ReasoningPart(text, delta.signature, delta.redacted))

    def reasoning_parts(self) -> tuple[ReasoningPart, ...]:
        rest = str(self.reasoning)
        if self.sealed:
            rest = rest[sum(len(part.text) for part in self.sealed) :]
        return (*self.sealed, ReasoningPart(rest)) if rest else tuple(self.sealed)

    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        if not self.tools:
            return ()
        return tuple(
            ToolCallPart(id=row[0] or "", name=row[1] or "", arguments="".join(x or "" for x in row[3:]), signature=row[2])
            for _, row in sorted(self.tools.items())
        )


class ResponseBuilder:
    """Gathers deltas. One per stream; `choice(i)` gives what choice `i` holds so far."""

    __slots__ = ("_choices",)

    def __init__(self) -> None:
        self._choices: dict[int, _ChoiceBuilder] = {}

    def add(self, delta: Delta) -> None:
        choice = self._choices.get(delta.choice)
        if choice is None:
            choice = self._choices[delta.choice] = _ChoiceBuilder()
        match delta:
            case TextDelta():
                choice.text.append(delta.text)
                if delta.logprobs:
                    for key, tokens in delta.logprobs.items():
                        if tokens:
                            choice.logprobs.setdefault(key, []).extend(tokens)
            case ToolCallDelta():
                row = choice.tools.setdefault(delta.index, [None, None, None])
                row[0] = delta.id or row[0]
                row[1] = delta.name or row[1]
                row[2] = delta.signature or row[2]
                row.append(delta.arguments)
            case ReasoningDelta():
                choice.reasoning.append(delta.text)
                if delta.signature or delta.redacted:
                    choice.seal(delta)
            case RefusalDelta():
                choice.refusal.append(delta.text)

    def indexes(self) -> tuple[int, ...]:
        return tuple(sorted(self._choices))

    def choice(self, index: int = 0, finish_reason: FinishReason = "stop", native_finish_reason: str | None = None) -> Choice:
        """The choice as far as it has come, ended as given."""
        built = self._choices.get(index)
        if built is None:
            return Choice(index, finish_reason=finish_reason, native_finish_reason=native_finish_reason)
        return Choice(
            index=index,
            text=str(built.text),
            reasoning=str(built.reasoning),
            refusal=str(built.refusal),
            tool_calls=built.tool_calls(),
            finish_reason=finish_reason,
            native_finish_reason=native_finish_reason,
            logprobs={key: list(tokens) for key, tokens in built.logprobs.items()} or None,
            reasoning_parts=built.reasoning_parts(),
        )


def fold(events: Iterable[ModelEvent]) -> ChatResponse:
    """The whole response: content from the deltas where there are any, the rest from the last event.

    Raises:
        ValueError: the events do not end in `ResponseFinished`.
    """
    builder = ResponseBuilder()
    streamed = False
    for event in events:
        match event:
            case ResponseStarted():
                streamed = True
            case ResponseFinished():
                if not streamed:
                    return event.response
                return replace(event.response, choices=tuple(_finished(builder, choice) for choice in event.response.choices))
            case _:
                streamed = True
                builder.add(event)
    raise ValueError("the events end without ResponseFinished")


def _finished(builder: ResponseBuilder, last: Choice) -> Choice:
    return builder.choice(last.index, last.finish_reason, last.native_finish_reason)


def unfold(response: ChatResponse) -> Iterator[ModelEvent]:
    """The response as a stream: one delta a part."""
    yield ResponseStarted(response.id, response.model, response.created)
    for choice in response.choices:
        yield from deltas(choice)
    yield ResponseFinished(response)


def deltas(choice: Choice) -> Iterator[Delta]:
    """One choice as deltas, in the order a vendor would send them."""
    index = choice.index
    parts = choice.reasoning_parts or ((ReasoningPart(choice.reasoning),) if choice.reasoning else ())
    for part in parts:
        yield ReasoningDelta(part.text, index, part.signature, part.redacted)
    if choice.text or choice.logprobs:
        yield TextDelta(choice.text, index, choice.logprobs)
    if choice.refusal:
        yield RefusalDelta(choice.refusal, index)
    for number, call in enumerate(choice.tool_calls):
        yield ToolCallDelta(number, call.arguments, call.id, call.name, index, call.signature)
