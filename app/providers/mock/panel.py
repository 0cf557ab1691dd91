"""Prompts that quote other models' answers: a judge ranks or scores them, a critic criticises them, a lead makes one of them.

An answer is recognised where it stands between tags (`<answer-1f2e label="A">...</answer-1f2e>`, with or without a seal; also
`candidate`, `response`, `proposal`), as JSON (a list of objects with `text`, `answer` or `content`), or under a heading of its
own (`Answer A:`, `### Response 2`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, cast

from app.providers.mock.questions import read_question

PanelTask = Literal["ranking", "judging", "critique", "factual", "comparative", "synthesis"]


@dataclass(frozen=True, slots=True)
class Quoted:
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """The quoted answers, best first in `order` (labels), with each one's `quality` from 0 to 1."""

    task: PanelTask
    answers: tuple[Quoted, ...]
    order: tuple[str, ...]
    quality: Mapping[str, float]

    @property
    def best(self) -> Quoted:
        return next(answer for answer in self.answers if answer.label == self.order[0])


_TAGGED = re.compile(
    r"<((?:answer|candidate|response|proposal)(?:-[0-9a-f]+)?)\b([^>]*)>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL
)
_SEALED = re.compile(r"<(\w+-[0-9a-f]{6,})\b[^>]*>.*?</\1\s*>", re.DOTALL)
_ATTRIBUTE = re.compile(r"""(?:id|label|letter|name|from|model|index)\s*=\s*["']([^"']+)["']""", re.IGNORECASE)
_HEADING = re.compile(
    r"^[#*\[\s]{0,6}(?:answer|candidate|response|proposal) {1,4}([A-Z]|\d{1,2})\b"
    r"[\]* ]{0,6}(?:\([^)\n]{0,99}\))?[* ]{0,6}(?:[:.\n]|$)",
    re.IGNORECASE | re.MULTILINE,
)
_OPENING = re.compile(r"<(?:answer|candidate|response|proposal)\b", re.IGNORECASE)
_MAX_ANSWERS, _MAX_LISTS, _MAX_INSTRUCTIONS = 200, 8, 20_000
"""Bounds on what is looked for, so that no prompt takes long to read: tags, JSON lists, characters after the last answer."""

_TASKS: Sequence[tuple[PanelTask, re.Pattern[str]]] = (
    ("ranking", re.compile(r"\brank(?:ing)?\b", re.IGNORECASE)),
    ("judging", re.compile(r"\bjudge\b", re.IGNORECASE)),
    ("factual", re.compile(r"check the facts|fact[- ]?check|\bclaims\b", re.IGNORECASE)),
    ("critique", re.compile(r"critique|criticis|criticiz|review each|weakness", re.IGNORECASE)),
    ("comparative", re.compile(r"\bcompare\b|\bcomparison\b", re.IGNORECASE)),
)
"""What tells a task; anything else is a synthesis."""

_MIN_INSTRUCTIONS = 20
"""Characters after the last answer that make instructions; with fewer, what stands before the answers counts too."""


def read_panel(prompt: str, wanted: frozenset[str] = frozenset()) -> Panel | None:
    """The panel that a prompt quotes, None where it quotes no answers.

    `wanted` holds the property names of the answer's JSON schema: they tell the task more surely than words do.
    """
    answers, instructions = _quoted(prompt)
    if not answers:
        return None
    quality = _quality(answers)
    order = tuple(sorted(quality, key=lambda label: (-quality[label], label)))
    return Panel(_task(instructions, wanted), answers, order, quality)


def _task(instructions: str, wanted: frozenset[str]) -> PanelTask:
    if wanted & {"ranking", "ranks", "order", "scores"}:
        return "ranking"
    if "score" in wanted:
        return "judging"
    for task, words in _TASKS:
        if words.search(instructions):
            return task
    return "synthesis"


def _quoted(prompt: str) -> tuple[tuple[Quoted, ...], str]:
    """The answers, and the instructions that go with them."""
    tags = sum(1 for _ in islice(_OPENING.finditer(prompt), _MAX_ANSWERS + 1))
    tagged = list(_TAGGED.finditer(prompt)) if 0 < tags <= _MAX_ANSWERS else []
    if tagged:
        labels = [_ATTRIBUTE.search(found[2]) for found in tagged]
        rows = [
            (label[1] if label else _letter(n), found[3]) for n, (label, found) in enumerate(zip(labels, tagged, strict=True))
        ]
        return _unique(rows), _instructions(prompt, tagged[0].start(), tagged[-1].end())
    headings = list(islice(_HEADING.finditer(prompt), _MAX_ANSWERS + 1))
    if 2 <= len(headings) <= _MAX_ANSWERS:
        ends = [*(found.start() for found in headings[1:]), len(prompt)]
        rows = [(found[1], prompt[found.end() : end]) for found, end in zip(headings, ends, strict=True)]
        return _unique(rows), prompt[: headings[0].start()]
    return _from_json(prompt)


