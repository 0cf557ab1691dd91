"""Workflows that wait: for a signal, a person's review, a time; meanwhile no process has them."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.api.test_workflows import World, do, value, world
from tests.api.test_workflows_ending import ended

PAID = {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]}
ERRAND = {
    "steps": {
        "before": do("before"),
        "paid": {"wait": {"signal": "paid", "schema": PAID}, "after": ["before"]},
        "then": do("then ${steps.paid.output.order}"),
    },
    "returns": "${steps.then.output.id}",
}


async def signal(there: World, run_id: str, payload: Any, name: str = "paid") -> Any:
    body = {"name": name, "payload": payload}
    return await there.service.client.post(f"/v1/orchestrations/{run_id}/signals", json=body)


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}], ids=["without a key", "with a key"])
async def test_a_run_waits_for_a_signal_and_goes_on_with_its_payload(
    tmp_path: Path, valkey: EmbeddedValkey, headers: dict[str, str]
) -> None:
    async with world(tmp_path, valkey, errand=ERRAND) as there:
        client = there.service.client
        said = await client.post("/v1/workflows/errand/runs", json={}, headers=headers)
        waiting = said.json()
        assert (said.status_code, waiting["status"]) == (202, "needs_approval")
        assert waiting["waiting"] == "the signal 'paid' must come first"
        assert there.did == ["before"]
        diagram = (await client.get("/v1/workflows/errand/diagram", params={"run_id": waiting["id"]})).json()
        assert diagram["steps"] == {"before": "succeeded", "paid": "halted", "then": "waiting"}
        assert (await signal(there, waiting["id"], {"order": 7})).status_code == 200
        found = await ended(client, waiting["id"])
        assert (found["status"], found["output"]["text"], there.did) == ("succeeded", "id-then 7", ["before", "then 7"])


async def test_a_signal_may_come_before_the_run_comes_to_it(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with world(tmp_path, valkey, errand=ERRAND) as there:
        there.slow["before"] = 1
        asking = asyncio.create_task(there.run("errand"))
        async with asyncio.timeout(5):
            while "before" not in there.did:
                await asyncio.sleep(0.01)
        run_id = (await there.service.client.get("/v1/orchestrations")).json()["data"][0]["id"]
        assert (await signal(there, run_id, {"order": 8})).status_code == 200
        assert (await asking)["output"]["text"] == "id-then 8"


async def test_a_client_of_openais_dialect_is_told_that_its_run_waits_and_where_its_answer_will_be(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    async with world(tmp_path, valkey, errand=ERRAND) as there:
        config = there.service.config.read_text() + "\nrecipes: {shop: {strategy: workflow, options: {workflow: errand}}}\n"
        there.service.configure(config)
        client = there.service.client
        assert (await client.post("/v1/admin/reload")).status_code == 200
        chat = {"model": "shop", "messages": [{"role": "user", "content": "go"}]}
        said = await client.post("/v1/chat/completions", json=chat)
        assert (said.status_code, said.json()["error"]["code"]) == (403, "approval_needed")
        assert "the signal 'paid' must come first" in said.json()["detail"]
        run_id = said.headers["location"].rpartition("/")[2]
        await signal(there, run_id, {"order": 7})
        assert (await ended(client, run_id))["output"]["text"] == "id-then 7"
        streamed = (await client.post("/v1/chat/completions", json={**chat, "stream": True})).text
        assert "the signal 'paid' must come first" in streamed


async def test_a_run_in_the_background_waits_too(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with world(tmp_path, valkey, errand=ERRAND) as there:
        client = there.service.client
        body = {"input": "x", "strategy": "workflow", "options": {"workflow": "errand"}, "background": True}
        run_id = (await client.post("/v1/orchestrations", json=body)).json()["id"]
        async with asyncio.timeout(20):
            while (await client.get(f"/v1/orchestrations/{run_id}")).json()["status"] != "needs_approval":
                await asyncio.sleep(0.05)
        assert (await signal(there, run_id, {"order": 7})).status_code == 200
        assert (await ended(client, run_id))["output"]["text"] == "id-then 7"
        assert there.did == ["before", "then 7"]


async def test_a_signal_is_sent_once_fits_and_is_its_tenants(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with world(tmp_path, valkey, errand=ERRAND, plain={"steps": {"a": value(1)}}) as there:
        run_id = (await there.run("errand"))["id"]
        said = await signal(there, run_id, {"order": "seven"})
        assert (said.status_code, said.json()["error"]["param"]) == (400, "payload.order")
        said = await signal(there, run_id, {"order": 7}, name="sold")
        assert (said.status_code, "it may wait for 'paid'" in said.json()["detail"]) == (400, True)
        first = await signal(there, run_id, {"order": 7})
        assert (await signal(there, run_id, {"order": 7})).json() == first.json()
        assert (await signal(there, run_id, {"order": 9})).status_code == 409
        assert (await signal(there, "run_" + "0" * 24, {"order": 7})).status_code == 404
        await ended(there.service.client, run_id)
        plain = (await there.run("plain"))["id"]
        assert (await signal(there, plain, {"order": 7})).status_code == 400
        told = (await there.service.client.get("/v1/audit", params={"run_id": run_id})).json()["data"]
        became = [one["decision"] for one in told if one["action"] == "run.signal" and one["decision"] != "begun"]
        assert sorted(became) == ["done"] * 2 + ["failed"] * 3


async def test_a_signal_that_does_not_come_is_a_failure_that_may_be_answered_for(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    steps = {
        "a": {**do("a"), "undo": do("no a")},
        "paid": {"wait": {"signal": "paid", "within_s": 0.2}, "after": ["a"]},
    }
    kinder = {**steps, "paid": {**steps["paid"], "compensate": {"do": "replace", "value": "nothing"}}}
    flows = {"strict": {"steps": steps}, "kind": {"steps": kinder, "returns": "${steps.paid.output}"}}
    async with world(tmp_path, valkey, **flows) as there:
        found = await ended(there.service.client, (await there.run("strict"))["id"])
        assert (found["status"], found["error"]["code"], there.did) == ("failed", "step_timeout", ["a", "no a"])
        found = await ended(there.service.client, (await there.run("kind"))["id"])
        assert (found["status"], found["output"]["text"]) == ("succeeded", "nothing")


async def test_a_run_goes_on_when_its_time_has_come_and_takes_back_what_it_did_where_it_is_cancelled_before(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    steps = {
        "a": {**do("a"), "undo": do("no a")},
        "nap": {"wait": {"seconds": "${inputs.s}"}, "after": ["a"]},
        "b": {**do("b"), "after": ["nap"]},
    }
    async with world(tmp_path, valkey, flow={"inputs": {"s": {"type": "number"}}, "steps": steps}) as there:
        client, began = there.service.client, time.time()
        waiting = await there.run("flow", {"s": 1})
        assert (waiting["status"], there.did) == ("needs_approval", ["a"])
        assert (await ended(client, waiting["id"]))["status"] == "succeeded"
        late_s = time.time() - began - 1
        assert there.did == ["a", "b"]
        assert late_s >= 0
        print(f"a run that waited for a second went on {late_s:.1f} s after it")
        there.did.clear()
        waiting = await there.run("flow", {"s": 3_000})
        await client.post(f"/v1/orchestrations/{waiting['id']}/cancel")
        assert (await ended(client, waiting["id"]))["status"] == "cancelled"
        assert there.did == ["a", "no a"]


@pytest.mark.parametrize("background", [False, True], ids=["waited for", "in the background"])
async def test_runs_go_on_at_their_times_not_at_the_next_look(tmp_path: Path, valkey: EmbeddedValkey, background: bool) -> None:
    steps = {"nap": {"wait": {"seconds": "${inputs.s}"}}, "b": {**do("b ${inputs.s}"), "after": ["nap"]}}
    async with world(tmp_path, valkey, flow={"inputs": {"s": {"type": "integer"}}, "steps": steps}) as there:
        client = there.service.client
        lates: list[float] = []

        async def run(seconds: int) -> None:
            run_id = (await there.run("flow", {"s": seconds}, background=background))["id"]
            async with asyncio.timeout(20):
                while (found := (await client.get(f"/v1/orchestrations/{run_id}")).json())["status"] != "needs_approval":
                    await asyncio.sleep(0.02)
                until = datetime.fromisoformat(found["waiting"].removeprefix("it is to go on at ")).timestamp()
                while f"b {seconds}" not in there.did:
                    await asyncio.sleep(0.02)
            lates.append(time.time() - until)

        await asyncio.gather(*(run(seconds) for seconds in (1, 2, 3, 4)))
        print(f"runs that wait for a time went on up to {max(lates):.1f} s after it")
        assert max(lates) < 2.5


async def test_a_run_waits_until_a_moment(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    flow = {"inputs": {"at": {"type": "string"}}, "steps": {"a": {"wait": {"until": "${inputs.at}"}}}}
    async with world(tmp_path, valkey, flow=flow) as there:
        assert (await there.run("flow", {"at": "2020-01-01T00:00:00Z"}))["status"] == "succeeded"
        soon = (datetime.now(UTC) + timedelta(days=9)).isoformat(timespec="seconds")
        assert soon in (await there.run("flow", {"at": soon}))["waiting"]
        for wrong in ("soon", "2999-01-01T00:00:00Z"):
            assert (await there.run("flow", {"at": wrong}))["error"]["code"] == "invalid_request"


@pytest.mark.parametrize("seconds", [-1, 1e300, 2_592_001])
async def test_nobody_waits_for_ever(tmp_path: Path, valkey: EmbeddedValkey, seconds: float) -> None:
    flow = {"inputs": {"s": {"type": "number"}}, "steps": {"a": {"wait": {"seconds": "${inputs.s}"}}}}
    async with world(tmp_path, valkey, flow=flow) as there:
        assert (await there.run("flow", {"s": seconds}))["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    ("decision", "status", "output"),
    [
        ({"decision": "approve", "comment": "fine"}, "succeeded", {"value": "draft", "decision": "approved"}),
        ({"decision": "edit", "arguments": {"value": "better"}}, "succeeded", {"value": "better", "decision": "edited"}),
        ({"decision": "deny"}, "failed", None),
    ],
    ids=["approved", "edited", "denied"],
)
async def test_a_person_reviews_a_value(
    tmp_path: Path, valkey: EmbeddedValkey, decision: dict[str, Any], status: str, output: dict[str, Any] | None
) -> None:
    wait = {"review": "Is ${steps.draft.output} fit?", "value": "${steps.draft.output}", "schema": {"type": "string"}}
    steps = {"draft": value("draft"), "a": {**do("a"), "undo": do("no a")}, "look": {"wait": wait, "after": ["a"]}}
    async with world(tmp_path, valkey, flow={"steps": steps, "returns": "${steps.look.output}"}) as there:
        client = there.service.client
        waiting = await there.run("flow")
        (asked,) = waiting["approvals"]
        assert (asked["tool"], asked["reason"], asked["arguments"]["value"]) == ("workflow:review", "Is draft fit?", "draft")
        path = f"/v1/approvals/{asked['id']}"
        wrong = await client.post(path, json={"decision": "edit", "arguments": {"value": 5}})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "arguments.value")
        body = {name: text for name, text in decision.items() if name != "comment"}
        assert (await client.post(path, json=body)).status_code == 200
        found = await ended(client, waiting["id"])
        assert found["status"] == status
        became = {"approve": "approved", "edit": "edited", "deny": "denied"}[decision["decision"]]
        assert [one["status"] for one in found["approvals"]] == [became]
        if output is not None:
            assert output.items() <= found["output"]["json"].items()
            assert there.did == ["a"]
        else:
            assert (found["error"]["code"], there.did) == ("approval_denied", ["a", "no a"])


async def test_runs_that_wait_hold_no_lease_and_no_task(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    async with world(tmp_path, valkey, errand=ERRAND) as there:
        run_id = (await there.run("errand"))["id"]
        assert not [task for task in asyncio.all_tasks() if run_id in task.get_name()]
        (record,) = [key async for key in state.commands.scan_iter(f"*{run_id}*:run")]
        assert await state.commands.hget(record, "status") == b"needs_approval"
        assert (await there.service.client.delete(f"/v1/orchestrations/{run_id}")).status_code == 204
        assert [key async for key in state.commands.scan_iter(f"*{run_id}*:steps")] == []
