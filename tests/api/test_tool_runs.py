"""Runs with tools over HTTP: of the service and of the client, in one conversation, whichever vendor answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import chunk, stream
from tests.support.ports import free_port
from tests.support.serving import AT_ONCE, ONE_CALL, Serving, serving

pytestmark = pytest.mark.usefixtures("state")  # what is done here is in the audit trail, which others read
ASKED = {"role": "user", "content": "Order Emma, and open the page."}
BROWSER: Any = {
    "type": "function",
    "function": {"name": "browser", "description": "Opens a page.", "parameters": {"type": "object", "properties": {}}},
}
KEYS = [
    {"name": name, "key": f"sk-{name}-0123456789", "tenant": tenant, "scopes": ["run"]}
    for name, tenant in [("ann", "a"), ("bob", "b")]
]


def openai_says(text: str | None = None, **calls: dict[str, Any]) -> Answer:
    made = [
        {"id": name, "type": "function", "function": {"name": name.split("_")[0], "arguments": json.dumps(arguments)}}
        for name, arguments in calls.items()
    ]
    message = {"role": "assistant", "content": text, **({"tool_calls": made} if made else {})}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if made else "stop"}
    used = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return as_json({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": used})


def anthropic_says(text: str | None = None, **calls: dict[str, Any]) -> Answer:
    content: list[Any] = [{"type": "text", "text": text}] if text else []
    content += [
        {"type": "tool_use", "id": name, "name": name.split("_")[0], "input": arguments} for name, arguments in calls.items()
    ]
    used = {"input_tokens": 3, "output_tokens": 2}
    reason = "tool_use" if calls else "end_turn"
    return as_json(
        {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "c",
            "content": content,
            "stop_reason": reason,
            "usage": used,
        }
    )


def gemini_says(text: str) -> Answer:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
    used = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    return as_json({"candidates": [candidate], "usageMetadata": used, "modelVersion": "g"})


class Shop:
    """A service with a tool that writes, beside vendors that say what a test has them say."""

    def __init__(self, shop: Loopback, vendors: Loopback, service: Serving) -> None:
        self._shop, self._vendors, self.service = shop, vendors, service
        self.says: list[Answer] = []

    @property
    def ordered(self) -> list[Any]:
        return [one.json["title"] for one in self._shop.received]

    @property
    def asked(self) -> list[Any]:
        """What the vendors were asked."""
        return [one.json for one in self._vendors.received]

    async def chat(self, model: str, *messages: Any, name: str = "ann", **more: Any) -> Any:
        body = {"model": model, "messages": messages, "tools": [BROWSER], **more}
        response = await self.service.client.post(
            "/v1/chat/completions", json=body, headers={"Authorization": f"Bearer sk-{name}-0123456789"}
        )
        assert response.status_code == 200, response.text
        return response.json()


MakeShop = Callable[[], Any]


@pytest.fixture
async def shop(tmp_path: Path, valkey: EmbeddedValkey) -> AsyncIterator[Shop]:
    async with running(tmp_path, valkey) as made:
        yield made


@asynccontextmanager
async def running(tmp_path: Path, valkey: EmbeddedValkey, **limits: Any) -> AsyncIterator[Shop]:
    made: list[Shop] = []

    def say(_: Received) -> Answer:
        return made[0].says.pop(0)

    async with Loopback(as_json({"order": 7})) as store, Loopback(say) as vendors:
        host = store.url.removeprefix("http://")
        order = {
            "description": "Orders a book.",
            "method": "POST",
            "url": f"{store.url}/orders",
            "body": {"title": "{title}"},
            "input": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
            "cost_usd": 0.25,
        }
        kinds = {"gpt": "openai_compatible", "claude": "anthropic", "gemini": "gemini"}
        config = {
            "providers": {
                "mock": AT_ONCE,
                **{
                    name: {"kind": kind, "base_url": vendors.url, "api_key": "k", "reliability": ONE_CALL}
                    for name, kind in kinds.items()
                },
            },
            "models": {name: {"provider": name, "model": name, "price": {"input": 0, "output": 0}} for name in kinds},
            "recipes": {f"{name}-tools": {"strategy": "tools", "models": [name]} for name in kinds},
            "keys": KEYS,
            "tools": {
                "hosts": [host],
                "private_hosts": [host],
                "http": {"order": order},
                "permissions": [{"effect": "allow", "tenants": ["a"], "recipes": ["*-tools"], "tools": ["order"]}],
            },
            **limits,
        }
        async with serving(tmp_path, valkey.url, config) as service:
            made.append(Shop(store, vendors, service))
            yield made[0]


def calls_and_results(dialect: str, body: Any) -> tuple[list[str], list[str]]:
    """The ids of the calls and of the results in a vendor's request."""
    if dialect == "gpt":
        calls = [call["id"] for message in body["messages"] for call in message.get("tool_calls", ())]
        return calls, [message["tool_call_id"] for message in body["messages"] if message["role"] == "tool"]
    if dialect == "claude":
        blocks = [block for message in body["messages"] for block in message["content"] if isinstance(block, dict)]
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        return calls, [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    parts = [part for content in body["contents"] for part in content["parts"]]
    calls = [part["functionCall"]["id"] for part in parts if "functionCall" in part]
    return calls, [part["functionResponse"]["id"] for part in parts if "functionResponse" in part]


async def test_a_conversation_goes_on_at_another_vendor_and_no_call_is_lost_or_doubled(shop: Shop) -> None:
    shop.says = [
        openai_says(order_1={"title": "Emma"}),
        openai_says("I look.", order_2={"title": "Ulysses"}, browser_1={"url": "a"}, browser_2={"url": "b"}),
        anthropic_says(order_3={"title": "Nana"}, browser_3={"url": "c"}),
        gemini_says("All three are ordered."),
    ]
    said: list[Any] = [ASKED]
    first = (await shop.chat("gpt-tools", *said))["choices"][0]
    assert first["finish_reason"] == "tool_calls"
    assert [call["function"]["name"] for call in first["message"]["tool_calls"]] == ["browser", "browser"]
    for model in ("claude-tools", "gemini-tools"):
        said.append(first["message"])
        said += [{"role": "tool", "tool_call_id": call["id"], "content": "seen"} for call in first["message"]["tool_calls"]]
        first = (await shop.chat(model, *said))["choices"][0]
    assert first["message"]["content"] == "All three are ordered."
    assert shop.ordered == ["Emma", "Ulysses", "Nana"]
    for dialect, body in zip(("gpt", "gpt", "claude", "gemini"), shop.asked, strict=True):
        calls, results = calls_and_results(dialect, body)
        assert sorted(calls) == sorted(results)
    calls, _ = calls_and_results("gemini", shop.asked[-1])
    assert calls == ["order_1", "order_2", "browser_1", "browser_2", "order_3", "browser_3"]


async def test_what_a_run_said_is_its_tenants_alone(shop: Shop) -> None:
    shop.says = [openai_says(order_1={"title": "Emma"}, browser_1={}), openai_says("Hm.")]
    message = (await shop.chat("gpt-tools", ASKED))["choices"][0]["message"]
    (call,) = message["tool_calls"]
    answer = await shop.chat(
        "gpt-tools", ASKED, message, {"role": "tool", "tool_call_id": call["id"], "content": "x"}, name="bob"
    )
    assert "is not kept any more" in answer["quorum"]["warnings"][0]
    assert calls_and_results("gpt", shop.asked[-1]) == ([call["id"]], [call["id"]])


async def test_tools_are_those_that_the_recipe_and_the_key_may_have(shop: Shop) -> None:
    shop.says = [openai_says("Hi."), openai_says("Hi."), openai_says("Hi.")]
    await shop.chat("gpt-tools", ASKED)
    await shop.chat("gpt-tools", ASKED, name="bob")
    await shop.chat("gpt", ASKED)
    offered = [[tool["function"]["name"] for tool in body["tools"]] for body in shop.asked]
    assert offered == [
        ["calculator", "clock", "json_query", "order", "browser"],
        ["calculator", "clock", "json_query", "browser"],
        ["browser"],
    ]


async def test_the_sdk_streams_an_answer_that_tools_were_called_for(service: Serving) -> None:
    client = openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="k", max_retries=0)
    asked: Any = [{"role": "user", "content": "Use the calculator: what is 17 * 23?"}]
    stream = await client.chat.completions.create(model="quorum/tools", messages=asked, stream=True)
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "391" in text
    assert not [chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.tool_calls]
    await client.close()


