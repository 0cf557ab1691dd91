"""What the calls of a run may take."""

from __future__ import annotations

from dataclasses import dataclass

from app.reliability.purse import RunPurse


@dataclass(slots=True, eq=False)
class Spending:
    """Where a budget applies, `purse` is what the calls draw on, `default_max_tokens` bounds those whose generation does not,
    and `needs_prices` says that dollars are counted, so that only models of known prices may be asked. `unplanned` says that no
    call is part of what the run was admitted with.
    """

    default_max_tokens: int | None = None
    needs_prices: bool = False
    purse: RunPurse | None = None
    unplanned: bool = False
