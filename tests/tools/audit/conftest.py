from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from app.config.audit import AuditConfig
from app.state.audit import AuditStore
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.secrets import Secret
from app.tools.audit.trail import AuditTrail
from tests.support.valkey import patient, running_valkey


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedValkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture(autouse=True)
def every_log_line() -> None:
    """Services that other tests have run may log errors only."""
    structlog.reset_defaults()


@pytest.fixture
async def state(valkey: EmbeddedValkey) -> AsyncIterator[StateClient]:
    client = patient(valkey.url)
    await client.commands.flushall()
    yield client
    await client.close()


@pytest.fixture
def store(state: StateClient) -> AuditStore:
    return AuditStore(state)


@pytest.fixture
def secret() -> Secret:
    return Secret("0123456789abcdef" * 2)


@pytest.fixture
async def trail(store: AuditStore, secret: Secret) -> AsyncIterator[AuditTrail]:
    running = AuditTrail(store, secret, AuditConfig())
    running.start()
    yield running
    await running.close()
