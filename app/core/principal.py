"""Who asks: the owner of an API key, and what the key allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SCOPES: Final = frozenset({"run", "read", "feedback", "review", "tools", "admin"})
DEFAULT_TENANT: Final = "default"


@dataclass(frozen=True, slots=True)
class Principal:
    """`tenant` owns everything that is stored for the key; `key_id` names the key in logs and lists, and is no secret."""

    tenant: str
    key_id: str
    name: str
    scopes: frozenset[str]

    def allows(self, scope: str) -> bool:
        """Whether the key may do what `scope` stands for. `admin` stands for all of them."""
        return scope in self.scopes or "admin" in self.scopes

    def within(self, scopes: frozenset[str]) -> frozenset[str]:
        """What of `scopes` the key allows."""
        if "admin" in self.scopes:
            return scopes
        return self.scopes if "admin" in scopes else scopes & self.scopes


LOCAL: Final = Principal(tenant=DEFAULT_TENANT, key_id="local", name="local", scopes=SCOPES)
"""Everybody, while no key is configured and the service listens on loopback only."""
