from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.approving import World, running
from tests.support.serving import Serving


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def service(tmp_path: Path, valkey: EmbeddedValkey, world: World) -> AsyncIterator[Serving]:
    """A service with the tools of `world`, which it has to itself."""
    async with running(tmp_path, valkey, world) as made:
        yield made
