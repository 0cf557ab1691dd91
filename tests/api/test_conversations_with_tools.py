"""Conversations by id with tools: calls and results go along from vendor to vendor, none lost, none doubled."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.api.test_tool_runs import (
    ASKED,
    BROWSER,
    Shop,
    anthropic_says,
    calls_and_results,
    gemini_says,
    openai_says,
    running,
)
from tests.support.conversing import KEYS, bearer
from tests.support.loopback import as_json

pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
async def shop(tmp_path: Path, valkey: EmbeddedValkey) -> AsyncIterator[Shop]:
    async with running(tmp_path, valkey, keys=KEYS) as made:
        yield made


async def chat(shop: Shop, model: str, *said: Any, conversation: str = "books") -> Any:
    return (await shop.chat(model, *said, quorum={"conversation_id": conversation}))["choices"][0]["message"]


async def native(shop: Shop, model: str, *said: Any, conversation: str = "books") -> Any:
    body = {"recipe": model, "input": list(said), "tools": [BROWSER], "conversation_id": conversation}
    answer = await shop.service.client.post("/v1/orchestrations", json=body, headers=bearer("ann"))
    assert answer.status_code == 200, answer.text
    output = answer.json()["output"]
    calls = [
        {"id": call["id"], "function": {"name": call["name"], "arguments": call["arguments"]}} for call in output["tool_calls"]
    ]
    return {"content": output["text"], "tool_calls": calls}


async def official(shop: Shop, model: str, *said: Any, conversation: str = "books") -> Any:
    async with openai.AsyncOpenAI(base_url=f"{shop.service.url}/v1", api_key="sk-ann-0123456789", max_retries=0) as client:
        answer: Any = await client.chat.completions.create(
            model=model,
            messages=said,  # type: ignore[arg-type]
            tools=[BROWSER],
            extra_body={"quorum": {"conversation_id": conversation}},
        )
    assert answer.quorum["conversation_id"] == conversation
    return answer.choices[0].message.model_dump()


@pytest.mark.parametrize("asking", [chat, native, official])
async def test_it_goes_on_at_another_vendor_with_the_results_alone_and_no_call_is_lost_or_doubled(
    shop: Shop, asking: Any
) -> None:
    shop.says = [
        openai_says(order_1={"title": "Emma"}),
        openai_says("I look.", order_2={"title": "Ulysses"}, browser_1={"url": "a"}, browser_2={"url": "b"}),
        anthropic_says(order_3={"title": "Nana"}, browser_1={"url": "c"}),
        gemini_says("All three are ordered."),
    ]
    said: list[Any] = [ASKED]
    answer: Any = None
    for model in ("gpt-tools", "claude-tools", "gemini-tools"):
        answer = await asking(shop, model, *said)
        said = [
            {"role": "tool", "tool_call_id": call["id"], "content": f"seen {call['function']['arguments']}"}
            for call in answer.get("tool_calls") or ()
        ]
    assert answer["content"] == "All three are ordered."
    assert shop.ordered == ["Emma", "Ulysses", "Nana"]
    for dialect, body in zip(("gpt", "gpt", "claude", "gemini"), shop.asked, strict=True):
        calls, results = calls_and_results(dialect, body)
        assert sorted(calls) == sorted(results)
        assert len(set(calls)) == len(calls)
    calls, _ = calls_and_results("gemini", shop.asked[-1])
    assert len(calls) == 6
    page = (await shop.service.client.get("/v1/conversations/books", headers=bearer("ann"))).json()
    assert [turn["model"] for turn in page["data"]] == ["gpt", "claude", "gemini"]
    kept = [message for turn in page["data"] for message in turn["messages"]]
    assert [message["tool_call_id"] for message in kept if message["role"] == "tool"] == calls
    assert [call["id"] for message in kept for call in message.get("tool_calls", ())] == calls


async def test_one_that_began_without_it_is_taken_along_with_the_tools_of_the_service(shop: Shop) -> None:
    shop.says = [
        openai_says(order_1={"title": "Emma"}, browser_1={"url": "a"}),
        openai_says(browser_1={"url": "b"}),
        openai_says("Done."),
    ]
    first = (await shop.chat("gpt-tools", ASKED))["choices"][0]["message"]
    seen = [{"role": "tool", "tool_call_id": call["id"], "content": "seen"} for call in first["tool_calls"]]
    second = await chat(shop, "gpt-tools", ASKED, first, *seen)
    await chat(shop, "gpt-tools", {"role": "tool", "tool_call_id": second["tool_calls"][0]["id"], "content": "seen"})
    assert shop.ordered == ["Emma"]
    calls, results = calls_and_results("gpt", shop.asked[-1])
    assert calls == ["order_1", "browser_1", second["tool_calls"][0]["id"]]
    assert sorted(results) == sorted(calls)
    assert len(set(calls)) == 3


async def test_seals_go_back_to_their_own_vendor_alone(shop: Shop) -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "sealed-by-claude"}
    thinking = anthropic_says(browser_1={"url": "a"})
    body = json.loads(thinking.body)
    body["content"].insert(0, thought)
    call = {"functionCall": {"name": "browser", "args": {"url": "b"}}, "thoughtSignature": "c2VhbGVk"}
    calling = {"candidates": [{"content": {"role": "model", "parts": [call]}, "finishReason": "STOP", "index": 0}]}
    shop.says = [
        replace(thinking, body=json.dumps(body).encode()),
        anthropic_says("One."),
        as_json(calling),
        gemini_says("Two."),
    ]
    answer = await chat(shop, "claude", ASKED)
    for model in ("claude", "gemini"):
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "seen"} for call in answer.get("tool_calls") or ()]
        answer = await chat(shop, model, *results, {"role": "user", "content": "And more."})
    await chat(shop, "gemini", {"role": "tool", "tool_call_id": answer["tool_calls"][0]["id"], "content": "seen"})
    sent = [json.dumps(body) for body in shop.asked]
    assert ["sealed-by-claude" in one for one in sent] == [False, True, False, False]
    assert ["c2VhbGVk" in one for one in sent] == [False, False, False, True]


OPEN = [
    ([{"role": "tool", "tool_call_id": "browser_9", "content": "x"}], "no call 'browser_9' is open"),
    ([{"role": "tool", "tool_call_id": "browser_1", "content": "x"}], "results are missing for: 'browser_2'"),
    ([{"role": "tool", "tool_call_id": "browser_1", "content": "x"}] * 2, "answered twice"),
    ([{"role": "user", "content": "Hi"}, {"role": "tool", "tool_call_id": "browser_1", "content": "x"}], "come before"),
    ([{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Hi"}], "send only what is new"),
    ([{"role": "system", "content": "Hi"}], "no message to answer"),
]


@pytest.mark.parametrize(("said", "why"), OPEN)
async def test_what_does_not_go_on_where_it_stands_is_refused(shop: Shop, said: list[Any], why: str) -> None:
    shop.says = [openai_says(browser_1={"url": "a"}, browser_2={"url": "b"}), openai_says("Done.")]
    answer = await chat(shop, "gpt", ASKED)
    body = {"model": "gpt", "messages": said, "tools": [BROWSER], "quorum": {"conversation_id": "books"}}
    refused = await shop.service.client.post("/v1/chat/completions", json=body, headers=bearer("ann"))
    assert refused.status_code == 400
    assert why in refused.json()["error"]["message"]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "x"} for call in answer["tool_calls"]]
    assert (await chat(shop, "gpt", *results))["content"] == "Done."


async def test_calls_that_the_user_talks_over_are_closed_as_unanswered(shop: Shop) -> None:
    shop.says = [anthropic_says(browser_1={"url": "a"}, browser_2={"url": "b"}), anthropic_says("Fine.")]
    await chat(shop, "claude", ASKED)
    body = {"messages": [{"role": "user", "content": "Never mind."}], "model": "claude", "quorum": {"conversation_id": "books"}}
    answer = await shop.service.client.post("/v1/chat/completions", json=body, headers=bearer("ann"))
    assert "closed as unanswered: 'browser', 'browser'" in answer.json()["quorum"]["warnings"][0]
    calls, results = calls_and_results("claude", shop.asked[-1])
    assert calls == results == ["browser_1", "browser_2"]
    assert '"code":"unanswered"' in json.dumps(shop.asked[-1]).replace('\\"', '"')


async def test_it_is_its_tenants_alone(shop: Shop) -> None:
    shop.says = [openai_says("One."), openai_says("Two.")]
    await chat(shop, "gpt", ASKED)
    client = shop.service.client
    for method in ("GET", "DELETE"):
        answer = await client.request(method, "/v1/conversations/books", headers=bearer("bob"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    await shop.chat("gpt", ASKED, name="bob", quorum={"conversation_id": "books"})
    assert len(shop.asked[-1]["messages"]) == 1
    assert (await client.delete("/v1/conversations/books", headers=bearer("eve"))).status_code == 403
    assert (await client.get("/v1/conversations/books", headers=bearer("eve"))).json()["turns"] == 1


async def test_with_its_run_goes_what_was_kept_of_it_for_the_client(shop: Shop, state: StateClient) -> None:
    shop.says = [openai_says(order_1={"title": "Emma"}, browser_1={"url": "a"})]
    body = {"recipe": "gpt-tools", "input": [ASKED], "tools": [BROWSER]}
    answer = await shop.service.client.post("/v1/orchestrations", json=body, headers=bearer("ann"))
    assert len(await state.commands.keys("quorum:*:turns")) == 1
    run = f"/v1/orchestrations/{answer.json()['id']}"
    assert (await shop.service.client.delete(run, headers=bearer("ann"))).status_code == 204
    assert await state.commands.keys("quorum:*:turns") == []
