"""Providers registered at run time.

What is stored of them is encrypted as a whole, since headers and queries hold secrets too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from pydantic import ValidationError

from app.config.spec import LLMProvider
from app.core.errors import ConfigError, ConflictError, NotFound
from app.state.client import StateClient, reaching_state
from app.state.feed import Feed
from app.state.keys import PROVIDERS
from app.state.secrets import Secret

log = logging.getLogger(__name__)


class DynamicProviders:
    """The stored providers, by name. Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient, secret: Secret) -> None:
        self._state = state
        self._sealer = secret.sealer("provider")
        self._put = state.script("put_record")
        self._remove = state.script("remove_record")

    async def add(self, name: str, provider: LLMProvider, *, replace: bool = False) -> None:
        """Stores a provider. Raises `ConflictError` where the name is taken and `replace` is false."""
        record = self._sealer.seal(_dump(provider), owner=name)
        with reaching_state():
            written = await self._put(
                keys=[PROVIDERS.records, PROVIDERS.version], args=[name, record, PROVIDERS.channel, str(int(replace))]
            )
        if not written:
            raise ConflictError(
                f"a provider {name!r} is registered already: remove it first, or choose another name", param="name"
            )

    async def remove(self, name: str) -> None:
        """Forgets a provider and its credentials. Raises `NotFound`."""
        with reaching_state():
            found = await self._remove(keys=[PROVIDERS.records, PROVIDERS.version], args=[name, PROVIDERS.channel])
        if not found:
            raise NotFound(f"no provider {name!r} was registered at run time", param="name")

    async def all(self) -> dict[str, LLMProvider]:
        """Every provider with its credentials, by name. One that cannot be decrypted is left out, and the log says so."""
        with reaching_state():
            records = cast("dict[bytes, bytes]", await self._state.commands.hgetall(PROVIDERS.records))
        found: dict[str, LLMProvider] = {}
        for field, record in sorted(records.items()):
            name = field.decode()
            try:
                found[name] = LLMProvider.model_validate_json(self._sealer.open(record.decode(), owner=name))
            except ConfigError as error:
                log.error("provider %r is left out: %s", name, error)  # noqa: TRY400 (no trace needed)
            except ValidationError:
                # Its text would show the values.
                log.error("provider %r is left out: it was stored by another version of the service", name)  # noqa: TRY400
        return found

    async def listing(self) -> dict[str, dict[str, Any]]:
        """Every provider as it may be shown: no key, and of headers and query the names only."""
        return {name: shown(provider) for name, provider in (await self.all()).items()}


class ProviderFeed:
    """Tells `on_change` all registered providers: at the start and within a second of every change by any replica."""

    def __init__(
        self,
        state: StateClient,
        providers: DynamicProviders,
        on_change: Callable[[Mapping[str, LLMProvider]], Awaitable[None]],
    ) -> None:
        self._providers = providers
        self._on_change = on_change
        self._feed = Feed(state, PROVIDERS, self._load)

    async def start(self) -> None:
        await self._feed.start()

    async def close(self) -> None:
        await self._feed.close()

    async def _load(self) -> None:
        await self._on_change(await self._providers.all())


def shown(provider: LLMProvider) -> dict[str, Any]:
    """`provider` without its secrets."""
    return {
        "kind": provider.kind,
        "vendor": provider.vendor,
        "base_url": provider.base_url,
        "has_key": provider.api_key is not None,
        "headers": sorted(provider.headers),
        "query": sorted(provider.query),
    }


def _dump(provider: LLMProvider) -> str:
    plain = provider.model_dump(mode="json", exclude_defaults=True)
    if provider.api_key is not None:
        plain["api_key"] = provider.api_key.get_secret_value()
    return json.dumps(plain)
