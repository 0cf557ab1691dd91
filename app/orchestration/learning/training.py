"""Learns from judged runs: fits anew, holds it against what is in force on rows it was not fitted to, and takes the better.

    weights       of panels, by cross-validation: the share of outcomes that are right must not fall
    calibrators   for the weights that were taken: the Brier score of confidences must not rise by more than its standard error.
                  Calibrators are held to the prior by their fit, and it is sure of weights that were never tried; so a draw is
                  for the ones that were fitted
    success       of models by prompts: the Brier score of what is predicted must not rise

Pure; the fits import numpy, scipy and scikit-learn. It takes from seconds to a minute, so it runs in a process of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from app.core.chat import JsonObject
from app.orchestration.evidence.confidence import Calibrators
from app.orchestration.evidence.measures import NORMAL_95, mean_interval
from app.orchestration.evidence.vote import decide
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.calibrator_fit import Outcome, fit_calibrators, outcomes_of
from app.orchestration.learning.judging import Judgements, credit_of, observation
from app.orchestration.learning.learned import ALL, Learned
from app.orchestration.learning.observations import Observation, folds
from app.orchestration.learning.panel_fit import fit_panel
from app.orchestration.learning.taught import Noted
from app.orchestration.learning.text_fit import Scored, fit_text
from app.orchestration.learning.text_model import SuccessPredictor
from app.orchestration.learning.together import error_correlations

PARTS: Final = 5
LEAST_OF_SET: Final = 50
"""Judged runs of just these members, for weights of their own beside those of all members together."""
MOST_SETS: Final = 16
LEAST_HELD_OUT: Final = 20
"""Rows judged after what is in force was made, to compare by them alone: it was fitted to the others."""
STEPS: Final = 2 * PARTS + 4
_SEED: Final = 11

Progress = Callable[[str], None]
"""Told of every step that begins; there are `STEPS`."""


@dataclass(frozen=True, slots=True)
class Row:
    """A judged run."""

    run: Noted
    judgements: Judgements

    @property
    def at(self) -> float:
        return max((one.at for one in self.judgements.values()), default=0.0)


@dataclass(frozen=True, slots=True)
class Before:
    """What is in force: weights by names of members, calibrators, the predictor where there is one, and when it was made."""

    weights: Callable[[Sequence[str]], PanelWeights]
    calibrators: Calibrators = Calibrators()
    predictor: SuccessPredictor | None = None
    learned: Learned = Learned()


@dataclass(frozen=True, slots=True)
class Compared:
    """One lesson: how what is in force and what was fitted do on `rows` held-out rows, and which of the two was `taken`.

    `measure` is `accuracy` (more is better) or `brier` (less is).
    """

    kind: str
    measure: str
    rows: int
    before: float | None = None
    after: float | None = None
    taken: bool = False
    reason: str = ""

    def as_json(self) -> JsonObject:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it: `learned` is to be put in force; None where nothing of it is better than what is."""

    learned: Learned | None
    rows: int
    compared: tuple[Compared, ...]

    def report(self) -> JsonObject:
        return {"rows": self.rows, "compared": [one.as_json() for one in self.compared]}


def train(
    rows: Sequence[Row], before: Before, *, now: float, min_judged: int, progress: Progress = lambda step: None
) -> Trained:
    """What `rows` teach.

    Parameters:
        now: seconds since the epoch.
        min_judged: rows, below which nothing is fitted.
    """
    since = sum(row.at > before.learned.made_at for row in rows)
    fresh_from = before.learned.made_at if since >= LEAST_HELD_OUT else 0.0
    votes = [vote for row in rows if row.run.taught.votes and (vote := _Vote.of(row, row.at > fresh_from))]
    panels, calibrators, of_votes = _votes(votes, before, min_judged, progress)
    predictor, of_prompts = _prompts(rows, before, fresh_from, min_judged, progress)
    compared = (*of_votes, of_prompts)
    if not any(one.taken for one in compared):
        return Trained(None, len(rows), compared)
    kept = before.learned
    learned = Learned(
        made_at=now,
        rows=len(rows),
        panels=panels if panels is not None else kept.panels,
        calibrators=calibrators or kept.calibrators,
        predictor=predictor or kept.predictor,
    )
    return Trained(learned, len(rows), compared)


