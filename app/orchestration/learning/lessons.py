"""What was learned of models and tasks, as strategies ask for it; and the priors that hold before anything was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.core.models import ModelProfile
from app.orchestration.evidence.confidence import Calibrators
from app.orchestration.evidence.weights import FAMILY_CORRELATION, PRIOR_RELIABILITY, PanelWeights, prior_weights


@dataclass(frozen=True, slots=True)
class Performance:
    """How a model has been doing of late, over all replicas; what is older counts less.

    `calls` is how many calls this rests on, each at what it still counts. `success` is the share of them that was answered,
    0 to 1. Times are in milliseconds, of answers that were not from the cache; `cost_usd` is the mean of an answer. `quality`
    is the share of judged answers that was right, 0 to 1, and `judged` how many those are. What is None is not known.
    """

    calls: float
    success: float
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    ttft_p50_ms: float | None = None
    cost_usd: float | None = None
    quality: float | None = None
    judged: float = 0.0


class Lessons(Protocol):
    """What was learned, in force now. Asking is quick: everything is in memory."""

    def weights(self, members: Sequence[ModelProfile]) -> PanelWeights:
        """What each member's word weighs in a panel of these."""
        ...

    def calibrators(self) -> Calibrators:
        """What makes a probability of how far a panel agrees."""
        ...

    def prior(self, profile: ModelProfile) -> float:
        """How often a model is taken to be right before any answer of it was judged, 0 to 1."""
        ...

    def performance(self, profile: ModelProfile, category: str | None = None) -> Performance | None:
        """How a model has been doing at tasks of `category` (at all, where that is None or was not seen often enough yet).

        None where nothing was seen of it.
        """
        ...

    def success(self, text: str, tags: Sequence[str] = ()) -> Mapping[str, float]:
        """By model: the probability that it answers a prompt well. Empty before anything was learned.

        Parameters:
            text: the user's last words (`hashing.asked_text`).
            tags: the task's category, where it is known.
        """
        ...


class Priors:
    """Before anything was learned: each model's `quality` from the configuration, and its family.

    Parameters:
        quality: of a model whose own is not stated, 0 to 1.
        family_correlation: how alike the errors of models of one family are taken to be, 0 to 1.
    """

    def __init__(self, quality: float = PRIOR_RELIABILITY, family_correlation: float = FAMILY_CORRELATION) -> None:
        self._quality = quality
        self._correlation = family_correlation

    def weights(self, members: Sequence[ModelProfile]) -> PanelWeights:
        """By each one's quality, where any is stated. Where none is, each member has a vote: on recorded answers a discount for
        families then only took votes from the better ones (MMLU-Pro: 64.0 % right with it, 66.1 % without)."""
        stated = any(member.quality is not None for member in members)
        return prior_weights(
            [member.name for member in members],
            reliability={member.name: self.prior(member) for member in members},
            families={member.name: member.family or member.name for member in members},
            correlation=self._correlation if stated else 0.0,
        )

    def calibrators(self) -> Calibrators:
        return Calibrators()

    def prior(self, profile: ModelProfile) -> float:
        return self._quality if profile.quality is None else profile.quality

    def performance(self, profile: ModelProfile, category: str | None = None) -> Performance | None:
        return None

    def success(self, text: str, tags: Sequence[str] = ()) -> Mapping[str, float]:
        return {}