async def test_what_a_model_says_before_it_calls_stays_in_a_stream_that_cannot_take_it_back(shop: Shop) -> None:
    call = {"index": 0, "id": "t1", "type": "function", "function": {"name": "order", "arguments": '{"title": "Emma"}'}}
    asking = chunk({"content": "I order it."}) + chunk({"tool_calls": [call]}) + chunk({}, "tool_calls") + b"data: [DONE]\n\n"
    shop.says = [sse(asking), sse(stream("It is ", "ordered."))]
    body = {"model": "gpt-tools", "messages": [ASKED], "stream": True}
    frames = (
        await shop.service.client.post("/v1/chat/completions", json=body, headers={"Authorization": "Bearer sk-ann-0123456789"})
    ).text.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]
    said = [one["choices"][0]["delta"].get("content") for one in chunks if one["choices"]]
    assert "".join(text for text in said if text) == "I order it.\n\nIt is ordered."
    assert shop.ordered == ["Emma"]


async def test_a_result_says_which_tools_were_called(service: Serving) -> None:
    body = {"input": "Use the calculator: what is 17 * 23?", "strategy": "tools"}
    result = (await service.client.post("/v1/orchestrations", json=body)).json()
    (call,) = result["tool_calls"]
    assert (call["name"], call["status"], call["result"], call["step"]) == ("calculator", "succeeded", 391, 1)
    assert json.loads(call["arguments"]) == {"expression": "17 * 23"}
    assert "391" in result["output"]["text"]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"options": {"tools": ["nothing"]}}, "options.tools.0"),
        ({"options": {"max_steps": 1}}, "options.max_steps"),
        ({"options": {"approval": "never"}}, "options.approval"),
        ({"options": {"on_tool_error": "ignore"}}, "options.on_tool_error"),
        ({"options": {"tools": []}, "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "nothing"}}}, "tool_choice"),
        ({"generation": {"n": 2}}, "n"),
        ({"strategy": "direct", "tool_choice": {"type": "function", "function": {"name": "calculator"}}}, "tool_choice"),
    ],
)
async def test_what_cannot_be_is_refused_by_its_member(service: Serving, more: dict[str, Any], param: str) -> None:
    response = await service.client.post("/v1/orchestrations", json={"input": "Hi", "strategy": "tools", **more})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"options": {"tools": "clock"}}, "options.tools: must be a list; "),
        ({"options": "none"}, "options: must be an object"),
        ({"tool_choice": 3}, "'required' or must be an object"),
    ],
)
async def test_what_is_of_another_kind_is_told_in_words_of_json(service: Serving, more: dict[str, Any], said: str) -> None:
    response = await service.client.post("/v1/orchestrations", json={"input": "Hi", "strategy": "tools", **more})
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]


