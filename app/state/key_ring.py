"""The keys as the hot path needs them: in memory, looked up without I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from app.config.spec import KeyConfig
from app.core.clock import Clock
from app.core.principal import DEFAULT_TENANT, SCOPES, Principal
from app.state.api_keys import ApiKeys, key_hash
from app.state.client import StateClient
from app.state.feed import Feed
from app.state.keys import API_KEYS
from app.state.secrets import Secret

REMEMBERED: Final = 10_000
"""Presented keys whose hash is remembered. Only valid ones are, so that guessing fills nothing."""

_NEVER: Final = float("inf")
_Entry = tuple[Principal, float]  # whom the key stands for, and when it expires


class KeyRing:
    """Which principal a presented key stands for.

    Keys come from the configuration, from `QUORUM_ADMIN_KEY`, and from Redis, whose changes arrive within a second. While
    Redis is away the last state serves. Keys are compared by their keyed hashes, so that the time a lookup takes tells
    nothing about a key.
    """

    def __init__(
        self,
        state: StateClient,
        secret: Secret,
        clock: Clock,
        *,
        configured: Iterable[KeyConfig] = (),
        admin_key: str | None = None,
        may_open: bool = True,
    ) -> None:
        """`may_open` says whether the service may be used without a key while none exists: on loopback, or when insecure."""
        self._stored_keys = ApiKeys(state, secret, clock)
        self._feed = Feed(state, API_KEYS, self._load)
        self._hash = key_hash(secret)
        self._now = clock.now
        self._admin_key = admin_key
        self._may_open = may_open
        self._stored: dict[str, _Entry] = {}
        self._any_stored = False
        self._configured: dict[str, _Entry] = {}
        self._entries: dict[str, _Entry] = {}
        self._remembered: dict[str, _Entry] = {}
        self.configure(configured)

    async def start(self) -> None:
        """Reads the stored keys, where Redis answers, and follows their changes."""
        await self._feed.start()

    async def close(self) -> None:
        await self._feed.close()

    @property
    def loaded(self) -> bool:
        """Whether the stored keys are known. Until then an unknown key may be a good one."""
        return self._feed.loaded

    @property
    def open(self) -> bool:
        """Whether requests need no key: the stored ones are known, and there never was any, nor one in the configuration.

        Revoked and expired keys count: revoking the last one must not open the service to everybody.
        """
        return self._may_open and self.loaded and not self._any_stored and not self._configured

    def find(self, presented: str) -> Principal | None:
        """The owner of `presented`, None where it opens nothing (unknown, revoked or expired)."""
        entry = self._remembered.get(presented)
        if entry is None:
            entry = self._entries.get(self._hash(presented))
            if entry is None:
                return None
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[presented] = entry
        principal, expires_at = entry
        return principal if self._now() < expires_at else None

    def holder(self, key_id: str) -> Principal | None:
        """Whom the key with that id stands for now, None where it opens nothing any more."""
        now = self._now()
        return next((who for who, expires_at in self._entries.values() if who.key_id == key_id and now < expires_at), None)

    def configure(self, keys: Iterable[KeyConfig]) -> None:
        """Takes over the keys of a configuration, in place of those of the one before."""
        self._configured = {
            self._hash(key.key.get_secret_value()): (
                Principal(key.tenant, f"config:{key.name}", key.name, frozenset(key.scopes)),
                _NEVER,
            )
            for key in keys
        }
        if self._admin_key:
            admin = Principal(DEFAULT_TENANT, "env:admin", "QUORUM_ADMIN_KEY", SCOPES)
            self._configured[self._hash(self._admin_key)] = (admin, _NEVER)
        self._merge()

    async def _load(self) -> None:
        keys = await self._stored_keys.all()
        now = self._now()
        self._any_stored = bool(keys)
        self._stored = {
            key.hash: (
                Principal(key.tenant, key.id, key.name, frozenset(key.scopes)),
                _NEVER if key.expires_at is None else key.expires_at,
            )
            for key in keys
            if key.usable(now)
        }
        self._merge()

    def _merge(self) -> None:
        self._entries = self._stored | self._configured
        self._remembered = {}
