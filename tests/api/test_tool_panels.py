"""Panels with tools over HTTP: a tool that writes has one effect, streamed or not; a server of tools that dies ends no run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import HEAD, chunk, completion, stream
from tests.support.serving import ONE_CALL, Serving, serving, until

pytestmark = pytest.mark.usefixtures("state")  # what is done here is in the audit trail, which others read
NAMES = ("m", "m2", "m3")
ASKED = [{"role": "user", "content": "Order Emma."}]


def asking(request: Received, name: str, **arguments: Any) -> Answer:
    call = {"index": 0, "id": "t1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    if request.json.get("stream"):
        return sse(chunk({"tool_calls": [call]}) + chunk({}, "tool_calls") + b"data: [DONE]\n\n")
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    used = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return as_json({**HEAD, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": used})


def saying(request: Received, text: str) -> Answer:
    return sse(stream(*text.partition(" "))) if request.json.get("stream") else as_json(completion(text))


def panelist(request: Received) -> Answer:
    """Looks the book up, orders it, and says what came of it."""
    results = [json.loads(message["content"]) for message in request.json["messages"] if message["role"] == "tool"]
    match len(results):
        case 0:
            return asking(request, "stock", title="Emma")
        case 1:
            return asking(request, "order", title="Emma")
        case _:
            return saying(request, f"Ordered: {results[-1]}")


class Shop:
    """A service with a tool that reads and one that writes, beside models that use both."""

    def __init__(self, shop: Loopback, service: Serving) -> None:
        self._shop, self.service = shop, service

    @property
    def ordered(self) -> list[Any]:
        return [one.json["title"] for one in self._shop.received if one.path == "/orders"]


@pytest.fixture
async def shop(tmp_path: Path, valkey: EmbeddedValkey) -> AsyncIterator[Shop]:
    async with Loopback(as_json({"order": 7})) as store, Loopback(panelist) as vendor:
        host = store.url.removeprefix("http://")
        takes = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
        order = {"description": "Orders a book.", "method": "POST", "body": {"title": "{title}"}, "input": takes}
        stock = {"description": "Looks a book up.", "url": f"{store.url}/stock", "query": {"title": "{title}"}, "input": takes}
        options = {"tools": ["stock", "order"]}
        config = {
            "providers": {"up": {"kind": "openai_compatible", "base_url": vendor.url, "api_key": "k", "reliability": ONE_CALL}},
            "models": {name: {"provider": "up", "model": name, "price": {"input": 1, "output": 1}} for name in NAMES},
            "recipes": {
                name: {"strategy": name, "models": list(NAMES), "options": options}
                for name in ("simple", "parallel", "consensus")
            },
            "tools": {
                "hosts": [host],
                "private_hosts": [host],
                "http": {"order": {**order, "url": f"{store.url}/orders"}, "stock": stock},
                "permissions": [{"effect": "allow", "tools": ["order", "stock"]}],
            },
        }
        async with serving(tmp_path, valkey.url, config) as service:
            yield Shop(store, service)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("recipe", ["simple", "parallel", "consensus"])
async def test_a_panel_of_three_has_one_effect(shop: Shop, recipe: str, streamed: bool) -> None:
    client = openai.AsyncOpenAI(base_url=f"{shop.service.url}/v1", api_key="k", max_retries=0)
    asked: Any = ASKED
    if streamed:
        chunks = [one async for one in await client.chat.completions.create(model=recipe, messages=asked, stream=True)]
        text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
        assert not [one for one in chunks if one.choices and one.choices[0].delta.tool_calls]
    else:
        answer = await client.chat.completions.create(model=recipe, messages=asked)
        text = answer.choices[0].message.content or ""
        assert answer.choices[0].finish_reason == "stop"
    assert text == "Ordered: {'result': {'order': 7}}"
    assert shop.ordered == ["Emma"]
    await client.close()


async def test_options_of_a_strategy_come_in_the_extension_of_the_dialect(shop: Shop) -> None:
    body = {
        "model": "quorum/consensus",
        "messages": ASKED,
        "quorum": {"options": {"tools": ["stock", "order"], "on_tool_error": "fail"}},
    }
    answer = (await shop.service.client.post("/v1/chat/completions", json=body)).json()
    assert answer["choices"][0]["message"]["content"] == "Ordered: {'result': {'order': 7}}"
    assert answer["quorum"]["agreement"] == 1
    assert shop.ordered == ["Emma"]


async def test_events_and_result_say_whose_calls_they_are(shop: Shop) -> None:
    body = {"input": "Order Emma.", "recipe": "consensus"}
    result = (await shop.service.client.post("/v1/orchestrations", json=body)).json()
    models = {one["id"]: one["model"] for one in result["candidates"]}
    read = [one for one in result["tool_calls"] if one["name"] == "stock"]
    (written,) = [one for one in result["tool_calls"] if one["name"] == "order"]
    assert sorted(models[one["candidate_id"]] for one in read) == sorted(NAMES)
    assert models[written["candidate_id"]] == result["output"]["source_model"]
    assert result["consensus"]["clusters"][0]["members"] == list(NAMES)
    assert result["consensus"]["winner"] == {"calls": [{"tool": "order", "arguments": {"title": "Emma"}}]}


async def test_a_conversation_knows_what_the_winner_has_written(shop: Shop) -> None:
    made = {"input": "Order Emma.", "recipe": "consensus", "conversation_id": "shopping"}
    assert (await shop.service.client.post("/v1/orchestrations", json=made)).json()["status"] == "succeeded"
    (turn,) = (await shop.service.client.get("/v1/conversations/shopping")).json()["data"]
    called = [call["function"]["name"] for message in turn["messages"] for call in message.get("tool_calls") or ()]
    assert called == ["stock", "order"]
    assert [message["role"] for message in turn["messages"]] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert turn["messages"][-1]["content"] == "Ordered: {'result': {'order': 7}}"


@pytest.mark.parametrize(
    ("strategy", "more", "param"),
    [
        ("consensus", {"options": {"tools": ["nothing"]}}, "options.tools.0"),
        ("parallel", {"options": {"max_steps": 3}}, "options"),
        ("simple", {"options": {"tools": ["stock"], "layers": 2}}, "options"),
        ("parallel", {"options": {"tools": ["stock"]}, "generation": {"n": 2}}, "n"),
        ("fallback", {"options": {"tools": ["stock"]}}, "options.tools"),
        ("adaptive", {"options": {"tools": ["stock"]}}, "options.tools"),
        ("direct", {"options": {"tools": ["stock"]}}, "options.tools"),
    ],
)
async def test_what_cannot_be_is_refused_by_its_member(shop: Shop, strategy: str, more: dict[str, Any], param: str) -> None:
    response = await shop.service.client.post("/v1/orchestrations", json={"input": "Hi", "strategy": strategy, **more})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_an_estimate_has_every_member_s_steps(shop: Shop) -> None:
    body = {"input": "Hi", "strategy": "consensus", "models": list(NAMES), "options": {"tools": ["stock"], "max_steps": 3}}
    found = (await shop.service.client.post("/v1/orchestrations/estimate", json=body)).json()
    assert [(call["model"], call["stage"]) for call in found["calls"]] == [(name, step) for name in NAMES for step in (1, 2, 3)]
    body["options"] = {}
    plain = (await shop.service.client.post("/v1/orchestrations/estimate", json=body)).json()
    assert [call["stage"] for call in plain["calls"]] == [1, 1, 1]


async def test_steps_are_reserved_one_by_one_within_a_budget(shop: Shop) -> None:
    body = {"input": "Order Emma.", "recipe": "consensus", "budget": {"tokens": 100_000}, "generation": {"max_tokens": 50}}
    result = (await shop.service.client.post("/v1/orchestrations", json=body)).json()
    assert result["status"] == "succeeded"
    assert shop.ordered == ["Emma"]


async def test_a_server_of_tools_that_is_killed_in_the_middle_is_told_and_ends_no_run(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    notes = tmp_path / "notes"

    def hangs(request: Received) -> Answer:
        told = [message["content"] for message in request.json["messages"] if message["role"] == "tool"]
        if told and request.json["model"] == "m":
            return saying(request, f"It broke: {told[-1]}")
        return asking(request, "near__hang") if request.json["model"] == "m" else saying(request, "It is fine.")

    async with Loopback(hangs) as vendor:
        config = {
            "providers": {"up": {"kind": "openai_compatible", "base_url": vendor.url, "api_key": "k", "reliability": ONE_CALL}},
            "models": {name: {"provider": "up", "model": name} for name in NAMES},
            "tools": {
                "mcp": {
                    "near": {
                        "command": [sys.executable, "-m", "tests.support.mcp_server", str(notes)],
                        "cwd": str(Path(__file__).parents[2]),
                        "side_effect": "read",
                    }
                },
                "permissions": [{"effect": "allow", "tools": ["near__*"]}],
            },
        }
        async with serving(tmp_path, valkey.url, config) as service:
            async with asyncio.timeout(30):
                while (await service.client.get("/v1/tools/near__hang")).status_code != 200:
                    await asyncio.sleep(0.05)
            body = {"input": "Hang.", "strategy": "consensus", "models": list(NAMES), "options": {"tools": ["near__hang"]}}
            async with service.client.stream("POST", "/v1/orchestrations", json={**body, "stream": True}) as response:
                frames: list[dict[str, Any]] = []
                async for line in response.aiter_lines():
                    if not line.startswith("data: "):
                        continue
                    frames.append(json.loads(line.removeprefix("data: ")))
                    if frames[-1]["type"] == "tool.called":
                        await until(lambda: "hanging" in notes.read_text(), within_s=30)
                        os.kill(int(notes.read_text().split()[1]), signal.SIGKILL)
    result = frames[-1]["result"]
    (call,) = result["tool_calls"]
    assert (result["status"], result["output"]["text"]) == ("succeeded", "It is fine.")
    assert (call["status"], call["error"]["code"]) == ("failed", "tool_failed")
    assert "went away while it worked" in call["error"]["message"]
    assert any(one["text"].startswith("It broke") for one in result["candidates"])
