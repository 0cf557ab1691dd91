"""POST /v1/feedback and GET /v1/stats: what is judged is kept, replaced, counted, and nobody else's."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.orchestration.learning.judging import read_judgements
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.keys import learning_keys
from tests.support.serving import AT_ONCE, Serving, serving
from tests.support.valkey import running_valkey, server_pid

ASKED: dict[str, Any] = {
    "input": "What is 17 * 23? My word is xylograph.",
    "strategy": "consensus",
    "models": ["mock/mock-swift", "mock/mock-careful", "mock/mock-terse"],
    "options": {"extract": {"type": "number"}},
    "metadata": {"category": "sums"},
}
KEYS = [
    {"name": name, "key": f"sk-{name}-0123456789", "tenant": tenant, "scopes": scopes}
    for name, tenant, scopes in [
        ("ann", "a", ["run", "read", "feedback"]),
        ("bob", "b", ["run", "read", "feedback"]),
        ("reader", "a", ["run", "read"]),
    ]
]


def config(**learning: Any) -> dict[str, Any]:
    return {"providers": {"mock": AT_ONCE}, "keys": KEYS, "learning": learning}


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


async def judged(service: Serving, run: str, name: str = "ann", **said: Any) -> httpx.Response:
    return await service.client.post("/v1/feedback", json={"run_id": run, **said}, headers=key(name))


async def test_many_who_judge_a_run_at_once_are_all_heard(shared: Serving, state: StateClient) -> None:
    run = await ran(shared)
    own = [candidate["id"] for candidate in run["candidates"]]
    said = [{"score": number % 2, "candidate_id": own[number % len(own)]} for number in range(32)]
    answers = await asyncio.gather(*(judged(shared, run["id"], **one) for one in said))
    assert [answer.status_code for answer in answers] == [201] * 32
    assert [answer.json()["replaced"] for answer in answers].count(False) == len(own)
    stored = await state.commands.hget(learning_keys("a").feedback, run["id"])
    assert set(read_judgements(stored)) == set(own)


async def stats(service: Serving, name: str = "ann", **query: str) -> dict[str, Any]:
    return (await service.client.get("/v1/stats", params=query, headers=key(name))).json()


async def counted(service: Serving, wanted: Any, name: str = "ann") -> dict[str, Any]:
    """The statistics once they say what is `wanted`: they are told in batches."""
    async with asyncio.timeout(5):
        while True:
            found = await stats(service, name)
            if wanted({(row["kind"], row["name"], row["category"]): row for row in found["data"]}, found):
                return found
            await asyncio.sleep(0.02)


async def test_the_right_answer_tells_who_was_right(shared: Serving) -> None:
    run = await ran(shared)
    answer = await judged(shared, run["id"], label="391", comment="by hand")
    assert answer.status_code == 201
    stored = answer.json()
    assert (stored["label"], stored["right"], stored["replaced"], stored["by"]) == ("391", True, False, "ann")
    right = {candidate["model"] for candidate in run["candidates"] if "391" in candidate["text"]}

    def all_judged(rows: dict[Any, Any], _found: Any) -> bool:
        return all(rows.get(("model", name, None), {}).get("judged") == 1 for name in ASKED["models"])

    found = await counted(shared, all_judged)
    rows = {(row["name"], row["category"]): row for row in found["data"] if row["kind"] == "model"}
    for name in ASKED["models"]:
        assert rows[name, None]["quality"] == float(name in right)
        assert rows[name, "sums"]["judged"] == 1
    assert found["calibration"]["judged"] == 1
    async with asyncio.timeout(10):
        while 'quorum_calibration_judged{scope="a"}' not in (await shared.client.get("/metrics")).text:
            await ran(shared)
            await asyncio.sleep(0.05)


async def test_feedback_replaces_earlier_feedback_on_the_same(shared: Serving) -> None:
    run = (await ran(shared))["id"]
    assert (await judged(shared, run, score=1)).json()["right"] is True
    again = (await judged(shared, run, score=0)).json()
    assert (again["right"], again["replaced"]) == (False, True)

    def replaced(rows: dict[Any, Any], _found: Any) -> bool:
        consensus = rows.get(("strategy", "consensus", None), {})
        return consensus.get("judged") == 1 and consensus["quality"] == 0

    await counted(shared, replaced)


async def test_a_candidate_is_scored_and_another_is_preferred(shared: Serving) -> None:
    run = (await ran(shared))["id"]
    scored = await judged(shared, run, candidate_id="c2", score=0.25)
    assert (scored.status_code, scored.json()["candidate_id"]) == (201, "c2")
    await judged(shared, run, preferred="c1")

    def won(rows: dict[Any, Any], _found: Any) -> bool:
        wins = [rows.get(("model", name, None), {}).get("win_rate") for name in ASKED["models"]]
        return sorted(wins, key=str) == [0, 0, 1]

    await counted(shared, won)


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({}, None),
        ({"score": 1, "label": "2"}, None),
        ({"score": 1.5}, "score"),
        ({"score": 1, "candidate_id": "c9"}, "candidate_id"),
        ({"preferred": "c9"}, "preferred"),
        ({"label": "2", "candidate_id": "c1"}, None),
        ({"label": "no number at all"}, "label"),
        ({"score": 1, "stars": 5}, "stars"),
    ],
)
async def test_what_is_no_judgement_is_refused(shared: Serving, said: dict[str, Any], param: str | None) -> None:
    run = (await ran(shared))["id"]
    answer = await judged(shared, run, **said)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_texts_have_no_label(shared: Serving) -> None:
    run = (await ran(shared, options={}))["id"]
    refused = await judged(shared, run, label="391")
    assert refused.status_code == 400
    assert "preferred" in refused.text
    assert (await judged(shared, run, score=1)).status_code == 201


async def test_what_parallel_answered_is_judged_as_a_panels_answers_are(shared: Serving) -> None:
    run = await ran(shared, strategy="parallel", options={"min_responses": 2})
    kept = await judged(shared, run["id"], score=1)
    assert (kept.status_code, kept.json()["right"]) == (201, True)
    member = run["output"]["source_model"]

    def credited(rows: dict[Any, Any], _found: Any) -> bool:
        row = rows.get(("model", member, None), {})
        return row.get("judged") == 1 and row["quality"] == 1

    await counted(shared, credited)


async def test_runs_of_others_and_runs_that_are_not_kept_are_not_found(shared: Serving) -> None:
    own = (await ran(shared))["id"]
    direct = (await ran(shared, strategy="direct", options={}, models=ASKED["models"][:1]))["id"]
    for run, name in ((own, "bob"), (direct, "ann"), ("latest", "bob")):
        answer = await judged(shared, run, name, score=1)
        assert answer.status_code == 404
        assert "learning.observe" in answer.json()["detail"]
    assert (await judged(shared, own, "reader", score=1)).status_code == 403


async def test_statistics_are_of_the_tenant(shared: Serving) -> None:
    await ran(shared)
    await counted(shared, lambda rows, _: ("strategy", "consensus", None) in rows)
    assert (await stats(shared, "bob"))["data"] == []
    only = (await stats(shared, kind="provider"))["data"]
    assert [(row["name"], round(row["calls"])) for row in only] == [("mock", 3)]
    assert only[0]["success"] == 1
    assert 0 <= only[0]["latency_ms"]["p50"] <= only[0]["latency_ms"]["p95"]


async def test_the_newest_is_judged_by_name_and_a_key_makes_it_once(shared: Serving) -> None:
    await ran(shared)
    run = (await ran(shared))["id"]
    headers = {**key("ann"), "Idempotency-Key": "k1"}
    first = await shared.client.post("/v1/feedback", json={"run_id": "latest", "score": 1}, headers=headers)
    again = await shared.client.post("/v1/feedback", json={"run_id": "latest", "score": 1}, headers=headers)
    assert first.json()["run_id"] == run
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(("observe", "status"), [("all", 201), ("off", 404)])
async def test_what_is_kept_is_configured(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient, observe: str, status: int
) -> None:
    async with serving(tmp_path, valkey.url, config(observe=observe)) as service:
        run = (await ran(service, strategy="direct", options={}, models=ASKED["models"][:1]))["id"]
        assert (await judged(service, run, score=1)).status_code == status


async def test_no_more_runs_are_kept_than_configured_and_judged_ones_stay(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    async with serving(tmp_path, valkey.url, config(keep_runs=10)) as service:
        first = (await ran(service))["id"]
        assert (await judged(service, first, score=1)).status_code == 201
        second = (await ran(service))["id"]
        for _ in range(12):
            await ran(service)
        assert (await judged(service, "latest", score=1)).status_code == 201
        assert (await judged(service, second, score=1)).status_code == 404
        assert (await judged(service, first, score=0)).status_code == 201


async def test_neither_prompts_nor_answers_are_kept(shared: Serving, state: StateClient) -> None:
    run = (await ran(shared, options={}))["id"]
    assert (await judged(shared, run, score=1)).status_code == 201
    kept = b""
    async for name in state.commands.scan_iter(match="*learned:a*"):
        if await state.commands.type(name) == b"hash":
            kept += b"".join(part for row in (await state.commands.hgetall(name)).items() for part in row)
    assert run.encode() in kept
    for secret in (rb"xylograph", rb"(?<![\w.])391(?![\w.])", rb"17 \* 23"):
        assert not re.search(secret, kept.lower())


async def test_without_the_store_runs_go_on_and_feedback_is_503_until_it_is_back(tmp_path: Path) -> None:
    with running_valkey() as store:
        async with serving(tmp_path, store.url, config()) as service:
            run = (await ran(service))["id"]
            assert (await judged(service, run, score=1)).status_code == 201
            pid = server_pid(store.data_dir)
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            later = (await ran(service))["id"]
            assert (await judged(service, run, score=0)).status_code == 503
            assert (await service.client.get("/v1/stats", headers=key("ann"))).status_code == 503
            os.kill(pid, signal.SIGCONT)
            async with asyncio.timeout(5):
                while (await judged(service, later, score=1)).status_code != 201:
                    await asyncio.sleep(0.05)
            await counted(service, lambda rows, _: rows.get(("strategy", "consensus", None), {}).get("calls", 0) > 1.99)
