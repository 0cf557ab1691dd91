"""What comes late to the record of a request: the drop of what was refused, and the repetition of what was dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import pytest

from app.state.embedded import EmbeddedValkey
from app.state.idempotency import Answered, Asked, Begun, Busy, IdempotencyRecords, RequestId, Write
from tests.support.valkey import patient

REQUEST = RequestId("t", "a")
ASKED = Asked("f", "sealed", "run_1")


@pytest.fixture
async def records(valkey: EmbeddedValkey) -> AsyncIterator[IdempotencyRecords]:
    client = patient(valkey.url)
    await client.commands.flushall()
    yield IdempotencyRecords(client)
    await client.close()


def told(operation: str, end: Literal["", "keep", "drop"]) -> Write:
    return Write(REQUEST, operation, 1, 60, b"head" if end == "keep" else b"", end=end)


async def begun(records: IdempotencyRecords, operation: str) -> object:
    return await records.begin(REQUEST, operation=operation, keep_s=60, asked=ASKED)


async def test_a_drop_hits_only_what_its_own_operation_began(records: IdempotencyRecords) -> None:
    assert isinstance(await begun(records, "first"), Begun)
    assert isinstance(await begun(records, "refused"), Busy)
    assert await records.write([told("refused", "drop")]) == ["lost"]
    assert await records.write([told("first", "keep")]) == ["ok"]
    assert await records.write([told("refused", "drop")]) == ["lost"]
    assert await begun(records, "later") == Answered(b"head", "")


async def test_what_was_dropped_is_not_begun_by_a_call_that_was_under_way(records: IdempotencyRecords) -> None:
    """The drop may come before the begin that it is about."""
    for first in (begun(records, "refused"), None):
        if first:
            await first
        assert await records.write([told("refused", "drop")]) == ["ok"]
        assert await begun(records, "refused") == "absent"
    assert isinstance(await begun(records, "anew"), Begun)
    assert await records.write([told("refused", "drop")]) == ["lost"]
    assert await records.write([told("anew", "")]) == ["ok"]


async def test_who_was_taken_over_stores_nothing_though_the_other_was_dropped(
    records: IdempotencyRecords, valkey: EmbeddedValkey
) -> None:
    client = patient(valkey.url)
    await begun(records, "hung")
    await client.commands.hset("quorum:{t:a}:idempotent", "lease_until", "1")
    taken = await begun(records, "other")
    assert isinstance(taken, Begun)
    assert taken.epoch == 2
    assert await records.write([Write(REQUEST, "other", 2, 60, end="drop")]) == ["ok"]
    assert await records.write([told("hung", "keep")]) == ["lost"]
    assert await client.commands.pttl("quorum:{t:a}:idempotent") > 50_000
    await client.close()


async def test_a_deleted_request_is_not_begun_again_and_takes_nothing(records: IdempotencyRecords) -> None:
    await begun(records, "first")
    await records.delete(REQUEST, "run_of_another_time")
    assert isinstance(await begun(records, "second"), Busy)
    await records.delete(REQUEST, ASKED.run_id)
    assert await records.write([told("first", "keep")]) == ["ok"]
    assert await begun(records, "second") == "deleted"
    assert await records.pieces(REQUEST, 0) == []
