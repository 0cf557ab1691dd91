"""Fits the weights of a panel: which of the answers given to a question is right, told from who gave it.

A conditional logit (McFadden, 1974) over the labels of each question and "none of them", with Gaussian priors. It is fitted to
all members at once, so what correlated members say twice is counted once; each question counts half as it was and half as it
stood when only some members had answered, so that a vote that stops early or lacks a member is weighed soundly too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from random import Random
from typing import Any, Final

from app.orchestration.evidence.ballots import masses
from app.orchestration.evidence.weights import OTHER, PanelWeights, log_odds
from app.orchestration.learning.observations import Observation, members_of, partial
from app.orchestration.learning.threads import one_thread

PRECISION_MEMBER: Final = 5.0
"""Priors, as one over the variance in log-odds: a member's weight lies 0.45 around the log-odds of its own reliability; a class
of labels is right 1 more or less often; a member differs by class 0.3, by category 0.2; a missing member says 0.45."""
PRECISION_BIAS: Final = 1.0
PRECISION_CLASS: Final = 10.0
PRECISION_CATEGORY: Final = 20.0
PRECISION_ABSENT: Final = 5.0
PRECISION_NONE: Final = 0.01
LEAST_SHARE: Final = 0.02
"""A label is a class of its own when this share of all answers gave it, ..."""
MOST_CLASSES: Final = 16
CLOSED_SHARE: Final = 0.8
"""... and the task's labels are a closed set when such labels are this share of all answers."""
LEAST_IN_CATEGORY: Final = 30
MOST_ITERATIONS: Final = 300


def fit_panel(observations: Sequence[Observation], *, seed: int = 0) -> PanelWeights:
    """The weights that `observations` teach. With none of them judged, each member weighs as its prior.

    Args:
        observations: Judged questions; members may differ from one to the next.
        seed: Of the choice of partial panels.
    """
    members = members_of(observations)
    reliability = {member: _reliability(member, observations) for member in members}
    prior = {member: log_odds(value) for member, value in reliability.items()}
    judged = [one for one in observations if one.right or one.wrong]
    if not judged:
        return PanelWeights(prior, reliability=reliability)
    random = Random(seed)  # noqa: S311 - repeatable, not secret
    rows: list[tuple[Observation, float]] = []
    for one in judged:
        rows += [(one, 0.5), (partial(one, random), 0.5)]
    columns = _Columns.of(members, judged)
    weights = _solve(_Design.of(rows, columns), columns, prior)
    return columns.weights(weights, reliability)


