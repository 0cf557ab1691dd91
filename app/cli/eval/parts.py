"""Which questions are learned from and which are reported, by a seed. Pure.

A question's part depends on the seed and its id alone, whatever else is in the set: so it stays in its part when the set grows,
is asked in pieces, or is split once more in another run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from app.cli.eval.questions import Question

Part = Literal["all", "train", "report"]


@dataclass(frozen=True, slots=True)
class Split:
    """A seeded split: the `share` of questions to learn from (0: none), the others to report on."""

    share: float = 0.0
    seed: int = 0

    def trains(self, question_id: str) -> bool:
        """Whether the question is one to learn from."""
        return _draw("part", self.seed, question_id) < self.share


def chosen(questions: Sequence[Question], split: Split, part: Part, limit: int | None) -> tuple[Question, ...]:
    """The questions of `part`, in their order; at most `limit` of them, drawn by the split's seed."""
    of_part = [one for one in questions if part == "all" or split.trains(one.id) == (part == "train")]
    if limit is None or limit >= len(of_part):
        return tuple(of_part)
    kept = set(_drawn((one.id for one in of_part), split.seed, limit))
    return tuple(one for one in of_part if one.id in kept)


def _drawn(ids: Iterable[str], seed: int, count: int) -> list[str]:
    return sorted(ids, key=lambda one: _draw("limit", seed, one))[:count]


def _draw(purpose: str, seed: int, question_id: str) -> float:
    """A number in [0, 1) that depends on these alone."""
    digest = blake2b(f"{purpose}\x1f{seed}\x1f{question_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
