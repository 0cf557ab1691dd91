"""The rules of limits without a store: what the Lua scripts decide, on local counters, in the same whole numbers.

While Redis is away these counters stand in for it, for limits that may be approximate; tests hold the scripts to them.

Limits a minute are leaky buckets (GCRA): what is taken drains evenly over a minute, so a caller may use the whole limit at once
and then its rate, and no minute's edge lets it through twice. A day is a day of UTC.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from app.core.budgets import DAILY, NOTHING, PER_MINUTE, Amount, Claim, Limit, Quota, Verdict

MINUTE_US = 60_000_000
DAY_S = 86_400
MOST_OVER = 10_000
"""Runs that are known to be over. Only what was settled a moment ago may still be asked for."""
ASK_AGAIN_S = 1.0
"""When a run that ends may have made room: nobody knows, so soon."""


@dataclass(slots=True)
class _Use:
    """Of a day: `day`, `used`. Of a minute: `level` (units times 60e6) at `at_us`. Of runs at once: `leases`, their ends."""

    day: int = -1
    used: int = 0
    level: int = 0
    at_us: int = 0
    leases: dict[str, int] = field(default_factory=dict[str, int])

    def drained(self, size: int, now_us: int) -> int:
        gone = min(MINUTE_US, max(0, now_us - self.at_us))
        return max(0, self.level - gone * size)


@dataclass(frozen=True, slots=True)
class _Held:
    amount: Amount
    day: int
    at_us: int


class Counters:
    """What is used of limits, by tenant. Times are microseconds since the epoch.

    Parameters:
        lease_s: after which a run that is not renewed no longer counts as running.
    """

    def __init__(self, *, lease_s: float) -> None:
        self._lease_us = round(lease_s * 1_000_000)
        self._uses: dict[tuple[str, str, str], _Use] = {}
        self._held: dict[tuple[str, str], _Held] = {}
        self._over: OrderedDict[tuple[str, str], None] = OrderedDict()

    def admit(self, claim: Claim, now_us: int, *, dry: bool = False) -> Verdict | None:
        """Reserve what `claim` asks for, all or nothing. None where the run is over already."""
        run = (claim.tenant, claim.operation)
        if run in self._over:
            return None
        held = self._held.get(run)
        if held is not None:
            return Verdict(held.amount, self._quotas(claim, now_us))
        granted = self._granted(claim, now_us)
        for limit in claim.limits:
            need = limit.needs(granted)
            if need > self._free(claim.tenant, limit, now_us):
                return Verdict(NOTHING, self._quotas(claim, now_us), limit, self._wait_s(claim.tenant, limit, need, now_us))
        if dry:
            return Verdict(granted, self._quotas(claim, now_us))
        for limit in claim.limits:
            self._take(claim, limit, limit.needs(granted), now_us)
        self._held[run] = _Held(granted, _day(now_us), now_us)
        return Verdict(granted, self._quotas(claim, now_us))

    def settle(self, claim: Claim, used: Amount, now_us: int) -> bool:
        """Book what the run used and give the rest back. False where that was done before, or nothing had been reserved."""
        run = (claim.tenant, claim.operation)
        held = self._held.pop(run, None)
        self._over[run] = None
        if len(self._over) > MOST_OVER:
            self._over.popitem(last=False)
        if held is None:
            return False
        for limit in claim.limits:
            use, more = self._use(claim.tenant, limit), limit.needs(used) - limit.needs(held.amount)
            if limit.kind in DAILY and use.day == held.day:
                use.used = max(0, use.used + more)
            elif limit.kind == "tokens_per_minute":
                change = more * MINUTE_US
                if change < 0:  # what has drained since is not given back: others may have had it
                    change = min(0, change + max(0, now_us - held.at_us) * limit.size)
                use.level, use.at_us = max(0, use.drained(limit.size, now_us) + change), now_us
            elif limit.kind == "concurrent_runs":
                use.leases.pop(claim.operation, None)
        return True

    def renew(self, claim: Claim, now_us: int) -> bool:
        """Keep the run counted as running. False where it is over."""
        if (claim.tenant, claim.operation) not in self._held:
            return False
        for limit in claim.limits:
            if limit.kind == "concurrent_runs":
                self._use(claim.tenant, limit).leases[claim.operation] = now_us + self._lease_us
        return True

    def _use(self, tenant: str, limit: Limit) -> _Use:
        return self._uses.setdefault((tenant, limit.scope, limit.kind), _Use())

    def _granted(self, claim: Claim, now_us: int) -> Amount:
        if claim.least is None:
            return claim.ask
        tokens, nano_usd = claim.ask.tokens, claim.ask.nano_usd
        for limit in claim.limits:
            free = self._free(claim.tenant, limit, now_us)
            if limit.kind == "usd_per_day":
                nano_usd = max(claim.least.nano_usd, min(nano_usd, free))
            elif limit.kind in ("tokens_per_day", "tokens_per_minute"):
                tokens = max(claim.least.tokens, min(tokens, free))
        return Amount(tokens, nano_usd)

    def _free(self, tenant: str, limit: Limit, now_us: int) -> int:
        use = self._use(tenant, limit)
        if limit.kind in DAILY:
            return limit.size - (use.used if use.day == _day(now_us) else 0)
        if limit.kind in PER_MINUTE:
            return (limit.size * MINUTE_US - use.drained(limit.size, now_us)) // MINUTE_US
        return limit.size - sum(end > now_us for end in use.leases.values())

    def _resets_s(self, tenant: str, limit: Limit, now_us: int) -> float | None:
        if limit.kind in DAILY:
            return float(DAY_S - now_us // 1_000_000 % DAY_S)
        if limit.kind in PER_MINUTE:
            return self._use(tenant, limit).drained(limit.size, now_us) / limit.size / 1_000_000
        return None

    def _wait_s(self, tenant: str, limit: Limit, need: int, now_us: int) -> float | None:
        if need > limit.size:
            return None
        if limit.kind in PER_MINUTE:
            over = self._use(tenant, limit).drained(limit.size, now_us) + need * MINUTE_US - limit.size * MINUTE_US
            return over / limit.size / 1_000_000
        resets_s = self._resets_s(tenant, limit, now_us)
        return ASK_AGAIN_S if resets_s is None else resets_s

    def _take(self, claim: Claim, limit: Limit, need: int, now_us: int) -> None:
        use = self._use(claim.tenant, limit)
        if limit.kind in DAILY:
            today = _day(now_us)
            use.used, use.day = (use.used if use.day == today else 0) + need, today
        elif limit.kind in PER_MINUTE:
            use.level, use.at_us = use.drained(limit.size, now_us) + need * MINUTE_US, now_us
        else:
            use.leases = {operation: end for operation, end in use.leases.items() if end > now_us}
            use.leases[claim.operation] = now_us + self._lease_us

    def _quotas(self, claim: Claim, now_us: int) -> tuple[Quota, ...]:
        return tuple(
            Quota(limit, max(0, self._free(claim.tenant, limit, now_us)), self._resets_s(claim.tenant, limit, now_us))
            for limit in claim.limits
        )


def _day(now_us: int) -> int:
    return now_us // 1_000_000 // DAY_S
