"""How diverse a panel is: by who made its models, and by how often they are wrong together. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def diversity(kinds: Sequence[str]) -> float:
    """How many different kinds (families, providers) a panel spans, by weight, from 0 (all of one) to 1 (all different).

    The probability that two members drawn at random differ (Gini and Simpson).
    """
    count = len(kinds)
    if count < 2:
        return 0.0
    same = sum(size * (size - 1) for size in Counter(kinds).values())
    return 1 - same / (count * (count - 1))


def panel_diversity(families: Sequence[str], providers: Sequence[str]) -> float:
    """The mean of the diversity of the families and of the providers of a panel's members."""
    return (diversity(families) + diversity(providers)) / 2


def diverse(
    members: Sequence[str], kinds: Mapping[str, str], most: int, *, providers: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """At most `most` of `members`, which come best first: each next one from the kind that is chosen least so far, so that a
    panel spans families before it repeats one; of those from the provider that is chosen least."""
    hosts = providers or {}
    chosen: list[str] = []
    left = list(members)
    while left and len(chosen) < most:
        taken = Counter(kinds.get(member, member) for member in chosen)
        held = Counter(hosts.get(member, "") for member in chosen)
        best = min(
            left, key=lambda member: (taken[kinds.get(member, member)], held[hosts.get(member, "")], members.index(member))
        )
        chosen.append(best)
        left.remove(best)
    return tuple(chosen)


def error_agreement(wrong: Mapping[str, Sequence[bool]]) -> dict[tuple[str, str], float]:
    """For each two members, the correlation (phi) of their being wrong on the same questions; 0 where one never varies."""
    members = list(wrong)
    return {(one, other): _phi(wrong[one], wrong[other]) for place, one in enumerate(members) for other in members[place + 1 :]}


def _phi(one: Sequence[bool], other: Sequence[bool]) -> float:
    count = len(one)
    if not count:
        return 0.0
    first, second = sum(one) / count, sum(other) / count
    both = sum(a and b for a, b in zip(one, other, strict=True)) / count
    spread = (first * (1 - first) * second * (1 - second)) ** 0.5
    return (both - first * second) / spread if spread else 0.0
