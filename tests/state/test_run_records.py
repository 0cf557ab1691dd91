"""The log of runs: who may write, what is written once, and what others see."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from app.core.run_json import LoggedEvent
from app.state import run_records
from app.state.client import StateClient
from app.state.keys import run_index, run_keys
from app.state.run_records import Append, Appended, Ownership, RunRecords, Snapshot

OWNER = Ownership("t", "run_1", "w_1", 1)
NEW = {"strategy": "direct", "created_at": "5", "request": "{}"}
LAST = ("run.failed", b'{"seq":', b"}")


def event(seq: int, kind: str = "output.delta") -> LoggedEvent:
    return LoggedEvent(seq, kind, b"%d" % seq)


def write(*seqs: int, **more: Any) -> Append:
    return Append(OWNER, 60_000, 60_000, [event(seq) for seq in seqs], **more)


@pytest.fixture
def records(state: StateClient) -> RunRecords:
    return RunRecords(state)


async def written(records: RunRecords, append: Append) -> Appended:
    (reply,) = await records.append([append])
    assert reply is not None
    return reply


async def seqs(records: RunRecords, after: int = 0) -> list[int]:
    return [entry.seq for entry in await records.events("t", "run_1", after)]


async def test_a_write_that_is_sent_twice_is_applied_once(records: RunRecords) -> None:
    for _ in range(2):
        assert (await written(records, write(1, 2, record=NEW))).outcome == "ok"
    assert (await written(records, write(2, 3))).outcome == "ok"
    assert await seqs(records) == [1, 2, 3]
    assert await seqs(records, after=2) == [3]


async def test_the_end_may_be_sent_twice(records: RunRecords) -> None:
    end = write(1, record=NEW, status="succeeded", result=b"{}")
    assert [(await written(records, end)).outcome for _ in range(2)] == ["ok", "ok"]
    assert await seqs(records) == [1]
    found = await records.get("t", "run_1")
    assert found
    assert (found.status, found.result) == ("succeeded", b"{}")


@pytest.mark.parametrize("other", [replace(OWNER, owner="w_2"), replace(OWNER, epoch=2)])
async def test_only_the_owner_of_this_epoch_writes(records: RunRecords, other: Ownership) -> None:
    await written(records, write(1, record=NEW))
    assert (await written(records, replace(write(2), whose=other))).outcome == "lost"
    assert await seqs(records) == [1]


async def test_nothing_is_made_of_a_run_that_is_not_there(records: RunRecords) -> None:
    assert (await written(records, write(7))).outcome == "missing"
    assert await records.look("t", "run_1") is None


async def test_a_deleted_run_does_not_come_back(records: RunRecords) -> None:
    await written(records, write(1, record=NEW))
    assert await records.delete("t", "run_1")
    assert not await records.delete("t", "run_1")
    assert (await written(records, write(2, record=NEW))).outcome == "lost"
    assert await records.get("t", "run_1") is None
    assert await records.look("t", "run_1") is None
    assert await records.cancel("t", "run_1") is None


async def test_the_owner_hears_of_readers_and_of_a_cancellation(records: RunRecords) -> None:
    first = await written(records, write(1, record=NEW))
    assert (first.cancel, first.reader_s) == (False, None)
    await records.look("t", "run_1", reading=True)
    assert await records.cancel("t", "run_1") == ""
    second = await written(records, write())
    assert second.cancel
    assert second.reader_s is not None
    assert 0 <= second.reader_s < 1


async def test_a_run_is_lost_when_its_lease_has_passed_and_once(records: RunRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    await written(records, write(1, 2, record=NEW))
    at = {"after": 9, "events_keep_ms": 60_000}
    assert not await records.lose("t", "run_1", 1, LAST, b"{}", **at)
    monkeypatch.setattr(run_records, "LEASE_S", 0.01)
    await written(records, write(3))
    await asyncio.sleep(0.02)  # the lease, by the server's clock
    assert not await records.lose("t", "run_1", 2, LAST, b"{}", **at)
    ended = await asyncio.gather(*(records.lose("t", "run_1", 1, LAST, b"{}", **at) for _ in range(8)))
    assert ended.count(True) == 1
    assert await seqs(records) == [1, 2, 3, 10]
    last = await records.last_event("t", "run_1")
    assert last == LoggedEvent(10, "run.failed", b'{"seq":10}')
    assert (await written(records, write(4))).outcome == "lost"


async def test_a_snapshot_stands_for_what_is_dropped(records: RunRecords) -> None:
    await written(records, write(1, 2, 3, record=NEW))
    assert await records.snapshot("t", "run_1") is None
    await written(records, write(4, snapshot=Snapshot(4, b"state"), drop_below=3))
    assert await seqs(records) == [3, 4]
    assert await records.snapshot("t", "run_1") == Snapshot(4, b"state")


async def test_what_is_stored_of_a_run_shares_a_slot_and_names_its_tenant(state: StateClient) -> None:
    keys = run_keys("t", "run_1")
    assert {key[key.index("{") : key.index("}") + 1] for key in (keys.record, keys.events)} == {"{t:run_1}"}
    assert "{t}" in run_index("t")


async def test_the_index_forgets_what_is_not_kept(records: RunRecords, state: StateClient) -> None:
    await records.enter("t", "run_old", 1_000_000, 10)
    await records.enter("t", "run_new", 20_000_000, 10)
    assert await state.commands.zrange(run_index("t"), 0, -1) == [b"run_new"]
    assert await records.page("t", None, 5) == [((20_000_000, "run_new"), None)]
