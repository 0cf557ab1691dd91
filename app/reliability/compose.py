"""The order in which policies stand around a call, outermost first:

cache, coalesce, charge, hedge, repair, retry, breaker, bulkhead, pace, attempt, timeout, adapter.

Breaker, bulkhead and pace are one gate (`gate.py`), which `attempt` asks: a layer less for every event to go through.

What a run is charged with as a whole (idempotency, limits, reservation) is decided once by the engine, not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from app.core.models import Call, Policy


def compose(call: Call, policies: Sequence[Policy]) -> Call:
    """`call` inside `policies`, the first of them outermost."""
    return reduce(lambda inner, policy: policy(inner), reversed(policies), call)
