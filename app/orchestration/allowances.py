"""Which limits a run is under: its tenant's and its key's, from the configuration in force."""

from __future__ import annotations

from app.config.spec import Allowance, QuorumSpec
from app.core.budgets import Limit, LimitKind, nano_usd

_ORDER: tuple[LimitKind, ...] = (
    "usd_per_day",
    "tokens_per_day",
    "requests_per_minute",
    "tokens_per_minute",
    "concurrent_runs",
)
"""The first limit in this order that stands against a run is the one it is told of."""


class Allowances:
    """The limits of tenants and keys, by one configuration."""

    def __init__(self, spec: QuorumSpec) -> None:
        self._tenants = {name: _limits("tenant", allowance) for name, allowance in spec.tenants.items()}
        self._keys = {f"config:{key.name}": _limits(f"key:config:{key.name}", key) for key in spec.keys}
        self._stored = spec.stored_keys
        self._none = not (self._stored or any(self._tenants.values()) or any(self._keys.values()))

    def of(self, tenant: str, key_id: str, key_name: str) -> tuple[Limit, ...]:
        """The limits of who asks, in the order in which they are told of."""
        if self._none:
            return ()
        limits = self._tenants.get(tenant, ()) + self._of_key(key_id, key_name)
        return tuple(sorted(limits, key=lambda limit: _ORDER.index(limit.kind)))

    def _of_key(self, key_id: str, key_name: str) -> tuple[Limit, ...]:
        configured = self._keys.get(key_id)
        if configured is not None:
            return configured
        allowance = self._stored.get(key_id) or (self._stored.get(key_name) if key_id.startswith("key_") else None)
        return () if allowance is None else _limits(f"key:{key_id}", allowance)


def _limits(scope: str, allowance: Allowance) -> tuple[Limit, ...]:
    budget = allowance.budget
    sizes: dict[LimitKind, int | None] = {
        "usd_per_day": None if budget.usd_per_day is None else nano_usd(budget.usd_per_day),
        "tokens_per_day": budget.tokens_per_day,
        "requests_per_minute": allowance.requests_per_minute,
        "tokens_per_minute": allowance.tokens_per_minute,
        "concurrent_runs": allowance.concurrent_runs,
    }
    return tuple(Limit(kind, scope, size) for kind, size in sizes.items() if size is not None)
