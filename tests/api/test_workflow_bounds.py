"""What a workflow may not do, however it is written: run for ever, outlive its deadline, take all memory, undo an undo."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.keys import run_keys
from tests.api.test_workflows import ask, do, value, world


def inside(name: str, **more: Any) -> dict[str, Any]:
    return {"orchestration": {"input": "x", "options": {"workflow": name, "inputs": {}}, **more}}


async def test_a_workflow_is_no_orchestration_of_a_step_not_even_one_that_a_value_names(tmp_path: Path, valkey: EmbeddedValkey):
    loop = {
        "inputs": {"how": {"type": "string"}},
        "steps": {"a": do("a", "look"), "b": {"after": ["a"], **inside("loop", strategy="${inputs.how}")}},
    }
    async with world(tmp_path, valkey, loop=loop) as there:
        said = await there.run("loop", {"how": "workflow"})
        assert said["status"] == 400
        assert "a step of its own" in said["error"]["message"]
        assert there.did == ["a"]


async def test_what_has_undone_a_step_is_not_undone_itself(tmp_path: Path, valkey: EmbeddedValkey):
    back = {"steps": {"x": {**do("back"), "undo": do("back again")}}}
    trip = {"steps": {"s": {**do("there"), "undo": {"workflow": {"name": "back"}}}, "f": {**do("f"), "after": ["s"]}}}
    outer = {
        "steps": {"p": {"workflow": {"name": "trip"}, "compensate": {"do": "continue"}}, "g": {**do("g"), "after": ["p"]}},
    }
    async with world(tmp_path, valkey, back=back, trip=trip, outer=outer) as there:
        there.broken |= {"f": 1, "g": 1}
        assert (await there.run("outer"))["error"]["code"] == "tool_failed"
        assert there.did == ["there", "f", "back", "g"]


async def test_nobody_waits_for_another_try_beyond_the_deadline(tmp_path: Path, valkey: EmbeddedValkey):
    flow = {"steps": {"a": {**do("a", "look"), "retry": {"times": 10, "wait_s": 60}}}}
    async with world(tmp_path, valkey, flow=flow) as there:
        there.broken["a"] = 100
        began = time.monotonic()
        headers = {"X-Quorum-Deadline-Ms": "500"}
        said = await there.service.client.post("/v1/workflows/flow/runs", json={"inputs": {}}, headers=headers)
        assert said.status_code in (502, 504)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("template", ["${inputs.x}" * 300, ["${inputs.x}"] * 300], ids=["text", "list"])
async def test_references_do_not_multiply_a_value_without_a_bound(tmp_path: Path, valkey: EmbeddedValkey, template: Any):
    inputs = {"x": {"type": "string"}}
    made = {"inputs": inputs, "steps": {"a": value(template)}}
    returned = {"inputs": inputs, "steps": {"a": {**do("a"), "undo": do("no a")}}, "returns": template}
    async with world(tmp_path, valkey, made=made, returned=returned) as there:
        for name in ("made", "returned"):
            said = await there.run(name, {"x": "y" * 100_000})
            assert "comes to more than 16000000 characters" in said["error"]["message"]
        assert there.did == ["a", "no a"]


async def test_a_case_of_a_switch_needs_only_what_it_reads_itself(tmp_path: Path, valkey: EmbeddedValkey):
    flow = {
        "inputs": {"k": {"type": "string"}},
        "steps": {
            "x": {**value("X"), "when": "${inputs.k} == 'x'"},
            "y": {**value("Y"), "when": "${inputs.k} != 'x'"},
            "pick": {
                "switch": {
                    "cases": [{"when": "${inputs.k} == 'x'", **value("${steps.x.output}")}],
                    "default": value("${steps.y.output}"),
                }
            },
        },
        "returns": "${steps.pick.output}",
    }
    async with world(tmp_path, valkey, flow=flow) as there:
        assert [(await there.run("flow", {"k": k}))["output"]["text"] for k in ("x", "y")] == ["X", "Y"]


async def test_a_run_is_drawn_on_its_own_workflow_and_version(tmp_path: Path, valkey: EmbeddedValkey):
    async with world(tmp_path, valkey, other={"steps": {"one": value(1)}}) as there:
        client = there.service.client
        await client.post("/v1/workflows", json={"name": "drawn", "steps": {"one": value(1), "two": value(2)}})
        run_id = (await there.events("drawn"))[0]["run_id"]
        await client.post("/v1/workflows", json={"name": "drawn", "steps": {"one": value(1)}})
        drawn = (await client.get(f"/v1/workflows/drawn/diagram?run_id={run_id}")).json()
        assert (drawn["version"], drawn["steps"]) == (1, {"one": "succeeded", "two": "succeeded"})
        assert (await client.get(f"/v1/workflows/other/diagram?run_id={run_id}")).status_code == 404
        await client.delete("/v1/workflows/drawn")


async def test_a_name_that_is_quoted_wrongly_is_told(tmp_path: Path, valkey: EmbeddedValkey):
    async with world(tmp_path, valkey) as there:
        for broken in ('${steps["a\\q"].output}', '${steps["a\tb"].output}'):
            said = await there.service.client.post("/v1/workflows", json={"name": "it", "steps": {"a": value(broken)}})
            assert said.status_code == 400
            assert said.json()["error"]["param"] == "steps.a.transform.value"


async def test_the_calls_of_tries_that_failed_are_recorded_once_each(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
):
    flow = {
        "steps": {
            "a": {**do("a", "look"), "retry": {"times": 1, "wait_s": 0}},
            "b": {**ask("${steps.a.output.id}"), "after": ["a"]},
        }
    }
    async with world(tmp_path, valkey, flow=flow) as there:
        there.broken["a"] = 1
        headers = {"Idempotency-Key": "k"}
        said = await there.service.client.post("/v1/workflows/flow/runs", json={"inputs": {}}, headers=headers)
        assert said.status_code == 200
        lines = await state.commands.hgetall(run_keys("default", said.json()["id"]).steps)
        tools = {name.decode(): [tool["status"] for tool in json.loads(line).get("tools", [])] for name, line in lines.items()}
        assert {name: some for name, some in tools.items() if some} == {"a": ["succeeded"], "a!spent1": ["failed"]}


@pytest.mark.parametrize("kind", ["map", "workflow", "retry"])
async def test_the_budget_of_a_step_bounds_all_that_is_done_in_it(tmp_path: Path, valkey: EmbeddedValkey, kind: str):
    small = {"generation": {"max_tokens": 10}}
    many = {f"s{number}": {**ask(f"{number}", **small), "after": [f"s{number - 1}"] if number else []} for number in range(20)}
    actions = {
        "map": {"map": {"over": list(range(20)), "concurrency": 1, "do": ask("${item}", **small)}},
        "workflow": {"workflow": {"name": "many"}},
        "retry": {"workflow": {"name": "fails"}, "retry": {"times": 10, "wait_s": 0}},
    }
    fails = {"steps": {"a": ask("a", **small), "c": {**do("c", "look"), "after": ["a"]}}}
    flow = {"steps": {"a": {**actions[kind], "budget": {"tokens": 99}}}}
    async with world(tmp_path, valkey, many={"steps": many}, fails=fails, flow=flow) as there:
        there.broken["c"] = 100
        said = await there.run("flow")
        assert said["error"]["code"] == "budget_exceeded", said
        assert 1 < len(there.asked) < 20
        usage = said["result"]["usage"]
        assert usage["input_tokens"] + usage["output_tokens"] <= 99


@pytest.mark.parametrize("name", ["flow", "outer"])
async def test_a_run_goes_on_with_the_definitions_that_it_has_begun_with(tmp_path: Path, valkey: EmbeddedValkey, name: str):
    flow = {
        "steps": {"a": do("a"), "b": do("b ${steps.a.output.id}"), "big": {**do("big"), "after": ["b"]}},
        "returns": "${steps.a.output.id} ${steps.b.output.id} ${steps.big.output.id}",
    }
    outer = {"steps": {"in": {"workflow": {"name": "flow"}}}, "returns": "${steps.in.output}"}
    async with world(tmp_path, valkey, flow=flow, outer=outer) as there:
        config, client = yaml.safe_load(there.service.config.read_text()), there.service.client
        config["tools"]["permissions"].append({"effect": "approve", "tools": ["do"], "when": "arguments.what == 'big'"})
        there.service.configure(config)
        await client.post("/v1/admin/reload")
        waiting = await there.run(name)
        config["workflows"]["flow"]["steps"]["a"] = do("another")
        there.service.configure(config)
        await client.post("/v1/admin/reload")
        await client.post(f"/v1/approvals/{waiting['approvals'][0]['id']}", json={"decision": "approve"})

        found = waiting
        async with asyncio.timeout(20):
            while found["status"] in ("needs_approval", "running"):
                found = (await client.get(f"/v1/orchestrations/{waiting['id']}")).json()
                await asyncio.sleep(0.05)
        assert there.did == ["a", "b id-a", "big"]
        assert found["output"]["text"] == "id-a id-b id-a id-big"


async def test_a_stored_workflow_does_not_pretend_to_be_a_tool(tmp_path: Path, valkey: EmbeddedValkey):
    definition = {"name": "it", "steps": {"a": value(1)}, "as_tool": {"description": "Does it."}}
    async with world(tmp_path, valkey) as there:
        said = await there.service.client.post("/v1/workflows", json=definition)
        assert (said.status_code, said.json()["error"]["param"]) == (400, "as_tool")


async def test_an_item_that_fails_at_a_write_ends_its_map_once_the_writes_of_the_others_are_over(
    tmp_path: Path, valkey: EmbeddedValkey
):
    one = {"each": {"map": {"over": ["bad", "slow"], "do": do("${item}")}}}
    two = {**one, "beside": {"map": {"over": ["worse", "slower"], "do": do("${item}")}}}
    workflows = {name: {"steps": steps} for name, steps in (("one", one), ("two", two))}
    async with world(tmp_path, valkey, **workflows) as there:
        there.slow |= {"slow": 0.2, "slower": 0.3}
        for name, did in (("one", ["bad", "slow"]), ("two", ["bad", "slow", "slower", "worse"])):
            there.did.clear()
            there.broken |= {"bad": 1, "worse": 1}
            async with asyncio.timeout(10):
                said = await there.run(name)
            assert (said["error"]["code"], sorted(there.did)) == ("tool_failed", did)


ITEMS = {"map": {"over": ["worse", "slow"], "do": do("${item}")}}
ANSWERS = {
    "map": (do("bad"), {"do": "replace", "action": ITEMS}),
    "workflow": (do("bad"), {"do": "replace", "action": {"workflow": {"name": "other"}}}),
    "before another try": (do("bad", idempotent=True), {"do": "retry", "times": 1, "action": {"workflow": {"name": "other"}}}),
    "case": ({"switch": {"cases": [{"when": "1 > 2", **do("never")}], "default": ITEMS}}, {"do": "fail"}),
}


@pytest.mark.parametrize("how", ANSWERS)
async def test_a_step_that_writes_does_not_wait_for_itself_where_a_part_of_it_fails(
    tmp_path: Path, valkey: EmbeddedValkey, how: str
):
    other = {"steps": {"a": do("worse"), "b": do("slow")}}
    action, compensate = ANSWERS[how]
    flow = {
        "steps": {"first": {**do("x"), "undo": do("not x")}, "it": {**action, "after": ["first"], "compensate": compensate}}
    }
    async with world(tmp_path, valkey, flow=flow, other=other) as there:
        there.slow |= {"slow": 0.2}
        there.broken |= {"bad": 2, "worse": 1}
        async with asyncio.timeout(10):
            said = await there.run("flow")
        assert said["error"]["code"] == "tool_failed", said
        parts = {"x", "worse", "slow", "not x"} | (set() if how == "case" else {"bad"})
        assert (set(there.did), there.did[-1]) == (parts, "not x")
