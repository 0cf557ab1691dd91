"""Recorded answers of several models: the file, and the search for a prompt's question in it.

A recording is JSONL, one question a line:

    {"id": "q1", "question": "What is 2+2?", "answers": {
        "model-a": {"text": "4", "latency_ms": 310, "cost_usd": 0.0001, "input_tokens": 9, "output_tokens": 1},
        "model-b": "5",
        "model-c": {"error": {"failure": "rate_limited", "message": "slow down", "status": 429, "retry_after": 1}}}}

`prompt` may stand for `question`. An answer that is no object is the text: a label such as `"B"`, a number, or true and false
(`true`, `false`); null is an empty text. Files with other names for these members are read by `fields`, which maps ours to
theirs, inside an answer with dots. So these are read as they are:

* answers with `text` (and members that mean nothing to us, such as `correct`): no `fields`;
* answers that are labels (multiple choice letters): no `fields`;
* correctness only, under `correct`: `fields: {answers: correct}`, the texts are `true` and `false`;
* scores only, under `scores`: `fields: {answers: scores}`, the texts are the numbers;
* `latency_s` in seconds is known beside `latency_ms`; with `completion_tokens`: `fields: {output_tokens: completion_tokens}`;
* tokens in an object `usage`: `fields: {input_tokens: usage.input_tokens, output_tokens: usage.output_tokens}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

import orjson

from app.core.chat import FinishReason
from app.core.errors import ConfigError, FailureClass

FIELDS = ("id", "question", "prompt", "answers", "text", "latency_ms", "latency_s", "cost_usd", "input_tokens", "output_tokens")
"""The members that `fields` may map; `finish_reason` and `error` too."""

_ALL_FIELDS = frozenset((*FIELDS, "finish_reason", "error"))
_FAILURES = get_args(FailureClass)
_FINISH_REASONS = get_args(FinishReason)


@dataclass(frozen=True, slots=True)
class RecordedError:
    """A call that failed."""

    failure: FailureClass
    message: str
    status: int | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """What a model answered; None where the recording does not say."""

    text: str
    latency_ms: float | None = None
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: FinishReason = "stop"
    error: RecordedError | None = None


@dataclass(frozen=True, slots=True)
class Row:
    id: str
    question: str
    answers: Mapping[str, RecordedAnswer]


_TOKEN = re.compile(r"\w+|[^\w\s]")
_ANCHOR_TOKENS = 8


def normalised(text: str) -> list[str]:
    """Words and signs of a text, whatever its case and spacing."""
    return _TOKEN.findall(text.casefold())


@dataclass(slots=True)
class Recording:
    """The rows of a file, found by id, by their whole question, or by their question inside a longer prompt.

    A question is looked up in a prompt by its first tokens, so that finding one takes a few look-ups a word of the prompt,
    however many rows there are.
    """

    path: str
    rows: list[Row] = field(default_factory=list[Row])
    models: tuple[str, ...] = ()
    _by_id: dict[str, Row] = field(default_factory=dict[str, Row])
    _whole: dict[str, Row] = field(default_factory=dict[str, Row])
    _anchored: dict[tuple[str, ...], list[tuple[str, Row]]] = field(
        default_factory=dict[tuple[str, ...], list[tuple[str, Row]]]
    )
    _sizes: set[int] = field(default_factory=set[int])

    def add(self, row: Row) -> None:
        tokens = normalised(row.question)
        key = " ".join(tokens)
        self.rows.append(row)
        self._by_id.setdefault(row.id, row)
        if tokens and key not in self._whole:
            self._whole[key] = row
            self._sizes.add(min(len(tokens), _ANCHOR_TOKENS))
            self._anchored.setdefault(tuple(tokens[:_ANCHOR_TOKENS]), []).append((f"{key} ", row))

    def by_id(self, row_id: str) -> Row | None:
        return self._by_id.get(row_id)

    def find(self, prompt: str) -> Row | None:
        """The row whose question the prompt is, else the one with the longest question in it."""
        tokens = normalised(prompt)
        joined = " ".join(tokens)
        if whole := self._whole.get(joined):
            return whole
        best: tuple[int, Row] | None = None
        start, joined = 0, f"{joined} "
        for position, token in enumerate(tokens):
            for size in self._sizes:
                for key, row in self._anchored.get(tuple(tokens[position : position + size]), ()):
                    if (best is None or len(key) > best[0]) and joined.startswith(key, start):
                        best = (len(key), row)
            start += len(token) + 1
        return best[1] if best else None


def read_recording(path: str, fields: Mapping[str, str]) -> Recording:
    """Read a whole file. It blocks: call it in a thread.

    Raises:
        ConfigError: the file cannot be read, or a line is not what it should be; the message says `file:line`.
    """
    unknown = sorted(set(fields) - _ALL_FIELDS)
    if unknown:
        raise ConfigError(f"replay: fields: no member {unknown[0]!r}; there are {', '.join(sorted(_ALL_FIELDS))}")
    recording = Recording(path)
    models: dict[str, None] = {}
    try:
        with Path(path).open("rb") as file:
            for number, row in _rows(file, path, _Reader(fields)):
                if not row.answers:
                    raise _fault(path, number, "no answers")
                recording.add(row)
                models |= dict.fromkeys(row.answers)
    except OSError as error:
        raise ConfigError(f"replay: cannot read {path!r}: {error.strerror or error}") from None
    if not recording.rows:
        raise ConfigError(f"replay: {path!r} holds no questions")
    recording.models = tuple(models)
    return recording


def _rows(lines: Iterable[bytes], path: str, reader: _Reader) -> Iterable[tuple[int, Row]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, reader.row(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise _fault(path, number, f"no JSON ({error})") from None
        except _Fault as error:
            raise _fault(path, number, str(error)) from None


class _Fault(Exception):
    """What is wrong with a line."""


def _fault(path: str, number: int, what: str) -> ConfigError:
    line = f"{path}:{number}: {what}"
    return ConfigError(f"replay: {line}", faults=(line,))


class _Reader:
    """Reads members under the names that `fields` gives them."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._paths = {name: tuple(fields.get(name, name).split(".")) for name in _ALL_FIELDS}

    def row(self, value: Any) -> Row:
        question = self._get(value, "question") or self._get(value, "prompt")
        if not isinstance(question, str) or not question.strip():
            raise _Fault(f"no {'.'.join(self._paths['question'])!r} (a text)")
        answers = self._get(value, "answers")
        if not isinstance(answers, Mapping):
            raise _Fault(f"no {'.'.join(self._paths['answers'])!r} (an object by model)")
        read = {str(model): self._answer(answer) for model, answer in cast(Mapping[str, Any], answers).items()}
        return Row(str(self._get(value, "id") or ""), question, read)

    def _get(self, value: Any, name: str) -> Any:
        for key in self._paths[name]:
            value = cast(Mapping[str, Any], value).get(key) if isinstance(value, Mapping) else None
        return value

    def _answer(self, answer: Any) -> RecordedAnswer:
        if not isinstance(answer, Mapping):
            return RecordedAnswer(_text(answer))
        text, error, finish = self._get(answer, "text"), self._get(answer, "error"), self._get(answer, "finish_reason")
        if text is None and error is None:
            raise _Fault(f"an answer has neither {'.'.join(self._paths['text'])!r} nor an error")
        seconds = self._number(answer, "latency_s")
        return RecordedAnswer(
            text=_text(text),
            latency_ms=self._number(answer, "latency_ms") if seconds is None else seconds * 1000,
            cost_usd=self._number(answer, "cost_usd"),
            input_tokens=_whole(self._number(answer, "input_tokens")),
            output_tokens=_whole(self._number(answer, "output_tokens")),
            finish_reason=finish if finish in _FINISH_REASONS else "stop",
            error=None if error is None else _error(error),
        )

    def _number(self, answer: Any, name: str) -> float | None:
        value = self._get(answer, name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise _Fault(f"{name} is {value!r}; it wants a number from 0")
        return float(value)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _text(value: Any) -> str:
    """A label as it is, true and false as JSON writes them, null as nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _error(value: Any) -> RecordedError:
    if isinstance(value, str):
        return RecordedError("server_error", value)
    error: Mapping[str, Any] = cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}
    failure = error.get("failure", "server_error")
    if failure not in _FAILURES:
        raise _Fault(f"error.failure is {failure!r}; it wants one of {', '.join(_FAILURES)}")
    return RecordedError(
        failure, str(error.get("message", "the recorded call failed")), error.get("status"), error.get("retry_after")
    )
