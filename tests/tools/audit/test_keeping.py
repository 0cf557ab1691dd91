"""Retention: the oldest records go, a signed checkpoint stands for them, and what is left is verified as before."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from app.config.audit import AuditConfig
from app.core.clock import SystemClock
from app.state.audit import AuditStore
from app.state.client import StateClient
from app.state.keys import audit_keys
from app.state.secrets import Secret
from app.tools.audit.chain import Link, chained, public_keys
from app.tools.audit.keeping import AuditKeeping
from app.tools.audit.trail import AuditTrail
from app.tools.audit.verifying import Verifier, read_head
from tests.tools.audit.made import KEYS, OTHER, act, changed, kept, members


def keeping(store: AuditStore, trail: AuditTrail, **config: Any) -> AuditKeeping:
    return AuditKeeping(store, trail, SystemClock(), AuditConfig(**config))


async def recorded(trail: AuditTrail, count: int) -> None:
    for number in range(count):
        trail.note(act(f"tool-{number}"), "allowed")
    await trail.record(act("last"), "allowed")


async def fault(store: AuditStore) -> Any:
    verifier = Verifier(KEYS, tenant="a")
    held = await store.checkpoint("a")
    verifier.begin(orjson.loads(held) if held else None)
    for seq, line in await store.newer("a", 0, 100_000):
        verifier.add(line, place=seq)
    return verifier.finish()


async def seqs(store: AuditStore) -> list[int]:
    return [record["seq"] for record in await kept(store)]


async def test_the_newest_are_kept_and_what_is_left_holds(store: AuditStore, trail: AuditTrail):
    await recorded(trail, 599)

    assert await keeping(store, trail, keep_records=10).trim("a") == 590
    assert await seqs(store) == list(range(591, 601))
    assert await fault(store) is None

    await recorded(trail, 4)
    await keeping(store, trail, keep_records=10).trim_all()
    assert await seqs(store) == list(range(596, 606))
    assert await fault(store) is None
    assert await keeping(store, trail, keep_records=10).trim("a") == 0


async def test_what_is_too_old_goes_and_the_last_one_stays(store: AuditStore, trail: AuditTrail, state: StateClient):
    last = Link()
    old = int(time.time() * 1000) - 3_600_000
    for _ in range(5):
        line, last = chained(trail.key, last, members(), old)
        await state.commands.xadd(audit_keys("a").records, {"record": line}, id=f"{last.seq}-0")
    assert await keeping(store, trail, keep_s=7_200).trim("a") == 0
    assert await keeping(store, trail, keep_s=60).trim("a") == 4
    await trail.record(act(), "allowed")
    assert await keeping(store, trail, keep_s=60).trim("a") == 1
    assert await seqs(store) == [6]
    assert await fault(store) is None


async def test_nothing_is_removed_of_a_chain_that_was_changed(store: AuditStore, trail: AuditTrail, state: StateClient):
    """A checkpoint must not stand for what somebody else has written."""
    await recorded(trail, 49)
    lines = [line for _, line in await store.newer("a", 0, 100)]
    key = audit_keys("a").records
    await state.commands.delete(key)
    for number, line in enumerate(lines, 1):
        told = changed(line, decision="denied") if number == 3 else line
        await state.commands.xadd(key, {"record": told}, id=f"{number}-0")

    with capture_logs() as logs:
        assert await keeping(store, trail, keep_records=10).trim("a") == 0
    assert any("record 3" in line.get("fault", "") for line in logs)
    assert len(await seqs(store)) == 50


async def test_nothing_is_removed_of_a_chain_that_others_have_signed(store: AuditStore, trail: AuditTrail, state: StateClient):
    last = Link()
    for _ in range(20):
        line, last = chained(OTHER, last, members(), int(time.time() * 1000))
        await state.commands.xadd(audit_keys("a").records, {"record": line}, id=f"{last.seq}-0")

    assert await keeping(store, trail, keep_records=10).trim("a") == 0
    known = keeping(store, trail, keep_records=10, public_keys=(OTHER.public,))
    assert await known.trim("a") == 10  # the key of an earlier secret


async def test_the_log_gets_the_signed_end_of_each_chain_that_grew(store: AuditStore, trail: AuditTrail):
    telling = keeping(store, trail, log_head_s=0.000001)
    await recorded(trail, 3)
    with capture_logs() as logs:
        await telling.tell_heads()
        await telling.close()  # tells what has grown since, which is nothing

    heads = [line for line in logs if line["event"] == "audit head"]
    assert [(line["head"]["tenant"], line["head"]["seq"]) for line in heads] == [("a", 4)]
    assert heads[0]["head"]["last_hash"] == (await kept(store))[-1]["hash"]
    assert read_head(orjson.dumps(heads[0]), KEYS)[1] is None


async def test_a_new_secret_signs_on_and_the_old_public_key_still_checks(store: AuditStore, trail: AuditTrail):
    await trail.record(act(), "allowed")
    other = AuditTrail(store, Secret("another secret, as long"), AuditConfig())
    other.start()
    await other.record(act(), "allowed")
    await other.close()

    found = await fault(store)
    assert (found.kind, found.seq) == ("unknown_key", 2)
    verifier = Verifier({**KEYS, **public_keys([other.key.public])}, tenant="a")
    for _, line in await store.newer("a", 0, 10):
        verifier.add(line)
    assert verifier.finish() is None


@pytest.mark.parametrize("bad", [{"keep_records": 1}, {"public_keys": ["xyz"]}, {"on_failure": "ignore"}, {"keep_s": 1}])
def test_a_wrong_setting_is_refused(bad: dict[str, Any]):
    with pytest.raises(ValueError):
        AuditConfig(**bad)
