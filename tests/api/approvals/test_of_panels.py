"""Panels that wait for a person: they go on with the winner that they had, and ask nobody else again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.state.embedded import EmbeddedValkey
from tests.api.test_every_strategy import fold
from tests.support.approving import APP, World, asks_for, decide, ended, pending_of, shop_config
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import completion, stream
from tests.support.replicas import Reading
from tests.support.serving import ONE_CALL, Serving, serving

pytestmark = pytest.mark.usefixtures("state")
URL = "/v1/orchestrations"
EMMA, NANA = ("order", "Emma"), ("order", "Nana")
FAILS, HANGS = Answer(500, body=b'{"error": {"message": "out of order"}}'), Answer(body=b"{}", delay_s=60)
PANELS = ("simple", "parallel", "consensus")
Steps = Mapping[str, tuple[Any, ...]]


class Panel(World):
    """Models that take steps: each a call of a tool, an answer, or words. The last is taken again and again; without any left
    they say what the last tool has said."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    def __call__(self, request: Received) -> Answer:
        if request.path == "/orders" or request.path.startswith("/books/"):
            return super().__call__(request)
        self.asked.append(request.json)
        streamed, name = bool(request.json.get("stream")), request.json["model"]
        told = [message["content"] for message in request.json["messages"] if message["role"] == "tool"]
        steps = self.steps[name]
        step = steps[len(told)] if len(told) < len(steps) else f"{name}: {told[-1]}"
        if isinstance(step, Answer):
            return step
        if isinstance(step, str):
            return sse(stream(step)) if streamed else as_json(completion(step))
        return asks_for(step, streamed=streamed)

    @property
    def models(self) -> list[str]:
        """Who was asked, in order."""
        return [one["model"] for one in self.asked]


def config_of(both: Loopback, **tools: Any) -> dict[str, Any]:
    config = shop_config(both)
    config["tools"].update(tools)
    options = {"tools": ["order", "look"]}
    up = {"kind": "openai_compatible", "base_url": both.url, "api_key": "k", "reliability": ONE_CALL}
    names = ["m", "m2", "m3"]
    return {
        **config,
        "providers": {"up": up},
        "models": {name: {"provider": "up", "model": name, "price": {"input": 1, "output": 1}} for name in names},
        "recipes": {
            **config["recipes"],
            **{name: {"strategy": name, "models": names, "options": options} for name in PANELS},
        },
    }


@asynccontextmanager
async def running(path: Path, valkey: EmbeddedValkey, panel: Panel, **tools: Any) -> AsyncIterator[Serving]:
    async with Loopback(panel) as both, serving(path, valkey.url, config_of(both, **tools)) as service:
        yield service


async def paused(service: Serving, recipe: str, **more: Any) -> Any:
    """The result of a run that waits."""
    answer = await service.client.post(URL, json={"input": "Emma", "recipe": recipe, **more}, headers=APP)
    assert (answer.status_code, answer.json()["status"]) == (202, "needs_approval"), answer.text
    return answer.json()


@pytest.mark.parametrize("recipe", PANELS)
async def test_the_winner_goes_on_once_somebody_has_agreed_and_nobody_else_is_asked_again(
    tmp_path: Path, valkey: EmbeddedValkey, recipe: str
) -> None:
    panel = Panel({"m": (("look", "Emma"), EMMA), "m2": (EMMA,), "m3": (FAILS,)})
    async with running(tmp_path, valkey, panel) as service:
        before = await paused(service, recipe)
        assert (panel.ordered, [one["status"] for one in before["approvals"]]) == ([], ["pending"])
        asked = sorted(panel.models)
        panel.steps = {**panel.steps, "m3": ("I am back.",)}
        await decide(service.client, before["approvals"][0]["id"])
        end = await ended(service.client, before["id"])
        assert (end["status"], panel.ordered) == ("succeeded", ["Emma"])
        winner = end["output"]["source_model"]
        assert end["output"]["text"] == f"{winner}: {json.dumps({'result': {'order': 7}}, separators=(',', ':'))}"
        assert sorted(panel.models) == sorted([*asked, winner])
        for name in ("plan", "consensus", "evidence"):
            assert end[name] == before[name], name
        statuses = {one["id"]: (one["model"], one["status"], one["score"]) for one in end["candidates"]}
        for one in before["candidates"]:
            assert statuses[one["id"]] == (one["model"], one["status"], one["score"])
        assert len(end["candidates"]) == len(before["candidates"]) + 1
        assert [warning for warning in before["warnings"] if warning not in end["warnings"]] == []
        assert len(end["warnings"]) == len(set(end["warnings"]))
        assert sorted(one["name"] for one in end["tool_calls"]) == sorted(one["name"] for one in before["tool_calls"])
        used = [one["usage"]["input_tokens"] for one in end["candidates"]]
        assert end["usage"]["input_tokens"] == sum(used) == 3 * (len(used) - 1)


