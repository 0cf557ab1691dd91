"""Conversations by id: what was said before goes along, and what is said now is added once, whoever answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
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
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import completion, stream
from tests.support.serving import Serving, serving, until, upstream

pytestmark = pytest.mark.usefixtures("state")
KEYS = [
    {"name": name, "key": f"sk-{name}-0123456789", "tenant": tenant, "scopes": scopes}
    for name, tenant, scopes in [("ann", "a", ["run", "read"]), ("bob", "b", ["run", "read"]), ("eve", "a", ["read"])]
]


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{name}-0123456789"}


def echo(request: Received) -> Answer:
    """Answers with how many messages there were."""
    count = f"{len(request.json['messages'])} messages"
    return sse(stream(count)) if request.json.get("stream") else as_json(completion(count))


@asynccontextmanager
async def talking(directory: Path, url: str, say: Any = echo, **config: Any) -> AsyncIterator[tuple[Serving, Loopback]]:
    async with Loopback(say) as provider, serving(directory, url, {**upstream(provider.url), **config}) as service:
        yield service, provider


@pytest.fixture
async def talk(tmp_path: Path, valkey: EmbeddedValkey) -> AsyncIterator[tuple[Serving, Loopback]]:
    async with talking(tmp_path, valkey.url) as both:
        yield both


@pytest.fixture
async def shop(tmp_path: Path, valkey: EmbeddedValkey) -> AsyncIterator[Shop]:
    async with running(tmp_path, valkey, keys=KEYS) as made:
        yield made


async def ask(service: Serving, said: Any, conversation: str | None = "c", headers: Any = None, **more: Any) -> httpx.Response:
    body = {"strategy": "direct", "models": ["m"], "input": said, "conversation_id": conversation, **more}
    return await service.client.post("/v1/orchestrations", json=body, headers=headers)


async def told(service: Serving, conversation: str = "c", **query: Any) -> Any:
    answer = await service.client.get(f"/v1/conversations/{conversation}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def texts(request: Received) -> list[str]:
    return [message["content"] for message in request.json["messages"]]


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


async def test_what_was_said_goes_before_what_is_said(talk: tuple[Serving, Loopback]) -> None:
    service, provider = talk
    first = (await ask(service, "One")).json()
    assert (first["conversation_id"], first["output"]["text"]) == ("c", "1 messages")
    await ask(service, "Two")
    assert texts(provider.received[-1]) == ["One", "1 messages", "Two"]
    page = await told(service)
    assert page["turns"] == 2
    assert page["data"][0]["run_id"] == first["id"]
    assert page["data"][1]["messages"] == [
        {"role": "user", "content": "Two"},
        {"role": "assistant", "content": "3 messages"},
    ]
    assert page["expires_at"] > page["used_at"] >= page["created_at"]


async def test_every_strategy_is_told_what_was_said(talk: tuple[Serving, Loopback]) -> None:
    service, provider = talk
    await ask(service, "One")
    for strategy in ("simple", "consensus", "parallel", "fallback", "adaptive", "tools"):
        before = len(provider.received)
        options = {"chain": [{"model": "m"}]} if strategy == "fallback" else {}
        models = [] if strategy == "fallback" else ["m", "m2"]
        answer = await ask(service, f"By {strategy}", strategy=strategy, models=models, options=options)
        assert answer.status_code == 200, answer.text
        assert all("One" in json.dumps(one.json) for one in provider.received[before:]), strategy
        turn = (await told(service))["data"][-1]
        assert turn["messages"][0] == {"role": "user", "content": f"By {strategy}"}
        assert turn["messages"][-1]["content"] == answer.json()["output"]["text"]
        assert len(turn["messages"]) == 2


async def test_a_new_one_gets_an_id_of_its_own(talk: tuple[Serving, Loopback]) -> None:
    service, provider = talk
    first, second = [(await ask(service, "One", "new")).json() for _ in range(2)]
    assert first["conversation_id"] == "conv_" + first["id"].removeprefix("run_") != second["conversation_id"]
    await ask(service, "Two", first["conversation_id"])
    assert texts(provider.received[-1]) == ["One", "1 messages", "Two"]


async def test_a_stream_takes_its_turn_too_and_tells_the_id(talk: tuple[Serving, Loopback]) -> None:
    service, provider = talk
    body = {"model": "m", "messages": [{"role": "user", "content": "One"}], "stream": True, "quorum": {"conversation_id": "c"}}
    frames = (await service.client.post("/v1/chat/completions", json=body)).text.split("\n\n")
    assert json.loads(frames[-3].removeprefix("data: "))["quorum"]["conversation_id"] == "c"
    answer = await ask(service, "Two", stream=True)
    assert '"conversation_id":"c"' in answer.text
    assert texts(provider.received[-1]) == ["One", "1 messages", "Two"]
    assert (await told(service))["turns"] == 2


async def test_what_the_system_says_stays_first_and_the_newest_holds(talk: tuple[Serving, Loopback]) -> None:
    service, provider = talk
    system = [{"role": "system", "content": text} for text in ("Be brief.", "Be long.")]
    user = {"role": "user", "content": "Hi"}
    await ask(service, [system[0], user])
    await ask(service, [user])
    assert texts(provider.received[-1])[0] == "Be brief."
    await ask(service, [user, system[1]])
    assert [text for text in texts(provider.received[-1]) if text.startswith("Be")] == ["Be long."]
    assert texts(provider.received[-1])[0] == "Be long."
    assert (await told(service))["system"] == [system[1]]


async def test_two_at_once_are_one_after_the_other(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    go = asyncio.Event()
    async with talking(tmp_path, valkey.url, lambda one: replace(echo(one), wait_for=go)) as (service, provider):
        first = asyncio.create_task(ask(service, "One"))
        await until(lambda: len(provider.received) == 1)
        busy = await ask(service, "Two")
        assert (busy.status_code, busy.json()["error"]["code"]) == (409, "conversation_busy")
        assert busy.headers["retry-after"] == "1"
        assert busy.headers["x-should-retry"] == "true"
        go.set()
        assert (await first).status_code == 200
        assert (await ask(service, "Two")).json()["output"]["text"] == "3 messages"


async def test_a_run_that_fails_leaves_it_as_it_was(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    says = [echo, lambda _: Answer(500), echo]
    async with talking(tmp_path, valkey.url, lambda one: says.pop(0)(one)) as (service, provider):
        await ask(service, "One")
        assert (await ask(service, "Two")).status_code == 502
        assert (await ask(service, "Three")).status_code == 200  # at once: nobody is kept out
        assert texts(provider.received[-1]) == ["One", "1 messages", "Three"]
        assert (await ask(service, "Nobody", models=["nobody"])).status_code == 404
        assert (await told(service))["turns"] == 2


async def test_a_client_who_leaves_leaves_it_as_it_was(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    go = asyncio.Event()
    async with talking(tmp_path, valkey.url, lambda one: replace(echo(one), wait_for=go)) as (service, provider):
        left = asyncio.create_task(ask(service, "One"))
        await until(lambda: len(provider.received) == 1)
        left.cancel()
        await asyncio.wait([left])
        await until(lambda: provider.received[0].closed.is_set())
        go.set()
        answer = await ask(service, "Two")
        while answer.status_code == 409:
            answer = await ask(service, "Two")
        assert texts(provider.received[-1]) == ["Two"]


async def test_who_says_that_it_goes_on_finds_its_turn(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    go = asyncio.Event()
    async with talking(tmp_path, valkey.url, lambda one: replace(echo(one), wait_for=go)) as (service, provider):
        body = {"strategy": "direct", "models": ["m"], "input": "One", "conversation_id": "c", "stream": True}
        async with service.client.stream("POST", "/v1/orchestrations", json={**body, "on_disconnect": "continue"}) as answer:
            await anext(answer.aiter_bytes())
        go.set()
        answer = await ask(service, "Two")
        while answer.status_code == 409:
            answer = await ask(service, "Two")
        assert texts(provider.received[-1]) == ["One", "1 messages", "Two"]


async def test_a_run_that_is_cancelled_leaves_it_as_it_was(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    go = asyncio.Event()
    async with talking(tmp_path, valkey.url, lambda one: replace(echo(one), wait_for=go)) as (service, provider):
        body = {"strategy": "direct", "models": ["m"], "input": "One", "conversation_id": "c", "stream": True}
        async with service.client.stream("POST", "/v1/orchestrations", json=body) as answer:
            cancelled = await service.client.post(f"/v1/orchestrations/{answer.headers['x-quorum-run-id']}/cancel")
            await answer.aread()
        assert cancelled.json()["status"] == "cancelled"
        go.set()
        answer = await ask(service, "Two")
        while answer.status_code == 409:
            answer = await ask(service, "Two")
        assert texts(provider.received[-1]) == ["Two"]


async def test_an_answer_that_a_person_is_to_look_at_is_a_turn_too(talk: tuple[Serving, Loopback]) -> None:
    service, _ = talk
    answer = await ask(service, "One", strategy="consensus", models=["m", "m2"], options={"review_below": 1})
    assert answer.json()["status"] == "needs_review"
    assert [turn["status"] for turn in (await told(service))["data"]] == ["needs_review"]


async def test_a_keyed_request_takes_its_turn_once(talk: tuple[Serving, Loopback]) -> None:
    service, _ = talk
    first, again = [await ask(service, "One", headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert again.headers["idempotent-replayed"] == "true"
    assert first.content == again.content
    assert (await told(service))["turns"] == 1


async def test_the_cache_knows_what_was_said_before(talk: tuple[Serving, Loopback]) -> None:
    service, _ = talk
    for conversation in ("a", "b", "c"):
        await ask(service, "Hello" if conversation == "a" else "Hallo", conversation)
    answers = [(await ask(service, "And now?", name, cache="use")).headers["x-quorum-cache"] for name in "abc"]
    assert answers == ["miss", "miss", "hit"]
    assert (await told(service, "c"))["turns"] == 2


async def test_an_estimate_counts_what_was_said(talk: tuple[Serving, Loopback]) -> None:
    service, _ = talk
    await ask(service, "word " * 4_000)
    body = {"strategy": "direct", "models": ["m"], "input": "Hi", "generation": {"max_tokens": 10}}
    found = [
        (await service.client.post("/v1/orchestrations/estimate", json={**body, "conversation_id": name})).json()
        for name in ("c", "other")
    ]
    assert found[0]["calls"][0]["input_tokens"] > 3_000 > found[1]["calls"][0]["input_tokens"]
    assert (await told(service))["turns"] == 1


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


async def test_what_is_deleted_is_gone_and_that_is_recorded(talk: tuple[Serving, Loopback]) -> None:
    service, provider = talk
    await ask(service, "One")
    assert (await service.client.delete("/v1/conversations/c")).status_code == 204
    assert (await service.client.get("/v1/conversations/c")).status_code == 404
    assert (await service.client.delete("/v1/conversations/c")).status_code == 404
    await ask(service, "Two")
    assert texts(provider.received[-1]) == ["Two"]
    found = (await service.client.get("/v1/audit", params={"action": "conversation.delete"})).json()["data"]
    assert {record["subject"]["id"] for record in found} == {"c"}


async def test_a_run_whose_conversation_is_deleted_meanwhile_has_failed(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    go = asyncio.Event()
    waits = [False, True]
    async with talking(tmp_path, valkey.url, lambda one: replace(echo(one), wait_for=go if waits.pop(0) else None)) as (
        service,
        provider,
    ):
        await ask(service, "One")
        second = asyncio.create_task(ask(service, "Two"))
        await until(lambda: len(provider.received) == 2)
        await service.client.delete("/v1/conversations/c")
        go.set()
        assert ((await second).status_code, (await second).json()["error"]["code"]) == (409, "conversation_changed")
        assert (await service.client.get("/v1/conversations/c")).status_code == 404


async def test_only_the_newest_turns_are_kept_and_that_is_said(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with talking(tmp_path, valkey.url, conversations={"max_turns": 2}) as (service, provider):
        warnings = [(await ask(service, f"No. {number}")).json()["warnings"] for number in range(1, 5)]
        assert warnings == [[], [], *[["the oldest 1 turns of the conversation are not kept any more"]] * 2]
        page = await told(service)
        assert (page["turns"], page["dropped"], [turn["number"] for turn in page["data"]]) == (4, 2, [3, 4])
        assert texts(provider.received[-1]) == ["No. 2", "3 messages", "No. 3", "5 messages", "No. 4"]


async def test_what_is_longer_than_the_bound_is_refused_or_drops_what_was_before(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    async with talking(tmp_path, valkey.url, conversations={"max_bytes": 10_000}) as (service, _):
        assert (await ask(service, "x" * 10_000)).status_code == 400
        for _ in range(3):
            assert (await ask(service, "x" * 4_000)).status_code == 200
        page = await told(service)
        assert (page["turns"], page["dropped"]) == (3, 1)
        assert page["bytes"] <= 10_000


async def test_what_is_too_long_for_a_model_is_left_out_of_its_prompt_and_kept(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with Loopback(echo) as provider:
        config = upstream(provider.url)
        config["models"]["m"]["context_window"] = 2_000
        async with serving(tmp_path, valkey.url, config) as service:
            for _ in range(3):
                answer = await ask(service, "word " * 700)
            assert "left out are 3 earlier messages" in answer.json()["warnings"][0]
            assert len(provider.received[-1].json["messages"]) == 2
            assert len((await told(service))["data"]) == 3


async def test_more_messages_than_may_be_sent_are_left_out_by_whole_turns(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with talking(tmp_path, valkey.url, limits={"max_messages": 4}) as (service, provider):
        for number in range(3):
            answer = await ask(service, f"No. {number}")
        assert answer.json()["warnings"] == ["the oldest 1 turns of the conversation are left out: 4 messages may be sent"]
        assert texts(provider.received[-1]) == ["No. 1", "3 messages", "No. 2"]


async def test_it_is_read_page_by_page(talk: tuple[Serving, Loopback]) -> None:
    service, _ = talk
    for number in range(3):
        await ask(service, f"No. {number}")
    first = await told(service, limit=2)
    rest = await told(service, limit=2, cursor=first["next_cursor"])
    assert [turn["number"] for page in (first, rest) for turn in page["data"]] == [1, 2, 3]
    assert rest["next_cursor"] is None
    assert (await service.client.get("/v1/conversations/c", params={"cursor": "x"})).status_code == 400


@pytest.mark.parametrize("name", ["a:b", "", "-a", "a" * 129, "a b", "{a}"])
async def test_what_is_no_id_is_refused(talk: tuple[Serving, Loopback], name: str) -> None:
    service, _ = talk
    assert (await ask(service, "Hi", name)).json()["error"]["param"] == "conversation_id"
    assert (await service.client.get(f"/v1/conversations/{name or '%20'}")).status_code == 404


async def test_without_the_store_only_plain_requests_are_answered(tmp_path: Path) -> None:
    async with talking(tmp_path, "redis://127.0.0.1:1", keys=KEYS) as (service, _):
        service.client.headers.update(bearer("ann"))
        refused = await ask(service, "Hi")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "state_unavailable")
        assert (await ask(service, "Hi", None)).status_code == 200


async def test_with_its_run_goes_what_was_kept_of_it_for_the_client(shop: Shop, state: StateClient) -> None:
    shop.says = [openai_says(order_1={"title": "Emma"}, browser_1={"url": "a"})]
    body = {"recipe": "gpt-tools", "input": [ASKED], "tools": [BROWSER]}
    answer = await shop.service.client.post("/v1/orchestrations", json=body, headers=bearer("ann"))
    assert len(await state.commands.keys("quorum:*:turns")) == 1
    run = f"/v1/orchestrations/{answer.json()['id']}"
    assert (await shop.service.client.delete(run, headers=bearer("ann"))).status_code == 204
    assert await state.commands.keys("quorum:*:turns") == []


async def test_an_orchestration_that_was_called_as_a_tool_is_a_part_of_its_turn(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    def say(request: Received) -> Answer:
        if request.json["model"] == "m2":
            return as_json(completion("spam"))
        if request.json["messages"][-1]["role"] == "tool":
            return as_json(completion("It is spam."))
        return openai_says(verdict_1={"message": "Win a prize!"})

    verdict = {
        "description": "Says whether a message is spam.",
        "strategy": "direct",
        "models": ["m2"],
        "k": 2,
        "prompt": "Is it spam? {message}",
        "input": {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]},
    }
    tools = {"bundles": {"verdict": verdict}, "permissions": [{"effect": "allow", "tools": ["verdict"]}]}
    async with talking(tmp_path, valkey.url, say, tools=tools) as (service, _):
        answer = await ask(service, "Is this spam?", strategy="tools")
        assert answer.json()["output"]["text"] == "It is spam.", answer.text
        (turn,) = (await told(service))["data"]
    assert [message["role"] for message in turn["messages"]] == ["user", "assistant", "tool", "assistant"]
