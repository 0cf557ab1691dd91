"""parallel: who is asked when, when it is enough, and which answer is taken."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from app.core.errors import InvalidRequest
from app.core.messages import ToolCallPart, user
from app.core.run_events import CandidateScored
from app.core.usage import FlatPrice
from app.orchestration.evidence.extraction import AnswerKind, Choices, NumberAnswer
from app.orchestration.learning.taught import OPAQUE, Taught
from tests.orchestration.known import asked, engine
from tests.orchestration.lessons import Learned, measured
from tests.orchestration.scripted import Ran, Reply, Scripted, failure, lawful

NEVER = 0.999
"""A threshold that no answer reaches."""
NUMBERS = (user("What is 17 * 23?"),)


def saying(*texts: Any) -> list[Scripted]:
    return [Scripted(chr(ord("a") + number), text) for number, text in enumerate(texts)]


def silent() -> Reply:
    """Says nothing until it is cancelled."""
    return Reply(["late"], hold=asyncio.Event())


async def paralleled(
    *models: Scripted,
    lessons: Learned | None = None,
    lead: str | None = None,
    request: dict[str, Any] | None = None,
    **options: Any,
) -> Ran:
    names = tuple(model.name for model in models if model.name != lead)
    more = {"deltas": "all", "messages": NUMBERS, **(request or {})}
    run = engine(*models).begin(asked("parallel", names, lead, options=options, **more))
    if lessons is not None:
        run.context.lessons = lessons
    return lawful([event async for event in run.events()], models, run.id)


def statuses(ran: Ran) -> dict[str, str]:
    return {candidate.model: candidate.status for candidate in ran.result.candidates}


async def test_the_first_good_answer_is_taken_and_the_others_are_let_go() -> None:
    ran = await paralleled(*saying(silent(), "391", silent()))
    assert ran.result.output.text == "391"
    assert ran.result.output.source_model == "b"
    assert statuses(ran) == {"a": "cancelled", "b": "succeeded", "c": "cancelled"}


async def test_it_waits_for_as_many_good_answers_as_are_wanted() -> None:
    ran = await paralleled(*saying("391", silent(), "The answer is 391."), min_responses=2)
    assert sorted(statuses(ran).values()) == ["cancelled", "succeeded", "succeeded"]
    assert all(event.score > 0.7 for event in ran.of(CandidateScored))
    assert ran.result.warnings == ()


async def test_an_answer_that_is_not_good_is_not_enough() -> None:
    ran = await paralleled(*saying(Reply(refusal="No."), "391"))
    assert ran.result.output.text == "391"
    scores = {candidate.model: candidate.score for candidate in ran.result.candidates}
    assert (scores["a"] or 0) < 0.5 < (scores["b"] or 0)


async def test_two_that_agree_are_taken_before_one_that_came_first() -> None:
    ran = await paralleled(*saying("400", "391", "The answer is 391."), quality_threshold=NEVER)
    assert ran.result.output.text in ("391", "The answer is 391.")
    assert "reached 0.999" in ran.result.warnings[0]


async def test_it_ends_when_no_later_answer_can_come_to_the_fore() -> None:
    ran = await paralleled(*saying("391", "391", "391", silent(), silent()), quality_threshold=NEVER)
    assert list(statuses(ran).values()).count("cancelled") == 2
    assert ran.result.output.text == "391"


@pytest.mark.parametrize(("select", "taken"), [("first", "a"), ("longest", "c"), ("score", "b")])
async def test_which_answer_is_taken(select: str, taken: str) -> None:
    models = saying("No.", "Yes.", "Yes, it is, and it has always been so, as I have said.")
    ask = {"messages": (user("Is it so? Answer yes or no."),)}
    ran = await paralleled(*models, select=select, min_responses=3, quality_threshold=0.0, request=ask)
    assert ran.result.output.source_model == taken


async def test_a_judge_scores_each_answer_not_knowing_whose_it_is() -> None:
    lead = Scripted(
        "lead", judge=lambda request: json.dumps({"score": 0.9 if "good one" in request.messages[-1].text else 0.2})
    )
    ran = await paralleled(
        *saying("the bad one", "the good one", "another bad one"), lead, lead="lead", select="judge", quality_threshold=0.8
    )
    assert ran.result.output.text == "the good one"
    assert {call.role for call in ran.result.calls} == {"judge"}
    assert next(c.score for c in ran.result.candidates if c.model == "b") == 0.9


async def test_where_the_judge_fails_an_answer_counts_by_what_it_says() -> None:
    lead = Scripted("lead", judge=failure("lead"))
    ran = await paralleled(*saying("391", "391", "400"), lead, lead="lead", select="judge", min_responses=3)
    assert ran.result.output.text == "391"
    assert "did not score the answer" in ran.result.warnings[0]


async def test_no_more_are_asked_than_may_be_and_one_that_fails_makes_room() -> None:
    models = saying("400", "391", "391", "391")
    ran = await paralleled(*models, max_models=2, quality_threshold=NEVER)
    assert list(statuses(ran)) == ["a", "b"]
    models = saying(failure("a"), "391", "391", "391")
    ran = await paralleled(*models, max_models=2, quality_threshold=NEVER)
    assert sorted(statuses(ran)) == ["a", "b", "c"]
    assert ran.result.plan is not None
    assert (ran.result.plan.models, ran.result.plan.fallbacks) == (("a", "b"), ("c", "d"))


async def test_the_next_one_is_asked_when_those_at_work_are_slow() -> None:
    models = saying(silent(), "391", "391")
    ran = await paralleled(*models, hedge_after=0.01)
    assert statuses(ran) == {"a": "cancelled", "b": "succeeded"}
    assert models[2].asked == []


async def test_with_hedges_nobody_is_asked_who_is_not_needed() -> None:
    models = saying("391", "391", "391")
    ran = await paralleled(*models, hedge_after=60)
    assert statuses(ran) == {"a": "succeeded"}
    models = saying(failure("a"), Reply(refusal="No."), "391", "391")
    ran = await paralleled(*models, hedge_after=60)
    assert statuses(ran) == {"a": "failed", "b": "succeeded", "c": "succeeded"}
    assert ran.result.output.text == "391"


async def test_slow_is_what_is_slow_for_a_model() -> None:
    lessons = Learned(performances={"a": measured(latency_ms=1.0, p95_ms=5.0), "b": measured(latency_ms=1.0, p95_ms=60_000.0)})
    models = saying(silent(), "400", "391")
    ran = await paralleled(*models, lessons=lessons, hedge_after="p95")
    assert statuses(ran) == {"a": "cancelled", "b": "succeeded"}


async def test_models_are_asked_in_the_order_of_what_was_measured() -> None:
    lessons = Learned(
        performances={
            "a": measured(quality=0.5, judged=500),
            "b": measured(quality=0.9, judged=500, latency_ms=900),
            "c": measured(quality=0.9, judged=500, latency_ms=100),
            "d": measured(quality=0.99, judged=500, success=0.3, latency_ms=100),
        }
    )
    ran = await paralleled(*saying("391", "391", "391", "391"), lessons=lessons, hedge_after=60)
    assert ran.result.plan
    assert ran.result.plan.models == ("c", "b", "a", "d")
    assert statuses(ran) == {"c": "succeeded"}


@pytest.mark.parametrize("failing", range(8))
@pytest.mark.parametrize("hedge_after", [None, 60])
async def test_any_models_may_fail(failing: int, hedge_after: float | None) -> None:
    models = [Scripted(name, failure(name) if failing >> place & 1 else "391") for place, name in enumerate("abc")]
    ran = await paralleled(*models, quality_threshold=NEVER, hedge_after=hedge_after)
    assert ran.result.status == ("failed" if failing == 7 else "succeeded")
    failed = {candidate.model: candidate.error for candidate in ran.result.candidates if candidate.status == "failed"}
    asked_of = {candidate.model for candidate in ran.result.candidates}
    assert set(failed) == {name for place, name in enumerate("abc") if failing >> place & 1} & asked_of
    assert all(error and error.failure == "overloaded" for error in failed.values())


async def test_with_too_few_answers_it_fails_with_each_ones_reason() -> None:
    ran = await paralleled(*saying("391", failure("b")), min_responses=2)
    assert ran.result.error
    assert "1 of 2 models answered and min_responses is 2. 'b': b is overloaded" in ran.result.error.message
    alone = await paralleled(*saying(failure("a")))
    assert alone.result.error
    assert alone.result.error.failure == "overloaded"


async def test_an_answer_that_asks_for_tools_is_passed_on() -> None:
    call = ToolCallPart("1", "look", '{"at": "it"}')
    ran = await paralleled(Scripted("a", Reply(tool_calls=(call,), finish_reason="tool_calls")), Scripted("b", silent()))
    assert ran.result.output.tool_calls == (call,)
    assert ran.result.output.finish_reason == "tool_calls"
    assert ran.result.warnings == ()


@pytest.mark.parametrize(
    ("options", "param", "says"),
    [
        ({"min_responses": 3}, "options.min_responses", "there are only 2 models"),
        ({"min_responses": 2, "max_models": 1}, "options", "max_models only 1"),
        ({"select": "best"}, "options.select", "'first', 'longest', 'score' or 'judge'"),
        ({"extract": {"type": "number"}}, "options.extract", "is no option"),
        ({"hedge_after": -1}, "options.hedge_after", "hedge_after"),
    ],
)
async def test_what_cannot_be_is_refused(options: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        await paralleled(*saying("yes", "no"), **options)
    assert (refused.value.param or "").startswith(param)


async def test_its_worst_case_is_the_dearest_that_may_be_asked_and_their_judges() -> None:
    models = saying("391", "391", "391")
    for place, one in enumerate(models):
        one.model = one.profiled(price=FlatPrice(1.0 + place, 1.0 + place))
    made = engine(*models, limits={"default_max_tokens": 100})
    estimate = await made.estimate(asked("parallel", ("a", "b", "c"), options={"max_models": 2}, messages=NUMBERS))
    assert [call.model for call in estimate.calls] == ["c", "b"]
    estimate = await made.estimate(asked("parallel", ("a", "b"), options={"select": "judge"}, messages=NUMBERS))
    assert [(call.model, call.role) for call in estimate.calls] == [
        ("b", "candidate"),
        ("a", "candidate"),
        ("a", "judge"),
        ("a", "judge"),
    ]


async def taught(*models: Scripted, prompt: str = "What is 17 * 23?", **options: Any) -> Taught:
    """What a run of `parallel` says of itself to those who learn."""
    names = tuple(model.name for model in models)
    run = engine(*models).begin(asked("parallel", names, options=options, messages=(user(prompt),)))
    async with aclosing(run.events()) as events:
        async for _ in events:
            pass
    assert run.context.taught is not None
    return run.context.taught


@pytest.mark.parametrize(
    ("prompt", "says", "labels", "reader"),
    [
        ("Is it so? Answer yes or no.", ["Yes.", "No.", "Yes, it is."], ["yes", "no", "yes"], Choices(("yes", "no"))),
        ("What is 17 * 23?", ["391", "The answer is 391.", "400"], ["391", "391", "400"], NumberAnswer()),
    ],
)
async def test_answers_that_can_be_compared_teach_as_a_vote(
    prompt: str, says: list[str], labels: list[str], reader: AnswerKind
) -> None:
    told = await taught(*saying(*says), prompt=prompt, min_responses=3, quality_threshold=0.0)
    assert [one.label for one in told.said] == labels
    assert (told.winner, told.reader, told.panel, told.votes) == (labels[0], reader, 3, True)
    assert 0.5 < (told.probability or 0) < 1


async def test_one_answer_teaches_who_gave_it_and_is_no_vote() -> None:
    told = await taught(*saying(silent(), "391", silent()))
    assert [(one.member, one.label) for one in told.said] == [("b", "391")]
    assert (told.winner, told.panel, told.votes, told.probability) == ("391", 3, False, None)


async def test_of_texts_it_is_told_which_was_taken_and_that_they_differ() -> None:
    long = "It scatters the short waves more than the long ones, which leaves them to be seen from everywhere. "
    told = await taught(*saying(long, long * 3), prompt="Why is the sky blue?", select="longest", min_responses=2)
    assert told.winner == told.said[1].label != told.said[0].label
    assert all((one.label or "").startswith(OPAQUE) for one in told.said)
    assert (told.votes, told.reader) == (False, None)


async def test_an_answer_that_was_taken_against_the_vote_says_nothing_of_confidences() -> None:
    told = await taught(*saying("400", "391", "391"), select="first", min_responses=3, quality_threshold=0.0)
    assert (told.winner, told.probability) == ("400", None)


@pytest.mark.parametrize("select", ["first", "longest", "score"])
async def test_answers_that_say_nothing_are_no_answer(select: str) -> None:
    ran = await paralleled(*saying(Reply([]), Reply(["\n"])), select=select)
    assert ran.result.error
    assert ran.result.error.code == "all_candidates_failed"
    assert "none of the 2 answers says anything. 'a': gave an empty answer" in ran.result.error.message