@dataclass(frozen=True, slots=True)
class _Vote:
    """A judged vote. `panel` is how many were asked; `fresh`, whether it was judged after what is in force was made;
    `calibrates`, whether its outcome was that of a vote over labels, and not of numbers, texts or fields that are counted
    otherwise."""

    seen: Observation
    panel: int
    fresh: bool
    calibrates: bool

    @staticmethod
    def of(row: Row, fresh: bool) -> _Vote | None:
        seen = observation(row.run, row.judgements)
        calibrates = row.run.taught.probability is not None
        return _Vote(seen, row.run.taught.panel, fresh, calibrates) if seen.answers and (seen.right or seen.wrong) else None

    def right(self, weights: PanelWeights) -> bool | None:
        """Whether its outcome under `weights` is right, as far as is known."""
        return self.seen.judged(decide(self.seen.ballots(), weights, category=self.seen.category).winner)

    def outcomes(self, weights: PanelWeights, random: Random) -> list[Outcome]:
        """Its own, and those of parts of its panel."""
        return outcomes_of(self.seen, weights, self.panel, random)


def _votes(
    votes: Sequence[_Vote], before: Before, least: int, progress: Progress
) -> tuple[Mapping[frozenset[str], PanelWeights] | None, Calibrators | None, tuple[Compared, ...]]:
    if len(votes) < least:
        few = f"{len(votes)} judged votes, and {least} are wanted"
        skipped = (("weights", "accuracy"), ("calibrators", "brier"))
        return None, None, tuple(Compared(kind, measure, len(votes), reason=few) for kind, measure in skipped)
    random = Random(_SEED)  # noqa: S311 - repeatable, not secret
    votes = random.sample(votes, len(votes))
    fitted: list[PanelWeights] = [PanelWeights({})] * len(votes)
    for number, (inner, left_out) in enumerate(folds(len(votes), PARTS), 1):
        progress(f"weights, part {number} of {PARTS}")
        panels = Learned(panels=fit_panels([votes[place] for place in inner]))
        for place in left_out:
            names = list(votes[place].seen.answers)
            fitted[place] = panels.weights(names, before.weights(names)) or before.weights(names)
    in_force = [before.weights(list(vote.seen.answers)) for vote in votes]
    of_weights = _compared_weights(votes, in_force, fitted)
    progress("weights of all")
    panels = _measured(fit_panels(votes), votes) if of_weights.taken else None
    used = fitted if of_weights.taken else in_force
    calibrators, of_calibrators = _calibrated(votes, used, before, random, progress)
    return panels, calibrators, (of_weights, of_calibrators)


def fit_panels(votes: Sequence[_Vote]) -> dict[frozenset[str], PanelWeights]:
    """Weights for all members together, and for every set of them that was judged often enough by itself."""
    found = {ALL: fit_panel([vote.seen for vote in votes])}
    whole = Counter(frozenset(vote.seen.answers) for vote in votes if len(vote.seen.answers) == vote.panel)
    often = [members for members, count in whole.most_common(MOST_SETS) if count >= LEAST_OF_SET]
    for members in often:
        own = [vote.seen for vote in votes if vote.panel == len(members) and members.issuperset(vote.seen.answers)]
        if len(own) < len(votes):
            found[members] = fit_panel(own)
    return found


def _measured(panels: Mapping[frozenset[str], PanelWeights], votes: Sequence[_Vote]) -> dict[frozenset[str], PanelWeights]:
    """`panels` with how alike the errors of their members are."""
    found = error_correlations([vote.seen for vote in votes])
    return {members: replace(weights, together=found) for members, weights in panels.items()}


def _compared_weights(votes: Sequence[_Vote], in_force: Sequence[PanelWeights], fitted: Sequence[PanelWeights]) -> Compared:
    pairs = [
        (old, new)
        for vote, weights, others in zip(votes, in_force, fitted, strict=True)
        if vote.fresh and (old := vote.right(weights)) is not None and (new := vote.right(others)) is not None
    ]
    if not pairs:
        return Compared("weights", "accuracy", 0, reason="no judgement says which of the two is better")
    old, new = (sum(side) / len(pairs) for side in zip(*pairs, strict=True))
    return _gate("weights", "accuracy", len(pairs), old, new, better=new >= old)


