"""Who pays for a call that several wait for: one of them, and all of it. Where he leaves, one who stays takes it over."""

from __future__ import annotations

from app.core.budgets import NOTHING, Amount, Draw, Purse
from app.core.chat import CallContext, ChatRequest
from app.core.errors import BudgetExceeded
from app.core.models import ModelProfile
from app.core.usage import NO_USAGE, Usage


class Bill:
    """The purse of a shared call: what is drawn from it is drawn from the purse of `payer`, who may have none."""

    def __init__(self, payer: CallContext) -> None:
        self.payer = payer
        self._asked: _Asked | None = None

    @property
    def spent(self) -> Amount:
        return self.payer.purse.spent if self.payer.purse else NOTHING

    @property
    def ends_run(self) -> bool:
        return self.payer.purse is None or self.payer.purse.ends_run

    @property
    def open(self) -> bool:
        """Whether it is not settled yet: the call has not been made, or is under way."""
        return self._asked is None or not self._asked.over

    def draw(self, request: ChatRequest, profile: ModelProfile) -> Draw:
        asked = _Asked(request, profile)
        asked.draw_on(self.payer.purse)
        self._asked = asked
        return asked

    async def draw_unplanned(self, request: ChatRequest, profile: ModelProfile) -> Draw | None:
        """A further call stays with who paid when it was made."""
        purse = self.payer.purse
        return _Unbounded() if purse is None else await purse.draw_unplanned(request, profile)

    def pass_to(self, asker: CallContext) -> bool:
        """Let `asker` pay in place of who did. False where his purse does not hold it: then nothing has changed."""
        if self._asked is not None:
            try:
                self._asked.draw_on(asker.purse)
            except BudgetExceeded:
                return False
        self.payer = asker
        return True


class _Asked:
    """The one call that is paid for, set aside in one purse after the other until it is over."""

    def __init__(self, request: ChatRequest, profile: ModelProfile) -> None:
        self.over = False
        self._request, self._profile = request, profile
        self._draw: Draw | None = None

    def draw_on(self, purse: Purse | None) -> None:
        """Set it aside in `purse`, and give back what was set aside in the one before.

        Raises:
            BudgetExceeded: `purse` has not enough left.
        """
        draw = None if purse is None else purse.draw(self._request, self._profile)
        if self._draw is not None:
            self._draw.book(NO_USAGE, None)
        self._draw = draw

    def book(self, usage: Usage, cost_usd: float | None) -> None:
        self.over = True
        if self._draw is not None:
            self._draw.book(usage, cost_usd)


class _Unbounded:
    """Of who has no purse nothing is counted."""

    def book(self, usage: Usage, cost_usd: float | None) -> None: ...
