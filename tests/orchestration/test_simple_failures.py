"""`simple` where models fail, refuse, ask for tools, or are no longer wanted."""

import asyncio
from contextlib import aclosing
from itertools import product

import pytest

from app.core.messages import ToolCallPart
from app.core.run_events import AnalysisFinished, HelperFinished, OutputDelta, OutputReset, RunFinished
from app.core.run_fold import RunFold
from app.orchestration.drive import drive
from app.orchestration.simple import SimpleOrchestrator
from tests.orchestration.scripted import Reply, Scripted, failure, prepare, run

CALL = ToolCallPart("t1", "look", "{}")


@pytest.mark.parametrize("min_responses", [1, 2, 3])
@pytest.mark.parametrize("failing", list(product([False, True], repeat=3)))
@pytest.mark.parametrize("deltas", ["none", "all"])
async def test_whoever_fails_there_is_an_answer_or_every_reason(failing, min_responses, deltas):
    models = [Scripted(name, failure(name) if fails else "") for name, fails in zip("abc", failing, strict=True)]

    ran = await run(models, min_responses=min_responses, deltas=deltas)

    good = [name for name, fails in zip("abc", failing, strict=True) if not fails]
    bad = [name for name, fails in zip("abc", failing, strict=True) if fails]
    assert [c.error is not None for c in ran.result.candidates] == list(failing)
    if len(good) < min_responses:
        error = ran.result.error
        assert (ran.result.status, error.code) == ("failed", "all_candidates_failed")
        assert [cause.model for cause in error.causes] == bad
        assert error.message.startswith(f"{len(good)} of 3 models answered and min_responses is {min_responses}.")
        assert all(f"'{name}': {name} is overloaded" in error.message for name in bad)
        return
    assert ran.result.status == "succeeded"
    assert ran.result.output.is_synthesized is (len(good) > 1)
    assert ran.result.output.source_model == good[0]
    if len(good) == 1:
        assert ran.result.output.text == f"the answer of {good[0]}"
        assert ran.result.warnings == (f"only '{good[0]}' of 3 models answered; its answer is passed on as it is",)


async def test_the_only_models_failure_is_the_runs_own():
    ran = await run([Scripted("one", failure("one", "rate_limited"))])
    assert (ran.result.status, ran.result.error.code) == ("failed", "rate_limited")


async def test_a_candidate_that_fails_in_mid_stream_keeps_what_it_said_and_is_not_used():
    broken = Reply(["half "], error=failure("b").error)
    one = Scripted("a")

    ran = await run([one, Scripted("b", broken), Scripted("c")])

    assert (ran.result.candidates[1].status, ran.result.candidates[1].text) == ("failed", "half ")
    assert "half" not in one.prompts("synthesis")[0]


@pytest.mark.parametrize("deltas", ["none", "output"])
async def test_a_lead_that_fails_silently_is_followed_by_the_next_without_a_reset(deltas):
    ran = await run([Scripted("a", synthesis=failure("a")), Scripted("b"), Scripted("c")], deltas=deltas)

    assert (ran.result.output.text, ran.result.output.source_model) == ("synthesis by b", "b")
    assert ran.result.output.is_synthesized
    assert ran.result.warnings == ("the synthesis by 'a' failed (a is overloaded); 'b' is asked instead",)
    assert not ran.of(OutputReset)
    assert [call.status for call in ran.result.calls] == ["failed", "succeeded"]


async def test_what_a_lead_said_before_it_failed_is_taken_back():
    broken = Reply(["Half an "], error=failure("a", "incomplete").error)

    ran = await run([Scripted("a", synthesis=broken), Scripted("b")])

    assert [event.text for event in ran.of(OutputDelta)] == ["Half an ", "synthesis by b"]
    reset = ran.types.index("output.reset")
    assert ran.types.index("output.delta") < reset < len(ran.types) - 1 - ran.types[::-1].index("output.delta")
    assert ran.of(OutputReset)[0].reason == "the synthesis by 'a' failed (a is incomplete)"
    assert ran.result.output.text == "synthesis by b"


