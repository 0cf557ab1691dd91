"""Ranked ballots: reading them from a model's text, counting them by Borda's rule, and how far they agree. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from random import Random
from string import ascii_uppercase
from typing import Any, cast

Ballot = tuple[tuple[str, ...], ...]
"""Groups from best to worst; the members of one group are tied."""

_FLAT_OBJECT = re.compile(r"\{[^{}]*\}")
_FLAT_ARRAY = re.compile(r"\[[^\[\]{}]*\]")
_LABEL = r"(?:(?:answer|response)\s{1,4})?[\"'*(\[]{0,4}[A-Z]{1,2}[\"'*)\]]{0,4}"
_CHAIN = re.compile(rf"{_LABEL}(?:\s{{0,4}}(?:->|[>=,;≻→])\s{{0,4}}{_LABEL})+", re.IGNORECASE)
_SEPARATOR = re.compile(r"[>,;≻→]")
_LISTED = re.compile(rf"^[ \t]{{0,8}}(?:\d{{1,3}}[.):]|[-*])[ \t]{{0,4}}({_LABEL})(?![\w'])", re.IGNORECASE | re.MULTILINE)
_DECORATION = re.compile(r"(?:answer|response)\s+|[\s\"'*()\[\].:-]", re.IGNORECASE)
_READ_CHARACTERS = 20_000
"""How much of a reply is read for a ballot, from its end: a ballot comes last, and what a model writes has no bound."""


def labels(count: int) -> tuple[str, ...]:
    """`count` labels: A to Z, then AA, AB, ... to ZZ."""
    two = (first + second for first in ascii_uppercase for second in ascii_uppercase)
    return (*ascii_uppercase, *two)[:count]


def orders(count: int, rankers: int, seed: int | str) -> tuple[tuple[int, ...], ...]:
    """For each ranker, the order in which it is shown `count` answers.

    The orders are rotations of one shuffle (a cyclic Latin square), so over `count` rankers every answer stands once at every
    position: what a position gains or loses averages out exactly, which independent shuffles only do in the long run.
    """
    base = list(range(count))
    Random(seed).shuffle(base)  # noqa: S311 - a fair order that can be repeated, not a secret
    return tuple(tuple(base[turn % count :] + base[: turn % count]) for turn in range(rankers))


def parse_ballot(text: str, known: Sequence[str]) -> Ballot | None:
    """The ranking that `text` states over the labels `known`, or None where it states no valid one.

    JSON first: an object with `ranking`, or an array, alone or within prose (the last one counts); nested arrays are ties, and
    labels that it leaves out are tied behind the rest. Else prose that ranks every label: `B > A = C`, or a numbered list.
    """
    text = text[-_READ_CHARACTERS:]
    for found in _json_values(text):
        ranked = cast("Mapping[str, Any]", found).get("ranking") if isinstance(found, dict) else found
        ballot = _ballot(ranked, known)
        if ballot is not None:
            return ballot
    chains = [[part.split("=") for part in _SEPARATOR.split(chain.replace("->", ">"))] for chain in _CHAIN.findall(text)]
    for prose in (*reversed(chains), _LISTED.findall(text)):
        ballot = _ballot(prose, known)
        if ballot is not None and len(_members(prose)) == len(known):
            return ballot
    return None


def _json_values(text: str) -> list[Any]:
    """The JSON values that may be a ballot, the likeliest first."""
    fragments = [text, *reversed(_FLAT_OBJECT.findall(text)), *reversed(_FLAT_ARRAY.findall(text))]
    values: list[Any] = []
    for fragment in fragments:
        try:
            values.append(json.loads(fragment))
        except (ValueError, RecursionError):  # prose, or nested beyond reason
            continue
    return values


def _members(groups: Any) -> list[Any]:
    return [label for group in groups for label in (cast("list[Any]", group) if isinstance(group, list) else [group])]


def _ballot(value: Any, known: Sequence[str]) -> Ballot | None:
    if not isinstance(value, list) or not value:
        return None
    groups: list[tuple[str, ...]] = []
    seen: set[str] = set()
    for item in cast("list[Any]", value):
        group: list[str] = []
        for label in cast("list[Any]", item) if isinstance(item, list) else [item]:
            name = _DECORATION.sub("", label).upper() if isinstance(label, str) else ""
            if name not in known or name in seen:
                return None
            seen.add(name)
            group.append(name)
        if group:
            groups.append(tuple(group))
    if not groups:
        return None
    rest = tuple(label for label in known if label not in seen)
    return (*groups, rest) if rest else tuple(groups)


def borda(ballots: Sequence[Ballot], members: Sequence[str]) -> dict[str, float]:
    """Borda points: of n members the best on a ballot gets n - 1, the worst 0; those tied share the points of their places.

    Source: Duncan Black, "Partial justification of the Borda count", Public Choice 28 (1976), for ties and short ballots.
    """
    points = dict.fromkeys(members, 0.0)
    for ballot in ballots:
        worth = len(members) - 1
        for group in ballot:
            share = worth - (len(group) - 1) / 2
            for member in group:
                points[member] += share
            worth -= len(group)
    return points


def scores(points: Mapping[str, float], ballots: int) -> dict[str, float]:
    """Points as shares of the most that `ballots` could have given: 0 (last on all) to 1 (first on all)."""
    most = (len(points) - 1) * ballots
    return {member: value / most if most else 0.0 for member, value in points.items()}


def concordance(ballots: Sequence[Ballot], members: Sequence[str]) -> float | None:
    """Kendall's W, corrected for ties: 1 where all ballots agree, near 0 where they have nothing in common.

    None where it is not defined: fewer than two ballots or members, or nothing but ties. Source: Siegel and Castellan,
    "Nonparametric Statistics for the Behavioral Sciences" (1988), section 9.5.
    """
    rankers, size = len(ballots), len(members)
    if rankers < 2 or size < 2:
        return None
    totals = borda(ballots, members).values()
    mean = sum(totals) / size
    spread = sum((total - mean) ** 2 for total in totals)
    ties = sum(len(group) ** 3 - len(group) for ballot in ballots for group in ballot)
    most = rankers**2 * (size**3 - size) - rankers * ties
    return min(1.0, 12 * spread / most) if most else None
