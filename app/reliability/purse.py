"""What one run may use, drawn call by call: the part of a budget that needs no store."""

from __future__ import annotations

from dataclasses import dataclass

from app.core.budgets import NOTHING, Amount, nano_usd
from app.core.chat import ChatRequest
from app.core.errors import BudgetExceeded
from app.core.models import ModelProfile
from app.core.usage import Usage
from app.reliability.forecast import QUOTED_GROWTH, input_bound, with_repair, worst_nano_usd


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most a run may use; None where nothing bounds it."""

    tokens: int | None = None
    nano_usd: int | None = None

    def lacks(self, used: Amount) -> str | None:
        """Which of the two `used` is over, in words."""
        if self.tokens is not None and used.tokens > self.tokens:
            return f"{used.tokens:,} tokens of {self.tokens:,}"
        if self.nano_usd is not None and used.nano_usd > self.nano_usd:
            return f"${used.usd:.6f} of ${Amount(0, self.nano_usd).usd:.6f}"
        return None


class RunPurse:
    """Counts what a run uses and stops its calls where the bounds are reached.

    Parameters:
        bounds: what it may use.
        strict: each call must fit into what is left, at its worst. Else the whole plan was reserved at its worst before, and
            calls stop only when what was really used is over the bounds.
        ends_run: whether a call that may not be made ends the run, or only fails.
        known_tokens: the bound of the caller's own messages; what a prompt has beyond them was written by models or by us.
    """

    def __init__(self, bounds: Bounds, *, strict: bool, ends_run: bool, known_tokens: int) -> None:
        self.bounds = bounds
        self.ends_run = ends_run
        self.spent = NOTHING
        self._strict = strict
        self._known = known_tokens
        self._set_aside = NOTHING

    def draw(self, request: ChatRequest, profile: ModelProfile, *, planned: bool = True) -> PurseDraw:
        """Set aside what a call may use at most. One that was not `planned` must fit into what is left.

        Raises:
            BudgetExceeded: there is not enough left, or too much was used already.
        """
        bound = self._bound(request, profile)
        fits = self._strict or not planned
        lack = self.bounds.lacks(self.spent + self._set_aside + bound if fits else self.spent)
        if lack is not None:
            what = "the call would take the run to" if fits else "the run has used"
            raise BudgetExceeded(f"{profile.name!r} is not asked: {what} {lack}, its budget")
        self._set_aside += bound
        return PurseDraw(self, bound)

    def book(self, bound: Amount, used: Amount) -> None:
        self._set_aside -= bound
        self.spent += used

    def _bound(self, request: ChatRequest, profile: ModelProfile) -> Amount:
        bound = input_bound(request.messages, request.tools)
        if bound > self._known:
            bound = self._known + -(-(bound - self._known) // QUOTED_GROWTH)
        if profile.context_window is not None:
            bound = min(bound, profile.context_window)
        written = request.generation.max_tokens or 0
        if profile.max_output_tokens is not None:
            written = min(written, profile.max_output_tokens)
        bound, written = with_repair(request.generation, bound, written * request.generation.n)
        return Amount(bound + written, worst_nano_usd(profile.price, bound, written) or 0)


class PurseDraw:
    """What one call may use, set aside until it is over."""

    __slots__ = ("_bound", "_open", "_purse")

    def __init__(self, purse: RunPurse, bound: Amount) -> None:
        self._purse = purse
        self._bound = bound
        self._open = True

    def book(self, usage: Usage, cost_usd: float | None) -> None:
        """The call is over and used this much; said twice it counts once."""
        if self._open:
            self._open = False
            self._purse.book(self._bound, Amount(usage.total_tokens, nano_usd(cost_usd or 0.0)))
