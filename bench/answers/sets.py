"""The sets of recorded answers, and the configuration that each is measured with.

Nothing of it is fitted by hand: no model has a `quality`, and priors and learning are as they are without configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

PANEL, MAJORITY, DECIDED, CONFIDENT, CASCADE = "consensus", "majority", "decided", "confident", "cascade"
LEVELS = (0.5, 0.525, 0.55, 0.575, 0.6, 0.625, 0.65, 0.7, 0.8, 0.9)
"""Of `quality_threshold`, among which the waiting is chosen on the part set aside."""
MOST_SECONDS = 5.4
"""On the part set aside, so that other questions take no more than the 5.7 s of the first two that agree."""
MOST_REACHED = (0.12, 0.14, 0.16)
"""The share of the questions set aside that may reach the strong model of a cascade: the first that any two models keep to."""
NUMBER: Mapping[str, Any] = {"type": "number"}


@dataclass(frozen=True, slots=True)
class AnswerSet:
    """A set: how its answers are read, and what is measured on it beside the panel.

    Parameters:
        scale: of recorded latencies; 0 where there are none, or where they do not matter.
        cheap, strong: the models among which a cascade is chosen; none without them.
        waits: whether `parallel` is measured.
        least_lift: on the best single member, in points, that is wanted.
    """

    name: str
    title: str
    extract: Mapping[str, Any]
    least_lift: float
    scale: float = 0.0
    cheap: tuple[str, ...] = ()
    strong: str | None = None
    waits: bool = False

    @property
    def concurrency(self) -> int:
        return 48 if self.scale else 16


SETS = {
    one.name: one
    for one in (
        AnswerSet("gsm8k_openai2021", "GSM8K, 4 models of 2021", NUMBER, -0.2),
        AnswerSet(
            "gsm8k_zeroeval2024",
            "GSM8K, 11 models of 2024",
            NUMBER,
            -0.2,
            cheap=(
                "gpt-4o-mini-2024-07-18",
                "gemini-1.5-flash",
                "claude-3-haiku-20240307",
                "Meta-Llama-3.1-8B-Instruct",
                "gpt-3.5-turbo-0125",
                "Mixtral-8x7B-Instruct-v0.1",
                "command-r",
                "gemma-2-2b-it",
            ),
            strong="claude-3-5-sonnet-20241022",
        ),
        AnswerSet("mmlu_pro_categorical", "MMLU-Pro, 11 models", {"type": "choice", "choices": list("ABCDEFGHIJ")}, 0.5),
        AnswerSet(
            "llmdrift_prime_yesno",
            "primes, 4 models",
            {"type": "choice", "choices": ["yes", "no"]},
            -0.2,
            scale=0.05,
            waits=True,
        ),
        AnswerSet("llmdrift_happy_numbers", "happy numbers, 4 models", NUMBER, 0.5, scale=0.02),
    )
}


def models_of(file: Path) -> tuple[str, ...]:
    """The models whose answers a recording holds."""
    with file.open("rb") as lines:
        return tuple(orjson.loads(next(lines))["answers"])


def waiting(level: float) -> str:
    """The name of the recipe that waits until an answer is so likely right."""
    return f"wait-{level:g}"


def configuration(one: AnswerSet, file: Path, cheap: Sequence[str] = ()) -> dict[str, Any]:
    """What `quorum.yaml` says. With the `cheap` models that were chosen, a cascade too."""
    models = models_of(file)
    latency: dict[str, Any] = {"scale": one.scale} if one.scale else {"latency": "none"}

    def panel(**options: Any) -> dict[str, Any]:
        return {"strategy": "consensus", "models": list(models), "options": {"extract": dict(one.extract), **options}}

    recipes: dict[str, Any] = {
        PANEL: panel(),
        MAJORITY: panel(weights="uniform"),
        DECIDED: panel(stop="decided"),
        CONFIDENT: panel(stop="confident"),
    }
    if one.waits:
        for level in LEVELS:
            options = {"quality_threshold": level}
            recipes[waiting(level)] = {"strategy": "parallel", "models": list(models), "options": options}
    if cheap:
        first, second = cheap
        agree = {"model": second, "extract": dict(one.extract)}
        links = [{"model": first, "check": {"agree": agree}}, {"model": one.strong}]
        recipes[CASCADE] = {"strategy": "fallback", "options": {"chain": links}}
    return {
        "providers": {"recorded": {"kind": "replay", "options": {"file": str(file.resolve()), **latency}}},
        "models": {name: {"provider": "recorded", "model": name} for name in models},
        "recipes": recipes,
    }