@pytest.mark.parametrize("recipe", PANELS)
async def test_a_stream_of_a_panel_adds_up_to_its_result_across_the_pause(
    tmp_path: Path, valkey: EmbeddedValkey, recipe: str
) -> None:
    panel = Panel({"m": (EMMA,), "m2": (EMMA,), "m3": (HANGS if recipe == "parallel" else FAILS,)})
    async with running(tmp_path, valkey, panel) as service:
        reading = Reading()
        asked = asyncio.create_task(reading.begin(service.client, {"input": "Emma", "recipe": recipe, "stream": True}, **APP))
        async with asyncio.timeout(10):
            while not any(frame.fields["event"] == "run.paused" for frame in reading.frames):
                await asyncio.sleep(0.02)
        (approval,) = await pending_of(service.client, reading.run_id)
        before = (await service.client.get(f"{URL}/{reading.run_id}", headers=APP)).json()
        assert fold(reading.frames) == before
        await decide(service.client, approval["id"])
        await asyncio.wait_for(asked, 10)
        result = reading.frames[-1].json["result"]
        assert fold(reading.frames) == result
        third = next(one for one in result["candidates"] if one["model"] == "m3")
        assert third["status"] == ("cancelled" if recipe == "parallel" else "failed")
        assert (panel.ordered, panel.models.count("m3")) == (["Emma"], 1)


@pytest.mark.parametrize("recipe", PANELS)
async def test_who_only_reads_waits_too_where_a_permission_says_so(tmp_path: Path, valkey: EmbeddedValkey, recipe: str) -> None:
    rules = [{"effect": "approve", "tools": ["look"], "when": 'arguments.title == "Emma"'}, {"effect": "allow", "tools": ["*"]}]
    panel = Panel(dict.fromkeys(("m", "m2", "m3"), (("look", "Nana"), ("look", "Emma"))))
    async with running(tmp_path, valkey, panel, permissions=rules) as service:
        before = await paused(service, recipe)
        assert set(panel.looked) == {"Nana"}
        await decide(service.client, before["approvals"][0]["id"])
        assert (await ended(service.client, before["id"]))["status"] == "succeeded"
        assert panel.looked.count("Emma") == 1


@pytest.mark.parametrize("decision", ["approve", "deny"])
@pytest.mark.parametrize("recipe", ["simple", "consensus"])
async def test_a_panel_that_has_not_settled_what_to_write_asks_a_person(
    tmp_path: Path, valkey: EmbeddedValkey, recipe: str, decision: str
) -> None:
    panel = Panel({"m": (EMMA,), "m2": (NANA,), "m3": (("order", "Ulysses"),)})
    async with running(tmp_path, valkey, panel, permissions=[{"effect": "allow", "tools": ["*"]}]) as service:
        before = await paused(service, recipe)
        (asked,) = before["approvals"]
        assert asked["reason"].startswith("not settled: ")
        panel.steps = {**panel.steps, "m": (EMMA, NANA)}
        await decide(service.client, asked["id"], decision=decision)
        async with asyncio.timeout(10):
            while not (again := await pending_of(service.client, before["id"])):
                await asyncio.sleep(0.05)
        assert again[0]["reason"] == asked["reason"]  # what follows is not settled either
        await decide(service.client, again[0]["id"], decision="deny")
        end = await ended(service.client, before["id"])
        assert (end["status"], "approval_denied" in end["output"]["text"]) == ("succeeded", True)
        assert panel.ordered == (["Emma"] if decision == "approve" else [])


async def test_a_panel_that_is_not_sure_enough_asks_a_person(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    panel = Panel({"m": (EMMA,), "m2": (EMMA,), "m3": ("No.",)})
    async with running(tmp_path, valkey, panel, permissions=[{"effect": "allow", "tools": ["*"]}]) as service:
        before = await paused(service, "consensus", options={"review_below": 0.99})
        assert "not sure enough" in before["approvals"][0]["reason"]
        await decide(service.client, before["approvals"][0]["id"])
        end = await ended(service.client, before["id"])
        assert (end["status"], end["consensus"], panel.ordered) == ("needs_review", before["consensus"], ["Emma"])


async def test_where_the_winner_fails_after_the_decision_another_goes_on_and_may_wait_as_well(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    panel = Panel({"m": (EMMA, FAILS), "m2": (EMMA, NANA, "Both."), "m3": (EMMA,)})
    async with running(tmp_path, valkey, panel) as service:
        reading = Reading()
        body = {"input": "Emma", "recipe": "simple", "stream": True}
        asked = asyncio.create_task(reading.begin(service.client, body, **APP))
        for title in ("Emma", "Nana"):
            async with asyncio.timeout(10):
                while not (waiting := await pending_of(service.client)):
                    await asyncio.sleep(0.05)
            assert waiting[0]["arguments"] == {"title": title}
            await decide(service.client, waiting[0]["id"])
        await asyncio.wait_for(asked, 10)
        result = reading.frames[-1].json["result"]
        assert (result["output"]["text"], panel.ordered) == ("Both.", ["Emma", "Nana"])
        assert sorted(panel.models) == ["m", "m", "m2", "m2", "m2", "m3"]
        assert sorted(one["model"] for one in result["candidates"]) == sorted(panel.models)
        assert fold(reading.frames) == result
        assert sorted(one["status"] for one in result["approvals"]) == ["approved", "approved"]


async def test_a_panel_goes_on_at_another_replica(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    panel = Panel({"m": (EMMA,), "m2": (EMMA,), "m3": (FAILS,)})
    async with Loopback(panel) as both:
        config = config_of(both)
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        async with serving(tmp_path / "a", valkey.url, config, secret="x" * 32) as one:
            before = await paused(one, "consensus")
        async with serving(tmp_path / "b", valkey.url, config, secret="x" * 32) as other:
            await decide(other.client, before["approvals"][0]["id"])
            assert (await ended(other.client, before["id"]))["status"] == "succeeded"
        assert (panel.ordered, panel.models.count("m3")) == (["Emma"], 1)
