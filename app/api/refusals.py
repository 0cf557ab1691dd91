"""Keys that ask for what they may not do, as the audit trail has it: seldom, so that asking again and again fills no chain.

Of callers without a valid key nothing is recorded: nobody knows whose chain it would be, and anybody could fill it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from fastapi import Request

from app.api.acts import act_of
from app.core.audit import Recorder
from app.core.principal import Principal

EVERY_S: Final = 60.0
"""Of a key at a route one refusal is recorded in so many seconds, by each process."""
MOST_KEPT: Final = 1_000
"""Keys at routes that are remembered; beyond them the one that was refused longest ago is forgotten."""


class Refusals:
    """What this process refused lately, so that the same is not recorded each time."""

    def __init__(self) -> None:
        self._lately: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def note(self, recorder: Recorder, request: Request, who: Principal, wanted: str) -> None:
        """Record that `who` lacks the scope `wanted` for the route of `request`, if that was not done just now."""
        route = f"{request.method} {getattr(request.scope.get('route'), 'path', 'other')}"
        left_out = self.passed(who.key_id, route, time.monotonic())
        if left_out is not None:
            act = act_of(request, who, "route.permission", "route", route)
            recorder.note(act, "denied", {"scope": wanted, "left_out": left_out})

    def passed(self, key_id: str, route: str, now: float) -> int | None:
        """How many were left out since one of this key at this route was recorded; None where this one is left out."""
        what = (key_id, route)
        since, left_out = self._lately.pop(what, (now - EVERY_S, 0))
        if now - since < EVERY_S:
            self._lately[what] = since, left_out + 1
            return None
        self._lately[what] = now, 0
        while len(self._lately) > MOST_KEPT:
            self._lately.popitem(last=False)
        return left_out
