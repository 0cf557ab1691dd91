"""What takes back the steps of a run is no budget's to refuse; what that uses is booked all the same."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.api.test_workflow_rights import ALLOW, changed, do, house, waits

ASKING = {
    "inputs": {"input": {"type": "string"}},
    "steps": {
        "a": {**do("a"), "undo": {"orchestration": {"strategy": "direct", "models": ["m"], "input": "Take it back."}}},
        "paid": {"wait": {"signal": "paid"}, "after": ["a"]},
    },
}


def counted(config: Any, tokens: int = 1_000_000) -> None:
    config["tenants"] = {"a": {"budget": {"tokens_per_day": tokens}}}
    config["recipes"] = {"book": {"strategy": "workflow", "options": {"workflow": "flow"}}}


def without_recipe(config: Any) -> None:
    counted(config)
    del config["recipes"]


async def used(state: StateClient) -> int:
    """The tokens of the tenant's day."""
    [key] = [one async for one in state.commands.scan_iter(match="quorum:{tenant:a}:used:tokens_per_day:*")]
    return int(await state.commands.hget(key, "used"))


@pytest.mark.parametrize(
    ("change", "code"),
    [(partial(counted, tokens=1), "budget_exceeded"), (without_recipe, "not_found")],
    ids=["budget", "recipe"],
)
@pytest.mark.parametrize("background", [False, True], ids=["here", "background"])
async def test_what_undos_use_beyond_a_budget_is_booked_once(
    tmp_path: Path, valkey: EmbeddedValkey, change: Any, code: str, background: bool
) -> None:
    state = StateClient(valkey.url)
    async with house(tmp_path, valkey, ALLOW, flow=ASKING) as there:
        await changed(there, counted)
        question = {"input": "Take it back.", "strategy": "direct", "models": ["m"]}
        assert (await there.ask("POST", "/v1/orchestrations", question))[0] == 200
        body = {"recipe": "book", "input": "all", "background": background}
        run_id = await waits(there, (await there.ask("POST", "/v1/orchestrations", body))[1])
        before = await used(state)
        assert before
        await changed(there, change)
        await there.ask("POST", f"/v1/orchestrations/{run_id}/signals", {"name": "paid", "payload": 7})
        found = await there.ended(run_id)
        assert (found["status"], found["error"]["code"]) == ("failed", code), found
        took = found["usage"]["input_tokens"] + found["usage"]["output_tokens"]
        print(f"booked of an undo of {took} tokens: {await used(state) - before}")
        assert await used(state) - before == took > 0
    await state.close()
