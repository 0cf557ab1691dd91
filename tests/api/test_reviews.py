"""The review queue over HTTP: unsure runs enter it, are decided once, and teach."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.replicas import replicas
from tests.support.serving import AT_ONCE, Serving, serving
from tests.support.valkey import running_valkey, server_pid

ASKED: dict[str, Any] = {
    "input": "What is 17 * 23?",
    "strategy": "consensus",
    "models": ["mock/mock-swift", "mock/mock-careful"],
    "options": {"extract": {"type": "number"}, "review_below": 1},
    "metadata": {"category": "sums"},
}
KEYS = [
    {"name": name, "key": f"sk-{name}-0123456789", "tenant": tenant, "scopes": scopes}
    for name, tenant, scopes in [
        ("ann", "a", ["run", "read", "review", "feedback"]),
        ("bob", "b", ["run", "read", "review"]),
        ("reader", "a", ["run", "read"]),
    ]
]


def config(**reviews: Any) -> dict[str, Any]:
    return {"providers": {"mock": AT_ONCE}, "keys": KEYS, "reviews": reviews}


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{name}-0123456789"}


@pytest.fixture
async def shared(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> AsyncIterator[Serving]:
    """A service of two tenants."""
    async with serving(tmp_path, valkey.url, config()) as running:
        yield running


async def ran(service: Serving, name: str = "ann", **more: Any) -> dict[str, Any]:
    answer = await service.client.post("/v1/orchestrations", json={**ASKED, **more}, headers=key(name))
    assert answer.status_code == 200, answer.text
    return answer.json()


def review_of(run: dict[str, Any]) -> str:
    return "rev_" + run["id"].removeprefix("run_")


async def queued(service: Serving, run: dict[str, Any], name: str = "ann") -> dict[str, Any]:
    """The review of `run`, once it is there: it is stored beside the answer."""
    async with asyncio.timeout(5):
        while True:
            answer = await service.client.get(f"/v1/reviews/{review_of(run)}", headers=key(name))
            if answer.status_code == 200:
                return answer.json()
            await asyncio.sleep(0.01)


async def decide(service: Serving, review: str, name: str = "ann", **body: Any) -> httpx.Response:
    headers = key(name) | body.pop("headers", {})
    return await service.client.post(f"/v1/reviews/{review}", json=body, headers=headers)


async def listed(service: Serving, name: str = "ann", **query: Any) -> dict[str, Any]:
    answer = await service.client.get("/v1/reviews", params=query, headers=key(name))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_unsure_run_is_queued_with_what_a_reviewer_needs(shared: Serving) -> None:
    run = await ran(shared)
    assert run["status"] == "needs_review"
    review = await queued(shared, run)
    assert (review["status"], review["run_id"], review["category"]) == ("pending", run["id"], "sums")
    assert review["conversation"] == [{"role": "user", "text": ASKED["input"]}]
    assert (review["answer"], review["truncated"]) == (run["output"]["text"], False)
    assert [one["text"] for one in review["candidates"]] == [one["text"] for one in run["candidates"]]
    assert review["consensus"] == run["consensus"]
    assert review["confidence"] == run["consensus"]["confidence"]
    assert [line["action"] for line in review["audit"]] == ["queued"]


async def test_a_sure_run_is_not(shared: Serving) -> None:
    sure = await ran(shared, options={"extract": {"type": "number"}, "review_below": 0})
    await queued(shared, await ran(shared))
    assert review_of(sure) not in {row["id"] for row in (await listed(shared))["data"]}


@pytest.mark.parametrize(
    ("body", "text", "right"),
    [
        ({"decision": "accept"}, "answer", True),
        ({"decision": "choose", "candidate_id": "c2"}, "c2", None),
        ({"decision": "edit", "text": "It is 12."}, "It is 12.", False),
        ({"decision": "reject"}, None, False),
    ],
)
async def test_a_decision_says_what_stands_who_decided_and_teaches(
    shared: Serving, body: dict[str, Any], text: str | None, right: bool | None
) -> None:
    run = await ran(shared)
    review = await queued(shared, run)
    answer = await decide(shared, review["id"], comment="looked up", reviewer="eve", **body)
    assert answer.status_code == 200, answer.text
    texts = {"answer": review["answer"], "c2": next(one["text"] for one in review["candidates"] if one["id"] == "c2")}
    decided = answer.json()
    assert decided["status"] == "decided"
    assert decided["decision"] == (await queued(shared, run))["decision"]
    assert decided["decision"]["text"] == texts.get(text or "", text)
    assert (decided["decision"]["by"], decided["decision"]["reviewer"]) == ("ann", "eve")
    assert [line["action"] for line in decided["audit"]] == ["queued", body["decision"]]
    assert decided["audit"][1]["comment"] == "looked up"
    if right is not None:
        assert (await taught(shared))["quality"] == right
    again = {"run_id": run["id"], "score": 1}
    refused = await shared.client.post("/v1/feedback", json=again, headers=key("ann"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert "a review by 'eve'" in refused.json()["detail"]


async def test_a_review_stands_in_place_of_earlier_feedback(shared: Serving) -> None:
    run = await ran(shared)
    given = {"run_id": run["id"], "score": 1}
    assert (await shared.client.post("/v1/feedback", json=given, headers=key("ann"))).status_code == 201
    assert (await taught(shared))["quality"] == 1
    await decide(shared, (await queued(shared, run))["id"], decision="reject")
    async with asyncio.timeout(5):
        while (await taught(shared))["quality"] != 0:
            await asyncio.sleep(0.02)


async def test_a_run_whose_answers_could_not_be_read_is_listed_as_the_least_sure_and_teaches(shared: Serving) -> None:
    unread = {"extract": {"type": "text", "pattern": "no such word: (.+)"}, "instruct": False, "review_below": 0.5}
    run = await ran(shared, options=unread)
    assert (run["status"], run["consensus"]) == ("needs_review", None)
    review = await queued(shared, run)
    for query, count in (({"max_confidence": 0.1}, 1), ({"min_confidence": 0}, 0), ({}, 1)):
        assert len((await listed(shared, **query))["data"]) == count, query
    assert (await decide(shared, review["id"], decision="reject")).status_code == 200
    assert (await taught(shared))["quality"] == 0


async def taught(service: Serving) -> dict[str, Any]:
    async with asyncio.timeout(5):
        while True:
            rows = (await service.client.get("/v1/stats?kind=strategy", headers=key("ann"))).json()["data"]
            if rows and rows[0]["judged"] > 0:
                return rows[0]
            await asyncio.sleep(0.02)


async def test_it_is_decided_once_on_whichever_replica(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    async with replicas(tmp_path, valkey.url, config(), 2) as (one, other):
        review = (await queued(one, await ran(one)))["id"]
        tries = [decide(service, review, decision="accept") for service in (one, other, one, other)]
        statuses = [answer.status_code for answer in await asyncio.gather(*tries)]
        assert sorted(statuses) == [200, 409, 409, 409]
        refused = await decide(other, review, decision="reject")
        assert "'accept' by 'ann'" in refused.json()["detail"]


async def test_the_same_key_decides_it_again_the_same(shared: Serving) -> None:
    review = (await queued(shared, await ran(shared)))["id"]
    answers = [await decide(shared, review, decision="accept", headers={"Idempotency-Key": "d1"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content


async def test_filters_and_pages(shared: Serving) -> None:
    runs = [await ran(shared, metadata={"category": "even" if number % 2 == 0 else "odd"}) for number in range(5)]
    for run in runs:
        await queued(shared, run)
    assert (await decide(shared, review_of(runs[0]), decision="accept")).status_code == 200
    newest_first = [review_of(run) for run in reversed(runs)]
    assert [row["id"] for row in (await listed(shared))["data"]] == newest_first
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await listed(shared, limit=2, cursor=cursor)
        found += [row["id"] for row in page["data"]]
        cursor = page["next_cursor"]
    assert found == newest_first
    for query, count in [
        ({"status": "pending"}, 4),
        ({"status": "decided"}, 1),
        ({"category": "odd"}, 2),
        ({"strategy": "simple"}, 0),
        ({"recipe": "x"}, 0),
        ({"min_confidence": 0.999}, 0),
        ({"max_confidence": 0.999, "status": "pending"}, 4),
    ]:
        assert len((await listed(shared, **query))["data"]) == count, query
    assert (await shared.client.get("/v1/reviews?cursor=x", headers=key("ann"))).status_code == 400


async def test_reviews_are_the_tenants_own_and_deciding_needs_its_scope(shared: Serving) -> None:
    review = (await queued(shared, await ran(shared)))["id"]
    assert (await listed(shared, "bob"))["data"] == []
    assert (await shared.client.get(f"/v1/reviews/{review}", headers=key("bob"))).status_code == 404
    assert (await decide(shared, review, "bob", decision="accept")).status_code == 404
    assert (await decide(shared, review, "reader", decision="accept")).status_code == 403
    assert (await shared.client.get(f"/v1/reviews/{review}", headers=key("reader"))).json()["status"] == "pending"


@pytest.mark.parametrize(
    "body",
    [
        {"decision": "choose"},
        {"decision": "choose", "candidate_id": "c9"},
        {"decision": "edit"},
        {"decision": "accept", "text": "x"},
        {"decision": "perhaps"},
        {},
    ],
)
async def test_what_is_no_decision_is_refused_and_it_stays_pending(shared: Serving, body: dict[str, Any]) -> None:
    run = await ran(shared)
    assert (await decide(shared, (await queued(shared, run))["id"], **body)).status_code == 400
    assert (await queued(shared, run))["status"] == "pending"


@pytest.mark.parametrize("name", ["rev_000000000000000000000000", "run_x", "latest"])
async def test_what_is_not_there_is_not_found(shared: Serving, name: str) -> None:
    assert (await shared.client.get(f"/v1/reviews/{name}", headers=key("ann"))).status_code == 404
    assert (await decide(shared, name, decision="accept")).status_code == 404


async def test_no_more_are_kept_than_configured_decided_ones_go_first_and_texts_are_cut(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    async with serving(tmp_path, valkey.url, config(max_kept=10, max_text=200)) as service:
        long = await ran(service, input=f"What is 17 * 23? {'word ' * 100}")
        review = await queued(service, long)
        assert review["truncated"] is True
        assert len(review["conversation"][0]["text"]) == 200
        second = await ran(service)
        await queued(service, second)
        assert (await decide(service, review_of(second), decision="accept")).status_code == 200
        for _ in range(9):
            last = await ran(service)
        await queued(service, last)
        left = {row["id"] for row in (await listed(service, limit=50))["data"]}
        assert len(left) == 10
        assert review_of(long) in left
        assert review_of(second) not in left


async def test_they_are_not_kept_where_that_is_turned_off(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    async with serving(tmp_path, valkey.url, config(enabled=False)) as service:
        await ran(service)
        assert (await service.client.get("/v1/reviews/latest", headers=key("ann"))).status_code == 404


async def test_a_run_that_is_deleted_leaves_no_review_and_nothing_to_learn_from(shared: Serving) -> None:
    run = await ran(shared)
    await queued(shared, run)
    assert (await shared.client.delete(f"/v1/orchestrations/{run['id']}", headers=key("bob"))).status_code == 404
    assert (await shared.client.delete(f"/v1/orchestrations/{run['id']}", headers=key("ann"))).status_code == 204
    assert (await shared.client.get(f"/v1/reviews/{review_of(run)}", headers=key("ann"))).status_code == 404
    told = await shared.client.post("/v1/feedback", json={"run_id": run["id"], "score": 1}, headers=key("ann"))
    assert told.status_code == 404
    assert (await shared.client.delete(f"/v1/orchestrations/{run['id']}", headers=key("ann"))).status_code == 404


async def test_the_queue_is_measured(shared: Serving) -> None:
    await queued(shared, await ran(shared))
    async with asyncio.timeout(15):
        while "quorum_reviews_pending 1.0" not in (await shared.client.get("/metrics")).text:
            await asyncio.sleep(0.1)


async def test_without_the_store_runs_go_on_and_are_queued_when_it_is_back(tmp_path: Path) -> None:
    with running_valkey() as store:
        async with serving(tmp_path, store.url, config()) as service:
            before = review_of(await ran(service))
            pid = server_pid(store.data_dir)
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            run = await ran(service)
            assert run["status"] == "needs_review"
            assert (await decide(service, before, decision="accept")).status_code == 503
            assert (await service.client.get("/v1/reviews", headers=key("ann"))).status_code == 503
            os.kill(pid, signal.SIGCONT)
            assert (await queued(service, run))["status"] == "pending"
