from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.valkey import running_valkey


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedValkey]:
    with running_valkey() as server:
        yield server
