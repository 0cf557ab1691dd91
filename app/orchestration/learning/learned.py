"""What was learned in one scope, as it is stored and as strategies ask it. Pure.

It is one version, which holds several artefacts: weights for every set of members that was judged often enough and for all
members together, calibrators, and the predictor of success. One that cannot be read is left out; the others count all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar, cast

import orjson

from app.core.chat import JsonObject
from app.core.models import ModelProfile
from app.orchestration.evidence.confidence import Calibrators
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.artefacts import Artefact, BadArtefact, Lesson, artefact_of, lesson_of
from app.orchestration.learning.hashing import TermHash
from app.orchestration.learning.history import Sums, performance
from app.orchestration.learning.lessons import Performance, Priors
from app.orchestration.learning.text_model import SuccessPredictor

T = TypeVar("T")
ALL: Final[frozenset[str]] = frozenset()
"""In place of a set of members: all that were judged."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What is in force in a scope. `panels` are by set of members; `rows` is what it was learned from, `made_at` when."""

    version: str = ""
    made_at: float = 0.0
    rows: int = 0
    panels: Mapping[frozenset[str], PanelWeights] = field(default_factory=dict[frozenset[str], PanelWeights])
    calibrators: Calibrators | None = None
    predictor: SuccessPredictor | None = None
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    faults: tuple[str, ...] = ()

    def weights(self, names: Sequence[str], priors: PanelWeights) -> PanelWeights | None:
        """Of a panel of `names`: those learned for just these, else what all that were judged together say of them; a member
        that is new weighs as by `priors`. None where nothing was learned of any."""
        exact = self.panels.get(frozenset(names))
        if exact is not None:
            return exact
        joint = self.panels.get(ALL)
        if joint is None or not any(name in joint.members for name in names):
            return None
        return replace(
            joint,
            members={name: joint.members.get(name, priors.members[name]) for name in names},
            absent={name: joint.absent[name] for name in names if name in joint.absent},
            reliability={name: joint.reliability.get(name, priors.reliability[name]) for name in names},
        )


def stored(learned: Learned, report: JsonObject) -> tuple[str, bytes]:
    """The version, which names the content, and the JSON. `report` is for people to read.

    Raises:
        BadArtefact: a lesson is too large to be kept.
    """
    artefacts: list[JsonObject] = []
    for members, weights in learned.panels.items():
        artefacts.append({"members": sorted(members), **_stored(weights)})
    artefacts += [_stored(lesson) for lesson in (learned.calibrators, learned.predictor) if lesson is not None]
    told = "/".join(sorted(str(one["version"]) for one in artefacts))
    version = "l_" + hashlib.sha256(told.encode()).hexdigest()[:12]
    value = {
        "version": version,
        "made_at": learned.made_at,
        "rows": learned.rows,
        "artefacts": artefacts,
        "report": report,
    }
    return version, orjson.dumps(value)


def _stored(lesson: Lesson) -> JsonObject:
    artefact = artefact_of(lesson)
    return {"kind": artefact.kind, "version": artefact.version, "body": artefact.body}


def read(stored: bytes) -> Learned:
    """What `stored` made. What cannot be read of it is named in `faults`."""
    try:
        value: Any = orjson.loads(stored)
        rows: list[Any] = value["artefacts"]
        found = Learned(str(value["version"]), float(value["made_at"]), int(value["rows"]))
    except (ValueError, KeyError, TypeError) as fault:
        return Learned(faults=(f"what was learned cannot be read: {fault!r}",))
    panels: dict[frozenset[str], PanelWeights] = {}
    versions: dict[str, str] = {}
    for row in rows:
        try:
            artefact = Artefact(str(row["kind"]), str(row["version"]), row["body"])
            lesson = lesson_of(artefact)
            members = frozenset(map(str, cast("list[Any]", row.get("members") or ())))
        except (BadArtefact, KeyError, TypeError, AttributeError) as fault:
            found = replace(found, faults=(*found.faults, str(fault)))
            continue
        match lesson:
            case PanelWeights():
                panels[members] = lesson
                if members == ALL:
                    versions["panel"] = artefact.version
            case Calibrators():
                found = replace(found, calibrators=lesson)
                versions["calibrators"] = artefact.version
            case SuccessPredictor():
                found = replace(found, predictor=lesson)
                versions["success"] = artefact.version
    return replace(found, panels=panels, versions=versions)


@dataclass(frozen=True, slots=True)
class LearnedLessons:
    """The lessons of a tenant (`lessons.Lessons`): its own, where there are none those that all share, else the priors.

    Parameters:
        nearest: what was learned, the tenant's own first.
        records, shared: how models have been doing with the tenant, and with all.
        wanted: called by who is asked, so that the records are kept fresh.
    """

    nearest: tuple[Learned, ...]
    records: Mapping[str, Sums]
    shared: Mapping[str, Sums]
    priors: Priors
    hashed: TermHash
    wanted: Callable[[], None]

    def weights(self, members: Sequence[ModelProfile]) -> PanelWeights:
        names, priors = [member.name for member in members], self.priors.weights(members)
        return self._first(lambda learned: learned.weights(names, priors)) or priors

    def calibrators(self) -> Calibrators:
        self.wanted()
        return self._first(lambda learned: learned.calibrators) or self.priors.calibrators()

    def prior(self, profile: ModelProfile) -> float:
        return self.priors.prior(profile)

    def performance(self, profile: ModelProfile, category: str | None = None) -> Performance | None:
        self.wanted()
        return performance(self.records, self.shared, (profile.name, profile.provider), category)

    def success(self, text: str, tags: Sequence[str] = ()) -> Mapping[str, float]:
        predictor = self._first(lambda learned: learned.predictor)
        return {} if predictor is None else predictor.success_of(self.hashed.counts(text, tags))

    def _first(self, lesson: Callable[[Learned], T | None]) -> T | None:
        return next((found for learned in self.nearest if (found := lesson(learned)) is not None), None)
