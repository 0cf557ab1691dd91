"""Where an evaluation is kept: a directory with `evaluation.json` (what was asked), `results.jsonl` (a line an answer, appended
as they come), `report.json` and `report.html`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import orjson
from pydantic import TypeAdapter, ValidationError

from app.cli.eval.parts import Split
from app.cli.eval.results import Contestant, Result
from app.core.errors import ConfigError

EVALUATION: Final = "evaluation.json"
RESULTS: Final = "results.jsonl"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation is of. `digest` is that of the data set: its questions' ids and gold answers."""

    files: tuple[str, ...]
    digest: str
    questions: int
    contestants: tuple[Contestant, ...]
    split: Split
    service: str
    speed: float
    began_at: int
    version: int = 1


@dataclass(frozen=True, slots=True)
class Stored:
    """An evaluation with its results, the last one for each contestant and question."""

    directory: Path
    evaluation: Evaluation
    results: tuple[Result, ...]


_EVALUATION = TypeAdapter(Evaluation)
_RESULT = TypeAdapter(Result)


def is_stored(directory: Path) -> bool:
    return (directory / EVALUATION).exists()


def read(directory: Path) -> Stored:
    """The evaluation in `directory`. A last line that was not written to its end is left out.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    try:
        evaluation = _EVALUATION.validate_json((directory / EVALUATION).read_bytes())
    except OSError as error:
        raise ConfigError(f"{directory} holds no evaluation: {EVALUATION}: {error.strerror or error}") from None
    except ValidationError as error:
        raise ConfigError(f"{directory / EVALUATION} is not what this version of quorum writes: {error}") from None
    kept: dict[tuple[str, str], Result] = {}
    path = directory / RESULTS
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            result = _RESULT.validate_json(line)
        except ValidationError:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise ConfigError(f"{path}:{number}: no result of this version of quorum") from None
        kept[result.contestant, result.question] = result
    return Stored(directory, evaluation, tuple(kept.values()))


def begin(directory: Path, evaluation: Evaluation) -> None:
    """Write what is evaluated. What was asked before under another description stays in `results.jsonl`."""
    directory.mkdir(parents=True, exist_ok=True)
    write(directory / EVALUATION, evaluation)


def write(path: Path, what: object) -> None:
    """A dataclass as a JSON file, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(orjson.dumps(what, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    part.replace(path)


class Results:
    """Appends results to `results.jsonl`, each at once: what is told as done is there after a crash."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / RESULTS
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        _mend(self._path)
        self._file = self._path.open("ab", buffering=0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, result: Result) -> None:
        assert self._file is not None, "results are added between entering and leaving"  # noqa: S101
        self._file.write(orjson.dumps(result, option=orjson.OPT_APPEND_NEWLINE))


def _mend(path: Path) -> None:
    """Cut off a last line that was not written to its end, so that the next one begins on a line of its own."""
    if path.exists() and (whole := path.read_bytes()) and not whole.endswith(b"\n"):
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])


def gone_on(before: Evaluation, now: Evaluation) -> Evaluation:
    """An evaluation that is gone on with: its contestants stay, as they are now where they are asked again."""
    contestants = {one.name: one for one in (*before.contestants, *now.contestants)}
    return replace(now, contestants=tuple(contestants.values()), began_at=before.began_at)
