"""What had come of a run before: in another process, which it was taken over from, or here until it paused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.core.chat import Generation
from app.core.models import ModelProfile
from app.core.runs import Candidate, OrchestrationOutput
from app.core.tool_runs import ToolRun


@dataclass(slots=True, eq=False)
class Past:
    """What need not be done again.

    `taken` says that another process may have begun the run. `finished` are its candidates that had answered by then, or when
    it paused: who is asked the same again says the same. `returned` are the calls of tools that were over, by their ids.
    `before` is what had come of it when it was last paused; what it used until then is settled, and `settled_ids` are the
    candidates that are paid.
    """

    before: OrchestrationOutput | None = None
    taken: bool = False
    finished: list[Candidate] = field(default_factory=list[Candidate])
    returned: Mapping[str, ToolRun] = field(default_factory=dict[str, ToolRun])
    settled_ids: frozenset[str] = frozenset()

    def answered(self, profile: ModelProfile, replicate: int, layer: int, generation: Generation) -> Candidate | None:
        """Who has answered this already. An answer stands in for one call."""
        if generation.n > 1:  # a candidate holds the first choice
            return None
        for number, candidate in enumerate(self.finished):
            if (candidate.model, candidate.replicate, candidate.layer) == (profile.name, replicate, layer):
                if generation.logprobs and not candidate.tool_calls:  # it holds the answer without them
                    return None
                return self.finished.pop(number)
        return None
