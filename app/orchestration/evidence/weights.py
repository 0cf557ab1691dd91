"""What a member's word weighs: uniform, stated by the caller, from prior reliabilities, or learned with the panel. Pure.

The score of a label is the log-odds for it, up to what all labels share:

    score(label) = bias[class of label] + sum over members of mass(member, label) *
                   (member + member for that class + member in the task category)

and "none of the given answers is right" scores `none + sum of absent[member]` over the members that did not answer. A softmax
over these is the probability of each. Classes exist where a task's labels come from a closed set (letters, yes and no, small
counts): then a model that says "no" to everything weighs nothing when it says "no", and a label that is never right weighs
less than nothing. Labels that are none of the frequent ones share the class `OTHER`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.orchestration.evidence.ballots import effective

OTHER: Final = ""
PRIOR_RELIABILITY: Final = 0.7
"""How often a member of which nothing is known is taken to be right."""
FAMILY_CORRELATION: Final = 0.3
"""How alike the errors of two models of one family are taken to be while nothing is measured.

Kim et al., "Correlated Errors in Large Language Models" (2025, https://arxiv.org/abs/2506.07962): models agree far more often
than chance when both are wrong, most so within one provider.
"""
MOST_LOG_ODDS: Final = 4.0
"""A reliability of 98 %: no number of observations makes one member outweigh a whole panel."""
LEAST_LOG_ODDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class PanelWeights:
    """Weights in log-odds, see the module. `reliability` is how often each member was right by itself, shrunk; `together`, by
    member and member, how alike their errors are (a correlation, -1 to 1), where that was measured."""

    members: Mapping[str, float]
    none: float = 0.0
    absent: Mapping[str, float] = field(default_factory=dict[str, float])
    classes: tuple[str, ...] = ()
    bias: Mapping[str, float] = field(default_factory=dict[str, float])
    by_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    by_category: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    reliability: Mapping[str, float] = field(default_factory=dict[str, float])
    learned: bool = False
    together: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])

    def alike(self, one: str, other: str) -> float | None:
        """How alike the errors of two members are, as they were measured; None where they were not."""
        return self.together.get(one, {}).get(other, self.together.get(other, {}).get(one))

    def class_of(self, label: str) -> str:
        return label if label in self.classes else OTHER

    def bias_of(self, label: str) -> float:
        return self.bias.get(self.class_of(label), 0.0) if self.classes else 0.0

    def of(self, member: str, label: str, category: str | None = None) -> float:
        """What `member`'s word for `label` weighs. A member that the panel was not measured with weighs as by the prior."""
        weight = self.voice(member, category)
        return weight + self.by_class[member].get(self.class_of(label), 0.0) if member in self.by_class else weight

    def voice(self, member: str, category: str | None = None) -> float:
        """What `member`'s word weighs whatever it says."""
        weight = self.members.get(member)
        if weight is None:
            return log_odds(PRIOR_RELIABILITY) if self.learned else 1.0
        return weight + (self.by_category.get(member, {}).get(category, 0.0) if category is not None else 0.0)

    def none_score(self, present: Iterable[str]) -> float:
        """The score of "none is right" when the members `present` answered."""
        there = set(present)
        return self.none + sum(value for member, value in self.absent.items() if member not in there)


def log_odds(probability: float) -> float:
    """The log-odds of a reliability, clipped: a member below chance is ignored, not believed inversely."""
    probability = min(max(probability, 1e-9), 1 - 1e-9)
    return min(MOST_LOG_ODDS, max(LEAST_LOG_ODDS, math.log(probability / (1 - probability))))


def uniform(members: Sequence[str], *, reliability: Mapping[str, float] | None = None) -> PanelWeights:
    """One member, one vote: plain plurality. `reliability`, where it is known, decides ties and nothing else."""
    return PanelWeights(dict.fromkeys(members, 1.0), reliability=dict(reliability or {}))


def stated_weights(weights: Mapping[str, float]) -> PanelWeights:
    """Weights as the caller set them."""
    return PanelWeights(dict(weights))


def prior_weights(
    members: Sequence[str],
    *,
    reliability: Mapping[str, float] | None = None,
    families: Mapping[str, str] | None = None,
    correlation: float = FAMILY_CORRELATION,
) -> PanelWeights:
    """Weights before anything was measured on the panel: log-odds of each member's reliability, as far as one is known.

    Args:
        members: The panel.
        reliability: How often a member is right, 0 to 1; `PRIOR_RELIABILITY` where it is not told.
        families: By member, whose answers resemble each other; the members of one family share `effective(n)` votes.
        correlation: Of the errors within a family.
    """
    known = {member: (reliability or {}).get(member, PRIOR_RELIABILITY) for member in members}
    family = {member: (families or {}).get(member, member) for member in members}
    size = {name: sum(1 for other in family.values() if other == name) for name in family.values()}
    return PanelWeights(
        {
            member: log_odds(known[member]) * effective(size[family[member]], correlation) / size[family[member]]
            for member in members
        },
        reliability=known,
    )
