"""What a run may cost at most, and what it will probably cost, before anything is called.

The bound on tokens follows from the vocabularies: models of today read bytes, each token stands for at least one byte of UTF-8,
so a text never has more tokens than bytes. What a vendor adds around it (roles, separators, tool instructions) is a constant a
message and a call. `max_tokens` bounds what is written, reasoning included: OpenAI's `max_completion_tokens`, Anthropic's
`max_tokens` and Gemini's `maxOutputTokens` all count it.

Retries are not counted: a retry follows an attempt that gave no token, and vendors charge nothing for those.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import orjson

from app.core.budgets import Amount, nano_usd
from app.core.chat import Attempt, ChatRequest, Choice, Generation, ToolDefinition
from app.core.errors import DeadlineExceeded, ProviderError, QuorumError
from app.core.messages import DocumentPart, ImagePart, Message, Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from app.core.models import Model, ModelProfile
from app.core.usage import NO_USAGE, Price, Usage

CALL_TOKENS = 64
"""What a vendor adds to a call; a tool's definition is counted by its bytes besides."""
MESSAGE_TOKENS = 16
IMAGE_TOKENS = 5_000
"""More than OpenAI's "Images and vision" guide gives for GPT-4o (1,445), Anthropic's "Vision" (about 1,600) and Gemini's "Image
understanding" (258 a tile) for usual sizes."""
DOCUMENT_TOKENS = 100_000
"""Anthropic's "PDF support" gives 1,500 to 3,000 tokens a page: more than thirty dense pages."""
QUOTED_GROWTH = 2
"""Tokens that another model needs to read one token of an answer: an assumption, since vocabularies differ by less on text.
At the usual four bytes a token it is the same as two bytes a token."""
BYTES_PER_TOKEN = 4
"""Usual, in English (OpenAI, "What are tokens and how to count them?"). For expectations and for calls that were cut off."""
EXPECTED_OUTPUT_TOKENS = 400
REPAIR_TOKENS = 1_000
"""More than what is said around a fault, itself at most 500 characters, when an answer is asked again (`repair.py`)."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call that a strategy may make: its tokens at most. Calls of one `stage` run at once, stages one after another.

    `expected_input` is the usual number of tokens of its prompt; it may be made so many `times`.
    """

    model: ModelProfile
    role: str
    stage: int
    input_tokens: int
    output_tokens: int
    expected_input: int
    times: int = 1

    @property
    def tokens(self) -> int:
        return self.times * (self.input_tokens + self.output_tokens)

    @property
    def nano_usd(self) -> int | None:
        """At most; None where the price is unknown."""
        once = worst_nano_usd(self.model.price, self.input_tokens, self.output_tokens)
        return None if once is None else once * self.times

    @property
    def expected(self) -> Usage:
        return Usage(self.times * self.expected_input, self.times * min(self.output_tokens, EXPECTED_OUTPUT_TOKENS))


@dataclass(frozen=True, slots=True)
class Forecast:
    """A plan's calls and their sum. Dollars are None where a model has no known price; `unpriced` names those."""

    calls: tuple[PlannedCall, ...]
    tokens: int
    nano_usd: int | None
    unpriced: tuple[str, ...]

    @property
    def amount(self) -> Amount:
        return Amount(self.tokens, self.nano_usd or 0)

    @property
    def least(self) -> Amount:
        """What the cheapest call of the first stage takes: with less, nothing can be done."""
        first = self.first_stage.calls
        return Amount(
            min((call.tokens for call in first), default=0),
            min((call.nano_usd or 0 for call in first), default=0),
        )

    @property
    def first_stage(self) -> Forecast:
        """What is called before anything has answered."""
        first = min((call.stage for call in self.calls), default=0)
        return forecast([call for call in self.calls if call.stage == first])


def forecast(calls: Sequence[PlannedCall]) -> Forecast:
    """The sum of `calls`."""
    unpriced = tuple(dict.fromkeys(call.model.name for call in calls if call.model.price is None))
    total = sum(call.nano_usd or 0 for call in calls)
    return Forecast(tuple(calls), sum(call.tokens for call in calls), None if unpriced else total, unpriced)


