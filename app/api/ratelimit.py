"""`RateLimit-Policy` and `RateLimit`: how the caller's limits stand (IETF draft-ietf-httpapi-ratelimit-headers-10).

Dollars are shown as the draft wants whole numbers: in millionths, under the quota unit `microdollar`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from app.core.budgets import DAILY, NANO, PER_MINUTE, Quota

_WINDOWS_S = dict.fromkeys(PER_MINUTE, 60) | dict.fromkeys(DAILY, 86_400)
_UNITS = {
    "usd_per_day": "microdollar",
    "tokens_per_day": "token",
    "tokens_per_minute": "token",
    "concurrent_runs": "concurrent-requests",
}


def ratelimit_headers(quotas: Sequence[Quota]) -> dict[str, str]:
    """The two headers; empty where no limit applies."""
    if not quotas:
        return {}
    return {
        "ratelimit-policy": ", ".join(_policy(quota) for quota in quotas),
        "ratelimit": ", ".join(_standing(quota) for quota in quotas),
    }


def _policy(quota: Quota) -> str:
    limit = quota.limit
    window, unit = _WINDOWS_S.get(limit.kind), _UNITS.get(limit.kind)
    return (
        f'"{limit.name}";q={_shown(quota, limit.size)}' + (f";w={window}" if window else "") + (f';qu="{unit}"' if unit else "")
    )


def _standing(quota: Quota) -> str:
    reset = "" if quota.resets_s is None else f";t={math.ceil(quota.resets_s)}"
    return f'"{quota.limit.name}";r={_shown(quota, quota.remaining)}{reset}'


def _shown(quota: Quota, value: int) -> int:
    return value * 1_000_000 // NANO if quota.limit.kind == "usd_per_day" else value