async def test_nothing_is_taken_back_twice():
    broken = Reply(["Half"], error=failure("a").error)

    ran = await run([Scripted("a", synthesis=broken), Scripted("b", synthesis=failure("b")), Scripted("c")])

    assert len(ran.of(OutputReset)) == 1
    assert ran.result.output.source_model == "c"


@pytest.mark.parametrize("deltas", ["none", "all"])
@pytest.mark.parametrize(
    ("said", "why"),
    [
        (Reply([" "]), "gave an empty answer"),
        (Reply(refusal="I will not."), "refused to answer"),
        (Reply(["Well"], finish_reason="content_filter"), "was stopped by a content filter"),
    ],
)
async def test_an_empty_refused_or_filtered_synthesis_is_a_failed_one(said, why, deltas):
    ran = await run([Scripted("a", synthesis=said), Scripted("b")], deltas=deltas)

    assert why in ran.result.warnings[0]
    assert ran.result.output.text == "synthesis by b"
    assert ran.result.output.refusal == ""


@pytest.mark.parametrize("said", ["", "Half"])
async def test_if_no_lead_manages_the_first_answer_stands_with_the_reason(said):
    broken = Reply([said] if said else [], error=failure("x").error)
    chief = Scripted("chief", synthesis=broken)
    models = [Scripted("a", synthesis=broken), Scripted("b", synthesis=broken)]

    ran = await run(models, lead=chief)

    assert ran.result.output.text == "the answer of a"
    assert (ran.result.output.is_synthesized, ran.result.output.source_model) == (False, "a")
    assert len(ran.result.calls) == 3
    assert len(ran.of(OutputReset)) == (3 if said else 0)
    assert ran.result.warnings[-1] == (
        "the synthesis by 'b' failed (x is overloaded); the output is the first answer, by 'a', as it is"
    )


@pytest.mark.parametrize("said", [failure("a"), ""])
async def test_a_failed_analysis_is_left_out(said):
    one = Scripted("a", analysis=Reply() if said == "" else said)

    ran = await run([one, Scripted("b")], analysis="factual")

    assert ran.result.status == "succeeded"
    assert ran.result.output.is_synthesized
    assert ran.of(AnalysisFinished)[0].analysis.error is not None
    assert "factual analysis by 'a' failed and is left out" in ran.result.warnings[0]
    assert "<analysis-" not in one.prompts("synthesis")[0]


async def test_refused_filtered_and_empty_answers_do_not_go_into_the_synthesis():
    one = Scripted("a")
    odd = [
        Scripted("b", Reply(refusal="I cannot say.")),
        Scripted("c", Reply(["Filt"], finish_reason="content_filter")),
        Scripted("d", Reply([" "])),
    ]

    ran = await run([one, *odd, Scripted("e")])

    assert one.prompts("synthesis")[0].count("label=") == 2
    assert ran.result.warnings == (
        "the answer of 'b' is left out: it refused to answer",
        "the answer of 'c' is left out: it was stopped by a content filter",
        "the answer of 'd' is left out: it gave an empty answer",
    )


async def test_where_all_refuse_a_refusal_is_passed_on():
    refused = Reply(refusal="No.", finish_reason="content_filter")

    ran = await run([Scripted("a", Reply()), Scripted("b", refused), Scripted("c", refused)])

    assert (ran.result.output.refusal, ran.result.output.text) == ("No.", "")
    assert (ran.result.output.source_model, ran.result.output.finish_reason) == ("b", "content_filter")
    assert not ran.result.output.is_synthesized
    assert "none of the 3 answers can be worked with" in ran.result.warnings[0]


def asks() -> Reply:
    return Reply(tool_calls=(CALL,), finish_reason="tool_calls")


