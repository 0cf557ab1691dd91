"""What a planner picks waits for a person as if it had been asked for, and goes on by the same plan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.state.embedded import EmbeddedValkey
from tests.api.approvals.test_of_panels import EMMA, FAILS, URL, Panel, config_of
from tests.api.test_every_strategy import fold
from tests.support.approving import APP, ROOT, decide, ended, pending_of
from tests.support.loopback import Loopback
from tests.support.replicas import Reading
from tests.support.serving import Serving, serving

pytestmark = pytest.mark.usefixtures("state")
ORDER = {"tool": "order", "arguments": {"title": "Emma"}}
HELPER, PANEL, CHAT = {"recipe": "helper"}, {"recipe": "simple"}, {"strategy": "direct", "models": ["m3"]}
ASK = {"input": "Emma", "strategy": "reliable"}
DIRECT = {**ASK, "options": {"tool_name": "order", "tool_options": {"title": "Emma"}}}
STEPS = {"m": (EMMA,), "m2": (EMMA,), "m3": (FAILS,)}


def rules(use: Any, *fallbacks: Any) -> dict[str, Any]:
    return {"rules": [{"name": "books", "use": use, "fallbacks": list(fallbacks)}]}


@asynccontextmanager
async def running(path: Path, valkey: EmbeddedValkey, panel: Panel, planner: Any = None, **more: Any) -> AsyncIterator[Serving]:
    async with Loopback(panel) as both:
        config = {**config_of(both), "planner": planner or {}}
        config["tools"].update(more.get("tools", {}))
        async with serving(path, valkey.url, config) as service:
            yield service


async def paused(service: Serving, body: Any = ASK) -> Any:
    answer = await service.client.post(URL, json=body, headers=APP)
    assert (answer.status_code, answer.json()["status"]) == (202, "needs_approval"), answer.text
    return answer.json()


@pytest.mark.parametrize(("body", "planner"), [(DIRECT, None), (ASK, rules(ORDER))], ids=["by name", "by rule"])
async def test_a_tool_that_is_run_directly_waits(tmp_path: Path, valkey: EmbeddedValkey, body: Any, planner: Any) -> None:
    panel = Panel(STEPS)
    async with running(tmp_path, valkey, panel, planner) as service:
        before = await paused(service, body)
        assert (panel.ordered, before["approvals"][0]["arguments"]) == ([], {"title": "Emma"})
        await decide(service.client, before["approvals"][0]["id"], decision="edit", arguments={"title": "Nana"})
        end = await ended(service.client, before["id"])
        assert (end["status"], end["output"]["json"], panel.ordered) == ("succeeded", {"order": 7}, ["Nana"])
        assert (end["plan"], end["cost_usd"]) == (before["plan"], 0.25)


@pytest.mark.parametrize("use", [HELPER, PANEL, ORDER], ids=["tools", "panel", "tool"])
async def test_a_run_goes_on_by_the_plan_that_it_had_whatever_the_rules_say_now(
    tmp_path: Path, valkey: EmbeddedValkey, use: Any
) -> None:
    panel = Panel(STEPS)
    async with running(tmp_path, valkey, panel, rules(use)) as service:
        before = await paused(service)
        asked = len(panel.asked)
        config = yaml.safe_load(service.config.read_text())
        service.configure({**config, "planner": rules(CHAT)})
        assert (await service.client.post("/v1/admin/reload", headers=ROOT)).status_code == 200
        await decide(service.client, before["approvals"][0]["id"])
        end = await ended(service.client, before["id"])
        assert (end["status"], end["plan"], panel.ordered) == ("succeeded", before["plan"], ["Emma"])
        assert len(panel.asked) == asked + (use is not ORDER)


async def test_a_tool_waits_in_place_of_what_has_failed_and_that_is_not_asked_again(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    panel = Panel(STEPS)
    async with running(tmp_path, valkey, panel, rules(CHAT, ORDER)) as service:
        reading = Reading()
        asked = asyncio.create_task(reading.begin(service.client, {**ASK, "stream": True}, **APP))
        async with asyncio.timeout(10):
            while not (waiting := await pending_of(service.client)):
                await asyncio.sleep(0.05)
        await decide(service.client, waiting[0]["id"])
        await asyncio.wait_for(asked, 10)
        result = reading.frames[-1].json["result"]
        assert (result["status"], panel.ordered, panel.models) == ("succeeded", ["Emma"], ["m3"])
        assert [one["status"] for one in result["candidates"]] == ["failed"]
        assert any("goes in its place" in warning for warning in result["warnings"])
        assert fold(reading.frames) == result


async def test_a_tool_that_is_denied_fails_the_run(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    panel = Panel(STEPS)
    async with running(tmp_path, valkey, panel) as service:
        before = await paused(service, DIRECT)
        await decide(service.client, before["approvals"][0]["id"], decision="deny", reason="too dear")
        end = await ended(service.client, before["id"])
        assert (end["status"], end["error"]["code"], panel.ordered) == ("failed", "approval_denied", [])


async def test_where_a_tool_is_denied_the_next_one_is_asked_for(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    panel = Panel(STEPS)
    async with running(tmp_path, valkey, panel, rules(ORDER, {**ORDER, "arguments": {"title": "Nana"}})) as service:
        before = await paused(service)
        for decision in ("deny", "approve"):
            async with asyncio.timeout(10):
                while not (waiting := await pending_of(service.client, before["id"])):
                    await asyncio.sleep(0.05)
            await decide(service.client, waiting[0]["id"], decision=decision)
        end = await ended(service.client, before["id"])
        assert (end["status"], panel.ordered) == ("succeeded", ["Nana"])
        assert [one["status"] for one in end["tool_calls"]] == ["refused", "succeeded"]
        assert [one["status"] for one in end["approvals"]] == ["denied", "approved"]
        assert len(end["warnings"]) == 1


async def test_of_a_strategy_that_goes_in_place_of_another_nobody_is_asked(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    panel = Panel(STEPS)
    async with running(tmp_path, valkey, panel, rules(CHAT, HELPER)) as service:
        answer = await service.client.post(URL, json=ASK, headers=APP)
        assert (answer.status_code, panel.ordered) == (200, [])
        (call,) = answer.json()["tool_calls"]
        assert (call["status"], call["error"]["code"]) == ("refused", "approval_needed")
        assert "nobody can be asked here" in call["error"]["message"]


@pytest.mark.parametrize("recipe", ["helper", "simple", "consensus"])
async def test_inside_of_a_tool_nobody_is_asked(tmp_path: Path, valkey: EmbeddedValkey, recipe: str) -> None:
    tools = {
        "bundles": {"verdict": {"description": "Asks others.", "recipe": recipe, "k": 2}},
        "permissions": [
            {"effect": "allow", "tools": ["verdict", "order"]},
            {"effect": "approve", "tools": ["look"]},
        ],
    }
    panel = Panel(dict.fromkeys(("m", "m2", "m3"), (("look", "Emma"), "Not there.")))
    async with running(tmp_path, valkey, panel, tools=tools) as service:
        body = {**ASK, "options": {"tool_name": "verdict", "tool_options": {"question": "Is it there?"}}}
        answer = await service.client.post(URL, json=body, headers=APP)
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded"), answer.text
        assert (panel.looked, await pending_of(service.client)) == ([], [])
        said = [one["content"] for asked in panel.asked for one in asked["messages"] if one["role"] == "tool"]
        assert said
        assert all("nobody can be asked here" in one for one in said)
        offered = {tool["function"]["name"] for asked in panel.asked for tool in asked.get("tools") or ()}
        assert offered == {"look"}  # what writes is not offered there
