"""The client against a service that answers as it is told, at the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from app.cli.eval.asking import ask_all, todo
from app.cli.eval.client import FEEDBACK, TRIES, Client
from app.cli.eval.parts import Split
from app.cli.eval.results import Contestant, Result
from app.core.errors import NotFound, OrchestratorError, Unauthorized
from tests.cli.eval.made import PANEL, SINGLE, question, result

USAGE = {"input_tokens": 3, "output_tokens": 4}
CANDIDATE = {"status": "succeeded", "replicate": 0, "layer": 1, "usage": USAGE, "cost_usd": 0.1, "refusal": ""}
RUN: dict[str, Any] = {
    "id": "run_1",
    "status": "succeeded",
    "output": {"text": "The answer is 4.", "refusal": "", "source_model": "a"},
    "consensus": {"confidence": 0.7},
    "evidence": {"meta": {"k": 2}},
    "plan": {"models": ["a", "b"]},
    "candidates": [
        {**CANDIDATE, "model": "a", "text": "4", "latency_ms": 10.0},
        {**CANDIDATE, "model": "a", "text": "5", "latency_ms": 8.0, "replicate": 1},
        {**CANDIDATE, "model": "b", "text": "", "latency_ms": 9.0, "status": "failed"},
    ],
    "calls": [],
    "usage": USAGE,
    "cost_usd": 0.2,
    "timing": {"total_ms": 12.0},
}
Answer = Callable[[httpx.Request], httpx.Response]


def answered(status: int = 200, body: Any = None, **headers: str) -> httpx.Response:
    told = {"x-request-id": "req", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return httpx.Response(status, headers=told, content=orjson.dumps(RUN if body is None else body))


def refused(status: int, code: str, **headers: str) -> httpx.Response:
    return answered(status, {"error": {"code": code, "message": f"it is {code}"}}, **headers)


def client(answer: Answer, *, speed: float = 1.0) -> Client:
    http = httpx.AsyncClient(base_url="http://service", transport=httpx.MockTransport(answer))
    return Client(http, "http://service", speed)


async def test_a_run_becomes_a_graded_result():
    found = await client(lambda _: answered(), speed=10).ask(PANEL, question("q1", category="sums"))
    assert (found.score, found.said, found.confidence, found.category) == (1.0, "4", 0.7, "sums")
    assert (found.latency_ms, found.first_ms) == (120.0, 80.0)
    assert (found.asked, found.most) == (3, 4)  # two models, twice each
    assert [(one.model, one.score) for one in found.members] == [("a", 1.0), ("b", 0.0)]


@pytest.mark.parametrize(
    ("contestant", "members"),
    [
        (PANEL, {"recipe": "panel"}),
        (SINGLE, {"strategy": "direct", "models": ["a"]}),
        (Contestant("quorum/simple", "strategy", ""), {"strategy": "simple"}),
    ],
)
async def test_each_kind_is_asked_in_its_way(contestant: Contestant, members: dict[str, Any]):
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(orjson.loads(request.content))
        return answered()

    await client(answer).ask(contestant, question("q1", category="sums"))
    assert asked == [{"input": "q1?", "metadata": {"category": "sums", "question": "q1"}, **members}]


async def test_who_checks_an_answer_belongs_to_the_panel_too():
    run = {**RUN, "plan": {"models": ["a", "c"]}, "evidence": None}
    found = await client(lambda _: answered(body=run)).ask(PANEL, question("q1"))
    assert (found.panel, found.asked, found.most) == (("a", "c", "b"), 3, 3)


async def test_an_error_is_a_result_with_its_code_and_what_it_cost():
    body = {"error": {"code": "all_candidates_failed", "message": "nobody"}, "result": {**RUN, "candidates": []}}
    found = await client(lambda _: answered(502, body)).ask(PANEL, question("q1"))
    assert (found.score, found.status, found.error, found.reason) == (0.0, "failed", "all_candidates_failed", "nobody")
    assert found.cost_usd == 0.2


async def test_a_question_is_asked_again_while_the_service_says_that_it_helps():
    answers = [refused(429, "limit_exceeded", x_should_retry="true", retry_after="0"), answered()]
    assert (await client(lambda _: answers.pop(0)).ask(PANEL, question("q1"))).error is None

    tries: list[int] = []

    def never(_: httpx.Request) -> httpx.Response:
        tries.append(1)
        return refused(503, "overloaded", x_should_retry="true", retry_after="0")

    assert (await client(never).ask(PANEL, question("q1"))).error == "overloaded"
    assert len(tries) == TRIES


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (lambda _: refused(401, "unauthorized"), Unauthorized, "--key"),
        (lambda _: httpx.Response(200, content=b"{}"), OrchestratorError, "not as a Quorum service"),
    ],
)
async def test_what_no_further_question_can_mend_ends_the_evaluation(answer: Answer, kind: type[Exception], said: str):
    kept: list[Result] = []
    with pytest.raises(kind, match=said):
        await ask_all(client(answer), [(PANEL, question("q1"))], concurrency=4, keep=kept.append)
    assert kept == []


async def test_a_service_that_has_gone_keeps_what_was_answered():
    def answer(request: httpx.Request) -> httpx.Response:
        if b"q3" in request.content:
            raise httpx.ConnectError("refused")
        return answered()

    kept: list[Result] = []
    pairs = [(PANEL, question(f"q{n}")) for n in range(6)]
    with pytest.raises(OrchestratorError, match="cannot be reached or broke off: refused"):
        await ask_all(client(answer), pairs, concurrency=1, keep=kept.append)
    assert [one.question for one in kept] == ["q0", "q1", "q2"]


async def test_the_part_to_learn_from_is_told_what_was_right():
    told: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path != FEEDBACK:
            return answered()
        told.append(orjson.loads(request.content))
        if len(told) == 1:
            return refused(404, "not_found")
        return answered(body={}) if len(told) < 4 else refused(409, "conflict")

    split = Split(0.5, 0)
    pairs = [(PANEL, question(f"q{n}", "1,000")) for n in range(20)]
    found = await ask_all(client(answer), pairs, concurrency=1, keep=lambda _: None, teach=split)
    assert told == [{"run_id": "run_1", "label": "1000"}] * sum(split.trains(f"q{n}") for n in range(20))
    assert (found.taken, found.unkept, found.refused, found.why) == (2, 1, len(told) - 3, "it is conflict")


@pytest.mark.parametrize(("counted", "told"), [(False, [{"score": 0.5}]), (True, [{"label": "4"}, {"score": 0.5}])])
async def test_where_a_run_knows_no_labels_it_is_told_its_score(counted: bool, told: list[Any]):
    """Answers of one model are not counted, and those of a panel may be texts without labels."""
    bodies: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(orjson.loads(request.content))
        return refused(400, "invalid_request") if "label" in bodies[-1] else answered(body={})

    assert await client(answer).tell(question("q1"), result("q1", 0.5, counted=counted)) is None
    assert bodies == [{"run_id": "run_q1", **one} for one in told]


async def test_what_the_plan_expected_of_each_model_is_kept():
    expected = {
        "a": {"quality": 0.9, "cost_usd": 0.1, "seconds": None},
        "b": {"quality": 0.6, "cost_usd": None, "seconds": None},
    }
    run = {**RUN, "consensus": None, "plan": {"models": ["a"], "prospects": expected}}
    found = await client(lambda _: answered(body=run)).ask(PANEL, question("q1"))
    assert (found.prospects, found.counted) == ((("a", 0.9), ("b", 0.6)), False)


async def test_names_are_looked_up_and_members_added():
    entries = [
        {"id": "panel", "kind": "recipe", "models": ["a", "p/b"], "fingerprint": "f1"},
        {"id": "a", "kind": "model", "fingerprint": "f2"},
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        match request.url.path:
            case "/v1/models":
                return answered(body={"data": entries})
            case "/v1/models/p/b":
                return answered(body={"id": "p/b", "kind": "model", "fingerprint": "f3"})
            case _:
                return refused(404, "not_found")

    asked = client(answer)
    assert await asked.contestants(["panel", "a"], members=True) == (
        Contestant("panel", "recipe", "f1", ("a", "p/b")),
        Contestant("a", "model", "f2", ("a",)),
        Contestant("p/b", "model", "f3", ("p/b",)),
    )
    with pytest.raises(NotFound, match="no model, recipe or strategy 'pannel'; did you mean 'panel'"):
        await asked.contestants(["pannel"], members=False)


def test_only_what_is_not_answered_as_it_is_now_is_asked():
    questions = [question(f"q{n}") for n in range(5)]
    before = [
        result("q0", 1.0),
        result("q1", 0.0, error="overloaded"),
        result("q2", 1.0, fingerprint="older"),
        result("q3", 1.0, digest="older"),
        result("q9", 1.0),
    ]
    found = todo([PANEL], questions, before, Split())
    assert [one.id for _, one in found.pairs] == ["q1", "q2", "q3", "q4"]
    assert (found.done, found.failed, found.changed) == (1, 1, {"panel": 2})
    assert len(todo([PANEL, SINGLE], questions, before, Split()).pairs) == 9


def test_what_was_reported_before_something_was_learned_is_asked_again_and_what_was_learned_from_is_not():
    split = Split(0.5, 0)
    questions = [question(f"q{n}") for n in range(20)]
    before = [result(one.id, 1.0) for one in questions]
    wiser = replace(PANEL, learned="l_1")
    found = todo([wiser], questions, before, split)
    assert [one.id for _, one in found.pairs] == [one.id for one in questions if not split.trains(one.id)]
    assert found.changed == {"panel": len(found.pairs)}
    assert todo([wiser], questions, [replace(one, learned="l_1") for one in before], split).pairs == ()


@pytest.mark.parametrize(("paths", "takes"), [([FEEDBACK, "/v1/models"], True), (["/v1/models"], False)])
async def test_whether_a_service_takes_feedback_is_known_before_anything_is_asked(paths: list[str], takes: bool):
    assert await client(lambda _: answered(body={"paths": {path: {} for path in paths}})).takes_feedback() is takes
