"""Who was asked in a run: so that every call is booked, also where the run is cut, and has a name of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import count

from app.core.run_events import RunEvent
from app.core.run_fold import RunFold
from app.core.runs import Output
from app.core.tools import Unheard
from app.orchestration.model_call import ModelCall


class CallBook:
    """The calls of a run and of its parts, in the order in which they were made, and the ids that are taken.

    `tool_call_ids` are those of calls of tools.
    """

    __slots__ = ("_calls", "_numbers", "_taken", "tool_call_ids")

    def __init__(self) -> None:
        self._calls: list[Unheard] = []
        self._numbers = count(1)
        self._taken: set[str] = set()
        self.tool_call_ids: set[str] = set()

    def next_id(self) -> str:
        """A name for a candidate."""
        return next(name for number in self._numbers if (name := f"c{number}") not in self._taken)

    def reserve(self, ids: Collection[str]) -> None:
        """Those of candidates that were there before the run was taken over, or paused."""
        self._taken.update(ids)

    def add(self, call: Unheard) -> None:
        self._calls.append(call)

    def unheard(self, fold: RunFold) -> Iterator[RunEvent]:
        """The ends of calls that `fold` has not heard of, once nothing of the run is under way any more.

        Who is cut in the middle cannot tell of it, and what he used is to be in the result all the same.
        """
        for call in self._calls:
            yield from call.unheard(fold)

    def speaker_of(self, output: Output) -> ModelCall | None:
        """The call whose answer `output` is; None where it is nobody's own."""
        for call in reversed(self._calls):
            if isinstance(call, ModelCall) and call.response is not None and call.profile_name == output.source_model:
                choice = call.choice
                if (choice.text, choice.tool_calls) == (output.text, output.tool_calls):
                    return call
        return None
