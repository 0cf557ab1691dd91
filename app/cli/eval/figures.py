"""What the results of an evaluation say, in the members of `report.json`: docs/evaluation.md explains each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from app.cli.eval.parts import Split
from app.cli.eval.results import ContestantKind
from app.cli.eval.routing import Routing
from app.orchestration.evidence.measures import Calibration, Interval, Point


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds until the answer, and until the first model had answered; of runs that answered."""

    mean: float
    p50: float
    p95: float
    first_p50: float | None
    first_p95: float | None


@dataclass(frozen=True, slots=True)
class Lift:
    """How much better than another, in shares of questions, with the paired interval over the questions. `chosen_on` says on
    which part `over` was chosen as the best single member; it is None for one that the user named."""

    over: str
    chosen_on: Literal["train", "report"] | None
    difference: Interval


@dataclass(frozen=True, slots=True)
class Category:
    name: str
    questions: int
    accuracy: Interval


@dataclass(frozen=True, slots=True)
class Share:
    """A model of a contestant: in which share of the questions it was asked, and in which its answer was the one given."""

    model: str
    asked: float
    given: float


@dataclass(frozen=True, slots=True)
class Figures:
    """A contestant over the reported questions. A cost is None where the price of any call is unknown. `calls_saved` is a share
    of the calls that asking everybody would have made; `sure` is the share that needed no review, `sure_accuracy` theirs."""

    name: str
    kind: ContestantKind
    questions: int
    failed: int
    errors: Mapping[str, int]
    unread: int
    accuracy: Interval
    categories: tuple[Category, ...]
    lift: Lift | None
    against: Lift | None
    cost_usd: float | None
    cost_per_question_usd: float | None
    input_tokens: int
    output_tokens: int
    calls: int
    calls_saved: float
    times: Times | None
    calibration: Calibration | None
    sure: float
    sure_accuracy: Interval
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class MemberFigures:
    """A model by its own answers: asked alone, or as a candidate of a contestant that asked it every time."""

    model: str
    questions: int
    accuracy: Interval
    cost_per_question_usd: float | None
    mean_s: float


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """Everybody by the accuracy and by what a question costs, in `unit`; `best` are those whom nobody beats in both."""

    unit: str
    points: tuple[Point, ...]
    best: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class SetReport:
    """One data set under one split. `members` are the single models on the reported part, `set_aside` on the other one: what
    they are taken to be worth (`quality`) must come from there. `missing` questions are not asked yet."""

    files: tuple[str, ...]
    digest: str
    split: Split
    trained_on: int
    questions: int
    missing: Mapping[str, int]
    contestants: tuple[Figures, ...]
    members: tuple[MemberFigures, ...]
    set_aside: tuple[MemberFigures, ...]
    tradeoffs: tuple[Tradeoff, ...]
    routing: tuple[Routing, ...]
