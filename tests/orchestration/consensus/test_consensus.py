"""consensus: what a panel says together, each way to count."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest

from app.core.chat import ChatRequest, Generation, ResponseFormat
from app.core.embeddings import EmbeddingRequest, EmbeddingResponse
from app.core.errors import InvalidRequest, ProviderError
from app.core.messages import user
from app.core.model_events import ModelEvent, ResponseFinished
from app.core.run_events import CandidateFailed, EvidenceUpdated
from app.core.runs import Consensus, EvidenceBundle
from tests.orchestration.consensus.paneled import paneled, saying
from tests.orchestration.known import asked, engine
from tests.orchestration.scripted import Ran, Reply, Scripted, failure

NUMBER = {"type": "number"}
YES_NO = {"type": "choice", "choices": ["yes", "no"]}


def outcome(ran: Ran) -> Consensus:
    assert ran.result.consensus
    return ran.result.consensus


def evidence(ran: Ran) -> EvidenceBundle:
    assert ran.result.evidence
    return ran.result.evidence


async def test_a_vote_over_numbers_that_are_written_differently() -> None:
    ran = await paneled(*saying("It is 1,200.", "Answer: 1200", "I get $1200.00", "1 300"), extract=NUMBER)
    assert outcome(ran).winner == 1200
    assert outcome(ran).agreement == 0.75
    assert [one["members"] for one in outcome(ran).dissent] == [["d"]]
    assert ran.result.output.text == "It is 1,200."
    assert ran.result.output.source_model == "a"
    assert ran.result.output.is_synthesized is False
    assert evidence(ran).summary["consensus"] == 1200
    assert evidence(ran).summary["valid"] == 4


async def test_the_answer_that_stands_for_the_rest_is_of_the_member_that_weighs_most() -> None:
    models = saying("yes, said shortly", "yes, and this is why", "no")
    ran = await paneled(*models, extract=YES_NO, weights={"b": 2})
    assert ran.result.output.text == "yes, and this is why"


async def test_weights_decide_a_vote() -> None:
    models = saying("no", "no", "yes")
    assert outcome(await paneled(*models, extract=YES_NO, weights="uniform")).winner == "no"
    assert outcome(await paneled(*models, extract=YES_NO, weights={"c": 3})).winner == "yes"


async def test_models_are_told_how_to_end_unless_told_not_to() -> None:
    models = saying("yes", "yes")
    await paneled(*models, extract=YES_NO)
    assert models[0].prompts("candidate")[0].startswith("What is it?\n\n")
    assert 'exactly one of "yes", "no"' in models[0].prompts("candidate")[0]
    await paneled(*models, extract=YES_NO, instruct=False)
    assert models[0].prompts("candidate")[1] == "What is it?"
    form = Generation(response_format=ResponseFormat("json_object"))
    said = saying('{"answer": "yes"}', '{"answer": "no"}')
    await paneled(*said, extract=YES_NO, request={"generation": form})
    assert said[0].prompts("candidate") == ["What is it?"]


async def test_the_median_of_numbers_and_who_is_far_off() -> None:
    ran = await paneled(*saying("10", "11", "12", "11", "500"), extract=NUMBER, aggregator="numeric")
    assert outcome(ran).winner == 11
    assert [one["members"] for one in outcome(ran).dissent] == [["e"]]
    low, high = evidence(ran).summary["interval"]
    assert low <= 11 <= high


async def test_a_median_that_nobody_says_is_the_answer_itself() -> None:
    ran = await paneled(*saying("10", "20"), extract=NUMBER, aggregator="numeric")
    assert outcome(ran).winner == 15
    assert (ran.result.output.text, ran.result.output.source_model, ran.result.output.is_synthesized) == ("15", None, True)


async def test_the_text_that_most_others_resemble() -> None:
    same = "Water boils at 100 degrees Celsius at sea level, and lower on mountains."
    near = "At sea level water boils at 100 degrees Celsius; on mountains it boils lower."
    other = "Penguins live in Antarctica and feed on krill, squid and fish of the cold seas."
    ran = await paneled(*saying(other, same, near))
    assert ran.result.output.text in (same, near)
    assert outcome(ran).method == "cluster"
    assert [one["members"] for one in outcome(ran).clusters] == [["b", "c"], ["a"]]
    assert [one["members"] for one in outcome(ran).dissent] == [["a"]]
    matrix = evidence(ran).summary["distances"]
    assert matrix[1][2] < matrix[0][1]


@pytest.mark.parametrize(
    ("most", "other"),
    [
        ("Answer: B", "Answer: A"),
        ("No, it is not safe to take both.", "Yes, it is safe to take both."),
        ("首都は東京です", "首都は大阪です"),
    ],
)
async def test_texts_that_say_opposite_things_do_not_agree(most: str, other: str) -> None:
    ran = await paneled(*saying(other, most, most))
    assert ran.result.output.text == most
    assert outcome(ran).agreement < 0.75
    assert [one["members"] for one in outcome(ran).dissent] == [["a"]]


async def test_json_member_by_member() -> None:
    said = [
        {"city": "Paris", "people": 2_100_000},
        {"city": "Paris", "people": 2_000_000},
        {"city": "Lyon", "people": 2_100_000},
    ]
    ran = await paneled(*saying(*map(json.dumps, said)), extract={"type": "json"})
    assert outcome(ran).method == "fields"
    assert ran.result.output.json == said[0]
    assert ran.result.output.source_model == "a"
    assert {one["field"] for one in evidence(ran).summary["disagreements"]} == {"city", "people"}


async def test_an_object_that_nobody_says_is_the_answer_itself() -> None:
    said = [{"x": 1, "y": 1, "z": 2}, {"x": 1, "y": 2, "z": 1}, {"x": 2, "y": 1, "z": 1}]
    ran = await paneled(*saying(*map(json.dumps, said)), extract={"type": "json"})
    assert ran.result.output.json == {"x": 1, "y": 1, "z": 1}
    assert json.loads(ran.result.output.text) == {"x": 1, "y": 1, "z": 1}
    assert ran.result.output.is_synthesized is True


async def test_a_judge_who_does_not_know_whose_answer_is_whose() -> None:
    lead = Scripted("lead", choice=json.dumps({"reason": "it is right", "choice": 2}))
    models = [*saying("The moon is made of rock and dust.", "Cheese, of course.", "It is rock and dust, the moon."), lead]
    ran = await paneled(*models, lead="lead", aggregator="judge")
    assert ran.result.output.text == "Cheese, of course."
    assert (outcome(ran).method, outcome(ran).winner, outcome(ran).agreement) == ("judge", "c2", 0.3333)
    assert len(outcome(ran).dissent) == 1
    assert [call.role for call in ran.result.calls] == ["judge"]
    prompt = lead.prompts("choice")[0]
    assert "Cheese" in prompt
    assert 'label="2"' in prompt


@pytest.mark.parametrize("reply", ["I like them all", json.dumps({"choice": 9}), failure("lead")])
async def test_where_the_judge_does_not_choose_the_others_do(reply: Any) -> None:
    lead = Scripted("lead", choice=reply)
    ran = await paneled(*saying("rock and dust", "dust and rock", "cheese"), lead, lead="lead", aggregator="judge")
    assert ran.result.output.text in ("rock and dust", "dust and rock")
    assert "has not chosen" in ran.result.warnings[0]


async def test_replicates_share_the_voice_of_their_model() -> None:
    turn = {"a": iter(["yes", "yes", "no"]), "b": iter(["no", "no", "no"]), "c": iter(["no", "no", "no"])}
    models = [Scripted(name, candidate=lambda _request, name=name: next(turn[name])) for name in turn]
    ran = await paneled(*models, extract=YES_NO, k=3, seeds=[1, 2, 3], temperatures=[0.2, 0.9])
    assert len(ran.result.candidates) == 9
    assert [request.generation.seed for request in models[0].asked] == [1, 2, 3]
    assert [request.generation.temperature for request in models[0].asked] == [0.2, 0.9, 0.2]
    assert sorted({candidate.replicate for candidate in ran.result.candidates}) == [0, 1, 2]
    assert outcome(ran).winner == "no"
    assert evidence(ran).meta.k == 3
    assert evidence(ran).meta.seeds == (1, 2, 3)


async def test_nobody_is_asked_whose_answer_can_change_nothing() -> None:
    models = saying(*["yes"] * 5)
    ran = await paneled(*models, extract=YES_NO, stop="decided")
    assert sum(len(model.asked) for model in models) == 3
    assert len(ran.result.candidates) == 3
    assert evidence(ran).meta.early_stopped is True
    assert outcome(ran).winner == "yes"
    models = saying("yes", "no", "yes", "no", "yes")
    ran = await paneled(*models, extract=YES_NO, stop="decided")
    assert sum(len(model.asked) for model in models) == 5
    assert evidence(ran).meta.early_stopped is False


async def test_numbers_are_asked_for_until_they_are_near_enough() -> None:
    models = saying(*["100"] * 8)
    ran = await paneled(*models, extract=NUMBER, aggregator="numeric", stop="decided", epsilon=0.05)
    assert sum(len(model.asked) for model in models) < 8
    assert evidence(ran).meta.early_stopped is True


async def test_a_smaller_panel_spans_families() -> None:
    models = saying("yes", "yes", "yes", "yes")
    ran = await paneled(*models, extract=YES_NO, panel=2, weights={"d": 3, "b": 2})
    assert sorted(candidate.model for candidate in ran.result.candidates) == ["b", "d"]
    assert ran.result.plan
    assert ran.result.plan.models == ("b", "d")


async def test_a_panel_grows_with_how_complex_the_task_is() -> None:
    plan = "Design the architecture, compare tradeoffs, explain each step and evaluate the constraints. " * 12
    for text, size in (("Hello!", 3), (plan, 7)):
        models = saying(*["yes"] * 8)
        ran = await paneled(*models, extract=YES_NO, panel="auto", request={"messages": (user(text),)})
        assert len(ran.result.candidates) == size


async def test_the_task_is_told_by_its_words_or_by_the_caller() -> None:
    assert evidence(await paneled(*saying("391"), request={"messages": (user("What is 17 * 23?"),)})).meta.task == "math"
    assert evidence(await paneled(*saying("391"), request={"metadata": {"category": "sums"}})).meta.task == "sums"


async def test_members_that_fail_or_cannot_be_read_are_named_and_not_counted() -> None:
    models = [Scripted("a", failure("a")), Scripted("b", "perhaps"), Scripted("c", "yes"), Scripted("d", Reply(refusal="No."))]
    ran = await paneled(*models, extract=YES_NO)
    assert ran.result.status == "succeeded"
    assert outcome(ran).winner == "yes"
    assert [one.candidate.error.failure for one in ran.of(CandidateFailed)] == ["overloaded"]
    assert any("'b' is not counted" in note for note in ran.result.warnings)
    assert any("'d' is not counted: it refused to answer" in note for note in ran.result.warnings)


@pytest.mark.parametrize("failing", range(8))
async def test_any_members_may_fail(failing: int) -> None:
    models = [Scripted(name, failure(name) if failing >> place & 1 else "yes") for place, name in enumerate("abc")]
    ran = await paneled(*models, extract=YES_NO)
    assert ran.result.status == ("failed" if failing == 7 else "succeeded")
    failed = {candidate.model: candidate.error for candidate in ran.result.candidates if candidate.status == "failed"}
    assert len(failed) == failing.bit_count()
    assert all(error and error.failure == "overloaded" for error in failed.values())


async def test_with_too_few_answers_it_fails() -> None:
    ran = await paneled(Scripted("a", "yes"), Scripted("b", failure("b")), extract=YES_NO, min_responses=2)
    assert ran.result.error
    assert ran.result.error.code == "all_candidates_failed"
    assert "1 of 2 models answered" in ran.result.error.message


async def test_when_nothing_can_be_read_an_answer_is_passed_on_and_wants_review() -> None:
    ran = await paneled(*saying("who knows", "hard to say"), extract=YES_NO, review_below=0.5)
    assert (ran.result.status, ran.result.output.text) == ("needs_review", "who knows")
    assert "none of the 2 answers could be read" in ran.result.warnings[-1]


@pytest.mark.parametrize("options", [{}, {"extract": YES_NO, "review_below": 0.5}])
async def test_a_panel_that_says_nothing_has_no_answer(options: dict[str, Any]) -> None:
    ran = await paneled(Scripted("a", Reply([])), Scripted("b", Reply([" "])), Scripted("c", failure("c")), **options)
    assert ran.result.status == "failed"
    assert ran.result.error
    assert ran.result.error.code == "all_candidates_failed"
    assert "'a': gave an empty answer; 'b': gave an empty answer; 'c': c is overloaded" in ran.result.error.message


async def test_who_says_something_is_passed_on_before_who_says_nothing() -> None:
    ran = await paneled(Scripted("a", Reply([])), Scripted("b", "who knows"), extract=YES_NO)
    assert (ran.result.status, ran.result.output.text) == ("succeeded", "who knows")


async def test_below_the_confidence_that_is_asked_for_a_person_should_look() -> None:
    sure = await paneled(*saying("yes", "yes", "yes"), extract=YES_NO, review_below=0.5)
    unsure = await paneled(*saying("yes", "no", "yes"), extract=YES_NO, review_below=0.9)
    assert (sure.result.status, outcome(sure).needs_review) == ("succeeded", False)
    assert (unsure.result.status, outcome(unsure).needs_review) == ("needs_review", True)
    assert outcome(sure).confidence > outcome(unsure).confidence


async def test_the_evidence_is_told_as_it_grows() -> None:
    ran = await paneled(*saying("yes", "no", "yes"), extract=YES_NO)
    updates = ran.of(EvidenceUpdated)
    phases = [update.phase for update in updates]
    assert phases == ["bundle_started", *["replicate_done", "partial_summary"] * 3, "bundle_ready"]
    assert [len(update.evidence.replicates) for update in updates] == [0, 1, 1, 2, 2, 3, 3, 3]


async def test_stated_confidence_is_asked_for_and_counts() -> None:
    models = saying("Answer: yes\nConfidence: 20 %", "Answer: no\nConfidence: 99 %")
    ran = await paneled(*models, extract=YES_NO, stated_confidence=True, weights="uniform")
    assert "Confidence:" in models[0].prompts("candidate")[0]
    assert outcome(ran).winner == "no"
    assert evidence(ran).replicates[0]["stated_confidence"] == 0.2


def embedding(vectors: dict[str, tuple[float, ...]], name: str = "e") -> Scripted:
    """A model that embeds, by the first word of each text."""
    model = Scripted(name)

    async def embed(request: ChatRequest) -> AsyncIterator[ModelEvent]:
        texts = cast("EmbeddingRequest", request).texts
        yield ResponseFinished(EmbeddingResponse("", name, (), vectors=tuple(vectors[text.split()[0]] for text in texts)))

    model.model = replace(model.model, embed=embed)
    return model


async def test_texts_are_alike_by_their_vectors() -> None:
    models = saying("cats purr softly", "felines vibrate gently", "stocks fell on Monday")
    by_words = await paneled(*models)
    assert len(outcome(by_words).clusters) == 3
    embedder = embedding({"cats": (1.0, 0.0), "felines": (0.98, 0.2), "stocks": (0.0, 1.0)})
    ran = await paneled(*models, embedder, embeddings="e", request={"models": ("a", "b", "c")})
    assert [one["members"] for one in outcome(ran).clusters] == [["a", "b"], ["c"]]
    assert [(call.role, call.model) for call in ran.result.calls] == [("embedding", "e")]


async def test_where_embedding_fails_words_are_compared() -> None:
    broken = Scripted("e")

    async def fails(request: ChatRequest) -> AsyncIterator[ModelEvent]:
        raise ProviderError("e is away", failure="connection", provider="p", model="e")
        yield

    broken.model = replace(broken.model, embed=fails)
    ran = await paneled(*saying("one two", "one two"), broken, embeddings="e", request={"models": ("a", "b")})
    assert ran.result.status == "succeeded"
    assert "compared by their words" in ran.result.warnings[0]


@pytest.mark.parametrize(
    ("options", "param", "said"),
    [
        ({"aggregator": "fate"}, "options.aggregator", "there is no aggregator 'fate'; there are"),
        ({"min_responses": 3}, "options.min_responses", "only 2 models"),
        ({"k": 16, "panel": 2, "extract": YES_NO, "weights": {"z": 1}}, "options.weights", "'z' is none of the models"),
        ({"epsilon": 0.1}, "options", "epsilon is for the aggregator numeric"),
        ({"aggregator": "numeric"}, "options", 'it wants extract {"type": "number"}'),
        ({"aggregator": "numeric", "extract": NUMBER, "stop": "decided"}, "options", "give epsilon"),
        ({"aggregator": "judge", "stop": "decided"}, "options", "leave stop out"),
        ({"panel": 9}, "options.panel", "only 2 models to choose from"),
        ({"extract": {"type": "choice", "choices": ["yes", "Yes"]}}, "options.extract", "'yes' and 'Yes' cannot be told apart"),
        ({"extract": {"type": "choice", "choices": {"C": "x", "C#": "y"}}}, "options.extract", "'C' and 'C#' cannot be told"),
        ({"extract": {"type": "choice", "choices": ["a", "?"]}}, "options.extract", "'?' is marks only"),
        ({"extract": {"type": "choice", "choices": ["one"]}}, "options.extract.choices", "at least 2"),
        ({"extract": {"type": "text", "pattern": "("}}, "options.extract.pattern", "no pattern of RE2"),
        ({"extract": {"type": "json", "schema": {"type": 7}}}, "options.extract.schema", "no JSON schema"),
        ({"embeddings": "a"}, "options.embeddings", "makes no embeddings"),
        ({"embeddings": "nobody"}, "options.embeddings", "no model 'nobody'"),
        ({"embeddings": "a", "extract": NUMBER}, "options", "for cluster and judge"),
        ({"extract": {"type": "music"}}, "options.extract", "music"),
    ],
)
def test_what_is_refused_of_the_options(options: dict[str, Any], param: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        engine(*saying("yes", "no")).begin(asked("consensus", ("a", "b"), options=options))
    assert str(refused.value.param).startswith(param)
    assert said in refused.value.message


def of_quality(name: str, says: str, quality: float | None, family: str = "") -> Scripted:
    model = Scripted(name, says)
    model.model = replace(model.model, profile=replace(model.model.profile, quality=quality, family=family))
    return model


async def test_where_nothing_is_known_each_model_has_a_vote_whatever_its_family() -> None:
    models = [of_quality("a", "no", None, "x"), of_quality("b", "yes", None, "y"), of_quality("c", "yes", None, "y")]
    assert outcome(await paneled(*models, extract=YES_NO)).winner == "yes"


async def test_a_good_model_outweighs_two_poor_ones_of_a_family() -> None:
    models = [of_quality("a", "no", 0.9, "x"), of_quality("b", "yes", 0.6, "y"), of_quality("c", "yes", 0.6, "y")]
    assert outcome(await paneled(*models, extract=YES_NO)).winner == "no"


@pytest.mark.parametrize("weights", ["uniform", "learned"])
async def test_ties_go_to_the_better_model_and_then_to_the_first_however_quick_the_others_are(weights: str) -> None:
    slow = asyncio.Event()
    first = Scripted("a", Reply(["yes"], hold=slow))
    asyncio.get_running_loop().call_later(0.05, slow.set)
    assert outcome(await paneled(first, Scripted("b", "no"), extract=YES_NO, weights=weights)).winner == "yes"
    models = [of_quality("a", "yes", 0.6), of_quality("b", "no", 0.8)]
    assert outcome(await paneled(*models, extract=YES_NO, weights="uniform")).winner == "no"
