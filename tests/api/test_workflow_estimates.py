"""What a run of a workflow would take at most, and that it takes no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.state.embedded import EmbeddedValkey
from tests.api.test_workflows import World, ask, do, value, world


async def estimate(there: World, name: str, inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    body = {"input": "x", "strategy": "workflow", "options": {"workflow": name, "inputs": inputs or {}}}
    said = await there.service.client.post("/v1/orchestrations/estimate", json=body)
    assert said.status_code == 200, said.text
    return said.json()


SHORT = {"generation": {"max_tokens": 100}}


@pytest.mark.parametrize(
    ("steps", "inputs", "times"),
    [
        ({"a": ask("a", **SHORT), "b": ask("b", **SHORT)}, {}, [1, 1]),
        ({"a": {"map": {"over": [1, 2, 3], "do": ask("${item}", **SHORT)}}}, {}, [3]),
        ({"a": {"map": {"over": "${inputs.list}", "do": ask("x", **SHORT)}}}, {"list": [1, 2]}, [2]),
        ({"n": value([1]), "a": {"map": {"over": "${steps.n.output}", "max_items": 40, "do": ask("x", **SHORT)}}}, {}, [40]),
        ({"a": {**ask("a", **SHORT), "retry": {"times": 3}}}, {}, [4]),
        ({"a": {**ask("a", **SHORT), "undo": ask("b", **SHORT)}}, {}, [1, 1]),
        (
            {
                "a": {
                    "switch": {
                        "cases": [{"when": "true", **ask("a", **SHORT)}],
                        "default": ask("b", generation={"max_tokens": 400}),
                    }
                }
            },
            {},
            [1],
        ),
        ({"a": ask("a", **SHORT), "again": {"workflow": {"name": "flow", "max_depth": 5}}}, {}, [1] * 5),
    ],
    ids=["steps", "map of a list", "map of an input", "map of a bound", "retry", "undo", "switch", "recursion"],
)
async def test_every_call_that_may_be_made_is_counted(
    tmp_path: Path, valkey: EmbeddedValkey, steps: dict[str, Any], inputs: dict[str, Any], times: list[int]
) -> None:
    members = {name: {"type": "array"} for name in inputs}
    async with world(tmp_path, valkey, flow={"inputs": members, "steps": steps}) as there:
        found = await estimate(there, "flow", inputs)
        assert [call["times"] for call in found["calls"]] == times
        worst = found["worst_case"]
        assert worst["tokens"] == sum(one["times"] * (one["input_tokens"] + one["output_tokens"]) for one in found["calls"])
        assert worst["output_tokens"] >= 100 * sum(times)
        assert found["plan"]["models"] == ["m"]


async def test_a_run_takes_no_more_than_its_estimate_and_its_price_is_told(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    steps = {
        "look": do("things", "look"),
        "draft": ask("Of ${steps.look.output.id}, and ${inputs.topic}", **SHORT),
        "again": {**ask("Better: ${steps.draft.output.text}", **SHORT), "after": ["draft"]},
    }
    flow = {"inputs": {"topic": {"type": "string"}}, "steps": steps}
    async with world(tmp_path, valkey, flow=flow) as there:
        found = await estimate(there, "flow", {"topic": "trains"})
        assert [one["stage"] for one in found["calls"]] == [1, 2]
        assert found["worst_case"]["cost_usd"] is None  # the price of this model is not known
        ran = await there.run("flow", {"topic": "trains"})
        assert ran["status"] == "succeeded"
        used = ran["usage"]["input_tokens"] + ran["usage"]["output_tokens"]
        assert 0 < used <= found["worst_case"]["tokens"]
        config = yaml.safe_load(there.service.config.read_text())
        config["models"]["m"]["price"] = {"input": 1.0, "output": 2.0}
        there.service.configure(config)
        assert (await there.service.client.post("/v1/admin/reload")).status_code == 200
        cost = (await estimate(there, "flow", {"topic": "trains"}))["worst_case"]["cost_usd"]
        ran = await there.run("flow", {"topic": "trains"})
        assert 0 < ran["cost_usd"] <= cost


async def test_what_others_decide_is_named_and_has_no_price(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    steps = {"s": value("direct"), "a": {"orchestration": {"strategy": "${steps.s.output}", "input": "x"}}}
    async with world(tmp_path, valkey, flow={"steps": steps}) as there:
        found = await estimate(there, "flow")
        assert found["worst_case"]["cost_usd"] is None
        assert found["plan"]["reason"].endswith("not foreseen: a")