def _calibrated(
    votes: Sequence[_Vote], used: Sequence[PanelWeights], before: Before, random: Random, progress: Progress
) -> tuple[Calibrators | None, Compared]:
    own = [vote.outcomes(weights, random) if vote.calibrates else [] for vote, weights in zip(votes, used, strict=True)]
    misses: list[tuple[float, float]] = []
    for number, (inner, left_out) in enumerate(folds(len(votes), PARTS), 1):
        progress(f"calibrators, part {number} of {PARTS}")
        fitted = fit_calibrators([one for place in inner for one in own[place]])
        judged = [own[place] for place in left_out if votes[place].fresh and own[place]]
        misses += [(_brier(before.calibrators, outcomes), _brier(fitted, outcomes)) for outcomes in judged]
    if not misses:
        return None, Compared("calibrators", "brier", 0, reason="no outcome was judged")
    old, new = (sum(side) / len(misses) for side in zip(*misses, strict=True))
    progress("calibrators of all")
    worse = mean_interval([other - one for one, other in misses])
    chance = (worse.high - worse.value) / NORMAL_95
    compared = _gate("calibrators", "brier", len(misses), old, new, better=worse.value <= chance)
    return (fit_calibrators([one for all_of in own for one in all_of]) if compared.taken else None), compared


def _brier(calibrators: Calibrators, outcomes: Sequence[Outcome]) -> float:
    """Of the outcomes of one vote, as much as each counts."""
    errors = 0.0
    for one in outcomes:
        chosen = calibrators.by_category.get(one.category or "", calibrators.overall)
        errors += one.importance * (chosen.confidence(one.features).probability - one.right) ** 2
    return errors / sum(one.importance for one in outcomes)


@dataclass(slots=True)
class Prompt:
    """A prompt by its terms, how well each model answered it, and when the first of those answers was judged."""

    terms: Mapping[str, int]
    scores: dict[str, float]
    at: float


def asked_together(rows: Iterable[Row]) -> list[Prompt]:
    """The judged prompts of `rows`. Models that were asked the same one by one, in runs of their own, are told together, as a
    panel is that was asked it; what a model was asked again is a prompt of its own."""
    found: dict[frozenset[tuple[str, int]], list[Prompt]] = {}
    for row in rows:
        credit = credit_of(row.run, row.judgements)
        if not row.run.terms or not credit:
            continue
        same = found.setdefault(frozenset(row.run.terms.items()), [])
        if same and not same[-1].scores.keys() & credit:
            same[-1].scores.update(credit)
            same[-1].at = min(same[-1].at, row.at)
        else:
            same.append(Prompt(row.run.terms, credit, row.at))
    return [prompt for same in found.values() for prompt in same]


def _prompts(
    rows: Sequence[Row], before: Before, fresh_from: float, least: int, progress: Progress
) -> tuple[SuccessPredictor | None, Compared]:
    judged = asked_together(rows)
    if len(judged) < least:
        return None, Compared("success", "brier", len(judged), reason=f"{len(judged)} judged prompts, and {least} are wanted")
    judged = Random(_SEED).sample(judged, len(judged))  # noqa: S311 - repeatable, not secret
    scored = [Scored("", one.scores, found=one.terms) for one in judged]
    progress("success by prompts")
    errors: list[tuple[float, float]] = []
    for inner, left_out in folds(len(scored), PARTS):
        fitted = fit_text([scored[place] for place in inner])
        mean = SuccessPredictor(mean=fitted.mean)
        for place in left_out:
            if judged[place].at > fresh_from:
                errors += _misses(scored[place], before.predictor or mean, mean, fitted)
    if not errors:
        return None, Compared("success", "brier", 0, reason="no answer was judged")
    old, new = (sum(side) / len(errors) for side in zip(*errors, strict=True))
    progress("success by prompts, of all")
    compared = _gate("success", "brier", len(errors), old, new, better=new <= old)
    return (fit_text(scored) if compared.taken else None), compared


def _misses(row: Scored, old: SuccessPredictor, mean: SuccessPredictor, new: SuccessPredictor) -> Iterable[tuple[float, float]]:
    said = [{**mean.mean, **one.success_of(row.terms)} for one in (old, new)]
    for model, score in row.scores.items():
        yield (said[0].get(model, 0.5) - score) ** 2, (said[1].get(model, 0.5) - score) ** 2


def _gate(kind: str, measure: str, rows: int, old: float, new: float, *, better: bool) -> Compared:
    reason = "" if better else "worse than what is in force, which stays"
    return Compared(kind, measure, rows, old, new, better, reason)
