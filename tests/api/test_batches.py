"""Batches: many requests in, their results out, as lines of JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.keys import JOBS
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.openai_wire import completion
from tests.support.serving import AT_ONCE, Serving, serving, until, upstream

JSONL = {"content-type": "application/x-ndjson"}
DIRECT = {"strategy": "direct", "models": ["mock/mock-terse"]}


def jsonl(rows: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def prompts(count: int, **more: Any) -> Iterator[dict[str, Any]]:
    return ({"custom_id": f"line-{number}", "input": f"Say {number}", **more} for number in range(count))


async def uploaded(client: httpx.AsyncClient, rows: Iterable[Any], **query: str) -> str:
    """The id of a batch that was accepted."""
    answer = await client.post("/v1/batches", content=jsonl(rows), headers=JSONL, params=query)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/batches/{answer.json()['id']}"
    return str(answer.json()["id"])


async def over(client: httpx.AsyncClient, batch_id: str, within_s: float = 30) -> Any:
    """A batch, once it is over."""
    async with asyncio.timeout(within_s):
        while True:
            found = (await client.get(f"/v1/batches/{batch_id}")).json()
            if found["status"] in ("completed", "cancelled"):
                return found
            await asyncio.sleep(0.05)


async def results(client: httpx.AsyncClient, batch_id: str, **query: str) -> list[Any]:
    answer = await client.get(f"/v1/batches/{batch_id}/results", params=query)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture(autouse=True)
async def empty(state: StateClient) -> None:
    await state.commands.flushall()


async def test_lines_go_in_and_results_come_out_in_their_order(service: Serving) -> None:
    batch_id = await uploaded(service.client, prompts(200, **DIRECT), priority="low")
    batch = await over(service.client, batch_id)
    assert batch["status"] == "completed"
    assert batch["counts"] == {"total": 200, "succeeded": 200, "failed": 0, "left": 0, "waiting": 0}
    found = await results(service.client, batch_id)
    assert [row["custom_id"] for row in found] == [f"line-{number}" for number in range(200)]
    body = found[7]["response"]["body"]
    assert (found[7]["response"]["status_code"], found[7]["error"], body["status"]) == (200, None, "succeeded")
    tokens = [row["response"]["body"]["usage"] for row in found]
    assert batch["usage"]["output_tokens"] == sum(usage["output_tokens"] for usage in tokens)
    costs = [row["response"]["body"]["cost_usd"] for row in found]
    assert batch["cost_usd"] == pytest.approx(sum(costs), abs=1e-6)
    listed = (await service.client.get("/v1/batches")).json()["data"]
    assert [(row["id"], row["priority"]) for row in listed] == [(batch_id, "low")]


async def test_lines_of_openais_batch_api_are_answered_as_it_answers(service: Serving) -> None:
    chat = {"model": "mock/mock-terse", "messages": [{"role": "user", "content": "Hi"}]}
    rows = [
        {"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions", "body": chat},
        {"custom_id": "vector", "method": "POST", "url": "/v1/embeddings", "body": {"model": "mock/mock-terse", "input": "Hi"}},
        {"custom_id": "own", "method": "POST", "url": "/v1/orchestrations", "body": {"input": "Hi", **DIRECT}},
        {"custom_id": "bad", "method": "POST", "url": "/v1/chat/completions", "body": {**chat, "n": 100}},
    ]
    batch_id = await uploaded(service.client, rows)
    batch = await over(service.client, batch_id)
    assert (batch["counts"]["succeeded"], batch["counts"]["failed"]) == (3, 1)
    by_id = {row["custom_id"]: row for row in await results(service.client, batch_id)}
    assert by_id["chat"]["response"]["body"]["object"] == "chat.completion"
    assert len(by_id["vector"]["response"]["body"]["data"]) == 1
    assert by_id["own"]["response"]["body"]["object"] == "orchestration"
    failed = by_id["bad"]
    assert (failed["response"]["status_code"], failed["error"]["code"]) == (400, "invalid_request")
    assert failed["response"]["body"]["error"]["param"] == "n"


async def test_items_in_a_body_take_what_the_batch_says_where_they_say_nothing(service: Serving) -> None:
    body = {**DIRECT, "generation": {"max_tokens": 5}, "metadata": {"of": "42"}, "items": list(prompts(2))}
    answer = await service.client.post("/v1/batches", json=body)
    assert answer.status_code == 202, answer.text
    batch = await over(service.client, answer.json()["id"])
    assert (batch["metadata"], batch["strategy"]) == ({"of": "42"}, "direct")
    found = await results(service.client, "latest")
    assert {row["response"]["body"]["strategy"] for row in found} == {"direct"}
    assert {row["response"]["body"]["output"]["finish_reason"] for row in found} == {"length"}


GOOD: dict[str, Any] = {"custom_id": "a", "input": "Hi", **DIRECT}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (jsonl([GOOD]) + b"{", "line 2 is not valid JSON"),
        (jsonl([GOOD, [1]]), "line 2: it is no JSON object"),
        (jsonl([GOOD, {"input": "Hi"}]), "line 2: custom_id"),
        (jsonl([GOOD, {**GOOD, "input": "Ho"}]), "stands twice"),
        (jsonl([GOOD, {**GOOD, "custom_id": "b", "models": ["nobody"]}]), "line 2: "),
        (jsonl([{**GOOD, "stream": True}]), "line 1: stream"),
        (jsonl([{"custom_id": "a", "url": "/v1/files", "body": {}}]), "line 1: url"),
        (jsonl([{"custom_id": "a", "url": "/v1/embeddings", "method": "GET", "body": {}}]), "line 1: method"),
        (jsonl([{"custom_id": "a", "url": "/v1/embeddings", "body": []}]), "line 1: body"),
        (jsonl([{"custom_id": "a", "url": "/v1/embeddings", "body": {}, "more": 1}]), "line 1: 'more'"),
        (b"\n\n", "no line"),
    ],
)
async def test_what_is_no_batch_is_refused_whole_with_the_number_of_its_line(
    service: Serving, state: StateClient, content: bytes, said: str
) -> None:
    answer = await service.client.post("/v1/batches", content=content, headers=JSONL)
    assert answer.status_code in (400, 404), answer.text
    assert said in answer.json()["detail"]
    assert (await service.client.get("/v1/batches")).json()["data"] == []
    assert await state.commands.keys("*batch_*") == []


@pytest.mark.parametrize(
    ("headers", "content", "said", "status"),
    [
        ({"content-type": "text/csv"}, b"a,b", "send lines of JSON with Content-Type: application/x-ndjson", 415),
        ({}, b'{"input_file_id": "file-1", "endpoint": "/v1/chat/completions"}', "send the lines themselves", 400),
    ],
)
async def test_what_is_sent_as_something_else_is_told_how_to_send_it(
    service: Serving, headers: dict[str, str], content: bytes, said: str, status: int
) -> None:
    answer = await service.client.post("/v1/batches", content=content, headers=headers)
    assert answer.status_code == status
    assert said in answer.json()["detail"]


async def test_too_much_is_refused(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    config = {"providers": {"mock": AT_ONCE}, "batches": {"max_lines": 100, "max_bytes": 100_000}}
    async with serving(tmp_path, valkey.url, config) as service:
        many = await service.client.post("/v1/batches", content=jsonl(prompts(101, **DIRECT)), headers=JSONL)
        large = await service.client.post("/v1/batches", content=jsonl(prompts(1, pad="x" * 100_000)), headers=JSONL)
        assert (many.status_code, large.status_code) == (413, 413)
        strange = await service.client.post("/v1/batches", content=b"", headers=JSONL, params={"nonsense": "1"})
        assert (strange.status_code, strange.json()["error"]["param"]) == (400, "nonsense")


async def test_an_upload_whose_first_lines_are_gone_by_its_end_is_refused_whole(service: Serving, state: StateClient) -> None:
    """What is there of an upload goes after an hour, since nobody may ever finish it."""

    async def slowly() -> AsyncIterator[bytes]:
        yield jsonl(prompts(64, **DIRECT))
        async with asyncio.timeout(5):
            while not (kept := await state.commands.keys("*:batch:lines:0")):
                await asyncio.sleep(0.01)
        await state.commands.delete(*kept)
        yield jsonl([{**GOOD, "custom_id": "last"}])

    answer = await service.client.post("/v1/batches", content=slowly(), headers=JSONL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "body_timeout")
    assert (await service.client.get("/v1/batches")).json()["data"] == []
    assert await state.commands.keys("*batch_*:batch*") == []


async def test_what_comes_back_with_a_batch_is_bounded(service: Serving) -> None:
    body = {"items": [GOOD], "metadata": {"note": "x" * 20_000}}
    answer = await service.client.post("/v1/batches", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "metadata")


async def test_results_are_read_while_it_goes_on_and_cancelling_keeps_them(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    go = asyncio.Event()

    def answer(request: Received) -> Answer:
        number = int(request.json["messages"][0]["content"].split()[1])
        made = as_json(completion())
        made.wait_for = None if number < 5 else go
        return made

    async with Loopback(answer) as provider:
        config = {**upstream(provider.url), "batches": {"concurrency": 4}}
        async with serving(tmp_path, valkey.url, config) as service:
            batch_id = await uploaded(service.client, prompts(300, strategy="direct", models=["m"]))
            await until(lambda: len(provider.received) >= 9)
            async with asyncio.timeout(5):
                while len(await results(service.client, batch_id)) < 5:
                    await asyncio.sleep(0.02)
            running = (await service.client.get(f"/v1/batches/{batch_id}")).json()
            assert (running["status"], running["counts"]["succeeded"]) == ("running", 5)
            refused = await service.client.post(f"/v1/batches/{batch_id}/retry")
            assert refused.status_code == 409
            await service.client.post(f"/v1/batches/{batch_id}/cancel")
            batch = await over(service.client, batch_id)
            assert (batch["status"], batch["counts"]["left"]) == ("cancelled", 295)
            go.set()
            assert (await service.client.post(f"/v1/batches/{batch_id}/retry")).status_code == 202
            batch = await over(service.client, batch_id)
            assert (batch["status"], batch["counts"]["succeeded"], batch["retries"]) == ("completed", 300, 1)


async def test_what_failed_is_run_again_and_nothing_else(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    well = False

    def answer(request: Received) -> Answer:
        odd = int(request.json["messages"][0]["content"].split()[1]) % 2
        return as_json({"error": {"message": "no"}}, 500) if odd and not well else as_json(completion())

    async with Loopback(answer) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        batch_id = await uploaded(service.client, prompts(100, strategy="direct", models=["m"]))
        batch = await over(service.client, batch_id)
        assert (batch["counts"]["succeeded"], batch["counts"]["failed"]) == (50, 50)
        assert len(await results(service.client, batch_id, only="failed")) == 50
        service.configure({**upstream(provider.url), "jobs": {"embedded": False}})
        await service.client.post("/v1/admin/reload")
        well, before = True, len(provider.received)
        assert (await service.client.post(f"/v1/batches/{batch_id}/retry")).status_code == 202
        assert await state.commands.hget(f"{JOBS}job:{batch_id}:0:1", "providers") == b"up"
        service.configure(upstream(provider.url))
        await service.client.post("/v1/admin/reload")
        batch = await over(service.client, batch_id)
        assert (batch["counts"]["succeeded"], batch["counts"]["failed"], batch["counts"]["left"]) == (100, 0, 0)
        assert len(provider.received) - before == 50
        again = await service.client.post(f"/v1/batches/{batch_id}/retry")
        assert again.json()["status"] == "completed"


async def test_lines_wait_for_limits_of_their_caller(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    config = {"providers": {"mock": AT_ONCE}, "tenants": {"default": {"concurrent_runs": 2}}}
    async with serving(tmp_path, valkey.url, config) as service:
        batch = await over(service.client, await uploaded(service.client, prompts(30, **DIRECT)))
        assert batch["counts"]["succeeded"] == 30


async def test_its_end_is_told(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with Loopback(Answer()) as listener:
        host = listener.url.removeprefix("http://")
        webhooks = {"secret": "x" * 24, "hosts": [host], "private_hosts": [host]}
        async with serving(tmp_path, valkey.url, {"providers": {"mock": AT_ONCE}, "webhooks": webhooks}) as service:
            batch_id = await uploaded(service.client, prompts(70, **DIRECT), webhook=listener.url)
            await until(lambda: listener.received, within_s=20)
            event = listener.received[0].json
            assert (event["type"], event["data"]["id"]) == ("batch.completed", batch_id)
            assert event["data"]["counts"]["succeeded"] == 70
            async with asyncio.timeout(5):
                while not (log := (await service.client.get(f"/v1/batches/{batch_id}/deliveries")).json()["data"]):
                    await asyncio.sleep(0.02)
            assert (log[0]["outcome"], log[0]["event"]) == ("delivered", event["id"])


async def test_other_tenants_do_not_find_it(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    keys = [{"name": name, "key": f"sk-{name}-0123456789abcdef", "tenant": name} for name in ("one", "two")]
    async with serving(tmp_path, valkey.url, {"providers": {"mock": AT_ONCE}, "keys": keys}) as service:
        one, two = ({"authorization": f"Bearer {key['key']}"} for key in keys)
        made = await service.client.post("/v1/batches", content=jsonl(prompts(3, **DIRECT)), headers={**JSONL, **one})
        for method, path in [("GET", ""), ("GET", "/results"), ("GET", "/deliveries"), ("POST", "/cancel"), ("POST", "/retry")]:
            answer = await service.client.request(method, made.headers["location"] + path, headers=two)
            assert answer.status_code == 404, (method, path)
        assert (await service.client.get("/v1/batches", headers=two)).json()["data"] == []


async def test_the_same_upload_with_its_key_is_one_batch(service: Serving) -> None:
    headers = {**JSONL, "idempotency-key": "once"}
    content = jsonl(prompts(3, **DIRECT))
    answers = [await service.client.post("/v1/batches", content=content, headers=headers) for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert len((await service.client.get("/v1/batches")).json()["data"]) == 1
