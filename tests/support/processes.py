"""Several server processes over one store, behind them a loopback provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Loopback
from tests.support.service import Service, service
from tests.support.serving import upstream
from tests.support.valkey import running_valkey


@asynccontextmanager
async def processes(
    directory: Path, provider: Loopback, count: int = 2, more: Mapping[str, Any] | None = None, **settings: Any
) -> AsyncIterator[list[Service]]:
    """`count` servers over one store, ready, with `more` in their configuration."""
    with ExitStack() as stack:
        store: EmbeddedValkey = stack.enter_context(running_valkey())
        found: list[Service] = []
        for number in range(count):
            place = directory / f"server-{number}"
            place.mkdir()
            (place / "quorum.yaml").write_text(yaml.safe_dump({**upstream(provider.url), **(more or {})}))
            options = {"redis_url": store.url, "config": place / "quorum.yaml", "log_level": "error", "secret": "x" * 32}
            found.append(stack.enter_context(service(place, factory="app.main:create_app", ready=False, **options, **settings)))
        for one in found:
            await asyncio.to_thread(one.wait_ready)
        yield found
