from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.serving import Serving, serving
from tests.support.valkey import patient, running_valkey


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedValkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture
async def service(tmp_path: Path, valkey: EmbeddedValkey) -> AsyncIterator[Serving]:
    """A service with the mock provider and without keys."""
    async with serving(tmp_path, valkey.url) as running:
        yield running


@pytest.fixture
async def state(valkey: EmbeddedValkey) -> AsyncIterator[StateClient]:
    """The state store, emptied afterwards, for tests that leave something in it."""
    client = patient(valkey.url)
    yield client
    await client.commands.flushall()
    await client.close()
