"""A batch as it is stored."""

from __future__ import annotations

from app.state.batches import Batches
from app.state.client import StateClient
from app.state.keys import batch_keys


async def test_a_batch_that_has_gone_is_not_made_by_its_cancellation(state: StateClient) -> None:
    await Batches(state).cancel("a", "batch_1")
    assert await Batches(state).get("a", "batch_1") is None
    assert await state.commands.exists(batch_keys("a", "batch_1").record) == 0


async def test_a_batch_that_is_there_is_cancelled(state: StateClient) -> None:
    await Batches(state).begin("a", "batch_1", {"about": "{}"})
    await Batches(state).cancel("a", "batch_1")
    found = await Batches(state).get("a", "batch_1")
    assert found is not None
    assert found.cancelling
