"""Turns of conversations in the store: each appended once, by who still may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.state.client import StateClient
from app.state.conversations import Bounds, Busy, ConversationStore, Found, Holder, Turn
from app.state.keys import conversation_keys

FIRST = Holder("a", "c", "run_1", "t1")
SECOND = Holder("a", "c", "run_2", "t2")
BOUNDS = Bounds(max_turns=3, max_bytes=10_000, keep_s=100)


@pytest.fixture
def store(state: StateClient) -> ConversationStore:
    return ConversationStore(state)


async def opened(store: ConversationStore, holder: Holder) -> Found:
    found = await store.open(holder, keep_s=100)
    assert isinstance(found, Found)
    return found


async def append(store: ConversationStore, holder: Holder, seen: int, said: bytes, *, answers: bool = False) -> int | str:
    return await store.append(holder, seen, Turn(said, answers), system=None, bounds=BOUNDS)


async def said(store: ConversationStore) -> list[bytes]:
    return [turn.said for turn in (await store.look("a", "c")).turns]


async def test_one_run_at_a_time_takes_its_turn(store: ConversationStore) -> None:
    await opened(store, FIRST)
    assert isinstance(await store.open(SECOND, keep_s=100), Busy)
    assert isinstance(await store.open(replace(SECOND, conversation_id="d"), keep_s=100), Found)
    assert isinstance(await store.open(replace(SECOND, tenant="b"), keep_s=100), Found)
    assert await append(store, FIRST, 0, b"one") == 0
    assert (await opened(store, SECOND)).turns == (Turn(b"one", answers=False),)


async def test_what_is_sent_again_is_appended_once(store: ConversationStore) -> None:
    await opened(store, FIRST)
    for _ in range(3):
        assert await append(store, FIRST, 0, b"one") == 0
    assert await said(store) == [b"one"]


async def test_a_run_that_was_taken_over_is_appended_once_and_its_first_process_is_refused(store: ConversationStore) -> None:
    await opened(store, FIRST)
    again = replace(FIRST, token="t9")
    await opened(store, again)
    assert await append(store, FIRST, 0, b"stale") == "changed"
    assert await append(store, again, 0, b"one") == 0
    assert await append(store, FIRST, 0, b"stale") == "changed"
    assert await said(store) == [b"one"]


async def test_a_run_that_died_after_it_was_appended_is_replaced_by_its_second_try(store: ConversationStore) -> None:
    await opened(store, FIRST)
    await append(store, FIRST, 0, b"one")
    again = replace(FIRST, token="t9")
    found = await opened(store, again)
    assert await append(store, again, found.version, b"one, again") == 0
    assert await said(store) == [b"one, again"]
    assert (await store.look("a", "c")).version == 1


async def test_a_lease_that_has_passed_costs_the_turn_only_where_another_run_took_its_own(
    store: ConversationStore, state: StateClient
) -> None:
    lease = conversation_keys("a", "c").lease
    await opened(store, FIRST)
    await state.commands.delete(lease)
    assert await append(store, FIRST, 0, b"one") == 0
    await opened(store, SECOND)
    await state.commands.delete(lease)
    third = Holder("a", "c", "run_3", "t3")
    await opened(store, third)
    assert await append(store, SECOND, 1, b"two") == "changed"
    assert await append(store, third, 1, b"three") == 0
    assert await append(store, SECOND, 1, b"two") == "changed"
    assert await said(store) == [b"one", b"three"]


async def test_only_who_holds_it_renews_it_or_gives_it_back(store: ConversationStore, state: StateClient) -> None:
    lease = conversation_keys("a", "c").lease
    await opened(store, FIRST)
    await state.commands.pexpire(lease, 1_000)
    await store.renew(SECOND)
    await store.release(SECOND)
    assert 0 < await state.commands.pttl(lease) <= 1_000
    await store.renew(FIRST)
    assert await state.commands.pttl(lease) > 1_000
    await store.release(FIRST)
    assert not await state.commands.exists(lease)


async def test_the_oldest_go_first_and_none_without_the_turns_that_answer_it(store: ConversationStore) -> None:
    dropped: list[int | str] = []
    for number, answers in enumerate([False, True, False, True, True, True]):
        holder = Holder("a", "c", f"run_{number}", "t")
        found = await opened(store, holder)
        dropped.append(await append(store, holder, found.version, b"%d" % number, answers=answers))
    assert dropped == [0, 0, 0, 2, 0, 0]
    assert await said(store) == [b"2", b"3", b"4", b"5"]  # more than the bound: they hang together
    page = await store.page("a", "c", 3, 2)
    assert page is not None
    assert (page.first, [turn.said for turn in page.turns], page.dropped, page.size_bytes) == (4, [b"3", b"4"], 2, 8)


async def test_it_is_kept_from_its_last_use_on(store: ConversationStore, state: StateClient) -> None:
    keys = conversation_keys("a", "c")
    await opened(store, FIRST)
    await append(store, FIRST, 0, b"one")
    for key in (keys.record, keys.turns):
        await state.commands.pexpire(key, 1_000)
    await opened(store, SECOND)
    assert min([await state.commands.pttl(key) for key in (keys.record, keys.turns)]) > 90_000


async def test_what_is_deleted_is_not_begun_anew_by_a_run_that_saw_it(store: ConversationStore) -> None:
    await opened(store, FIRST)
    await append(store, FIRST, 0, b"one")
    await opened(store, SECOND)
    assert await store.delete("a", "c")
    assert not await store.delete("a", "c")
    assert await append(store, SECOND, 1, b"two") == "changed"
    assert await store.page("a", "c", 0, 10) is None
