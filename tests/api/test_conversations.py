"""Conversations by id: what was said before goes along, and what is said now is added once, whoever answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.state.embedded import EmbeddedValkey
from tests.api.test_tool_runs import (
    openai_says,
)
from tests.support.conversing import ask, echo, talking, texts, told
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.openai_wire import completion
from tests.support.serving import Serving, until

pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
async def talk(tmp_path: Path, valkey: EmbeddedValkey) -> AsyncIterator[tuple[Serving, Loopback]]:
    async with talking(tmp_path, valkey.url) as both:
        yield both


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