async def test_a_tool_of_the_service_may_be_demanded(service: Serving) -> None:
    choice = {"type": "function", "function": {"name": "clock"}}
    body = {"input": "Hello.", "strategy": "tools", "tool_choice": choice}
    result = (await service.client.post("/v1/orchestrations", json=body)).json()
    assert [call["name"] for call in result["tool_calls"]] == ["clock"]


async def test_what_a_tool_costs_counts_for_the_run_and_its_budget(shop: Shop) -> None:
    shop.says = [openai_says(order_1={"title": "Emma"}), openai_says(order_2={"title": "Nana"}), openai_says("One.")]
    answer = await shop.chat("gpt-tools", ASKED, quorum={"budget": {"cost_usd": 0.4}})
    assert shop.ordered == ["Emma"]
    assert answer["quorum"]["cost_usd"] == 0.25
    assert "budget_exceeded" in shop.asked[-1]["messages"][-1]["content"]


async def test_a_tool_that_was_never_reached_costs_nothing(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    port = free_port()
    spec = {"description": "Looks.", "url": f"http://127.0.0.1:{port}/", "side_effect": "read", "cost_usd": 0.25}
    tools = {
        "hosts": [f"127.0.0.1:{port}"],
        "private_hosts": [f"127.0.0.1:{port}"],
        "http": {"order": spec},
        "permissions": [{"effect": "allow", "tools": ["*"]}],
    }
    async with running(tmp_path, valkey, tools=tools, tenants={"a": {"budget": {"usd_per_day": 0.6}}}) as shop:
        for _ in range(3):  # each would take a quarter of a dollar
            shop.says = [openai_says(order_1={}), openai_says("It is away.")]
            answer = await shop.chat("gpt-tools", ASKED, quorum={"budget": {"cost_usd": 0.3}})
            assert "tool_unavailable" in shop.asked[-1]["messages"][-1]["content"]
            assert answer["quorum"]["cost_usd"] == 0


@pytest.mark.parametrize(
    ("title", "says", "text", "reason"),
    [
        ("E" * 3_000, [openai_says("Ordered.")], "Ordered.", "stop"),
        ("E" * 60_000, [], "I order it.", "length"),
    ],
    ids=["a short answer", "the last word"],
)
async def test_a_budget_that_ends_in_the_middle_leaves_the_best_so_far_where_that_is_wanted(
    shop: Shop, title: str, says: list[Answer], text: str, reason: str
) -> None:
    budget = {"budget": {"tokens": 4_000}, "on_budget": "best_so_far"}
    shop.says = [openai_says("I order it.", order_1={"title": title}), *says]
    body = {"input": "Order Emma.", "recipe": "gpt-tools", "generation": {"max_tokens": 1_500}, **budget}
    headers = {"Authorization": "Bearer sk-ann-0123456789"}
    result = (await shop.service.client.post("/v1/orchestrations", json=body, headers=headers)).json()
    assert (result["status"], result["output"]["text"]) == ("succeeded", text)
    assert result["output"]["finish_reason"] == reason
    assert shop.ordered == [title]
    assert any("the budget holds no further step" in warning for warning in result["warnings"])
    if says:
        assert shop.asked[-1]["max_tokens"] == 256
    shop.says = [openai_says("I order it.", order_1={"title": title})]
    del body["on_budget"]
    failed = await shop.service.client.post("/v1/orchestrations", json=body, headers=headers)
    assert (failed.status_code, failed.json()["error"]["code"]) == (429, "budget_exceeded")


async def test_each_step_is_reserved_when_it_is_made_from_the_limits_of_the_caller(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    limits = {"tenants": {"a": {"budget": {"tokens_per_day": 20_000}}}, "limits": {"default_max_tokens": 100}}
    async with running(tmp_path, valkey, **limits) as shop:
        shop.says = [openai_says(order_1={"title": "Emma"}), openai_says("It is ordered.")]
        answer = await shop.chat("gpt-tools", ASKED)
        assert answer["choices"][0]["message"]["content"] == "It is ordered."
        shop.says = [openai_says(order_1={"title": "E" * 60_000}), openai_says("It is ordered.")]
        body = {"model": "gpt-tools", "messages": [ASKED]}
        refused = await shop.service.client.post(
            "/v1/chat/completions", json=body, headers={"Authorization": "Bearer sk-ann-0123456789"}
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")


async def test_a_keyed_run_that_has_written_is_answered_again_though_it_failed(shop: Shop) -> None:
    shop.says = [openai_says(order_1={"title": "Emma"}), Answer(status=500)]
    headers = {"Authorization": "Bearer sk-ann-0123456789", "Idempotency-Key": "order-emma"}
    answers = [
        await shop.service.client.post(
            "/v1/chat/completions", json={"model": "gpt-tools", "messages": [ASKED]}, headers=headers
        )
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [502, 502]
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert shop.ordered == ["Emma"]


async def test_an_estimate_has_every_step_at_its_worst(service: Serving) -> None:
    body = {"input": "Hi", "strategy": "tools", "models": ["mock/mock-swift"], "options": {"max_steps": 3}}
    found = (await service.client.post("/v1/orchestrations/estimate", json=body)).json()
    assert [call["stage"] for call in found["calls"]] == [1, 2, 3]
    inputs = [call["input_tokens"] for call in found["calls"]]
    assert inputs == sorted(inputs)
    assert "3 steps at most" in found["plan"]["reason"]
