"""What the store holds of a workflow's run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.run_records import BEGAN_WITH
from tests.api.test_workflows import do, world
from tests.api.test_workflows_ending import approving, ended


@pytest.mark.parametrize("ending", ["approve", "cancel"])
@pytest.mark.parametrize("background", [False, True], ids=["waited for", "in the background"])
async def test_what_takes_a_run_back_is_stored_until_its_end(
    tmp_path: Path, valkey: EmbeddedValkey, background: bool, ending: str
) -> None:
    flow = {"inputs": {"input": {"type": "string"}}, "steps": {"wait": do("wait", "look")}}
    state = StateClient(valkey.url)
    async with world(tmp_path, valkey, flow=flow) as there:
        client = there.service.client
        await approving(there, "look", "wait")
        run_id = (await there.run("flow", {"input": "all"}, background=background))["id"]
        where = f"/v1/orchestrations/{run_id}"

        async with asyncio.timeout(10):
            while (await client.get(where)).json()["status"] != "needs_approval":
                await asyncio.sleep(0.02)
        [key] = [one async for one in state.commands.scan_iter(match=f"*{run_id}}}:run")]
        assert await state.commands.hexists(key, BEGAN_WITH)
        if ending == "approve":
            approval = (await client.get(where)).json()["approvals"][0]["id"]
            assert (await client.post(f"/v1/approvals/{approval}", json={"decision": "approve"})).status_code == 200
        else:
            assert (await client.post(f"{where}/cancel")).status_code in (200, 202)
        await ended(client, run_id)
        assert not await state.commands.hexists(key, BEGAN_WITH)
    await state.close()
