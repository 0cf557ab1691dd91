"""What was learned of models and tasks, as strategies ask for it; and the priors that hold before anything was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from app.core.models import ModelProfile
from app.orchestration.evidence.confidence import Calibrators
from app.orchestration.evidence.weights import PanelWeights, prior_weights


class Lessons(Protocol):
    """What was learned, in force now."""

    def weights(self, members: Sequence[ModelProfile]) -> PanelWeights:
        """What each member's word weighs in a panel of these."""
        ...

    def calibrators(self) -> Calibrators:
        """What makes a probability of how far a panel agrees."""
        ...


class Priors:
    """Before anything was learned: each model's `quality` from the configuration, and its family."""

    def weights(self, members: Sequence[ModelProfile]) -> PanelWeights:
        return prior_weights(
            [member.name for member in members],
            reliability={member.name: member.quality for member in members if member.quality is not None},
            families={member.name: member.family or member.name for member in members},
        )

    def calibrators(self) -> Calibrators:
        return Calibrators()
