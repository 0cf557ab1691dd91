"""The parts of learning over a real store: what one process sees, another is told, each tenant its own."""

from __future__ import annotations

import asyncio

import pytest

from app.config.learning import LearningConfig, ReviewsConfig
from app.core.clock import SystemClock
from app.core.models import ModelProfile
from app.core.runs import Candidate, OrchestrationConfig, OrchestrationOutput, Output, RunRequest, Timing
from app.core.usage import Usage
from app.orchestration.evidence.extraction import TextAnswer
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.learned import ALL, Learned, stored
from app.orchestration.learning.learning import Learning
from app.orchestration.learning.taught import Said, Taught
from app.orchestration.learning.text_model import SuccessPredictor
from app.orchestration.reviewing.entries import Filter
from app.orchestration.reviewing.reviews import Reviews
from app.state.client import StateClient
from app.state.history import HistoryStore
from app.state.keys import SHARED
from app.state.lessons import LessonStore
from app.state.observations import ObservationStore
from app.state.reviews import ReviewStore

KEY = b"a key of sixteen"
PROFILE = ModelProfile("m", "p", "m")


def learning(state: StateClient, **config: object) -> Learning:
    return Learning(state, SystemClock(), KEY, LearningConfig.model_validate(config))


def ran(who: Learning, tenant: str, latency_ms: float, times: int = 30, category: str | None = None) -> None:
    metadata = {"category": category} if category else {}
    request = RunRequest(OrchestrationConfig("direct"), (), tenant=tenant, metadata=metadata)
    answer = Candidate("c1", "m", "p", status="succeeded", usage=Usage(5, 5), cost_usd=0.5, latency_ms=latency_ms)
    result = OrchestrationOutput("run_1", "succeeded", "direct", candidates=(answer,), timing=Timing(latency_ms))
    for _ in range(times):
        for observer in who.observers:
            observer.ended(request, result, None, category)


async def put(state: StateClient, scope: str, learned: Learned) -> None:
    version, content = stored(learned, {})
    await LessonStore(state).put(scope, version, content, keep=5)


async def test_another_process_is_told_how_models_do(state: StateClient) -> None:
    one, other = learning(state), learning(state)
    ran(one, "a", 100, category="law")
    ran(one, "a", 900, category="art")
    assert other.lessons("a").performance(PROFILE) is None
    await one.statistics.flush()
    await other.memory.refresh()
    found = other.lessons("a").performance(PROFILE, "law")
    assert found is not None
    assert found.latency_p50_ms == pytest.approx(100, rel=0.1)
    assert found.calls == pytest.approx(30, rel=0.01)
    assert (found.cost_usd, found.quality) == (pytest.approx(0.5), None)
    assert found.success > 0.95


async def test_who_has_seen_little_is_told_how_a_model_does_for_all(state: StateClient) -> None:
    one = learning(state)
    ran(one, "a", 100)
    ran(one, "b", 900, times=1)
    await one.statistics.flush()
    await one.statistics.flush()
    await one.memory.start()
    assert one.lessons("c").performance(PROFILE) is not None
    found = one.lessons("b").performance(PROFILE)
    assert found is not None
    assert found.calls == pytest.approx(31, rel=0.01)
    await one.close()


async def test_a_batch_that_is_told_again_counts_once(state: StateClient) -> None:
    store = HistoryStore(state, "me")
    for batch in (1, 1, 2):
        await store.add("a", batch, {"x": {"calls": 1.0}}, half_life_s=3600)
    await HistoryStore(state, "you").add("a", 2, {"x": {"calls": 1.0}}, half_life_s=3600)
    assert (await store.read("a"))["x"].amounts["calls"] == pytest.approx(3, rel=0.001)


