"""Providers that were registered at run time: stored, and in the registry of every process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from app.config.spec import LLMProvider
from app.core.errors import ConfigError
from app.providers.destinations import names_of
from app.providers.registry import ModelRegistry
from app.state.client import StateClient
from app.state.dynamic_providers import DynamicProviders, ProviderFeed
from app.state.secrets import Secret

_log = structlog.get_logger("quorum.container")


class StoredProviders:
    """Makes the dynamic providers of `registry` those that are stored, at the start and whenever they change.

    Parameters:
        allowed_hosts: hosts whose names may lead to private addresses.
    """

    def __init__(self, state: StateClient, secret: Secret, registry: ModelRegistry, allowed_hosts: Sequence[str]) -> None:
        self.stored = DynamicProviders(state, secret)
        self._feed = ProviderFeed(state, self.stored, self._apply)
        self._registry = registry
        self.allowed_hosts = allowed_hosts

    async def start(self) -> None:
        await self._feed.start()

    async def close(self) -> None:
        await self._feed.close()

    async def sync(self) -> None:
        """Take what is stored now.

        Raises:
            StateUnavailable: it cannot be read.
        """
        await self._apply(await self.stored.all())

    async def _apply(self, stored: Mapping[str, LLMProvider]) -> None:
        here = {connection.name: connection for connection in self._registry.providers()}
        for name, connection in here.items():
            if connection.dynamic and stored.get(name) != connection.config:
                self._registry.remove(name)
        for name, config in stored.items():
            now = here.get(name)
            if now is not None and (not now.dynamic or now.config == config):
                continue
            try:
                self._registry.add(name, config, names=names_of(config.base_url, self.allowed_hosts))
            except ConfigError as error:
                _log.error("a stored provider is left out", provider=name, reason=error.message)
