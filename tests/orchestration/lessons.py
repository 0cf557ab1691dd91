"""What was learned, as a test says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.core.models import ModelProfile
from app.orchestration.evidence.confidence import Calibrators
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.lessons import Performance, Priors


def measured(
    *,
    calls: float = 100.0,
    success: float = 1.0,
    latency_ms: float | None = None,
    p95_ms: float | None = None,
    cost_usd: float | None = None,
    quality: float | None = None,
    judged: float = 0.0,
) -> Performance:
    return Performance(calls, success, latency_ms, p95_ms, None, cost_usd, quality, judged)


@dataclass
class Learned(Priors):
    """Priors, but for what is told here."""

    panel: PanelWeights | None = None
    calibrated: Calibrators | None = None
    performances: Mapping[str, Performance] = field(default_factory=dict[str, Performance])
    likely: Mapping[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        super().__init__()

    def weights(self, members: Sequence[ModelProfile]) -> PanelWeights:
        return super().weights(members) if self.panel is None else self.panel

    def calibrators(self) -> Calibrators:
        return super().calibrators() if self.calibrated is None else self.calibrated

    def performance(self, profile: ModelProfile, category: str | None = None) -> Performance | None:
        return self.performances.get(profile.name)

    def success(self, text: str, tags: Sequence[str] = ()) -> Mapping[str, float]:
        return self.likely
