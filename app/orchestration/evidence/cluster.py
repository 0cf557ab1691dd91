"""Clusters of texts that say the same, and the text that stands for each. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.orchestration.evidence.similarity import Distances

LEXICAL_THRESHOLD: Final = 0.75
"""The mean distance of words up to which texts are one cluster. Between worked answers to one school problem the median is 0.64
where they come to the same result and 0.77 where they do not; texts on different problems are more than 0.85 apart."""
EMBEDDING_THRESHOLD: Final = 0.25


@dataclass(frozen=True, slots=True)
class Cluster:
    """Places of texts, the medoid's among them: the one nearest to all others. `share` is of the whole weight."""

    places: tuple[int, ...]
    medoid: int
    weight: float
    share: float


def clusters(distances: Distances, *, threshold: float, weights: Sequence[float] | None = None) -> tuple[Cluster, ...]:
    """The texts in clusters, the heaviest first: average linkage, merging the nearest two while they are within `threshold`.

    Args:
        distances: Between each two texts.
        threshold: The most that the members of two clusters may be apart on average to be one.
        weights: How much each text counts; alike where None.

    Two texts that are 1 apart are never in one cluster, whoever stands between them: they contradict each other.

    The outcome does not depend on the order of the texts, but that of two equally near pairs, or of two clusters of one weight,
    the one with the earlier texts goes first.
    """
    count = len(distances)
    counted = list(weights) if weights is not None else [1.0] * count
    groups = _linked(distances, threshold)
    whole = sum(counted)
    found: list[Cluster] = []
    for places in groups:
        weight = sum(counted[place] for place in places)
        medoid = medoid_of(sorted(places), distances, counted)
        found.append(Cluster(tuple(sorted(places)), medoid, weight, weight / whole if whole else 0.0))
    return tuple(sorted(found, key=lambda one: (-one.weight, one.places)))


def medoid_of(places: Sequence[int], distances: Distances, weights: Sequence[float]) -> int:
    """The place whose weighted distance to the others is least; the heavier, then the earlier one of two."""
    return min(
        places,
        key=lambda place: (
            round(sum(distances[place][other] * weights[other] for other in places), 9),
            -weights[place],
            place,
        ),
    )


def _linked(distances: Distances, threshold: float) -> list[list[int]]:
    """The places in groups. For each group the nearest of those after it is kept, so that a merge looks at one row a group and
    not at all pairs: the work is as the square of the count, where no two groups are the nearest of many."""
    apart = [list(row) for row in distances]
    groups = {place: [place] for place in range(len(distances))}
    nearest: dict[int, int] = {}

    def look(one: int) -> None:
        after = [other for other in groups if other > one]
        if after:
            nearest[one] = min(after, key=apart[one].__getitem__)  # the first of equals
        else:
            nearest.pop(one, None)

    for place in groups:
        look(place)
    while nearest:
        one = min(nearest, key=lambda first: (apart[first][nearest[first]], first))
        other = nearest[one]
        if apart[one][other] > threshold:
            break
        mine, theirs = len(groups[one]), len(groups[other])
        groups[one] += groups.pop(other)
        nearest.pop(other, None)
        for third in groups:
            if third != one:
                both = apart[one][third], apart[other][third]
                mean = 1.0 if max(both) >= 1 else (both[0] * mine + both[1] * theirs) / (mine + theirs)
                apart[one][third] = apart[third][one] = mean
        for third in groups:
            if third == one or nearest.get(third) in (one, other):
                look(third)
            elif third < one and (apart[third][one], one) < (apart[third][nearest[third]], nearest[third]):
                nearest[third] = one
    return list(groups.values())
