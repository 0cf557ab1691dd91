"""The answers of a panel as they come, and whether more of them are wanted."""

from __future__ import annotations

from app.orchestration.answers import fault
from app.orchestration.calls import Member
from app.orchestration.consensus.acting import read_of
from app.orchestration.consensus.aggregator import Aggregator, Heard, counted
from app.orchestration.consensus.counting import Counting
from app.orchestration.consensus.options import ConsensusOptions
from app.orchestration.evidence.extraction import Extracted, extract
from app.orchestration.panel import Panel


class Hearing:
    """`heard` has the answers and the failures in the order in which they came, `counting` counts them, and `early` says that
    they were enough before everybody had ended."""

    def __init__(self, panel: Panel, aggregator: Aggregator, options: ConsensusOptions) -> None:
        self.heard: list[Heard] = []
        self.counting = Counting()
        self.early = False
        self._panel, self._aggregator, self._options = panel, aggregator, options
        self._acts = False

    def begin(self) -> None:
        """Have the first of the panel asked."""
        self._panel.start(self._aggregator.wanted(self.heard, [call.profile_name for call in self._panel.calls]))

    async def take(self, ended: Member) -> None:
        one = _heard(ended, self._options)
        self.heard.append(one)
        self._acts = self._acts or ended.wants is not None
        self.counting.grown(one)
        await self.counting.of(self._aggregator.take_in, one)

    async def enough(self) -> bool:
        """Whether nobody else need be heard. Where somebody must be, he is asked."""
        panel, wanted = self._panel, self._aggregator.wanted
        left = counted(call.profile_name for call in panel.unheard)
        settled = not self._acts or not panel.unheard  # who acts is decided by all
        if settled and self.suffices and await self.counting.of(self._aggregator.enough, self.heard, left):
            self.early = bool(panel.unheard)
            return True
        if self._acts:
            panel.start(len(panel.waiting))
        elif not panel.running or self._options.stop == "never":
            waiting = [call.profile_name for call in panel.waiting]
            panel.start(await self.counting.of(wanted, self.heard, waiting))
        return False

    @property
    def suffices(self) -> bool:
        """Whether as many models have answered as must."""
        return len({one.member for one in self.heard if one.call.response is not None}) >= self._options.min_responses

    def in_order(self) -> None:
        """Put what was heard in the order of the panel, so that ties do not go by who was quick."""
        calls = self._panel.calls
        self.heard.sort(key=lambda one: calls.index(one.call))


def _heard(call: Member, options: ConsensusOptions) -> Heard:
    if call.wants is not None:
        return Heard(call, read_of(call))
    reason = fault(call.response, call.error)
    if reason:
        return Heard(call, Extracted(errors=(reason,)))
    return Heard(call, extract(call.choice.text, options.kind, stated=options.stated_confidence))