def _instructions(prompt: str, start: int, end: int) -> str:
    after = _SEALED.sub("", prompt[end : end + _MAX_INSTRUCTIONS]).strip()
    return after if len(after) >= _MIN_INSTRUCTIONS else f"{prompt[:start]} {after}"


def _from_json(prompt: str) -> tuple[tuple[Quoted, ...], str]:
    decoder = json.JSONDecoder()
    for found in islice(re.finditer(r"\[\s{0,8}\{", prompt), _MAX_LISTS):
        try:
            value, end = decoder.raw_decode(prompt, found.start())
        except (ValueError, RecursionError):
            continue
        items = cast(list[dict[str, Any]], [item for item in value if isinstance(item, dict)])
        rows = [
            (_of(item, "label", "id", "model") or _letter(n), _of(item, "text", "answer", "content"))
            for n, item in enumerate(items)
        ]
        if rows and all(text for _, text in rows):
            return _unique(rows), _instructions(prompt, found.start(), end)
    return (), prompt


def _of(item: Mapping[str, Any], *names: str) -> str:
    return next((str(item[name]) for name in names if item.get(name)), "")


def _letter(n: int) -> str:
    return chr(ord("A") + n) if n < 26 else str(n + 1)


def _unique(rows: Sequence[tuple[str, str]]) -> tuple[Quoted, ...]:
    return tuple(Quoted(label, text.strip()) for label, text in dict(rows).items())


_WORD = re.compile(r"\w+")
_RESULT = re.compile(r"-?\d+(?:\.\d+)?|\b(?:yes|no)\b", re.IGNORECASE)


def _quality(answers: Sequence[Quoted]) -> dict[str, float]:
    """How much of the panel stands behind each answer: the share that gives its result, then how alike the texts are."""
    results = {answer.label: _result(answer.text) for answer in answers}
    shares = Counter(results.values())
    words = {answer.label: frozenset(_WORD.findall(answer.text.lower())) for answer in answers}
    return {
        answer.label: round(
            0.8 * shares[results[answer.label]] / len(answers)
            + 0.2 * sum(_alike(words[answer.label], other) for other in words.values()) / len(answers),
            4,
        )
        for answer in answers
    }


def _result(text: str) -> str:
    """What an answer comes to: its last number, yes or no; else the capitalised words of it."""
    found = _RESULT.findall(text.replace(",", ""))
    return found[-1].lower() if found else " ".join(sorted(set(re.findall(r"\b[A-Z]\w+", text)[1:])))


def _alike(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard's index of two sets of words."""
    return len(a & b) / len(a | b) if a | b else 1.0


def score(panel: Panel, prompt: str) -> float:
    """What a judge gives the best answer, 0 to 1: by its result where the question before it has one, else fair."""
    opening = _OPENING.search(prompt)
    right = read_question(prompt[: opening.start()] if opening else prompt).right
    if not right:
        return 0.75
    return 0.9 if re.search(rf"(?<![\w.]){re.escape(right)}(?![\w])", panel.best.text, re.IGNORECASE) else 0.2


def shared_words(panel: Panel) -> tuple[str, ...]:
    """The longer words that most of the answers use."""
    counts = Counter(word for answer in panel.answers for word in dict.fromkeys(_WORD.findall(answer.text)) if len(word) > 4)
    return tuple(word for word, count in counts.most_common(3) if count * 2 > len(panel.answers))


def remarks(panel: Panel) -> str:
    """What a critic, a fact checker or a comparer says of the answers."""
    ranked = ", ".join(panel.order)
    backing = {label: f"{quality:.0%}" for label, quality in panel.quality.items()}
    match panel.task:
        case "critique":
            return "\n".join(
                f"Answer {answer.label}: {len(answer.text.split())} words; the others bear out {backing[answer.label]} of it."
                + (" It could say why." if len(answer.text.split()) < 20 else " It could be shorter.")
                for answer in panel.answers
            )
        case "factual":
            return "\n".join(
                f"Answer {answer.label} comes to “{_result(answer.text)}”; backed by {backing[answer.label]} of the panel."
                for answer in panel.answers
            )
        case _:
            common = ", ".join(shared_words(panel)) or "little"
            return f"The answers share {common}. By agreement with the others they stand in the order {ranked}."
