"""How often members are wrong together, told from judged questions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final

from app.orchestration.evidence.diversity import error_agreement
from app.orchestration.learning.observations import Observation

LEAST_QUESTIONS: Final = 50
"""Questions of which it is known of both whether they were right; with as many a correlation is told to 0.14 (1 / sqrt(n))."""
LEAST_ERRORS: Final = 10
"""... and on how many of them one of the two at least was wrong."""
MOST_UNKNOWN: Final = 0.1
"""Where only the outcome is judged, what the others said is known when it was right and not when it was wrong: the errors that
two share are those that are missing. More such questions than this share of those with an error, and nothing is told."""


def error_correlations(observations: Sequence[Observation]) -> dict[str, dict[str, float]]:
    """By member and member (each pair once): the correlation of their errors, where enough was judged to tell."""
    known: dict[tuple[str, str], list[tuple[bool, bool]]] = {}
    unknown: dict[tuple[str, str], int] = {}
    for one in observations:
        if not one.right and not one.wrong:
            continue
        verdicts = {member: one.judged(answer.label) for member, answer in one.answers.items()}
        for pair in combinations(sorted(verdicts), 2):
            first, second = (verdicts[member] for member in pair)
            if first is None or second is None:
                unknown[pair] = unknown.get(pair, 0) + 1
            else:
                known.setdefault(pair, []).append((not first, not second))
    found: dict[str, dict[str, float]] = {}
    for pair, both in known.items():
        errors = sum(map(any, both))
        if len(both) < LEAST_QUESTIONS or errors < LEAST_ERRORS or unknown.get(pair, 0) > MOST_UNKNOWN * errors:
            continue
        one, other = pair
        wrong = {member: [row[place] for row in both] for place, member in enumerate(pair)}
        found.setdefault(one, {})[other] = error_agreement(wrong)[pair]
    return found
