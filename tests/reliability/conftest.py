from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.valkey import patient, running_valkey


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedValkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture
async def state(valkey: EmbeddedValkey) -> AsyncIterator[StateClient]:
    client = patient(valkey.url)
    await client.commands.flushall()
    yield client
    await client.close()
