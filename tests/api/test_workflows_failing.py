"""What steps that fail leave behind: effects that nobody knows of, items that were done, calls that were paid."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.keys import run_keys
from tests.api.test_workflows import ask, do, world

BEFORE = {**do("before"), "undo": do("no before")}


@pytest.mark.parametrize(
    "step",
    [
        do("w"),
        {**do("w"), "compensate": {"do": "continue"}},
        do("w", idempotent=True),
        {"switch": {"cases": [{"when": "true", **do("w")}]}},
        {"map": {"over": ["w"], "do": do("${item}")}},
        {"map": {"over": ["w"], "do": do("${item}", idempotent=True), "on_error": "continue"}},
        {"workflow": {"name": "inner"}},
        {**do("x", "look"), "compensate": {"do": "retry", "action": do("w")}},
    ],
    ids=["plain", "answered for", "idempotent", "case", "item", "idempotent item", "inside", "in between"],
)
async def test_a_run_of_which_nobody_knows_whether_a_write_took_effect_waits_for_a_review(
    tmp_path: Path, valkey: EmbeddedValkey, step: dict[str, Any]
):
    inner = {"steps": {"in": do("w")}}
    steps = {"before": BEFORE, "w": {**step, "timeout_s": 0.2, "after": ["before"]}, "then": {**do("then"), "after": ["w"]}}
    async with world(tmp_path, valkey, flow={"steps": steps}, inner=inner) as there:
        there.slow["w"], there.broken["x"] = 5, 9
        found = await there.run("flow")
        assert (found["status"], there.did.count("w")) == ("needs_review", 1), found
        assert [one for one in there.did if one != "x"] == ["before", "w"]
        assert found["output"]["json"]["error"] == "effect_uncertain"
        (told,) = [one for one in found["warnings"] if "nothing was undone" in one]
        assert ("the step 'w" in told, "the tool 'do'" in told) == (True, True), told


async def test_an_idempotent_write_that_was_too_slow_is_called_again_and_its_success_says_what_became_of_both(
    tmp_path: Path, valkey: EmbeddedValkey
):
    steps = {
        "w": {**do("w", idempotent=True), "timeout_s": 0.3, "retry": {"times": 1, "wait_s": 0}},
        "b": {**do("b"), "after": ["w"]},
    }
    async with world(tmp_path, valkey, flow={"steps": steps}) as there:
        there.slow["w"], there.broken["b"] = 1, 1
        there.once.add("w")
        said = await there.run("flow")
        assert (said["error"]["code"], there.did) == ("tool_failed", ["w", "w", "b"])


async def test_a_write_that_is_known_to_have_failed_is_taken_for_a_failure(tmp_path: Path, valkey: EmbeddedValkey):
    steps = {"before": BEFORE, "w": {**do("w"), "after": ["before"]}}
    async with world(tmp_path, valkey, flow={"steps": steps}) as there:
        there.broken["w"] = 1
        assert (await there.run("flow"))["error"]["code"] == "tool_failed"
        assert there.did == ["before", "w", "no before"]


async def test_a_failure_beside_a_write_of_unknown_effect_undoes_nothing(tmp_path: Path, valkey: EmbeddedValkey):
    steps = {
        "before": BEFORE,
        "w": {**do("w"), "timeout_s": 0.4, "after": ["before"]},
        "bad": {**do("bad", "look"), "after": ["before"]},
    }
    async with world(tmp_path, valkey, flow={"steps": steps}) as there:
        there.slow["w"], there.broken["bad"] = 5, 1
        assert (await there.run("flow"))["status"] == "needs_review"
        assert sorted(there.did) == ["bad", "before", "w"]


@pytest.mark.parametrize("bad", ["c", "later"])
async def test_the_items_of_a_map_that_were_done_are_undone_where_it_comes_to_no_end(
    tmp_path: Path, valkey: EmbeddedValkey, bad: str
):
    """Whether one of its own fails, or another step while it is under way."""
    each = {
        "map": {"over": ["a", "b", "c", "d"], "concurrency": 1, "do": do("${item}", "look" if bad == "later" else "do")},
        "undo": {"workflow": {"name": "back", "inputs": {"done": "${steps.each.output}"}}},
    }
    back = {
        "inputs": {"done": {"type": "array"}},
        "steps": {"no": {"map": {"over": "${inputs.done}", "do": do("no ${item.id}")}}},
    }
    steps = {"each": each, "later": do("later", "look")}
    async with world(tmp_path, valkey, flow={"steps": steps}, back=back) as there:
        there.broken[bad] = 1
        if bad == "later":
            there.slow |= {"c": 30}
            there.waits["later"] = "c"
        said = await there.run("flow")
        assert said["error"]["code"] == "tool_failed", said
        assert sorted(one for one in there.did if one.startswith("no ")) == ["no id-a", "no id-b"]


EACH = {
    "map": {"over": ["a", "b", "c"], "concurrency": 1, "do": do("${item}")},
    "undo": {"workflow": {"name": "back", "inputs": {"done": "${steps.each.output}"}}},
}
BACK = {
    "inputs": {"done": {"type": "array"}},
    "steps": {"no": {"map": {"over": "${inputs.done}", "concurrency": 1, "do": do("no ${item.id}")}}},
}


@pytest.mark.parametrize(
    ("compensate", "undone"),
    [
        ({"do": "continue"}, ["no id-a", "no id-b"]),
        ({"do": "replace", "value": [{"id": "else"}]}, ["no else", "no id-a", "no id-b"]),
    ],
    ids=["continue", "replace"],
)
@pytest.mark.parametrize("inside", [False, True], ids=["here", "in a workflow inside"])
async def test_the_items_of_a_map_whose_failure_was_answered_for_are_undone_in_their_turn_where_a_later_step_fails(
    tmp_path: Path, valkey: EmbeddedValkey, compensate: dict[str, Any], undone: list[str], inside: bool
):
    before = {**do("before"), "undo": do("no before")}
    each = {"before": before, "each": {**EACH, "compensate": compensate, "after": ["before"]}}
    after = {"after": {**do("after"), "undo": do("no after")}, "bad": {**do("bad"), "after": ["after"]}}
    first = {"in": {"workflow": {"name": "inner"}}} if inside else each
    after["after"]["after"] = list(first)
    inner = {"steps": each}
    async with world(tmp_path, valkey, flow={"steps": {**first, **after}}, inner=inner, back=BACK) as there:
        there.broken |= {"c": 1, "bad": 1}
        said = await there.run("flow")
        assert said["error"]["code"] == "tool_failed", said
        assert there.did == ["before", "a", "b", "c", "after", "bad", "no after", *undone, "no before"]


async def test_items_that_were_done_are_not_done_again_in_the_next_try(tmp_path: Path, valkey: EmbeddedValkey):
    each = {"map": {"over": ["a", "b", "c"], "concurrency": 1, "do": do("${item}", "look")}, "retry": {"times": 2, "wait_s": 0}}
    flow = {"steps": {"each": each}, "returns": "${steps.each.output}"}
    async with world(tmp_path, valkey, flow=flow) as there:
        there.broken["b"] = 2
        found = await there.run("flow")
        assert [one["id"] for one in found["output"]["json"]] == ["id-a", "id-b", "id-c"]
        assert there.did == ["a", "b", "b", "b", "c"]


async def test_the_calls_of_tries_that_failed_are_recorded(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient):
    """So that who goes on with the run counts them."""
    bad = ask("bad", schema={"type": "object", "required": ["no"]})
    steps = {
        "step": {**bad, "retry": {"times": 1, "wait_s": 0}, "compensate": {"do": "continue"}},
        "each": {"map": {"over": [1], "do": bad}, "after": ["step"]},
    }
    async with world(tmp_path, valkey, flow={"steps": steps}) as there:
        headers = {"Idempotency-Key": "fails"}
        said = (await there.service.client.post("/v1/workflows/flow/runs", json={}, headers=headers)).json()
        assert said["error"]["code"] == "invalid_output", said
        lines = await state.commands.hgetall(run_keys("default", said["run_id"]).steps)
        calls = {name.decode(): record.count(b'"role":"step"') for name, record in lines.items()}
        assert {name for name, some in calls.items() if some} == {"step!spent1", "step!spent2", "each/0!spent4"}, calls


@pytest.mark.parametrize("how", ["another step fails", "another item fails", "the run is out of time"])
async def test_the_calls_that_were_cut_are_recorded_before_anything_is_undone(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient, how: str
):
    """So that who goes on with the undos counts them."""
    slow, bad = ask("slow"), do("bad", "look")
    first = {"a": {**do("a"), "undo": do("no a")}}
    steps = {"step": {**slow, "after": ["a"]}, "bad": {**bad, "after": ["a"]}}
    if how == "another item fails":
        cases = [{"when": "${item} == 'slow'", **slow}]
        item = {"switch": {"cases": cases, "default": do("${item}", "look")}}
        steps = {"step": {"map": {"over": ["slow", "bad"], "do": item}, "after": ["a"]}}
    if how == "the run is out of time":
        del steps["bad"]
    async with world(tmp_path, valkey, flow={"steps": {**first, **steps}}) as there:
        there.slow["slow"] = 60
        there.broken["bad"] = 1
        there.waits["bad"] = "slow"
        headers = {"Idempotency-Key": how}
        body = {"budget": {"seconds": 2}} if how == "the run is out of time" else {}
        said = (await there.service.client.post("/v1/workflows/flow/runs", json=body, headers=headers)).json()
        assert there.did[-1] == "no a", said
        lines = await state.commands.hgetall(run_keys("default", said["run_id"]).steps)
        calls = {name.decode(): record.count(b'"role":"step"') for name, record in lines.items()}
        assert sum(calls.values()) == 1, calls
        (cut,) = [name for name, some in calls.items() if some]
        assert cut.startswith("step/0!spent" if how == "another item fails" else "step!spent")


async def test_a_step_that_waits_for_its_next_try_holds_no_slot_of_its_pool(tmp_path: Path, valkey: EmbeddedValkey):
    steps = {
        "a": {**do("a", "look"), "pool": "one", "retry": {"times": 1, "wait_s": 0}},
        "b": {**do("b", "look"), "pool": "one"},
    }
    async with world(tmp_path, valkey, flow={"steps": steps, "pools": {"one": 1}}) as there:
        there.broken["a"] = 1
        assert (await there.run("flow"))["status"] == "succeeded"
        assert there.did == ["a", "b", "a"]


async def test_nothing_is_tried_again_once_another_step_has_failed(tmp_path: Path, valkey: EmbeddedValkey):
    steps = {"a": {**do("a", idempotent=True), "retry": {"times": 1, "wait_s": 60}}, "b": do("b", "look")}
    async with world(tmp_path, valkey, flow={"steps": steps}) as there:
        there.broken |= {"a": 9, "b": 1}
        there.waits["b"] = "a"
        began = time.monotonic()
        assert (await there.run("flow"))["error"]["code"] == "tool_failed"
        assert (there.did.count("a"), time.monotonic() - began < 30) == (1, True)
