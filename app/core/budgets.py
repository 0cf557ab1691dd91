"""What may be used, what is asked for, and what is left: the words of budgets and limits.

Money is counted in whole nano-dollars (1e-9 $): the cheapest token of today costs about 10 of them, and sums stay exact.
Up to 2^53 of them, nine million dollars, are exact in Lua too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from app.core.chat import ChatRequest
    from app.core.models import ModelProfile
    from app.core.usage import Usage

NANO = 1_000_000_000
"""Nano-dollars in a dollar."""

LimitKind = Literal["usd_per_day", "tokens_per_day", "requests_per_minute", "tokens_per_minute", "concurrent_runs"]
DAILY: frozenset[LimitKind] = frozenset({"usd_per_day", "tokens_per_day"})
PER_MINUTE: frozenset[LimitKind] = frozenset({"requests_per_minute", "tokens_per_minute"})
AMOUNTS: frozenset[LimitKind] = frozenset({"usd_per_day", "tokens_per_day", "tokens_per_minute"})
"""Limits of what calls use, not of how many runs there are."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens of all kinds, and nano-dollars."""

    tokens: int = 0
    nano_usd: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.tokens + other.tokens, self.nano_usd + other.nano_usd)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.tokens - other.tokens, self.nano_usd - other.nano_usd)

    @property
    def usd(self) -> float:
        return self.nano_usd / NANO


NOTHING = Amount()


def nano_usd(dollars: float) -> int:
    """Whole nano-dollars, rounded up; what is off by less than a thousandth of one is a float's noise."""
    return math.ceil(round(dollars * NANO, 3))


@dataclass(frozen=True, slots=True)
class Limit:
    """The most of one kind that one scope may use. `scope` is `tenant` or `key:<id>`; dollars are in nano-dollars."""

    kind: LimitKind
    scope: str
    size: int

    @property
    def name(self) -> str:
        """Which limit this is, for people and headers, without the key's id."""
        return f"{self.scope.partition(':')[0]}.{self.kind}"

    def needs(self, ask: Amount) -> int:
        """What `ask` takes of it."""
        match self.kind:
            case "usd_per_day":
                return ask.nano_usd
            case "tokens_per_day" | "tokens_per_minute":
                return ask.tokens
            case "requests_per_minute" | "concurrent_runs":
                return 1


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that asks to be admitted.

    `operation` is its id: the same claim sent twice counts once. `ask` is the worst case of the whole plan; where `least` is
    given, as much of it as there is left will do, from `least` on.
    """

    operation: str
    tenant: str
    limits: tuple[Limit, ...]
    ask: Amount = NOTHING
    least: Amount | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """How a limit stands: what is left of it, and the seconds until it is whole again (None where no time makes it so)."""

    limit: Limit
    remaining: int
    resets_s: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a claim: `granted` is what it may use, `refused_by` the limit that stands against it.

    `retry_after_s` is None where waiting does not help: more is asked than the limit ever gives.
    """

    granted: Amount
    quotas: tuple[Quota, ...]
    refused_by: Limit | None = None
    retry_after_s: float | None = None


class Draw(Protocol):
    """What one call may use at most, set aside in a run's purse until the call is over."""

    def book(self, usage: Usage, cost_usd: float | None) -> None:
        """The call is over and used this much; said twice it counts once."""
        ...


class Reservation(Protocol):
    """What was set aside for one call."""

    def settle_later(self, used: Amount) -> None:
        """The call is over and used this much; the rest is given back."""
        ...


class Reserving(Protocol):
    """What a purse may be inside of."""

    async def reserve(self, amount: Amount) -> Reservation | None:
        """Set aside an amount that no plan holds; None where there is not so much."""
        ...


class Purse(Protocol):
    """What one run may use. A policy that makes more calls than it was asked for, as hedging does, draws for them unplanned."""

    @property
    def spent(self) -> Amount:
        """What the calls that are over have used."""
        ...

    @property
    def ends_run(self) -> bool:
        """Whether a call that may not be made ends the run, or only fails."""
        ...

    def draw(self, request: ChatRequest, profile: ModelProfile) -> Draw:
        """Set aside what a planned call may use at most.

        Raises:
            BudgetExceeded: there is not enough left.
        """
        ...

    async def draw_unplanned(self, request: ChatRequest, profile: ModelProfile) -> Draw | None:
        """Set aside what a call may use at most that no plan holds; None where there is not enough.

        Where the limits of the run's caller bound what calls use, it is reserved from them, apart from the run.
        """
        ...