def planned_call(
    model: Model,
    messages: Sequence[Message],
    tools: Sequence[ToolDefinition],
    generation: Generation,
    *,
    max_tokens: int,
    role: str = "candidate",
    stage: int = 1,
    quoted_tokens: int = 0,
    prompt_bytes: int = 0,
) -> PlannedCall:
    """A call of `model` at its worst.

    Parameters:
        messages, tools: what it is asked, as far as it is known.
        max_tokens: where `generation` has none.
        quoted_tokens: of answers that other models will have written at most, quoted in it.
        prompt_bytes: of the text around them.
    """
    profile = model.profile
    most = generation.max_tokens or max_tokens
    if profile.max_output_tokens is not None:
        most = min(most, profile.max_output_tokens)
    known = input_bound(messages, tools)
    bound = known + prompt_bytes + quoted_tokens * QUOTED_GROWTH
    if profile.context_window is not None:
        bound = min(bound, profile.context_window)
    quoted = min(quoted_tokens, EXPECTED_OUTPUT_TOKENS * (quoted_tokens // most if most else 0))
    expected = min(bound, (known + prompt_bytes) // BYTES_PER_TOKEN + quoted)
    return PlannedCall(profile, role, stage, *with_repair(generation, bound, most * generation.n), expected)


def with_more_input(call: PlannedCall, most: int, usual: int, *, quoted: bool) -> PlannedCall:
    """`call`, with so many more tokens in its prompt; with `quoted` it may be asked twice, as `with_repair` says."""
    bound = call.input_tokens + (2 * most if quoted else most)
    if call.model.context_window is not None:
        bound = min(bound, call.model.context_window * (2 if quoted else 1))
    return replace(call, input_tokens=bound, expected_input=min(bound, call.expected_input + usual))


def with_repair(generation: Generation, input_tokens: int, output_tokens: int) -> tuple[int, int]:
    """Tokens of a call at most, in and out: an answer that is to be JSON may be asked twice, the first quoted in the second."""
    form = generation.response_format
    if form is None or form.type == "text":
        return input_tokens, output_tokens
    return 2 * input_tokens + output_tokens + REPAIR_TOKENS, 2 * output_tokens


def worst_nano_usd(price: Price | None, input_tokens: int, output_tokens: int) -> int | None:
    """The most that so many tokens cost, whichever kinds they turn out to be of; None without a price."""
    if price is None:
        return None
    return nano_usd(
        max(
            price.cost(Usage(input_tokens, output_tokens, cached, written, reasoning))
            for cached, written in ((0, 0), (input_tokens, 0), (0, input_tokens))
            for reasoning in (0, output_tokens)
        )
    )


def input_bound(messages: Iterable[Message], tools: Iterable[ToolDefinition] = ()) -> int:
    """The most tokens that a prompt has in any vocabulary."""
    total = CALL_TOKENS
    for message in messages:
        total += MESSAGE_TOKENS + _size(message.name or "") + sum(_part_bound(part) for part in message.parts)
    for tool in tools:
        words = _size(tool.name) + _size(tool.description or "")
        total += MESSAGE_TOKENS + words + len(orjson.dumps(tool.parameters, default=dict))
    return total


def _part_bound(part: Part) -> int:
    match part:
        case TextPart():
            return _size(part.text)
        case ImagePart():
            return IMAGE_TOKENS
        case DocumentPart():
            return DOCUMENT_TOKENS
        case ReasoningPart():
            return _size(part.text) + len(part.signature or "") + len(part.redacted or "")
        case ToolCallPart():
            return MESSAGE_TOKENS + _size(part.name) + _size(part.arguments)
        case ToolResultPart():
            return MESSAGE_TOKENS + sum(_part_bound(inner) for inner in part.content)


def cut_off(messages: Iterable[Message], choice: Choice) -> Usage:
    """What a call has probably used whose stream was cut before it told: by the bytes that were sent and that came."""
    said = _size(choice.text) + _size(choice.reasoning) + _size(choice.refusal)
    said += sum(_size(call.arguments) for call in choice.tool_calls)
    sent = input_bound(messages) // BYTES_PER_TOKEN
    reasoning = _size(choice.reasoning)
    return Usage(sent, math.ceil(said / BYTES_PER_TOKEN), reasoning_tokens=math.ceil(reasoning / BYTES_PER_TOKEN))


def used_unanswered(request: ChatRequest, error: QuorumError | None, came: Choice | None) -> Usage:
    """What a call without an answer has used.

    As its provider says in `error`; by what `came`; where we stopped it ourselves, its prompt at least; else nothing.
    """
    if isinstance(error, ProviderError) and error.usage is not NO_USAGE:
        return error.usage
    if came is None and not _stopped(request.context.attempts):
        return NO_USAGE
    return cut_off(request.messages, came or Choice())


def _stopped(attempts: Sequence[Attempt]) -> bool:
    """Whether a call was under way when we stopped it: by leaving it, or for the run's deadline."""
    if not attempts:
        return False
    last = attempts[-1]
    return last.outcome == "cancelled" or (last.error is not None and last.error.code == DeadlineExceeded.code)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