@pytest.mark.parametrize(
    ("answers", "lead", "source"),
    [
        ((asks(), "text", "text"), None, "a"),  # the first leads and asks
        (("text", asks(), "text"), "b", "b"),  # the named lead asks
        (("text", asks(), asks()), None, "b"),  # most ask
    ],
)
async def test_tool_calls_of_the_lead_or_of_most_are_the_output(answers, lead, source):
    models = [Scripted(name, says) for name, says in zip("abc", answers, strict=True)]

    ran = await run(models, lead=next((m for m in models if m.name == lead), None), layers=2, analysis="critique")

    assert ran.result.output.tool_calls == (CALL,)
    assert (ran.result.output.finish_reason, ran.result.output.source_model) == ("tool_calls", source)
    assert not ran.result.output.is_synthesized
    assert not ran.result.calls
    assert f"'{source}' asks for tools" in ran.result.warnings[0]


async def test_tool_calls_of_a_few_are_left_out():
    ran = await run([Scripted("a"), Scripted("b", asks()), Scripted("c")])

    assert ran.result.output.text == "synthesis by a"
    assert ran.result.output.tool_calls == ()
    assert ran.result.warnings == ("the answer of 'b' is left out: it asks for tools only",)


@pytest.mark.parametrize("phase", ["candidate", "analysis", "ranking", "synthesis"])
@pytest.mark.parametrize("deltas", ["none", "all"])
async def test_closing_a_run_closes_every_call_in_every_phase(phase, deltas):
    never = asyncio.Event()
    held = {phase: Reply(["x"], hold=never)} if phase != "candidate" else {}
    says = Reply(["x"], hold=never) if phase == "candidate" else ""
    models = [Scripted(name, says, **held) for name in "abc"]
    kind = {"analysis": "critique", "ranking": "peer_ranking"}.get(phase, "none")
    request, context = prepare(models, deltas=deltas, analysis=kind)

    async def read(source):
        async for _ in source:
            pass

    async with aclosing(drive(SimpleOrchestrator(), request, context)) as events:
        reading = asyncio.create_task(read(events))
        while not any(model.open and model.phases[-1] == phase for model in models):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])

    assert [model.open for model in models] == [0, 0, 0]


async def test_a_reader_who_leaves_between_two_rankings_leaves_none_open():
    models = [
        Scripted("a"),
        Scripted("b", ranking=Reply(hold=asyncio.Event())),
        Scripted("c", ranking=Reply(hold=asyncio.Event())),
    ]
    request, context = prepare(models, analysis="peer_ranking")

    async with aclosing(drive(SimpleOrchestrator(), request, context)) as events:
        async for event in events:
            if isinstance(event, HelperFinished):
                assert [model.open for model in models] == [0, 1, 1]
                break

    assert [model.open for model in models] == [0, 0, 0]


async def test_a_reader_who_leaves_at_any_event_leaves_no_call_open():
    for stop in range(1, 40):
        models = [Scripted(name, Reply(["x", "y"])) for name in "abc"]
        request, context = prepare(models, analysis="peer_ranking", layers=2)
        async with aclosing(drive(SimpleOrchestrator(), request, context)) as events:
            seen = 0
            async for _ in events:
                seen += 1
                if seen == stop:
                    break
        assert [model.open for model in models] == [0, 0, 0], stop


async def test_a_run_that_is_cut_at_any_event_loses_none_of_its_calls():
    for stop in range(2, 40):
        models = [Scripted(name, Reply(["x", "y"])) for name in "abc"]
        request, context = prepare(models, layers=2)
        fold = RunFold("run_1")
        async with aclosing(drive(SimpleOrchestrator(), request, context, fold)) as events:
            seen = 0
            async for _ in events:
                seen += 1
                if seen == stop:
                    break
        for event in context.book.unheard(fold):  # what waited in a queue, and who could not speak any more
            fold.add(event)
        fold.add(RunFinished("cancelled", endings=()))
        result = fold.result()
        assert len((*result.candidates, *result.calls)) >= sum(len(model.asked) for model in models), stop
        assert not list(context.book.unheard(fold))
