from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.providers.mock.server.serving import mock_server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A mock server that answers at once."""
    with mock_server() as base:
        yield base
