"""What a request asks for, told from its words alone: category, complexity, domain, language, size, needs. Pure, no model call.

Signs are single words, looked up in one table, and a few shapes (code, formulas, lettered options). Of a long prompt the start
and the end are read, so that its length costs nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from app.core.chat import Generation, ToolDefinition
from app.core.messages import DocumentPart, ImagePart, Message, TextPart, ToolCallPart, ToolResultPart

Need = Literal["tools", "vision", "documents", "json", "long_context", "reasoning"]

READ_CHARACTERS: Final = 4_000
"""How much of what the user said is read: half from its start, half from its end."""
LONG_TOKENS: Final = 16_000
"""A prompt from here on is for models with a long context: beyond what many small ones take."""
HARD: Final = 0.6
"""Complexity from which reasoning is of use."""
BYTES_PER_TOKEN: Final = 4
"""Usual, in English (OpenAI, "What are tokens and how to count them?")."""
CATEGORY_CHARACTERS: Final = 64
OPEN_ENDED: Final = frozenset({"writing", "translation", "summarisation", "code", "chat"})
"""Categories of tasks to which many different answers are right."""
_IMAGE_TOKENS: Final = 800
_DOCUMENT_TOKENS: Final = 3_000

_CATEGORIES: Final[Mapping[str, str]] = {
    "code": "code function class method bug debug python javascript typescript java rust golang sql regex compile api refactor"
    " unittest script algorithm html css bash json yaml stacktrace exception program",
    "math": "calculate compute solve equation integral derivative probability prime divisible sum product percent average"
    " fraction algebra geometry theorem prove proof polynomial matrix remainder triangle square root many much total",
    "translation": "translate translation übersetze übersetzen traduire traduis traduce traducir tradurre",
    "summarisation": "summarise summarize summary tldr abstract condense shorten zusammenfassen résumer resume",
    "extraction": "extract extraction parse fields entities list table columns csv",
    "classification": "classify classification categorise categorize label sentiment spam positive negative true false",
    "writing": "write essay poem story letter email blog article slogan rewrite rephrase draft song haiku schreibe",
    "reasoning": "why explain compare analyse analyze argue evaluate tradeoffs consequences strategy design plan reason decide",
    "question": "who when where which what capital name wer wann wo was qui quand où quién cuándo",
}
_DOMAINS: Final[Mapping[str, str]] = {
    "law": "law legal contract court clause statute liability plaintiff defendant gdpr copyright",
    "medicine": "patient disease symptom symptoms diagnosis drug dose clinical medical therapy cancer doctor",
    "finance": "stock bond interest loan revenue profit tax invoice portfolio investment bank inflation",
    "science": "physics chemistry biology molecule atom cell energy quantum gene protein planet experiment",
    "software": "code software server database deploy docker kubernetes git linux python javascript api bug",
    "history": "war century empire king queen revolution ancient medieval president treaty",
}
_STEPS: Final = frozenset(
    {"prove", "derive", "step", "steps", "optimise", "optimize", "design", "compare", "analyse", "analyze", "evaluate"}
    | {"explain", "constraints", "tradeoffs", "architecture", "multiple", "assume", "given", "therefore", "unless"}
    | {"except", "exactly", "respectively"}
)
"""Words of tasks that take several steps."""
_FAINT: Final = frozenset({"many", "much", "list", "name", "what", "true", "false", "class", "square", "label", "letter"})
"""Signs that stand in all kinds of talk: they count half."""
_LANGUAGES: Final[Mapping[str, str]] = {
    "en": "the is of and to what how that this with for are you please",
    "de": "der die das und ist nicht wie ich ein eine mit für bitte auf",
    "fr": "le les des est et une pour dans que qui vous avec sur je",
    "es": "el los las es una para por como con qué del se cuál y",
    "it": "il gli è una per che di con come sono della questo quale e",
    "pt": "o os as é uma para com não que como do da você qual",
    "nl": "de het een is en van niet wat hoe met voor dat je aan",
}
_SCRIPTS: Final = (
    ("ja", 0x3040, 0x30FF),
    ("ko", 0xAC00, 0xD7AF),
    ("zh", 0x4E00, 0x9FFF),
    ("ru", 0x0400, 0x04FF),
    ("ar", 0x0600, 0x06FF),
    ("he", 0x0590, 0x05FF),
    ("el", 0x0370, 0x03FF),
    ("hi", 0x0900, 0x097F),
    ("th", 0x0E00, 0x0E7F),
)
"""By the first and last letter of a script; kana before han, since Japanese has both."""
_WEIGHT: Final[Mapping[str, float]] = {
    "code": 0.25,
    "math": 0.2,
    "reasoning": 0.2,
    "extraction": 0.05,
    "writing": 0.1,
}
"""What a category adds to the complexity of its tasks; the others add nothing."""

_CODE: Final = ("```", "def ", "function(", "=>", "</", ";\n", "{\n", "();", "#include", "SELECT ")
"""What stands in code and hardly in prose."""
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_FORMULA = re.compile(r"\\(?:frac|sqrt|int|sum|boxed)|\d\s{0,2}[-+*/^×÷=]\s{0,2}\d|\$[^$\n]{1,80}\$")
_OPTIONS = re.compile(r"^\s{0,4}\(?[B-D][).:]\s", re.MULTILINE)
_ASKS = re.compile(r"[?？]")


def _by_word(table: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for kind, words in table.items():
        for word in words.split():
            found[word] = (*found.get(word, ()), kind)
    return found


_CATEGORY_OF: Final = _by_word(_CATEGORIES)
_DOMAIN_OF: Final = _by_word(_DOMAINS)
_LANGUAGE_OF: Final = _by_word(_LANGUAGES)


@dataclass(frozen=True, slots=True)
class TaskProfile:
    """What a request asks for.

    `category` is `code`, `math`, `translation`, `summarisation`, `extraction`, `classification`, `writing`, `reasoning`,
    `question`, `chat`, or what the caller calls it. `complexity` is from 0 (a greeting) to 1. `language` is ISO 639-1, `und`
    where nothing tells it. `tokens` are about those of the whole prompt.
    """

    category: str
    complexity: float
    domain: str
    language: str
    tokens: int
    needs: tuple[Need, ...]


def profile_of(
    messages: Sequence[Message],
    tools: Sequence[ToolDefinition],
    generation: Generation,
    metadata: Mapping[str, Any],
) -> TaskProfile:
    """The profile of a request. `metadata.category`, where it is a text, is the category."""
    asked = next((message for message in reversed(messages) if message.role == "user" and message.text), None)
    text = _read(asked.text) if asked else ""
    words = _WORD.findall(text.lower())
    size, parts = _size(messages, tools)
    language = _language(text, words)
    category = _category(text, words)
    complexity = _complexity(text, words, category, turns=len(messages), tokens=size, tools=len(tools))
    named = metadata.get("category")
    return TaskProfile(
        named[:CATEGORY_CHARACTERS] if isinstance(named, str) and named else category,
        complexity,
        _most(words, _DOMAIN_OF, least=2) or "general",
        language,
        size,
        tuple(_needs(parts, tools, generation, size, complexity)),
    )


def panel_size(complexity: float, available: int) -> int:
    """How many of `available` models a panel has for a task: 3, 5 or 7, odd so that two sides are not even."""
    wanted = 3 if complexity < 0.35 else 5 if complexity < HARD else 7
    return min(wanted, available)


def tokens_of(messages: Sequence[Message], tools: Sequence[ToolDefinition] = ()) -> int:
    """About how many tokens a prompt has."""
    return _size(messages, tools)[0]


def _read(text: str) -> str:
    if len(text) <= READ_CHARACTERS:
        return text
    return f"{text[: READ_CHARACTERS // 2]} {text[-READ_CHARACTERS // 2 :]}"


def message_size(message: Message) -> tuple[int, int]:
    """What it counts for: tokens, and besides those characters, of which `BYTES_PER_TOKEN` are one."""
    characters, tokens = 0, 4
    for part in message.parts:
        if isinstance(part, TextPart):
            characters += _weight(part.text)
        elif isinstance(part, ImagePart):
            tokens += _IMAGE_TOKENS
        elif isinstance(part, DocumentPart):
            tokens += _DOCUMENT_TOKENS
        elif isinstance(part, ToolCallPart):
            characters += len(part.arguments)
        elif isinstance(part, ToolResultPart):
            characters += sum(len(inner.text) for inner in part.content if isinstance(inner, TextPart))
    return tokens, characters


def tools_size(tools: Sequence[ToolDefinition]) -> int:
    """The characters that they count for."""
    return sum(len(tool.name) + len(tool.description or "") + 100 for tool in tools)


def _size(messages: Sequence[Message], tools: Sequence[ToolDefinition]) -> tuple[int, set[type]]:
    """About how many tokens there are, and the kinds of parts."""
    characters, tokens = tools_size(tools), 0
    for message in messages:
        own = message_size(message)
        tokens, characters = tokens + own[0], characters + own[1]
    return tokens + characters // BYTES_PER_TOKEN, {part.__class__ for message in messages for part in message.parts}


def _weight(text: str) -> int:
    """Its bytes in UTF-8, told from its first thousand characters: scripts beyond Latin have fewer characters a token."""
    head = text[:1_000]
    return len(text) if head.isascii() else len(text) * len(head.encode("utf-8", "surrogatepass")) // len(head)


def _category(text: str, words: Sequence[str]) -> str:
    counts: dict[str, float] = {}
    for word, times in (*Counter(words).items(), *((word, 1) for word in words[:3])):  # what is wanted is said first
        for kind in _CATEGORY_OF.get(word, ()):
            counts[kind] = counts.get(kind, 0.0) + times * (0.5 if word in _FAINT else 1.0)
    if any(sign in text for sign in _CODE):
        counts["code"] = counts.get("code", 0.0) + 3
    if _FORMULA.search(text):
        counts["math"] = counts.get("math", 0.0) + 2
    if _OPTIONS.search(text):
        counts["question"] = counts.get("question", 0.0) + 3
    if counts:
        best = max(counts, key=lambda kind: counts[kind])
        if counts[best] >= 1:
            return best
    return "question" if _ASKS.search(text) else "chat"


def _complexity(text: str, words: Sequence[str], category: str, *, turns: int, tokens: int, tools: int) -> float:
    """From length, words that ask for steps, questions within the question, and what goes with it."""
    length = min(1.0, len(words) / 300)
    steps = min(1.0, len(_STEPS.intersection(words)) / 4)
    asks = min(1.0, max(0, len(_ASKS.findall(text)) - 1) / 3)
    around = min(1.0, turns / 20 + tools / 10 + tokens / (4 * LONG_TOKENS))
    whole = 0.05 + _WEIGHT.get(category, 0.0) + 0.3 * length + 0.3 * steps + 0.1 * asks + 0.15 * around
    return round(min(1.0, whole), 3)


def _needs(
    kinds: set[type], tools: Sequence[ToolDefinition], generation: Generation, tokens: int, complexity: float
) -> Iterator[Need]:
    if tools or ToolCallPart in kinds or ToolResultPart in kinds:
        yield "tools"
    if ImagePart in kinds:
        yield "vision"
    if DocumentPart in kinds:
        yield "documents"
    if generation.response_format is not None and generation.response_format.type != "text":
        yield "json"
    if tokens >= LONG_TOKENS:
        yield "long_context"
    if complexity >= HARD or generation.reasoning_effort not in (None, "none"):
        yield "reasoning"


def _language(text: str, words: Sequence[str]) -> str:
    sample = text[:400]
    if not sample.isascii():
        codes = [ord(letter) for letter in sample if letter.isalpha()]
        for name, first, last in _SCRIPTS:
            if sum(first <= code <= last for code in codes) * 4 > len(codes) > 0:
                return name
    return _most(words[:200], _LANGUAGE_OF) or "und"


def _most(words: Sequence[str], table: Mapping[str, tuple[str, ...]], *, least: int = 1) -> str | None:
    """The kind that most of `words` are of, the first of equals; None where fewer than `least` are."""
    counts: dict[str, int] = {}
    for word, times in Counter(words).items():
        for kind in table.get(word, ()):
            counts[kind] = counts.get(kind, 0) + times
    if not counts:
        return None
    best = max(counts, key=lambda kind: counts[kind])
    return best if counts[best] >= least else None
