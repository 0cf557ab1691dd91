"""Workflows over HTTP: stored, drawn and run, with tools and models on loopback."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import yaml

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.keys import run_keys
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.openai_wire import completion
from tests.support.serving import Serving, serving, upstream

TRIP = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}


class World:
    """A service with the tools `do` (writes) and `look` (reads). `did` is what they were called with; what is in `broken` fails
    as often as it says, what is in `slow` takes so many seconds, only the first time where it is in `once`, and what is in
    `waits` is answered once the other has come."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.broken: dict[str, int] = {}
        self.slow: dict[str, float] = {}
        self.once: set[str] = set()
        self.waits: dict[str, str] = {}
        self.asked: list[str] = []
        self._came: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.service: Serving

    def answer(self, request: Received) -> Answer:
        if "chat" in request.path:
            question = request.json["messages"][-1]["content"]
            self.asked.append(question)
            self._came[question].set()
            return replace(as_json(completion(f"said: {question}")), delay_s=self.slow.get(question, 0))
        what = request.json["what"]
        self.did.append(what)
        self._came[what].set()
        waits_for = self._came[self.waits[what]] if what in self.waits else None
        if self.broken.get(what, 0) > 0:
            self.broken[what] -= 1
            return Answer(status=500, body=b'{"error": "broken"}', wait_for=waits_for)
        delay_s = 0 if what in self.once and self.did.count(what) > 1 else self.slow.get(what, 0)
        return Answer(body=json.dumps({"id": f"id-{what}"}).encode(), delay_s=delay_s, wait_for=waits_for)

    async def run(self, name: str, inputs: dict[str, Any] | None = None, **body: Any) -> Any:
        path = f"/v1/workflows/{name}/runs"
        return (await self.service.client.post(path, json={"inputs": inputs or {}, **body})).json()

    async def events(self, name: str, inputs: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        body = {"inputs": inputs or {}, "stream": True}
        text = (await self.service.client.post(f"/v1/workflows/{name}/runs", json=body)).text
        return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


@asynccontextmanager
async def world(directory: Path, valkey: EmbeddedValkey, **workflows: Any) -> AsyncIterator[World]:
    found = World()
    async with Loopback(found.answer) as outside:
        host = outside.url.removeprefix("http://")
        tool = {"description": "Does it.", "method": "POST", "body": {"what": "{what}"}, "input": TRIP}
        tools = {
            "hosts": [host],
            "private_hosts": [host],
            "builtins": ["calculator"],
            "http": {
                "do": {**tool, "url": f"{outside.url}/do"},
                "look": {**tool, "url": f"{outside.url}/look", "side_effect": "read"},
            },
            "permissions": [{"effect": "allow", "tools": ["*"]}],
        }
        async with serving(directory, valkey.url, {**upstream(outside.url), "tools": tools, "workflows": workflows}) as service:
            found.service = service
            yield found


def do(what: str, tool: str = "do", **more: Any) -> dict[str, Any]:
    return {"tool": {"name": tool, "arguments": {"what": what}, **more}}


def ask(what: str, **more: Any) -> dict[str, Any]:
    return {"orchestration": {"strategy": "direct", "models": ["m"], "input": what, **more}}


def value(what: Any) -> dict[str, Any]:
    return {"transform": {"value": what}}


async def test_steps_run_in_the_order_of_their_references_and_returns_is_the_answer(tmp_path: Path, valkey: EmbeddedValkey):
    article = {
        "inputs": {"topic": {"type": "string"}, "times": {"type": "integer", "default": 2}},
        "steps": {
            "shout": {"transform": {"expression": "${steps.draft.output.text} + '!'"}},
            "draft": ask("Write of ${inputs.topic}"),
            "many": {"map": {"over": ["a", "b"], "do": {"transform": {"expression": "${item} + string(${inputs.times})"}}}},
        },
        "returns": {"text": "${steps.shout.output}", "many": "${steps.many.output}", "cost": "${steps.draft.tokens}"},
    }
    async with world(tmp_path, valkey, article=article) as there:
        found = await there.run("article", {"topic": "trains"})
        assert found["status"] == "succeeded"
        assert found["strategy"] == "workflow"
        assert found["output"]["json"] == {"text": "said: Write of trains!", "many": ["a2", "b2"], "cost": 5}
        assert found["plan"]["options"] == {"workflow": "article", "version": 1, "inputs": {"topic": "trains"}}
        assert found["usage"]["output_tokens"] == 2
        assert [call["role"] for call in found["calls"]] == ["step"]

        events = await there.events("article", {"topic": "trains"})
        steps = [(event["type"], event.get("step")) for event in events if event["type"].startswith("step.")]
        assert steps.index(("step.finished", "draft")) < steps.index(("step.started", "shout"))
        assert ("step.finished", "many/1") in steps
        assert events[-1]["type"] == "run.finished"
        assert events[-1]["result"]["output"]["json"]["text"] == "said: Write of trains!"


@pytest.mark.parametrize(
    ("inputs", "param"),
    [({}, "options.inputs"), ({"topic": 3}, "options.inputs.topic"), ({"topic": "x", "o": 1}, "options.inputs")],
)
async def test_inputs_that_do_not_fit_are_refused_before_anything_runs(
    tmp_path: Path, valkey: EmbeddedValkey, inputs: dict[str, Any], param: str
):
    article = {"inputs": {"topic": {"type": "string"}}, "steps": {"a": do("a")}}
    async with world(tmp_path, valkey, article=article) as there:
        said = await there.run("article", inputs)
        assert (said["status"], said["error"]["param"]) == (400, param)
        assert there.did == []


async def test_a_failure_undoes_what_was_done_the_last_first_and_cuts_nothing_that_writes(
    tmp_path: Path, valkey: EmbeddedValkey
):
    trip = {
        "steps": {
            "flight": {**do("flight"), "undo": do("no ${steps.flight.output.id}")},
            "hotel": {**do("hotel"), "after": ["flight"], "undo": do("no hotel")},
            "slow": {**do("slow"), "after": ["hotel"], "undo": do("no slow")},
            "bad": {**do("bad"), "after": ["hotel"]},
            "never": {**do("never"), "after": ["bad"]},
        }
    }
    async with world(tmp_path, valkey, trip=trip) as there:
        there.broken["bad"], there.slow["slow"] = 1, 0.2
        said = await there.run("trip")
        assert said["error"]["code"] == "tool_failed"
        assert "the step 'bad' failed" in said["error"]["message"]
        assert sorted(there.did[:4]) == ["bad", "flight", "hotel", "slow"]
        assert there.did[4:] == ["no slow", "no hotel", "no id-flight"]

        there.broken["bad"] = 1
        events = await there.events("trip")
        undone = [event["step"] for event in events if event["type"] == "step.compensated"]
        assert undone == ["slow", "hotel", "flight"]
        diagram = await there.service.client.get(f"/v1/workflows/trip/diagram?run_id={events[0]['run_id']}")
        assert diagram.json()["steps"] == {
            "flight": "undone",
            "hotel": "undone",
            "slow": "undone",
            "bad": "failed",
            "never": "waiting",
        }
        assert diagram.json()["mermaid"].count("undone") == 2  # how it looks, and which are


async def test_an_undo_that_fails_is_told_and_the_others_are_made(tmp_path: Path, valkey: EmbeddedValkey):
    trip = {
        "steps": {
            "a": {**do("a"), "undo": do("no a")},
            "b": {**do("b"), "after": ["a"], "undo": do("no b")},
            "c": {**do("c"), "after": ["b"]},
        }
    }
    async with world(tmp_path, valkey, trip=trip) as there:
        there.broken |= {"c": 1, "no b": 1}
        events = await there.events("trip")
        assert there.did[3:] == ["no b", "no a"]
        assert any("'b' could not be undone" in event.get("message", "") for event in events)


@pytest.mark.parametrize(
    ("compensate", "output", "tries"),
    [
        ({"do": "continue"}, "nothing", 1),
        ({"do": "replace", "value": "other"}, "other", 1),
        ({"do": "replace", "action": do("instead", "look")}, {"id": "id-instead"}, 1),
        ({"do": "retry", "times": 2, "action": do("clean", "look")}, {"id": "id-a"}, 2),
    ],
    ids=["continue", "replace by a value", "replace by an action", "retry"],
)
async def test_a_step_that_fails_is_answered_for_as_it_says(
    tmp_path: Path, valkey: EmbeddedValkey, compensate: dict[str, Any], output: Any, tries: int
):
    flow = {
        "steps": {"a": {**do("a", "look"), "compensate": compensate}, "b": value('${steps.a.output ?? "nothing"}')},
        "returns": {"output": "${steps.b.output}", "tries": "${steps.a.tries}"},
    }
    async with world(tmp_path, valkey, flow=flow) as there:
        there.broken["a"] = 1
        found = await there.run("flow")
        assert found["output"]["json"] == {"output": output, "tries": tries}


async def test_what_may_pass_is_tried_again_and_what_takes_too_long_fails(tmp_path: Path, valkey: EmbeddedValkey):
    again = {"steps": {"a": {**do("a", "look"), "retry": {"times": 2, "wait_s": 0}}}}
    slow = {"steps": {"a": {**do("slow", "look"), "timeout_s": 0.1}}}
    async with world(tmp_path, valkey, again=again, slow=slow) as there:
        there.broken["a"], there.slow["slow"] = 2, 5
        assert (await there.run("again"))["status"] == "succeeded"
        assert there.did == ["a", "a", "a"]
        said = await there.run("slow")
        assert (said["status"], said["error"]["code"]) == (504, "step_timeout")


async def test_a_condition_skips_a_step_and_what_needs_its_result(tmp_path: Path, valkey: EmbeddedValkey):
    flow = {
        "inputs": {"n": {"type": "integer"}},
        "steps": {
            "big": {**value("big ${inputs.n}"), "when": "${inputs.n} > 3"},
            "after": value("${steps.big.output}"),
            "either": value('${steps.big.output ?? "small"}'),
            "choose": {
                "switch": {
                    "cases": [{"when": "${inputs.n} > 3", **value("first")}, {"when": "${inputs.n} == 3", **value("second")}],
                    "default": value("none"),
                }
            },
        },
        "returns": {name: f"${{steps.{name}.output}}" for name in ("big", "after", "either", "choose")},
    }
    async with world(tmp_path, valkey, flow=flow) as there:
        found = [(await there.run("flow", {"n": n}))["output"]["json"] for n in (4, 3, 1)]
        assert found[0] == {"big": "big 4", "after": "big 4", "either": "big 4", "choose": "first"}
        assert found[1] == {"big": None, "after": None, "either": "small", "choose": "second"}
        assert found[2]["choose"] == "none"


async def test_the_strategy_of_a_step_may_be_chosen_by_a_value(tmp_path: Path, valkey: EmbeddedValkey):
    flow = {
        "inputs": {"hard": {"type": "boolean"}},
        "steps": {
            "how": {"transform": {"expression": "${inputs.hard} ? 'simple' : 'direct'"}},
            "a": {"orchestration": {"strategy": "${steps.how.output}", "models": ["m"], "input": "Hm?"}},
        },
        "returns": "${steps.a.output.strategy}",
    }
    async with world(tmp_path, valkey, flow=flow) as there:
        assert (await there.run("flow", {"hard": True}))["output"]["text"] == "simple"
        assert (await there.run("flow", {"hard": False}))["output"]["text"] == "direct"


async def test_workflows_inside_of_workflows_and_recursion_with_a_bound(tmp_path: Path, valkey: EmbeddedValkey):
    inner = {
        "inputs": {"n": {"type": "integer"}},
        "steps": {
            "own": {**do("n${inputs.n}"), "undo": do("no n${inputs.n}")},
            "again": {
                "when": "${inputs.n} > 0",
                "after": ["own"],
                "workflow": {"name": "inner", "inputs": {"n": "${steps.less.output}"}, "max_depth": 3},
            },
            "less": {"transform": {"expression": "${inputs.n} - 1"}},
        },
        "returns": {"n": "${inputs.n}", "depth": "${workflow.depth}", "in": "${steps.again.output}"},
    }
    async with world(tmp_path, valkey, inner=inner) as there:
        found = (await there.run("inner", {"n": 2}))["output"]["json"]
        assert found == {"n": 2, "depth": 0, "in": {"n": 1, "depth": 1, "in": {"n": 0, "depth": 2, "in": None}}}
        there.did.clear()
        said = await there.run("inner", {"n": 5})
        assert "3 times inside of itself" in said["error"]["message"]
        assert there.did == ["n5", "n4", "n3", "no n3", "no n4", "no n5"]


async def test_a_map_goes_on_without_items_that_fail_where_it_says_so_and_keeps_its_concurrency(
    tmp_path: Path, valkey: EmbeddedValkey
):
    names = [f"x{number}" for number in range(50)]
    each = {"over": names, "concurrency": 5, "on_error": "continue", "do": do("${item}", "look")}
    async with world(tmp_path, valkey, flow={"steps": {"each": {"map": each}}, "returns": "${steps.each.output}"}) as there:
        there.broken["x7"] = 1
        there.slow |= dict.fromkeys(names, 0.02)
        began = time.monotonic()
        found = (await there.run("flow"))["output"]["json"]
        assert time.monotonic() - began >= 50 / 5 * 0.02
        assert len(there.did) == 50
        assert [number for number, one in enumerate(found) if one is None] == [7]
        assert found[8] == {"id": "id-x8"}


async def test_pools_bound_what_runs_at_once(tmp_path: Path, valkey: EmbeddedValkey):
    steps = {name: {**do(name, "look"), "pool": "one"} for name in "abc"}
    async with world(tmp_path, valkey, flow={"steps": steps, "pools": {"one": 1}}) as there:
        there.slow |= dict.fromkeys("abc", 0.1)
        began = time.monotonic()
        assert (await there.run("flow"))["status"] == "succeeded"
        assert time.monotonic() - began >= 0.3


async def test_a_deadline_ends_the_run_and_undoes_it(tmp_path: Path, valkey: EmbeddedValkey):
    flow = {"steps": {"a": {**do("a"), "undo": do("no a")}, "b": {**do("b", "look"), "after": ["a"]}}}
    async with world(tmp_path, valkey, flow=flow) as there:
        there.slow["b"] = 20
        said = await there.run("flow", budget={"seconds": 0.5})
        assert (said["status"], said["error"]["code"]) == (504, "deadline_exceeded")
        assert there.did == ["a", "b", "no a"]


async def test_a_run_that_is_cancelled_begins_nothing_more(tmp_path: Path, valkey: EmbeddedValkey):
    flow = {"steps": {"a": do("a", "look"), "b": {**do("b"), "after": ["a"]}}}
    async with world(tmp_path, valkey, flow=flow) as there:
        there.slow["a"] = 20
        client = there.service.client
        body = {"stream": True, "on_disconnect": "continue"}
        async with client.stream("POST", "/v1/workflows/flow/runs", json=body) as response:
            run_id = response.headers["x-quorum-run-id"]
            async for line in response.aiter_lines():
                if "step.started" in line:
                    break
            assert (await client.post(f"/v1/orchestrations/{run_id}/cancel")).status_code in (200, 202)
        assert (await client.get(f"/v1/orchestrations/{run_id}")).json()["status"] == "cancelled"
        await asyncio.sleep(0)
        assert "b" not in there.did


async def test_the_budget_of_a_run_and_of_a_step_hold(tmp_path: Path, valkey: EmbeddedValkey):
    flow = {"steps": {"a": ask("one"), "b": {**ask("two"), "after": ["a"]}}}
    small = {"steps": {"a": {**ask("one"), "budget": {"share": 0.001}}}}
    async with world(tmp_path, valkey, flow=flow, small=small) as there:
        said = await there.run("flow", budget={"tokens": 2_000})
        assert (said["status"], said["error"]["code"]) == (429, "budget_exceeded")
        said = await there.run("small", budget={"tokens": 100_000})
        assert (said["status"], said["error"]["code"]) == (429, "budget_exceeded")
        assert (await there.run("flow", budget={"tokens": 100_000}))["status"] == "succeeded"


async def test_a_workflow_is_a_recipe_a_model_of_the_openai_dialect_and_a_tool(tmp_path: Path, valkey: EmbeddedValkey):
    polite = {
        "inputs": {"input": {"type": "string"}},
        "steps": {"a": ask("Politely: ${inputs.input}")},
        "returns": "${steps.a.output.text}",
        "as_tool": {"description": "Says it politely.", "side_effect": "read"},
    }
    uses = {"steps": {"a": {"tool": {"name": "polite", "arguments": {"input": "no"}}}}, "returns": "${steps.a.output}"}
    async with world(tmp_path, valkey, polite=polite, uses=uses) as there:
        config = there.service.config.read_text() + "\nrecipes: {nice: {strategy: workflow, options: {workflow: polite}}}\n"
        there.service.configure(config)
        assert (await there.service.client.post("/v1/admin/reload")).status_code == 200
        chat = {"model": "nice", "messages": [{"role": "user", "content": "go away"}]}
        said = await there.service.client.post("/v1/chat/completions", json=chat)
        assert said.json()["choices"][0]["message"]["content"] == "said: Politely: go away"
        ran = await there.service.client.post("/v1/tools/polite/execute", json={"arguments": {"input": "yes"}})
        assert ran.json()["result"] == "said: Politely: yes"
        found = await there.run("uses")
        assert found["output"]["text"] == "said: Politely: no"
        assert found["usage"]["output_tokens"] == 2


async def test_workflows_are_stored_in_versions_for_their_tenant_and_removed(tmp_path: Path, valkey: EmbeddedValkey):
    async with world(tmp_path, valkey, fixed={"steps": {"a": value(1)}}) as there:
        client = there.service.client
        for number in (1, 2):
            made = await client.post(
                "/v1/workflows", json={"name": "numbered", "steps": {"a": value(number)}, "returns": "${steps.a.output}"}
            )
            assert (made.status_code, made.json()["version"]) == (201, number)
        assert [one["name"] for one in (await client.get("/v1/workflows")).json()["data"]] == ["fixed", "numbered"]
        assert (await client.get("/v1/workflows/numbered")).json()["versions"] == [1, 2]
        assert (await there.run("numbered"))["output"]["json"] == 2
        assert (await there.run("numbered@1"))["output"]["json"] == 1
        assert (await client.post("/v1/workflows", json={"name": "fixed", "steps": {"a": value(1)}})).status_code == 409
        only = {"name": "other", "steps": {"a": value(1)}, "validate_only": True}
        assert (await client.post("/v1/workflows", json=only)).json()["stored"] is False
        assert (await client.delete("/v1/workflows/numbered")).status_code == 204
        assert (await client.get("/v1/workflows/numbered")).status_code == 404
        assert (await client.delete("/v1/workflows/fixed")).status_code == 409


async def test_a_definition_is_refused_with_every_fault_and_its_place(tmp_path: Path, valkey: EmbeddedValkey):
    async with world(tmp_path, valkey) as there:
        steps = {"a": value("${steps.b.output}"), "b": value("${steps.a.output}"), "c": do("${inputs.no}")}
        said = (await there.service.client.post("/v1/workflows", json={"name": "x", "steps": steps})).json()
        assert said["status"] == 400
        assert "a -> b -> a" in said["detail"]
        assert "steps.c.tool.arguments.what: ${inputs.no} refers to 'no', which is no input" in said["detail"]
        said = (await there.service.client.post("/v1/workflows", json={"name": "x", "steps": {"a": {"tol": 1}}})).json()
        assert (said["status"], said["error"]["param"]) == (400, "steps.a.tol")


@pytest.mark.alone
async def test_a_step_costs_little_beside_what_it_does(tmp_path: Path, valkey: EmbeddedValkey):
    steps: dict[str, Any] = {"s0": value(0)}
    for number in range(1, 100):
        steps[f"s{number}"] = {"transform": {"expression": f"${{steps.s{number - 1}.output}} + 1"}}
    async with world(tmp_path, valkey, chain={"steps": steps, "returns": "${steps.s99.output}"}) as there:
        client, took = there.service.client, dict[str, float]()
        for kept, headers in (("without a key", {}), ("with a key", {"Idempotency-Key": "{}"})):
            times: list[float] = []
            for number in range(16):
                told = {name: text.format(number) for name, text in headers.items()}
                began = time.perf_counter()
                said = await client.post("/v1/workflows/chain/runs", json={}, headers=told)
                times.append((time.perf_counter() - began) * 1000 / 100)
                assert said.json()["output"]["json"] == 99
            took[kept] = median(times)
    print(
        "milliseconds a step with the store on loopback, median of 16 runs of 100: "
        + ", ".join(f"{kept} {ms:.2f}" for kept, ms in took.items())
    )
    assert max(took.values()) <= 2


async def test_a_step_waits_for_a_person_while_others_go_on_and_nothing_is_done_twice(tmp_path: Path, valkey: EmbeddedValkey):
    flow = {
        "steps": {
            "before": do("before"),
            "send": {"tool": {"name": "do", "arguments": {"what": "big"}}, "after": ["before"], "undo": do("no big")},
            "beside": do("beside", "look"),
            "asked": ask("once"),
            "then": {**do("then ${steps.send.output.id}", "look")},
        },
        "returns": "${steps.then.output.id}",
    }
    outer = {"steps": {"in": {"workflow": {"name": "flow"}}}, "returns": "${steps.in.output}"}
    async with world(tmp_path, valkey, flow=flow, outer=outer) as there:
        config = yaml.safe_load(there.service.config.read_text())
        rule = {"effect": "approve", "tools": ["do"], "when": "arguments.what == 'big'", "reason": "it is big"}
        config["tools"]["permissions"].append(rule)
        there.service.configure(config)
        client = there.service.client
        assert (await client.post("/v1/admin/reload")).status_code == 200
        for name in ("flow", "outer"):
            there.did.clear()
            there.asked.clear()
            waiting = await there.run(name)
            assert (waiting["status"], len(waiting["approvals"])) == ("needs_approval", 1)
            assert sorted(there.did) == ["before", "beside"]
            path = f"/v1/approvals/{waiting['approvals'][0]['id']}"
            assert (await client.post(path, json={"decision": "approve"})).status_code == 200

            async def ended(run_id: str = waiting["id"]) -> dict[str, Any]:
                while True:
                    found = (await client.get(f"/v1/orchestrations/{run_id}")).json()
                    if found["status"] not in ("running", "needs_approval"):
                        return found
                    await asyncio.sleep(0.05)

            found = await asyncio.wait_for(ended(), 20)
            assert (found["status"], found["output"]["text"]) == ("succeeded", "id-then id-big")
            assert sorted(there.did) == ["before", "beside", "big", "then id-big"]
            assert there.asked == ["once"]
            assert found["usage"]["output_tokens"] == 2


async def test_what_is_recorded_of_steps_goes_with_the_run(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient):
    async with world(tmp_path, valkey, flow={"steps": {"a": do("a"), "b": ask("b")}}) as there:
        client = there.service.client
        headers = {"Idempotency-Key": "kept"}
        run_id = (await client.post("/v1/workflows/flow/runs", json={}, headers=headers)).json()["id"]
        key = run_keys("default", run_id).steps
        assert {name.decode() for name in await state.commands.hkeys(key)} == {"@workflow", "a", "b"}
        assert await state.commands.ttl(key) > 3_600
        assert (await client.delete(f"/v1/orchestrations/{run_id}")).status_code == 204
        assert await state.commands.exists(key) == 0


async def test_a_definition_may_be_yaml(tmp_path: Path, valkey: EmbeddedValkey):
    text = "name: written\nsteps:\n  a: {transform: {value: '${run.steps_done}'}}\nreturns: ${steps.a.output}\n"
    async with world(tmp_path, valkey) as there:
        client, headers = there.service.client, {"Content-Type": "application/yaml"}
        assert (await client.post("/v1/workflows", content=text, headers=headers)).status_code == 201
        assert (await there.run("written"))["output"]["json"] == 0
        for wrong, said in ((text + "retruns: 1\n", "retruns"), ("name: [", "line 1, column")):
            refused = await client.post("/v1/workflows", content=wrong, headers=headers)
            assert (refused.status_code, said in refused.json()["detail"]) == (400, True), refused.text
        await client.delete("/v1/workflows/written")


async def test_a_run_in_the_background_waits_for_a_person_and_goes_on(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
):
    await state.commands.flushall()
    trip = {"steps": {"see": do("see", "look"), "buy": {**do("buy"), "after": ["see"]}}, "returns": "${steps.buy.output.id}"}
    async with world(tmp_path, valkey, trip=trip) as there:
        client, config = there.service.client, yaml.safe_load(there.service.config.read_text())
        config["tools"]["permissions"] = [
            {"effect": "allow", "tools": ["look"]},
            {"name": "buys", "effect": "approve", "tools": ["do"]},
        ]
        there.service.configure(config)
        await client.post("/v1/admin/reload")
        queued = await there.run("trip", background=True, priority="high")
        assert queued["status"] == "queued"
        async with asyncio.timeout(10):
            while not (waiting := (await client.get("/v1/approvals", params={"status": "pending"})).json()["data"]):
                await asyncio.sleep(0.02)
        assert there.did == ["see"]
        approved = await client.post(f"/v1/approvals/{waiting[0]['id']}", json={"decision": "approve"})
        assert approved.status_code == 200, approved.text
        async with asyncio.timeout(10):
            while (found := (await client.get(f"/v1/orchestrations/{queued['id']}")).json())["status"] != "succeeded":
                assert found["status"] in ("queued", "running", "needs_approval"), found
                await asyncio.sleep(0.02)
        assert (found["output"]["text"], there.did) == ("id-buy", ["see", "buy"])


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "trip"}], ids=["plain", "keyed"])
async def test_a_run_in_the_background_that_waits_for_a_person_is_taken_back_where_it_is_cancelled(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient, key: dict[str, str]
):
    await state.commands.flushall()
    see = {**do("see", "look"), "undo": do("unsee", "look")}
    trip = {"steps": {"see": see, "buy": {**do("buy"), "after": ["see"]}}}
    async with world(tmp_path, valkey, trip=trip) as there:
        client, config = there.service.client, yaml.safe_load(there.service.config.read_text())
        config["tools"]["http"]["look"]["side_effect"] = "write"
        config["tools"]["permissions"] = [
            {"effect": "allow", "tools": ["look"]},
            {"name": "buys", "effect": "approve", "tools": ["do"]},
        ]
        there.service.configure(config)
        await client.post("/v1/admin/reload")
        queued = await client.post("/v1/workflows/trip/runs", json={"background": True}, headers=key)
        where = queued.headers["location"]
        async with asyncio.timeout(10):
            while (await client.get(where)).json()["status"] != "needs_approval":
                await asyncio.sleep(0.02)
        assert (await client.post(f"{where}/cancel")).status_code in (200, 202)
        async with asyncio.timeout(10):
            while (await client.get(where)).json()["status"] != "cancelled":
                await asyncio.sleep(0.02)
        assert there.did == ["see", "unsee"]


async def test_what_is_for_background_runs_is_refused_without_one(tmp_path: Path, valkey: EmbeddedValkey):
    async with world(tmp_path, valkey, trip={"steps": {"a": value("b")}}) as there:
        assert (await there.run("trip", priority="low"))["error"]["param"] == "priority"
        assert (await there.run("trip", background=True, stream=True))["error"]["param"] == "stream"
