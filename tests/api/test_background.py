"""Background runs: accepted at once, kept, run by the server itself where nobody else works."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config.jobs import WebhooksConfig
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.frames import frames
from tests.support.loopback import Answer, Loopback, Received
from tests.support.replicas import Reading, replicas, slowly
from tests.support.serving import AT_ONCE, Serving, serving, until, upstream

ASK: dict[str, Any] = {"input": "Hi", "strategy": "direct", "models": ["m"], "background": True}
NOBODY = {"embedded": False}
"""No server works, so that what is queued stays there."""


async def queued(client: httpx.AsyncClient, **more: Any) -> str:
    """The id of a background run that was accepted."""
    answer = await client.post("/v1/orchestrations", json={**ASK, **more})
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "queued"
    assert answer.headers["location"] == f"/v1/orchestrations/{answer.json()['id']}"
    return str(answer.json()["id"])


async def ended(client: httpx.AsyncClient, run_id: str, within_s: float = 10) -> Any:
    """The result of a run, once it has ended."""
    async with asyncio.timeout(within_s):
        while True:
            found = (await client.get(f"/v1/orchestrations/{run_id}")).json()
            if found["status"] not in ("queued", "running"):
                return found
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
async def empty(state: StateClient) -> None:
    """What another test has left in the queue is not there."""
    await state.commands.flushall()


async def test_a_run_in_the_background_is_answered_at_once_and_read_later(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    go = asyncio.Event()
    answer = slowly(3, 0)
    answer.wait_for = go
    async with Loopback(answer) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        run_id = await queued(service.client, metadata={"ticket": "42"})
        await until(lambda: provider.received)
        assert (await service.client.get(f"/v1/orchestrations/{run_id}")).json()["status"] == "running"
        go.set()
        result = await ended(service.client, run_id)
        assert result["status"] == "succeeded"
        assert result["output"]["text"] == "w0 w1 w2 "
        assert result["metadata"] == {"ticket": "42"}
        assert len(provider.received) == 1
        async with asyncio.timeout(5):  # the store hears of its end a moment after the process that runs it
            while not (await service.client.get("/v1/orchestrations", params={"status": "succeeded"})).json()["data"]:
                await asyncio.sleep(0.02)
        (listed,) = (await service.client.get("/v1/orchestrations")).json()["data"]
        assert (listed["id"], listed["status"]) == (run_id, "succeeded")


async def test_its_events_are_followed_from_before_it_has_begun(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    config = {**upstream("http://127.0.0.1:9"), "jobs": NOBODY}
    async with (
        Loopback(slowly(20, 0.01)) as provider,
        serving(tmp_path, valkey.url, config) as server,
    ):
        reading = Reading()
        reading.run_id = await queued(server.client)
        following = asyncio.create_task(reading.go_on(server.client))
        server.configure(upstream(provider.url))
        await server.client.post("/v1/admin/reload")
        await following
        assert reading.answer == "".join(f"w{n} " for n in range(20))
        assert [frame.fields["id"] for frame in reading.frames] == [str(n + 1) for n in range(len(reading.frames))]


async def test_one_that_waits_is_cancelled_and_deleted(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with (
        Loopback(slowly(3, 0)) as provider,
        serving(tmp_path, valkey.url, {**upstream(provider.url), "jobs": NOBODY}) as service,
    ):
        cancelled, deleted = await queued(service.client), await queued(service.client)
        answer = await service.client.post(f"/v1/orchestrations/{cancelled}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        events = frames((await service.client.get(f"/v1/orchestrations/{cancelled}/events")).text)
        assert [frame.fields["event"] for frame in events] == ["run.finished"]
        assert (await service.client.delete(f"/v1/orchestrations/{deleted}")).status_code == 204
        assert (await service.client.get(f"/v1/orchestrations/{deleted}")).status_code == 404
        service.configure(upstream(provider.url))
        await service.client.post("/v1/admin/reload")
        last = await queued(service.client)
        assert (await ended(service.client, last))["status"] == "succeeded"
        assert len(provider.received) == 1
        assert (await service.client.get(f"/v1/orchestrations/{cancelled}")).json()["status"] == "cancelled"


async def test_one_that_runs_is_cancelled_from_another_replica(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with (
        Loopback(slowly(10_000, 0.01)) as provider,
        replicas(tmp_path, valkey.url, upstream(provider.url), secret="x" * 32) as (one, other),
    ):
        run_id = await queued(one.client)
        await until(lambda: provider.received)
        for replica in (one, other):
            await replica.client.post(f"/v1/orchestrations/{run_id}/cancel")
        assert (await ended(other.client, run_id))["status"] == "cancelled"
        assert len(provider.received) == 1


async def test_asked_again_with_its_key_it_is_the_same_run(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with Loopback(slowly(3, 0)) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        answers = [
            await service.client.post("/v1/orchestrations", json=ASK, headers={"idempotency-key": "once"}) for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert answers[0].content == answers[1].content
        assert answers[0].headers["location"] == answers[1].headers["location"]
        assert (await ended(service.client, answers[0].json()["id"]))["status"] == "succeeded"
        assert len(provider.received) == 1


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"stream": True}, "stream"),
        ({"on_disconnect": "cancel"}, "on_disconnect"),
        ({"webhook": "https://example.org/hook"}, "webhook"),
        ({"background": False, "priority": "high"}, "priority"),
        ({"background": False, "webhook": "https://example.org/hook"}, "webhook"),
        ({"models": ["nobody"]}, "model"),
        ({"options": {"nonsense": 1}}, "options.nonsense"),
    ],
)
async def test_what_cannot_be_done_is_refused_before_it_is_queued(service: Serving, more: dict[str, Any], param: str) -> None:
    answer = await service.client.post("/v1/orchestrations", json={**ASK, "models": ["mock/mock-terse"], **more})
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"] == param
    assert (await service.client.get("/v1/orchestrations")).json()["data"] == []


async def test_a_run_over_a_limit_waits_and_one_over_a_budget_fails(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    config = {"providers": {"mock": AT_ONCE}, "tenants": {"default": {"concurrent_runs": 1}}}
    async with serving(tmp_path, valkey.url, config) as service:
        runs = [await queued(service.client, models=["mock/mock-terse"]) for _ in range(3)]
        assert {(await ended(service.client, run_id))["status"] for run_id in runs} == {"succeeded"}
        service.configure({**config, "tenants": {"default": {"budget": {"tokens_per_day": 1}}}})
        await service.client.post("/v1/admin/reload")
        failed = await ended(service.client, await queued(service.client, models=["mock/mock-terse"]))
        assert failed["error"]["code"] == "budget_exceeded"


async def test_runs_of_one_conversation_wait_for_each_other(service: Serving) -> None:
    first = await queued(service.client, models=["mock/mock-terse"], conversation_id="new")
    conversation = (await ended(service.client, first))["conversation_id"]
    assert conversation.startswith("conv_")
    more = [await queued(service.client, models=["mock/mock-terse"], conversation_id=conversation) for _ in range(3)]
    results = [await ended(service.client, run_id) for run_id in more]
    assert {(result["status"], result["conversation_id"]) for result in results} == {("succeeded", conversation)}
    found = (await service.client.get(f"/v1/conversations/{conversation}")).json()
    assert {first, *more} == {turn["run_id"] for turn in found["data"]}, found


async def test_other_tenants_neither_read_nor_cancel_it(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    keys = [{"name": name, "key": f"sk-{name}-0123456789abcdef", "tenant": name} for name in ("one", "two")]
    config = {"providers": {"mock": AT_ONCE}, "keys": keys, "jobs": NOBODY}
    async with serving(tmp_path, valkey.url, config) as service:
        one, two = ({"authorization": f"Bearer {key['key']}"} for key in keys)
        asked = await service.client.post("/v1/orchestrations", json={**ASK, "models": ["mock/mock-terse"]}, headers=one)
        where = asked.headers["location"]
        for method, path in [("GET", ""), ("GET", "/events"), ("GET", "/deliveries"), ("POST", "/cancel"), ("DELETE", "")]:
            answer = await service.client.request(method, where + path, headers=two)
            assert answer.status_code == 404 or answer.json()["data"] == [], (method, path)
        assert (await service.client.get(where, headers=one)).json()["status"] == "queued"


async def test_the_end_of_a_run_is_told_signed_until_it_is_taken(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    openai = pytest.importorskip("openai")
    told: list[Received] = []

    def hook(request: Received) -> Answer:
        told.append(request)
        return Answer(status=500 if len(told) < 3 else 200)

    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    async with Loopback(hook) as listener, Loopback(slowly(3, 0)) as provider:
        host = listener.url.removeprefix("http://")
        webhooks = {"secret": secret, "hosts": [host], "private_hosts": [host], "first_delay_s": 0.02}
        async with serving(tmp_path, valkey.url, {**upstream(provider.url), "webhooks": webhooks}) as service:
            run_id = await queued(service.client, webhook=f"{listener.url}/ended?of=42")
            await until(lambda: len(told) == 3, within_s=20)
            path = f"/v1/orchestrations/{run_id}/deliveries"
            async with asyncio.timeout(10):
                while len(log := (await service.client.get(path)).json()["data"]) < 3:
                    await asyncio.sleep(0.02)
            assert [(line["attempt"], line["outcome"], line["status"]) for line in log] == [
                (1, "again", 500),
                (2, "again", 500),
                (3, "delivered", 200),
            ]
            assert {request.headers["webhook-id"] for request in told} == {f"evt_{run_id}"}
            event = told[-1].json
            assert (event["type"], event["data"]["id"]) == ("orchestration.succeeded", run_id)
            assert event["data"] == (await service.client.get(f"/v1/orchestrations/{run_id}")).json()
            client = openai.OpenAI(api_key="none", webhook_secret=secret)
            client.webhooks.verify_signature(told[-1].body, told[-1].headers)
            with pytest.raises(openai.InvalidWebhookSignatureError):
                client.webhooks.verify_signature(told[-1].body + b" ", told[-1].headers)


async def test_who_takes_no_delivery_is_given_up_with_a_reason(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with Loopback(Answer(status=500)) as listener, Loopback(slowly(3, 0)) as provider:
        host = listener.url.removeprefix("http://")
        webhooks = {"secret": "x" * 24, "hosts": [host], "private_hosts": [host], "max_attempts": 2, "first_delay_s": 0.02}
        async with serving(tmp_path, valkey.url, {**upstream(provider.url), "webhooks": webhooks}) as service:
            run_id = await queued(service.client, webhook=listener.url)
            async with asyncio.timeout(15):
                while not (letters := (await service.client.get("/v1/dead-letters")).json()["data"]):
                    await asyncio.sleep(0.02)
            assert [(one["id"], one["kind"], one["attempts"]) for one in letters] == [(run_id, "webhook", 2)]
            assert "500" in letters[0]["reason"]
            assert len(listener.received) == 2


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://elsewhere.example.com/", "not listed"),
        ("http://127.0.0.1:1/", "not public"),
        ("http://user@hooks.example.com/", "without a user"),
        ("ftp://hooks.example.com/", "http"),
        ("nonsense", "http"),
    ],
)
async def test_where_nobody_may_be_told_is_refused(tmp_path: Path, valkey: EmbeddedValkey, url: str, said: str) -> None:
    webhooks = {"secret": "x" * 24, "hosts": ["hooks.example.com", "127.0.0.1:1"]}
    async with serving(tmp_path, valkey.url, {"providers": {"mock": AT_ONCE}, "webhooks": webhooks}) as service:
        answer = await service.client.post("/v1/orchestrations", json={**ASK, "models": ["mock/mock-terse"], "webhook": url})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "webhook"
        assert said in answer.json()["detail"]


def test_a_pattern_that_is_no_host_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ValueError, match="every host"):
        WebhooksConfig(hosts=("*",))


async def test_a_request_that_cannot_be_read_any_more_is_given_up(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    """Another QUORUM_SECRET, say."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    config = {"providers": {"mock": AT_ONCE}}
    async with serving(tmp_path / "a", valkey.url, {**config, "jobs": NOBODY}, secret="a" * 32) as one:
        run_id = await queued(one.client, models=["mock/mock-terse"])
        async with serving(tmp_path / "b", valkey.url, config, secret="b" * 32) as other:
            failed = await ended(other.client, run_id)
        assert "QUORUM_SECRET" in failed["error"]["message"]
        letters = (await one.client.get("/v1/dead-letters")).json()["data"]
        assert [(letter["id"], letter["kind"]) for letter in letters] == [(run_id, "run")]
