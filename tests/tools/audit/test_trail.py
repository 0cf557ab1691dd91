"""Records reach the chain of their tenant, in order, once, whoever else appends and whatever the store does meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from app.config.audit import AuditConfig
from app.core.audit import recorded
from app.core.errors import NotFound, StateUnavailable
from app.state.audit import AuditStore
from app.state.client import StateClient
from app.state.keys import audit_keys
from app.state.secrets import Secret
from app.tools.audit.chain import ORIGIN
from app.tools.audit.trail import AuditTrail
from app.tools.audit.verifying import Verifier
from tests.support.serving import until
from tests.support.valkey import running_valkey, server_pid
from tests.tools.audit.made import KEYS, act, kept


async def fault(store: AuditStore, tenant: str = "a") -> Any:
    verifier = Verifier(KEYS, tenant=tenant)
    held = await store.checkpoint(tenant)
    verifier.begin(orjson.loads(held) if held else None)
    for seq, line in await store.newer(tenant, 0, 100_000):
        verifier.add(line, place=seq)
    return verifier.finish()


@asynccontextmanager
async def trails(store: AuditStore, count: int) -> AsyncIterator[list[AuditTrail]]:
    """As many processes have them."""
    found = [AuditTrail(store, Secret("0123456789abcdef" * 2), AuditConfig()) for _ in range(count)]
    for one in found:
        one.start()
    yield found
    for one in found:
        await one.close()


async def test_a_record_says_who_did_what_when(store: AuditStore, trail: AuditTrail):
    before = time.time() * 1000
    operation = await trail.begin(
        act(run_id="run_1", request_id="req_1", trace_id="f" * 32), {"arguments": trail.digest({"a": 1})}
    )
    await trail.end(act(run_id="run_1"), operation, "done", {"took_ms": 12})

    begun, done = await kept(store)

    assert (begun["seq"], begun["previous"], done["seq"], done["previous"]) == (1, ORIGIN, 2, begun["hash"])
    assert (begun["decision"], done["decision"]) == ("begun", "done")
    assert begun["operation"] == done["operation"] == operation
    assert begun["actor"] == {"kind": "key", "id": "key_1", "name": "ann", "address": "192.0.2.7"}
    assert begun["subject"] == {"kind": "tool", "id": "mail.send@1"}
    assert (begun["run_id"], begun["request_id"], begun["trace_id"]) == ("run_1", "req_1", "f" * 32)
    assert begun["details"]["arguments"].startswith("hmac-sha256:")
    assert before - 5 <= begun["time_ms"] <= done["time_ms"] <= time.time() * 1000 + 5
    assert await fault(store) is None


async def test_many_at_once_are_one_chain_in_the_order_they_came(store: AuditStore, trail: AuditTrail):
    await asyncio.gather(*(trail.record(act(f"tool-{number}"), "allowed") for number in range(500)))

    assert [record["subject"]["id"] for record in await kept(store)] == [f"tool-{number}" for number in range(500)]
    assert await fault(store) is None


async def test_processes_that_append_at_once_make_one_unbroken_chain(store: AuditStore):
    async with trails(store, 4) as several:

        async def busy(one: AuditTrail, name: int) -> None:
            for number in range(50):
                await one.record(act(f"{name}-{number}"), "allowed")

        began = time.perf_counter()
        await asyncio.gather(*(busy(one, name) for name, one in enumerate(several)))
        took = time.perf_counter() - began

    records = await kept(store)
    assert await fault(store) is None
    for name in range(4):
        own = [record["subject"]["id"] for record in records if record["subject"]["id"].startswith(f"{name}-")]
        assert own == [f"{name}-{number}" for number in range(50)]
    print(f"4 writers, 200 records one by one: {took / 200 * 1000:.2f} ms each")


async def test_tenants_have_chains_of_their_own(store: AuditStore, trail: AuditTrail):
    await trail.record(act(tenant="a"), "allowed")
    await trail.record(act(tenant="b"), "denied")

    assert [record["decision"] for record in await kept(store, "a")] == ["allowed"]
    assert [record["decision"] for record in await kept(store, "b")] == ["denied"]
    assert [(await kept(store, tenant))[0]["seq"] for tenant in "ab"] == [1, 1]
    assert await store.tenants() == ["a", "b"]


async def test_details_are_bounded(store: AuditStore, trail: AuditTrail):
    deep: Any = "x"
    for _ in range(50):
        deep = {"in": deep}
    details = {"long": "x" * 5_000, "lone": "\ud800", "deep": deep, "part": 0.5, "huge": 10**30, "many": list(range(1000))}
    await trail.record(act("s" * 1_000), "allowed", {**details, **{f"m{number}": "y" * 150 for number in range(40)}})

    record = (await kept(store))[0]
    assert len(orjson.dumps(record["details"])) < 2_100
    assert len(record["details"]["long"]) == len(record["subject"]["id"]) == 200
    assert (record["details"]["lone"], record["details"]["part"]) == ("?", "0.5")
    assert len(record["details"]["many"]) == 32
    assert record["details"]["left_out"] > 20
    assert await fault(store) is None


async def test_a_digest_tells_equal_from_other_values_only_to_those_who_have_the_secret(store: AuditStore, trail: AuditTrail):
    other = AuditTrail(store, Secret("another secret, as long"), AuditConfig())
    assert trail.digest({"b": 1, "a": 2}) == trail.digest({"a": 2, "b": 1})
    assert trail.digest({"a": 1}) != trail.digest({"a": 2})
    assert trail.digest("x") != other.digest("x")


async def test_a_block_is_recorded_with_what_became_of_it(store: AuditStore, trail: AuditTrail):
    async with recorded(trail, act("good")) as outcome:
        outcome.details["found"] = 3
    with pytest.raises(NotFound):
        async with recorded(trail, act("bad")):
            raise NotFound("no")
    for error in (StateUnavailable("away"), RuntimeError("dead")):
        with pytest.raises(type(error)):
            async with recorded(trail, act("strange")):
                raise error
    await trail.flush()

    told = [(record["subject"]["id"], record["decision"], record["details"]) for record in await kept(store)]
    assert told == [
        ("good", "begun", {}),
        ("good", "done", {"found": 3}),
        ("bad", "begun", {}),
        ("bad", "failed", {"error": "not_found"}),
        ("strange", "begun", {}),
        ("strange", "uncertain", {"error": "state_unavailable"}),
        ("strange", "begun", {}),
        ("strange", "uncertain", {"error": "RuntimeError"}),
    ]


async def test_a_cancelled_block_is_uncertain(store: AuditStore, trail: AuditTrail):
    began = asyncio.Event()

    async def work() -> None:
        async with recorded(trail, act()):
            began.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await began.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await trail.flush()

    assert [record["decision"] for record in await kept(store)] == ["begun", "uncertain"]


class Frozen:
    """A store that can be stopped and continued, and a trail on it."""

    def __init__(self, pid: int, state: StateClient, trail: AuditTrail) -> None:
        self.pid, self.store, self.trail = pid, AuditStore(state), trail

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@pytest.fixture(params=["refuse", "continue"])
async def frozen(request: pytest.FixtureRequest) -> AsyncIterator[Frozen]:
    with running_valkey() as server:
        if not hasattr(server, "data_dir"):
            pytest.skip("the store belongs to somebody else")
        state = StateClient(server.url)
        trail = AuditTrail(AuditStore(state), Secret("0123456789abcdef" * 2), AuditConfig(on_failure=request.param))
        trail.start()
        pid = server_pid(server.data_dir)
        assert pid
        yield Frozen(pid, state, trail)
        os.kill(pid, signal.SIGCONT)
        await trail.close()
        await state.close()


async def until_kept(store: AuditStore, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(10):
        while len(records := await kept(store)) < count:
            await asyncio.sleep(0.02)
    return records


async def test_while_the_store_is_away_what_must_be_recorded_first_is_refused_or_recorded_later(frozen: Frozen):
    trail, store = frozen.trail, frozen.store
    refuse = trail.config.on_failure == "refuse"
    done = await trail.begin(act("before"))
    frozen.freeze()
    began = time.monotonic()
    await trail.end(act("before"), done, "done")  # it has happened: never refused
    if refuse:
        with pytest.raises(StateUnavailable, match="audit trail"):
            await trail.begin(act("meanwhile"))
    else:
        await trail.begin(act("meanwhile"))
    assert time.monotonic() - began < 8
    frozen.thaw()

    records = await until_kept(store, 2 if refuse else 3)
    await trail.record(act("after"), "allowed")

    records = await kept(store)
    told = [(record["subject"]["id"], record["decision"]) for record in records]
    assert told[:2] == [("before", "begun"), ("before", "done")]
    assert told[-1] == ("after", "allowed")
    assert set(told[2:-1]) in (
        [set(), {("meanwhile", "begun"), ("meanwhile", "refused")}] if refuse else [{("meanwhile", "begun")}]
    )
    assert await fault(store) is None


@pytest.mark.parametrize("frozen", ["refuse"], indirect=True)
async def test_of_what_was_refused_and_is_in_the_chain_all_the_same_it_says_that_nothing_was_done(frozen: Frozen):
    """The command lay in the socket of a store that went on soon enough."""
    await frozen.trail.record(act("first"), "allowed")
    for turn in range(20):
        frozen.freeze()
        with pytest.raises(StateUnavailable):
            await frozen.trail.begin(act(f"tool-{turn}"))
        frozen.thaw()
        await until(lambda: not frozen.trail._chains["a"].unstored)
        told = [(record["subject"]["id"], record["decision"]) for record in (await kept(frozen.store))[1:]]
        if told:
            break
    assert told == [(f"tool-{turn}", "begun"), (f"tool-{turn}", "refused")]


async def test_what_was_sent_to_a_frozen_store_is_in_the_chain_once(frozen: Frozen):
    trail, store = frozen.trail, frozen.store
    await trail.record(act("first"), "allowed")
    for turn in range(3):
        frozen.freeze()
        for number in range(5):
            trail.note(act(f"{turn}-{number}"), "allowed")
        await until(lambda: trail._chains["a"].trouble)  # it is sent again while the first one lies in the socket
        frozen.thaw()
        await until_kept(store, 6 + 5 * turn)

    records = await kept(store)
    assert [record["subject"]["id"] for record in records] == ["first", *(f"{turn}-{n}" for turn in range(3) for n in range(5))]
    assert await fault(store) is None


async def test_a_chain_that_lost_its_end_says_so_itself(state: StateClient, store: AuditStore, trail: AuditTrail):
    """As after a failover to a replica that had not heard everything."""
    for number in range(3):
        await trail.record(act(f"tool-{number}"), "allowed")
    old: Any = await state.commands.dump(audit_keys("a").records)
    for number in range(2):
        await trail.record(act(f"tool-{number}"), "allowed")
    await state.commands.restore(audit_keys("a").records, 0, old, replace=True)

    with capture_logs() as logs:
        await trail.record(act("next"), "allowed")
        records = await until_kept(store, 5)

    assert [(record["seq"], record["action"]) for record in records[3:]] == [(4, "tool.execute"), (5, "audit.cut_back")]
    assert (records[4]["details"]["had_seq"], records[4]["details"]["found_seq"]) == (5, 3)
    assert any(line["log_level"] == "error" and line["tenant"] == "a" for line in logs)
    assert await fault(store) is None


@pytest.mark.parametrize("gone", [("4-0", "5-0"), ("5-0",), ("1-0", "2-0", "3-0", "4-0", "5-0")])
async def test_records_deleted_at_the_end_leave_a_gap(
    state: StateClient, store: AuditStore, trail: AuditTrail, gone: tuple[str]
):
    for number in range(5):
        await trail.record(act(f"tool-{number}"), "allowed")
    await state.commands.xdel(audit_keys("a").records, *gone)

    await trail.record(act("next"), "allowed")
    records = await until_kept(store, 7 - len(gone))

    assert [(record["seq"], record["action"]) for record in records[-2:]] == [(6, "tool.execute"), (7, "audit.cut_back")]
    found = await fault(store)
    assert (found.kind, found.seq) == ("missing", int(gone[0][0]))


async def test_a_record_that_another_secret_has_signed_is_told_once(store: AuditStore, trail: AuditTrail):
    async def told(**config: Any) -> list[str]:
        other = AuditTrail(store, Secret("another secret, as long"), AuditConfig(**config))
        other.start()
        with capture_logs() as logs:
            await other.record(act(), "allowed")
            await other.record(act(), "allowed")
        await other.close()
        return [line["event"] for line in logs]

    await trail.record(act(), "allowed")
    assert await told() == ["an audit chain goes on after a record that another secret has signed"]
    await trail.record(act(), "allowed")
    assert await told(public_keys=(trail.key.public,)) == []


async def test_a_chain_whose_end_is_garbage_is_not_gone_on_with(state: StateClient, store: AuditStore, trail: AuditTrail):
    await trail.record(act(), "allowed")
    for garbage in (b"garbage", b"[]", b'{"seq": "x"}', b'{"seq": 9, "hash": "y", "time_ms": 1}'):
        await state.commands.delete(audit_keys("a").records)
        await state.commands.xadd(audit_keys("a").records, {"record": garbage}, id="2-0")
        with pytest.raises(StateUnavailable):
            await trail.record(act(), "allowed")
        assert (await store.end("a")).outcome == "broken"
    await trail.record(act(tenant="b"), "allowed")  # others go on
    await state.commands.delete(audit_keys("a").records)


async def test_a_clock_that_is_wrong_does_not_count(store: AuditStore, trail: AuditTrail):
    await trail.record(act("one"), "allowed")
    trail._chains["a"].ahead_ms += 3_600_000
    await trail.record(act("two"), "allowed")

    one, two = await kept(store)
    assert 0 <= two["time_ms"] - one["time_ms"] < 5_000


async def test_what_never_got_there_is_in_the_log():
    with running_valkey() as server:
        if not hasattr(server, "data_dir"):
            pytest.skip("the store belongs to somebody else")
        state = StateClient(server.url)
        trail = AuditTrail(AuditStore(state), Secret("0123456789abcdef" * 2), AuditConfig())
        trail.start()
        server.stop()
        trail.note(act("lost"), "allowed")
        with capture_logs() as logs:
            await trail.close()
        await state.close()

    assert [line["record"]["subject"]["id"] for line in logs if "record" in line] == ["lost"]
