"""What candidates have said that still speak, for who asks for a run in the middle of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from app.core.run_events import CandidateDelta, CandidateFailed, CandidateFinished, RunEvent
from app.core.runs import OrchestrationOutput

_SHOWN: Final = ("text", "reasoning", "refusal")


class Speaking:
    """By candidate and by kind, the pieces of their first choices."""

    def __init__(self) -> None:
        self._pieces: dict[str, dict[str, list[str]]] = {}

    def take(self, event: RunEvent) -> None:
        if isinstance(event, CandidateDelta):
            if event.choice == 0:
                self._pieces.setdefault(event.candidate_id, {}).setdefault(event.kind, []).append(event.text)
        elif isinstance(event, (CandidateFinished, CandidateFailed)):
            self._pieces.pop(event.candidate.id, None)

    def shown_in(self, result: OrchestrationOutput) -> OrchestrationOutput:
        """`result`, whose candidates that still speak hold what they have said."""
        if not self._pieces:
            return result
        candidates = tuple(
            replace(
                candidate,
                **{kind: "".join(pieces) for kind, pieces in self._pieces.get(candidate.id, {}).items() if kind in _SHOWN},
            )
            for candidate in result.candidates
        )
        return replace(result, candidates=candidates)
