"""Judged runs of a panel whose members are known to be good and poor."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from app.orchestration.evidence.ballots import Ballot
from app.orchestration.evidence.extraction import Choices
from app.orchestration.evidence.vote import decide
from app.orchestration.evidence.weights import uniform
from app.orchestration.learning.hashing import TermHash
from app.orchestration.learning.judging import RUN, Judgement
from app.orchestration.learning.taught import Noted, Said, Taught
from app.orchestration.learning.training import Row

LABELS = ("A", "B", "C", "D")
SKILLS = {"able": 0.92, "poor": 0.45, "weak": 0.45}
"""By member: how often it is right. The two poor ones are often wrong alike."""
HASHED = TermHash(b"a key of the tests")


def judged_rows(count: int, *, seed: int = 1, skills: Mapping[str, float] = SKILLS, start: int = 0) -> list[Row]:
    """Votes over four labels, each judged by its right answer. Prompts that speak of rivers are the poor ones' field."""
    random = Random(seed)
    return [_row(random, number + start, skills) for number in range(count)]


def _row(random: Random, number: int, skills: Mapping[str, float]) -> Row:
    right = random.choice(LABELS)
    slip = random.choice([label for label in LABELS if label != right])
    rivers = random.random() < 0.5
    said: list[Said] = []
    for place, (member, skill) in enumerate(skills.items(), 1):
        skill = skill if member == "able" else min(0.95, skill + (0.3 if rivers else -0.3))
        other = slip if member != "able" else random.choice(LABELS)
        said.append(Said(f"c{place}", member, right if random.random() < skill else other))
    decision = decide([Ballot(one.member, one.label) for one in said], uniform(list(skills)))
    taught = Taught(tuple(said), len(skills), decision.winner, decision.probability, Choices(LABELS))
    text = "how long is this river" if rivers else "who wrote this sonata"
    noted = Noted(
        f"run_{number:024x}",
        1_000.0 + number,
        "consensus",
        None,
        "maths" if number % 2 else None,
        taught,
        "c1",
        decision.probability,
        dict.fromkeys(skills, (0.5, 0.001)),
        HASHED.counts(text),
    )
    return Row(noted, {RUN: Judgement(2_000.0 + number, label=right)})
