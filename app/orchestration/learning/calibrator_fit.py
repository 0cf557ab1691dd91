"""Fits calibrators to judged outcomes: Bayesian logistic regression by Newton's method, with a Laplace approximation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from random import Random
from typing import Any, Final

from app.orchestration.evidence.confidence import (
    PRIOR_COEFFICIENTS,
    PRIOR_PRECISIONS,
    UNEARNED,
    Calibrator,
    Calibrators,
    Vector,
    features,
)
from app.orchestration.evidence.stopping import asking_order, enough
from app.orchestration.evidence.vote import decide
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.observations import Observation, folds, members_of, partial
from app.orchestration.learning.panel_fit import fit_panel
from app.orchestration.learning.threads import one_thread

PARTS: Final = 5
LEAST_IN_CATEGORY: Final = 100
"""Judged outcomes that a category needs for a calibrator of its own; it starts from the one for all tasks."""
CATEGORY_PRECISIONS: Final[Vector] = (10.0, 20.0, 10.0, 20.0)
LEAST_SURE: Final = 20
"""Outcomes that a calibrator must have called very sure before it may say so, ..."""
SLACK: Final = 0.02
"""... and how far short of that they may have fallen, after one right and one wrong more (Laplace)."""
_STEPS: Final = 50


@dataclass(frozen=True, slots=True)
class Outcome:
    """A judged outcome: the `features` of its decision, whether it was right, and for how many it counts."""

    features: Vector
    right: bool
    category: str | None = None
    importance: float = 1.0


def fit_calibrator(
    outcomes: Sequence[Outcome], *, centre: Vector = PRIOR_COEFFICIENTS, precisions: Vector = PRIOR_PRECISIONS
) -> Calibrator:
    """The posterior over the coefficients. With no outcomes it is the prior."""
    np = import_module("numpy")
    middle, precision = np.array(centre), np.array(precisions)
    values = np.array([outcome.features for outcome in outcomes]).reshape(len(outcomes), len(centre))
    right = np.array([float(outcome.right) for outcome in outcomes])
    importance = np.array([outcome.importance for outcome in outcomes])

    def loss(at: Any) -> float:
        scores = values @ at
        return float(
            (importance * (np.logaddexp(0, scores) - right * scores)).sum() + 0.5 * (precision * (at - middle) ** 2).sum()
        )

    def curvature(at: Any) -> tuple[Any, Any]:
        chance = 1 / (1 + np.exp(-(values @ at)))
        slope = values.T @ (importance * (chance - right)) + precision * (at - middle)
        return slope, (values.T * (importance * chance * (1 - chance))) @ values + np.diag(precision)

    with one_thread():
        at = _least(loss, curvature, middle)
        inverse = np.linalg.inv(curvature(at)[1])
    covariance = tuple(tuple(float(value) for value in row) for row in inverse)
    open_ended = Calibrator(tuple(float(value) for value in at), covariance, 1.0, len(outcomes))
    return replace(open_ended, ceiling=1.0 if earned(outcomes, open_ended) else UNEARNED)


def _least(loss: Callable[[Any], float], curvature: Callable[[Any], tuple[Any, Any]], start: Any) -> Any:
    """Where `loss` is least, by Newton's method with halved steps where a whole one would not go down."""
    solve = import_module("numpy").linalg.solve
    at, now = start.copy(), loss(start)
    for _ in range(_STEPS):
        slope, bend = curvature(at)
        step, reach = solve(bend, slope), 1.0
        while loss(at - reach * step) > now and reach > 1e-6:
            reach /= 2
        at = at - reach * step
        before, now = now, loss(at)
        if before - now < 1e-9:
            break
    return at


def earned(outcomes: Sequence[Outcome], calibrator: Calibrator) -> bool:
    """Whether enough of the outcomes that `calibrator` calls surer than `UNEARNED` were judged, and found right as it says."""
    sure = [one for one in outcomes if calibrator.confidence(one.features).probability > UNEARNED]
    count = sum(one.importance for one in sure)
    right = sum(one.importance for one in sure if one.right)
    return count >= LEAST_SURE and (right + 1) / (count + 2) >= UNEARNED - SLACK


def fit_calibrators(outcomes: Sequence[Outcome]) -> Calibrators:
    """One calibrator for all tasks, and one for each category with outcomes enough, drawn towards the first."""
    overall = fit_calibrator(outcomes)
    by_category: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.category is not None:
            by_category[outcome.category].append(outcome)
    return Calibrators(
        overall,
        {
            name: replace(
                fit_calibrator(own, centre=overall.coefficients, precisions=CATEGORY_PRECISIONS), ceiling=overall.ceiling
            )
            for name, own in sorted(by_category.items())
            if sum(outcome.importance for outcome in own) >= LEAST_IN_CATEGORY - 0.5
        },
    )


def fit_vote(observations: Sequence[Observation], *, seed: int = 0) -> tuple[PanelWeights, Calibrators]:
    """Weights and calibrators for a panel from the same judged questions.

    The calibrators see only outcomes of weights that were fitted without those questions, or they would learn that the weights
    are surer than they are; each question counts as often as it has `stages`.
    """
    panel = len(members_of(observations))
    random = Random(seed)  # noqa: S311 - repeatable, not secret
    shuffled = list(observations)
    random.shuffle(shuffled)
    outcomes: list[Outcome] = []
    for fitted, left_out in folds(len(shuffled), PARTS):
        weights = fit_panel([shuffled[place] for place in fitted], seed=seed)
        for place in left_out:
            outcomes += outcomes_of(shuffled[place], weights, panel, random)
    return fit_panel(observations, seed=seed), fit_calibrators(outcomes)


def stages(one: Observation, weights: PanelWeights, random: Random) -> tuple[Observation, ...]:
    """A question as calibrators learn of it: with its whole panel, with a part of it, and as it stood when a panel that stops
    would have stopped. The last is no part like others: it was stopped because its members were sure."""
    order = asking_order(tuple(one.answers), weights, category=one.category)
    stopped = one
    for count in range(1, len(order)):
        asked = one.only(order[:count])
        left = dict.fromkeys(order[count:], 1)
        if enough(asked.ballots(), left, weights, rule="decided", category=one.category):
            stopped = asked
            break
    return one, partial(one, random), stopped


def outcomes_of(one: Observation, weights: PanelWeights, panel: int, random: Random) -> list[Outcome]:
    """The outcomes of the vote over `one` in each of its `stages`, which count as one together."""
    found = stages(one, weights, random)
    return [outcome for stage in found for outcome in outcome_of(stage, weights, panel, importance=1 / len(found))]


def outcome_of(one: Observation, weights: PanelWeights, panel: int, *, importance: float = 1.0) -> list[Outcome]:
    """The outcome of the vote over `one`; nothing where there is no winner or nobody judged it."""
    decision = decide(one.ballots(), weights, category=one.category)
    right = one.judged(decision.winner)
    if decision.winner is None or right is None:
        return []
    values = features(decision.probability, len(decision.present), panel)
    return [Outcome(values, right, one.category, importance)]
