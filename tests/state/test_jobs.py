"""The queue decides whose turn it is, who has a job, and which are given up."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.core.jobs import Job, Priority
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.jobs import Bounds, Claimed, JobQueue
from app.state.keys import JOBS

WIDE = Bounds(per_tenant=1_000, per_provider={}, max_wait_s=1_000)
MOST_FAULTS = 2


@pytest.fixture
async def state(valkey: EmbeddedValkey) -> AsyncIterator[StateClient]:
    client = StateClient(valkey.url)
    await client.commands.flushall()
    yield client
    await client.commands.flushall()
    await client.close()


@pytest.fixture
def queue(state: StateClient) -> JobQueue:
    return JobQueue(state)


def job(name: str, tenant: str = "a", priority: Priority = "normal", **more: object) -> Job:
    return Job(name, tenant, "run", priority, **more)  # type: ignore[arg-type]


async def claimed(queue: JobQueue, owner: str = "w", free: int = 1, bounds: Bounds = WIDE) -> Claimed:
    found = await queue.claim(owner, free, bounds)
    assert found is not None
    return found


async def order(queue: JobQueue, bounds: Bounds = WIDE) -> list[str]:
    """Every job that can be claimed, in the order in which they are."""
    found: list[str] = []
    while one := await queue.claim("w", 1, bounds):
        found.append(one.id)
    return found


async def dies(state: StateClient, *names: str) -> None:
    """The owner of these jobs is not heard of for longer than its lease."""
    await state.commands.zadd(f"{JOBS}leases", dict.fromkeys(names, 1))


async def counted(state: StateClient) -> dict[bytes, bytes]:
    return await state.commands.hgetall(f"{JOBS}used")


async def test_a_tenant_with_much_work_does_not_keep_another_waiting(queue: JobQueue) -> None:
    for number in range(20):
        await queue.put(job(f"a{number}", "a"))
    assert (await claimed(queue)).id == "a0"
    for number in range(3):
        await queue.put(job(f"b{number}", "b"))
    found = await order(queue)
    assert {"b0", "b1", "b2"} <= set(found[:7])
    assert [name for name in found if name[0] == "a"] == [f"a{number}" for number in range(1, 20)]
    print(f"fairness: 3 jobs behind 19 of another tenant were the {[found.index(f'b{n}') + 1 for n in range(3)]}th")


async def test_heavy_jobs_take_more_of_a_turn(queue: JobQueue) -> None:
    for number in range(4):
        await queue.put(job(f"a{number}", "a", weight=10))
    for number in range(20):
        await queue.put(job(f"b{number}", "b"))
    found = await order(queue)
    assert found.index("a1") - found.index("a0") > 8


async def test_a_heavy_job_that_goes_back_undone_costs_one_turn(queue: JobQueue) -> None:
    for number in range(4):
        await queue.put(job(f"a{number}", "a", weight=64))
    for number in range(20):
        await queue.put(job(f"b{number}", "b"))
    for _ in range(2):
        first = await claimed(queue)
        assert await queue.back("w", first, delay_s=1_000)
        assert await claimed(queue)
    found = await order(queue)
    assert "a2" in found[:3]
    assert found.index("a3") - found.index("a2") > 8


async def test_an_attempt_has_had_its_turn(queue: JobQueue) -> None:
    await queue.put(job("a0", "a", weight=10))
    await queue.put(job("a1", "a", weight=10))
    for number in range(20):
        await queue.put(job(f"b{number}", "b"))
    await queue.back("w", await claimed(queue), delay_s=1_000, counts=True)
    assert (await order(queue)).index("a1") > 8


async def test_what_goes_back_saves_no_turns_up(queue: JobQueue, state: StateClient) -> None:
    """Its tenant had nothing else in the queue, has come back at the turn of the others, and owes nothing."""
    await queue.put(job("a0", "a", weight=64))
    first = await claimed(queue)
    for number in range(20):
        await queue.put(job(f"b{number}", "b"))
    await order(queue)
    await queue.put(job("a1", "a"))
    turn = await state.commands.zscore(f"{JOBS}tenants", "a")
    assert turn is not None
    assert turn > 0
    await queue.back("w", first, delay_s=1_000)
    assert await state.commands.zscore(f"{JOBS}tenants", "a") == turn


async def test_a_priority_orders_a_tenants_own_jobs_only(queue: JobQueue) -> None:
    for name, priority in (("low", "low"), ("normal", "normal"), ("high", "high")):
        await queue.put(job(name, "a", priority))
    await queue.put(job("other", "b", "low"))
    found = await order(queue)
    assert [name for name in found if name != "other"] == ["high", "normal", "low"]
    assert found.index("other") <= 1


async def test_a_tenant_has_no_more_slots_than_it_may(queue: JobQueue, state: StateClient) -> None:
    bounds = Bounds(per_tenant=3, per_provider={}, max_wait_s=1_000)
    await queue.put(job("wide", slots=10))
    await queue.put(job("next", slots=10))
    first = await claimed(queue, free=100, bounds=bounds)
    assert first.granted == 3
    assert await queue.claim("w", 100, bounds) is None
    await queue.done("w", first)
    assert (await claimed(queue, free=2, bounds=bounds)).granted == 2
    assert await counted(state) == {b"t:a": b"2"}


async def test_many_tenants_at_their_bounds_do_not_hide_one_who_is_not(queue: JobQueue, state: StateClient) -> None:
    bounds = Bounds(per_tenant=1, per_provider={}, max_wait_s=1_000)
    names = [*(f"t{number:03}" for number in range(700)), "z"]
    for name in names:
        for number in range(2):
            await queue.put(job(f"{name}-{number}", name))
    first = [await claimed(queue, bounds=bounds) for _ in names]
    assert sorted(one.tenant for one in first) == names
    await queue.done("w", next(one for one in first if one.tenant == "z"))
    assert await state.commands.zrank(f"{JOBS}tenants", "z") == 700
    found, looks = None, 0
    while found is None and looks < 50:
        found, looks = await queue.claim("w", 1, bounds), looks + 1
    assert found is not None
    assert found.tenant == "z"
    for name in ("t500", "t001"):
        await queue.done("w", next(one for one in first if one.tenant == name))
    free = {one.tenant for _ in range(20) if (one := await queue.claim("w", 1, bounds))}
    assert free == {"t500", "t001"}
    print(f"fairness: behind 700 tenants at their bounds, found at the {looks}th look")


async def test_a_provider_at_its_bound_does_not_stop_jobs_of_others(queue: JobQueue) -> None:
    bounds = Bounds(per_tenant=100, per_provider={"p": 1}, max_wait_s=1_000)
    for name, providers in (("one", ("p",)), ("two", ("p", "q")), ("three", ("q",))):
        await queue.put(job(name, providers=providers))
    first = await claimed(queue, bounds=bounds)
    assert (first.id, (await claimed(queue, bounds=bounds)).id) == ("one", "three")
    assert await queue.claim("w", 1, bounds) is None
    await queue.done("w", first)
    assert (await claimed(queue, bounds=bounds)).id == "two"


async def test_many_jobs_for_a_provider_at_its_bound_do_not_stop_one_of_another(queue: JobQueue, state: StateClient) -> None:
    bounds = Bounds(per_tenant=1_000, per_provider={"p": 1}, max_wait_s=1_000)
    for number in range(300):
        await queue.put(job(f"p{number}", providers=("p",), slots=1))
    await queue.put(job("q", providers=("q",)))
    await queue.put(job("urgent", priority="high", providers=("p",)))
    first = await claimed(queue, bounds=bounds)
    assert (first.id, (await claimed(queue, bounds=bounds)).id) == ("urgent", "q")
    assert (await queue.sweep(MOST_FAULTS)).waiting == 300
    await queue.done("w", first)
    assert (await claimed(queue, bounds=bounds)).id == "p0"


async def test_a_dead_owners_job_is_anothers_and_he_may_write_nothing_more(queue: JobQueue, state: StateClient) -> None:
    await queue.put(job("one"))
    old = await claimed(queue, "old")
    assert await queue.renew("old", [old], worker=True) == set()
    await dies(state, "one")
    swept = await queue.sweep(MOST_FAULTS)
    assert (swept.again, swept.given_up, swept.waiting, swept.workers) == (1, 0, 1, 1)
    new = await claimed(queue, "new")
    assert (new.id, new.epoch, new.attempts, new.why) == ("one", 2, 2, "")
    assert await queue.renew("old", [old], worker=True) == {"one"}
    assert not await queue.done("old", old)
    assert not await queue.back("old", old)
    assert await queue.done("new", new)
    assert await counted(state) == {}


async def test_who_yields_leaves_the_work_to_workers_while_there_are_some(queue: JobQueue, state: StateClient) -> None:
    await queue.put(job("one"))
    await queue.renew("worker", [], worker=True)
    assert await queue.claim("server", 1, WIDE, yields=True) is None
    await state.commands.zadd(f"{JOBS}workers", {"worker": 1})
    assert (await queue.claim("server", 1, WIDE, yields=True)) is not None


async def test_a_job_that_costs_processes_their_life_is_given_up(queue: JobQueue, state: StateClient) -> None:
    await queue.put(job("one"))
    for _ in range(MOST_FAULTS):
        assert (await claimed(queue)).why == ""
        await dies(state, "one")
        swept = await queue.sweep(MOST_FAULTS)
    assert swept.given_up == 1
    last = await claimed(queue)
    assert "died 2 times" in last.why
    assert await queue.done("w", last)


async def test_a_job_that_breaks_its_code_is_given_up(queue: JobQueue) -> None:
    await queue.put(job("one"))
    for _ in range(MOST_FAULTS):
        await queue.back("w", await claimed(queue), counts=True, most_faults=MOST_FAULTS)
    assert "broke" in (await claimed(queue)).why


async def test_what_goes_back_is_no_attempt_unless_that_is_said(queue: JobQueue) -> None:
    await queue.put(job("one"))
    await queue.back("w", await claimed(queue))
    again = await claimed(queue)
    assert (again.attempts, again.epoch) == (1, 2)
    await queue.back("w", again, counts=True)
    assert (await claimed(queue)).attempts == 2


async def test_what_is_to_be_done_later_waits_until_then(queue: JobQueue, state: StateClient) -> None:
    await queue.put(job("one"), delay_s=1_000)
    assert await queue.claim("w", 1, WIDE) is None
    assert (await queue.sweep(MOST_FAULTS)).delayed == 1
    await state.commands.zadd(f"{JOBS}delayed", {"one": 1})
    assert (await claimed(queue)).id == "one"


@pytest.mark.parametrize("hurried", [False, True])
async def test_what_waits_for_a_person_does_not_grow_old_by_that(queue: JobQueue, state: StateClient, hurried: bool) -> None:
    await queue.put(job("one"))
    await state.commands.hset(f"{JOBS}job:one", "created", 1)
    old = await claimed(queue)
    assert old.why
    await state.commands.hdel(f"{JOBS}job:one", "why")
    assert await queue.back("w", old, delay_s=10_000, anew=True)
    if hurried:
        await queue.hurry("one")
    else:
        await state.commands.zadd(f"{JOBS}delayed", {"one": 1})
    again = await claimed(queue)
    assert (again.why, again.waited_s < 60) == ("", True)
    if hurried:
        assert again.waited_s >= 0


async def test_what_has_waited_for_too_long_is_only_to_be_ended(queue: JobQueue, state: StateClient) -> None:
    await queue.put(job("one"))
    await state.commands.hset(f"{JOBS}job:one", "created", 1)
    assert "too long" in (await claimed(queue)).why


async def test_what_has_begun_has_not_waited_for_too_long(queue: JobQueue, state: StateClient) -> None:
    """Its process has had it for longer than a job may wait, and died, say."""
    await queue.put(job("one"))
    await claimed(queue)
    await state.commands.hset(f"{JOBS}job:one", "created", 1)
    await dies(state, "one")
    await queue.sweep(MOST_FAULTS)
    assert (await claimed(queue)).why == ""


async def test_all_jobs_of_a_process_that_died_are_found_at_once(queue: JobQueue, state: StateClient) -> None:
    names = [f"j{number}" for number in range(300)]
    for name in names:
        await queue.put(job(name))
        await claimed(queue)
    await dies(state, *names)
    assert (await queue.sweep(MOST_FAULTS)).again == 300


async def test_a_job_is_put_once(queue: JobQueue) -> None:
    assert await queue.put(job("one"))
    assert not await queue.put(job("one"))
    held = await claimed(queue)
    assert not await queue.put(job("one"))
    await queue.done("w", held)
    assert await queue.claim("w", 1, WIDE) is None


async def test_a_scheduled_job_is_one_processs_for_its_time(queue: JobQueue) -> None:
    assert [await queue.once("clean", 60) for _ in range(3)] == [True, False, False]
    assert await queue.once("other", 60)


async def test_nothing_is_left_of_what_is_done(queue: JobQueue, state: StateClient) -> None:
    for number in range(5):
        await queue.put(job(f"j{number}", f"t{number % 2}", providers=("p", "q")))
    while found := await queue.claim("w", 1, WIDE):
        await queue.done("w", found)
    left = {name.decode() for name in await state.commands.keys(f"{JOBS}*")}
    assert left == {f"{JOBS}rank", f"{JOBS}turn"}