async def milliseconds(state: StateClient) -> int:
    """The time, by the store's clock."""
    seconds, micros = await state.commands.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def test_how_old_amounts_are_goes_by_the_clock_that_wrote_them(state: StateClient) -> None:
    """A process whose own clock stands a day off reads the same."""
    store = HistoryStore(state, "me")
    await store.add("a", 1, {"x": {"calls": 8.0}}, half_life_s=3600)
    assert 0 <= (await store.read("a"))["x"].age_s < 60
    hour_before = await milliseconds(state) - 3_600_000
    await state.commands.hset("quorum:{learned:a}:history", "x", f'{{"at": {hour_before}, "n": {{"calls": 8.0}}}}')
    assert (await store.read("a"))["x"].age_s == pytest.approx(3600, abs=60)


async def test_amounts_fade_in_the_store(state: StateClient) -> None:
    store = HistoryStore(state, "me")
    await store.add("a", 1, {"x": {"calls": 8.0}}, half_life_s=3600)
    key = "quorum:{learned:a}:history"
    hour_before = await milliseconds(state) - 3_600_000
    await state.commands.hset(key, "x", f'{{"at": {hour_before}, "n": {{"calls": 8.0, "gone": 0.0015}}}}')
    await store.add("a", 2, {"x": {"calls": 1.0}}, half_life_s=3600)
    assert (await store.read("a"))["x"].amounts == {"calls": pytest.approx(5, rel=0.001)}


async def test_lessons_are_the_tenants_own_else_those_of_all_else_the_priors(state: StateClient) -> None:
    who = learning(state, priors={"quality": 0.6})
    own, shared = PanelWeights({"m": 3.0}, learned=True), PanelWeights({"m": 2.0}, learned=True)
    terms = tuple(sorted(who.memory.of("a").hashed.of("river")))
    predictor = SuccessPredictor(terms, (1.0,), {"m": (2_000,)}, {"m": 0.0}, {"m": 0.5}, 9)
    await put(state, "a", Learned(panels={ALL: own}, predictor=predictor))
    await who.memory.start()
    for tenant in ("a", "b"):
        who.lessons(tenant)
    await who.memory.refresh()
    prior = who.lessons("b").weights([PROFILE]).members["m"]
    assert prior == pytest.approx(0.405, abs=0.01)
    assert who.lessons("a").weights([PROFILE]).members["m"] == 3.0
    assert who.lessons("b").success("a river") == {}
    await put(state, SHARED, Learned(panels={ALL: shared}))
    async with asyncio.timeout(3):
        while who.lessons("b").weights([PROFILE]).members["m"] != 2.0:
            await asyncio.sleep(0.01)
    assert who.lessons("a").weights([PROFILE]).members["m"] == 3.0
    assert who.lessons("b").weights([PROFILE]).members["m"] == 2.0
    assert who.lessons("a").success("river")["m"] == pytest.approx(0.88, abs=0.01)
    assert who.lessons("a").success("RIVER!", ["law"])["m"] == pytest.approx(0.88, abs=0.01)
    await who.close()


async def test_hashes_differ_between_services_and_hold_no_word(state: StateClient) -> None:
    one = learning(state).memory.of("a").hashed.counts("river river sea", ("law",))
    other = Learning(state, SystemClock(), KEY[::-1], LearningConfig()).memory.of("a").hashed.counts("river river sea")
    assert sorted(one.values()) == [1, 1, 1, 1, 2]
    assert not set(one) & set(other)
    assert all(len(term) == 10 for term in one)


async def test_a_text_that_is_no_unicode_holds_up_no_other_run(state: StateClient) -> None:
    who = learning(state, observe="all")
    queue = Reviews(ReviewStore(state), who.feedback, SystemClock(), ReviewsConfig())
    for number, said in enumerate(("\ud800", "fine")):
        taught = Taught((Said("c1", "m", said),), 1, said, 0.5, TextAnswer("(.+)"))
        result = OrchestrationOutput(f"run_{number:024}", "needs_review", "consensus", Output(said))
        for observer in (who.observations, queue):
            observer.ended(RunRequest(OrchestrationConfig("consensus"), (), tenant="a"), result, taught, None)
    await who.observations.flush()
    await queue.flush()
    assert await ObservationStore(state).latest("a") == f"run_{1:024}"
    assert [review.entry.answer for review in (await queue.page("a", Filter(), cursor=None, limit=5)).found] == [
        "fine",
        "\ufffd",
    ]
