"""Every key name in Redis, in one place.

All begin with `quorum:`. The part in braces is the hash tag: what one script touches shares it, so that it lies in one slot of
a cluster. A key that belongs to a tenant has the tenant in its hash tag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class RegistryKeys:
    """A small table that every process holds in memory: its records (a hash), its version (a counter), its channel."""

    records: str
    version: str
    channel: str


API_KEYS: Final = RegistryKeys("quorum:{keys}:records", "quorum:{keys}:version", "quorum:{keys}:changed")
REVOKED_API_KEYS: Final = "quorum:{keys}:revoked"
"""A hash from key id to the time of its revocation, in seconds since the epoch."""

PROVIDERS: Final = RegistryKeys("quorum:{providers}:records", "quorum:{providers}:version", "quorum:{providers}:changed")

CONFIGURATION: Final = RegistryKeys("quorum:{config}:records", "quorum:{config}:version", "quorum:{config}:changed")
"""Only its version counts: each process reads its configuration from its own file."""

BREAKERS: Final = RegistryKeys("quorum:{breakers}:records", "quorum:{breakers}:version", "quorum:{breakers}:changed")


def breaker_window(breaker_id: str) -> str:
    """A hash from `slot:member` to a count, of the calls of a breaker that ended lately."""
    return f"quorum:{{breakers}}:window:{breaker_id}"
