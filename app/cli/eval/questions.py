"""The data set: questions with gold answers, read from JSONL, one a line.

    {"id": "q1", "input": "What is 17 * 23?", "answer": 391, "category": "arithmetic"}
    {"input": "Is 97 a prime number?", "answer": "yes"}
    {"input": "Which is a mammal?", "answer": "B", "choices": {"A": "the trout", "B": "the whale"}}
    {"messages": [{"role": "user", "content": "Name a primary colour."}], "answer": ["red", "blue"], "grade": "contains"}

Recordings, as the provider `replay` reads them, are data sets as they are: `question` and `prompt` stand for `input`, `gold`
for `answer`. Files with other names are read by `fields`, which maps ours to theirs, with dots into an object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, cast

import orjson

from app.cli.eval.grading import GRADES, GradeKind, Grading, grading_of
from app.core import patterns
from app.core.errors import ConfigError, QuorumError

FIELDS: Final = ("id", "input", "messages", "answer", "grade", "choices", "pattern", "category", "metadata")
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {"input": ("question", "prompt"), "answer": ("gold",)}


@dataclass(frozen=True, slots=True)
class Question:
    """`input` is a text or chat messages; any of `gold` is right. `digest` changes with whatever of it decides the outcome."""

    id: str
    input: str | list[Any]
    gold: tuple[Any, ...]
    grading: Grading
    category: str | None
    metadata: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read: other names of members, and the grading of questions that have none of their own."""

    fields: Mapping[str, str]
    grade: GradeKind | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None


def read_questions(paths: Sequence[Path], reading: Reading) -> tuple[Question, ...]:
    """The questions of all files. Of several files, ids begin with the file's name, which is the category where none is given.

    Raises:
        ConfigError: a file cannot be read, or a line is not what it should be; the message says `file:line`.
    """
    unknown = sorted(set(reading.fields) - set(FIELDS))
    if unknown:
        raise ConfigError(f"--field: there is no member {unknown[0]!r}; there are {', '.join(FIELDS)}")
    found: dict[str, Question] = {}
    for path in paths:
        of = path.stem if len(paths) > 1 else None
        for number, value in _lines(path):
            try:
                question = _question(value, reading, of)
                if question.id in found:
                    raise _Fault(f"the id {question.id!r} was there before")
            except _Fault as error:
                raise _fault(path, number, str(error)) from None
            found[question.id] = question
    if not found:
        raise ConfigError(f"there are no questions in {', '.join(map(str, paths))}")
    return tuple(found.values())


class _Fault(Exception):
    """What is wrong with a line."""


def _fault(path: Path, number: int, what: str) -> ConfigError:
    return ConfigError(f"{path}:{number}: {what}", faults=())


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    value = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise _fault(path, number, f"no JSON ({error})") from None
                if not isinstance(value, dict):
                    raise _fault(path, number, "no JSON object")
                yield number, cast("dict[str, Any]", value)
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror or error}") from None


def _question(value: Mapping[str, Any], reading: Reading, file: str | None) -> Question:
    asked = _get(value, "input", reading)
    if asked is None:
        asked = _get(value, "messages", reading)
    if not (isinstance(asked, str) and asked.strip()) and not (isinstance(asked, list) and asked):
        raise _Fault("no 'input' (a text) and no 'messages' (a list)")
    grade = _get(value, "grade", reading) or reading.grade
    if grade is not None and grade not in GRADES:
        raise _Fault(f"grade is {grade!r}; it wants one of {', '.join(GRADES)}")
    gold = () if grade == "score" else _gold(_get(value, "answer", reading), grade)
    text = asked if isinstance(asked, str) else _text(cast("list[Any]", asked))
    choices = _choices(_get(value, "choices", reading) or reading.choices)
    try:
        how = grading_of(gold, text, kind=grade, choices=choices, pattern=_get(value, "pattern", reading) or reading.pattern)
    except ValueError as error:
        raise _Fault(str(error)) from None
    for pattern in (how.pattern, *(map(str, gold) if how.kind == "regex" else ())):
        try:
            patterns.compiled(pattern or "")
        except QuorumError as error:
            raise _Fault(f"the pattern {pattern!r} {error.message}") from None
    category: Any = _get(value, "category", reading)
    metadata: Any = _get(value, "metadata", reading)
    if metadata is not None and not isinstance(metadata, dict):
        raise _Fault("metadata is no object")
    digest = _digest(asked, gold, (how.kind, how.choices, how.texts, how.pattern))
    own = _get(value, "id", reading)
    name = _digest(asked) if own is None else str(own)
    return Question(
        f"{file}/{name}" if file else name,
        cast("str | list[Any]", asked),
        gold,
        how,
        file if category is None else str(category),
        cast("dict[str, Any]", metadata or {}),
        digest,
    )


def _choices(given: Any) -> tuple[str, ...] | dict[str, str]:
    match given:
        case dict():
            return {str(label): str(text) for label, text in cast("dict[Any, Any]", given).items()}
        case list() | tuple():
            return tuple(map(str, cast("list[Any]", given)))
        case _:
            raise _Fault(f"choices is {given!r}; it wants a list of labels, or an object of label and text")


def _gold(answer: Any, grade: GradeKind | None) -> tuple[Any, ...]:
    """The accepted answers: a list of scalars are several, any other value is one."""
    if answer is None:
        raise _Fault("no 'answer'; where the answers carry their own score, say --grade score")
    if grade != "json" and isinstance(answer, list):
        items = cast("list[Any]", answer)
        if items and not any(isinstance(one, (dict, list)) for one in items):
            return tuple(items)
    return (cast("object", answer),)


def _get(value: Mapping[str, Any], name: str, reading: Reading) -> Any:
    if name in reading.fields:
        found: Any = value
        for step in reading.fields[name].split("."):
            found = cast("dict[str, Any]", found).get(step) if isinstance(found, dict) else None
        return found
    return next((value[one] for one in (name, *_ALIASES.get(name, ())) if value.get(one) is not None), None)


def _text(messages: list[Any]) -> str:
    """The texts of chat messages, in which choices are looked for."""
    said: list[str] = []
    for message in messages:
        content: Any = cast("dict[str, Any]", message).get("content") if isinstance(message, dict) else None
        parts: list[Any] = cast("list[Any]", content) if isinstance(content, list) else [{"text": content}]
        said += [str(cast("dict[str, Any]", part).get("text") or "") for part in parts if isinstance(part, dict)]
    return "\n".join(said)


def _digest(*parts: Any) -> str:
    return blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()
