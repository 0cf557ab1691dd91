"""What one run may use, drawn call by call: the part of a budget that needs no store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.core.budgets import NOTHING, Amount, Draw, Reservation, nano_usd
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


Reserve = Callable[[Amount], Awaitable[Reservation | None]]
"""Reserves an amount for one call, or gives None where there is not so much."""


NO_BOUNDS = Bounds()


class RunPurse:
    """Counts what a run uses and stops its calls where the bounds are reached.

    Parameters:
        bounds: what it may use.
        strict: each call must fit into what is left, at its worst. Else the whole plan was reserved at its worst before, and
            calls stop only when what was really used is over the bounds.
        ends_run: whether a call that may not be made ends the run, or only fails.
        known_tokens: the bound of the caller's own messages; what a prompt has beyond them was written by models or by us.
        own: the run's own budget, which calls that were reserved for by themselves count against too.
        reserve: how to reserve for a call that no plan holds; without it, such a call draws on `bounds`.
    """

    def __init__(
        self,
        bounds: Bounds,
        *,
        strict: bool,
        ends_run: bool,
        known_tokens: int,
        own: Bounds = NO_BOUNDS,
        reserve: Reserve | None = None,
    ) -> None:
        self.bounds = bounds
        self._own = own
        self._reserve = reserve
        self._apart = NOTHING
        self.ends_run = ends_run
        self.spent = NOTHING
        self._strict = strict
        self._known = known_tokens
        self._set_aside = NOTHING

    def tighten(self) -> None:
        """The plan has been gone, and failed: each call from now on must fit into what is left of it, at its worst."""
        self._strict = True

    def draw(self, request: ChatRequest, profile: ModelProfile) -> PurseDraw:
        """Set aside what a planned call may use at most.

        Raises:
            BudgetExceeded: there is not enough left, or too much was used already.
        """
        bound = self._bound(request, profile)
        used = self.spent + self._set_aside + bound if self._strict else self.spent
        lack = self.bounds.lacks(used) or self._own.lacks(used + self._apart)
        if lack is not None:
            what = "the call would take the run to" if self._strict else "the run has used"
            raise BudgetExceeded(f"{profile.name!r} is not asked: {what} {lack}, its budget")
        self._set_aside += bound
        return PurseDraw(self, bound)

    async def draw_unplanned(self, request: ChatRequest, profile: ModelProfile) -> Draw | None:
        """Set aside what a call may use at most that no plan holds; None where there is not enough."""
        reservation = await self.reserve(self._bound(request, profile))
        return None if reservation is None else ReservedDraw(reservation)

    async def reserve(self, amount: Amount) -> Reservation | None:
        """Set aside an amount that no plan holds; None where there is not so much."""
        used = self.spent + self._set_aside + amount
        if self._own.lacks(used + self._apart) is not None:
            return None
        if self._reserve is None:
            if self.bounds.lacks(used) is not None:
                return None
            self._set_aside += amount
            return _Within(self, amount)
        self._apart += amount  # before anybody else may ask
        reservation: Reservation | None = None
        try:
            reservation = await self._reserve(amount)
        finally:
            if reservation is None:
                self._apart -= amount
        return None if reservation is None else _Apart(self, amount, reservation)

    def book_apart(self, bound: Amount, used: Amount) -> None:
        """A call that `bound` was reserved for by itself has used this much."""
        self._apart += used - bound

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
            self._purse.book(self._bound, booked(usage, cost_usd))


class ReservedDraw:
    """What one call may use that no plan holds, reserved until it is over."""

    __slots__ = ("_reservation",)

    def __init__(self, reservation: Reservation) -> None:
        self._reservation: Reservation | None = reservation

    def book(self, usage: Usage, cost_usd: float | None) -> None:
        """The call is over and used this much; said twice it counts once."""
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.settle_later(booked(usage, cost_usd))


@dataclass(frozen=True, slots=True)
class _Within:
    """An amount of what a run was admitted with."""

    purse: RunPurse
    amount: Amount

    def settle_later(self, used: Amount) -> None:
        self.purse.book(self.amount, used)


@dataclass(frozen=True, slots=True)
class _Apart:
    """An amount that was reserved beside what a run was admitted with."""

    purse: RunPurse
    amount: Amount
    reservation: Reservation

    def settle_later(self, used: Amount) -> None:
        self.purse.book_apart(self.amount, used)
        self.reservation.settle_later(used)


def booked(usage: Usage, cost_usd: float | None) -> Amount:
    """What a call has used, as budgets count."""
    return Amount(usage.total_tokens, nano_usd(cost_usd or 0.0))