def _reliability(member: str, observations: Sequence[Observation]) -> float:
    """How often `member` was right where that is known, shrunk by one right and one wrong answer (Laplace)."""
    own = [(one, one.answers[member].labels) for one in observations if member in one.answers]
    judged = [one.judged(label) for one, labels in own for label in labels]
    known = [verdict for verdict in judged if verdict is not None]
    return (sum(known) + 1) / (len(known) + 2)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where each coefficient stands: members, then biases, then members by class, then members by category."""

    members: tuple[str, ...]
    classes: tuple[str, ...]
    categories: tuple[str, ...]

    @staticmethod
    def of(members: tuple[str, ...], observations: Sequence[Observation]) -> _Columns:
        given = Counter(ballot.label for one in observations for ballot in one.ballots() if ballot.label is not None)
        common = [label for label, count in given.most_common(MOST_CLASSES) if count >= LEAST_SHARE * given.total()]
        closed = sum(given[label] for label in common) >= CLOSED_SHARE * given.total()
        categories = Counter(one.category for one in observations if one.category is not None)
        return _Columns(
            members,
            tuple(sorted(common)) if closed else (),
            tuple(sorted(name for name, count in categories.items() if count >= LEAST_IN_CATEGORY)),
        )

    @property
    def all_classes(self) -> tuple[str, ...]:
        return (*self.classes, OTHER) if self.classes else ()

    @property
    def starts(self) -> tuple[int, int, int, int]:
        """Where the biases, the members by class and the members by category begin, and where it all ends."""
        bias = len(self.members)
        by_class = bias + len(self.all_classes)
        by_category = by_class + len(self.members) * len(self.all_classes)
        return bias, by_class, by_category, by_category + len(self.members) * len(self.categories)

    def for_label(self, label: str, supporters: Mapping[int, float], category: str | None) -> dict[int, float]:
        """The columns that `label` has something in, which the members at `supporters` gave with these masses."""
        bias, by_class, by_category, _ = self.starts
        found = dict(supporters)
        if self.classes:
            kinds = self.all_classes
            kind = kinds.index(label) if label in self.classes else len(kinds) - 1
            found[bias + kind] = 1.0
            found |= {by_class + member * len(kinds) + kind: mass for member, mass in supporters.items()}
        if category in self.categories:
            place, count = self.categories.index(category), len(self.categories)
            found |= {by_category + member * count + place: mass for member, mass in supporters.items()}
        return found

    def precisions(self) -> list[float]:
        bias, by_class, by_category, end = self.starts
        return (
            [PRECISION_MEMBER] * bias
            + [PRECISION_BIAS] * (by_class - bias)
            + [PRECISION_CLASS] * (by_category - by_class)
            + [PRECISION_CATEGORY] * (end - by_category)
        )

    def weights(self, solved: Sequence[float], reliability: dict[str, float]) -> PanelWeights:
        """The coefficients by name: first the bias of "none", then what each absent member adds to it, then the columns."""
        count, kinds = len(self.members), self.all_classes
        none, absent, values = solved[0], solved[1 : 1 + count], solved[1 + count :]
        bias, by_class, by_category, _ = self.starts

        def table(start: int, names: Sequence[str]) -> dict[str, dict[str, float]]:
            return {
                member: {name: values[start + row * len(names) + column] for column, name in enumerate(names)}
                for row, member in enumerate(self.members)
                if names
            }

        return PanelWeights(
            dict(zip(self.members, values[:count], strict=True)),
            none,
            dict(zip(self.members, absent, strict=True)),
            self.classes,
            {name: values[bias + column] for column, name in enumerate(kinds)},
            table(by_class, kinds),
            table(by_category, self.categories),
            reliability,
            learned=True,
        )


@dataclass(frozen=True, slots=True)
class _Design:
    """The labels of all questions as rows of a sparse matrix (`features`), each with its question; per question its weight, the
    members that are absent, and which outcomes its judgement allows (`allowed`, `none_allowed`)."""

    features: Any
    question: Any
    allowed: Any
    none_allowed: Any
    absent: Any
    importance: Any

    @staticmethod
    def of(rows: Sequence[tuple[Observation, float]], columns: _Columns) -> _Design:
        np, sparse = import_module("numpy"), import_module("scipy.sparse")
        place = {member: at for at, member in enumerate(columns.members)}
        at_row: list[int] = []
        at_column: list[int] = []
        values: list[float] = []
        question: list[int] = []
        allowed: list[bool] = []
        none_allowed: list[bool] = []
        absent = np.ones((len(rows), len(columns.members)))
        for number, (one, _) in enumerate(rows):
            supporters: dict[str, dict[int, float]] = {}
            for member, given in masses(one.ballots()).items():
                absent[number, place[member]] = 0
                for label, mass in given.items():
                    supporters.setdefault(label, {})[place[member]] = mass
            right = [label for label in supporters if one.judged(label)]
            none_allowed.append(not right)
            for label, gave in supporters.items():
                entries = columns.for_label(label, gave, one.category)
                at_row += [len(question)] * len(entries)
                at_column += entries.keys()
                values += entries.values()
                question.append(number)
                allowed.append(label in right if right else one.judged(label) is None)
        shape = (len(question), columns.starts[-1])
        features = sparse.csr_matrix((values, (at_row, at_column)), shape=shape)
        return _Design(
            features,
            np.array(question, dtype=int),
            np.array(allowed, dtype=float),
            np.array(none_allowed, dtype=float),
            np.column_stack([np.ones(len(rows)), absent]),
            np.array([weight for _, weight in rows]),
        )


def _solve(design: _Design, columns: _Columns, prior: dict[str, float]) -> list[float]:
    """The coefficients of greatest posterior probability."""
    np, minimize = import_module("numpy"), import_module("scipy.optimize").minimize
    nones = design.absent.shape[1]
    centre = np.zeros(nones + columns.starts[-1])
    centre[nones : nones + len(columns.members)] = [prior[member] for member in columns.members]
    precision = np.array([PRECISION_NONE] + [PRECISION_ABSENT] * (nones - 1) + columns.precisions())
    question, features, turned = design.question, design.features, design.features.T.tocsr()

    def loss(values: Any) -> tuple[float, Any]:
        none, scores = design.absent @ values[:nones], features @ values[nones:]
        highest = none.copy()
        np.maximum.at(highest, question, scores)
        odds, none_odds = np.exp(scores - highest[question]), np.exp(none - highest)
        whole = none_odds + np.bincount(question, odds, len(none))
        good, none_good = odds * design.allowed, none_odds * design.none_allowed
        fine = np.maximum(none_good + np.bincount(question, good, len(none)), 1e-300)
        weight, away = design.importance, values - centre
        likelihood = (weight * (np.log(fine) - np.log(whole))).sum()
        by_label = weight[question] * (odds / whole[question] - good / fine[question])
        by_none = weight * (none_odds / whole - none_good / fine)
        gradient = np.concatenate([design.absent.T @ by_none, turned @ by_label]) + precision * away
        return -likelihood + 0.5 * (precision * away**2).sum(), gradient

    with one_thread():
        found = minimize(loss, centre, jac=True, method="L-BFGS-B", options={"maxiter": MOST_ITERATIONS})
    return [float(value) for value in found.x]
