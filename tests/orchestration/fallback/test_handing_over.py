"""`fallback`: who answers where others fail, what is shown of it, and what is told."""

from __future__ import annotations

from typing import get_args

import pytest

from app.core.chat import Generation
from app.core.errors import CapabilityMissing, FailureClass, InvalidRequest
from app.core.messages import ImagePart, Message, TextPart, user
from app.core.models import Capabilities
from app.core.run_events import LinkPassed, OutputDelta, OutputReset
from app.orchestration.fallback.options import DEFAULT_ON, RETRIED, HandOver
from app.reliability import retry
from tests.orchestration.fallback.chained import chained, told
from tests.orchestration.known import asked, engine
from tests.orchestration.scripted import Reply, Scripted, failure

BY_DEFAULT = [
    "connection", "timeout", "rate_limited", "quota_exhausted", "request_too_large", "overloaded", "server_error",
    "incomplete", "auth", "not_found", "context_length", "invalid_output", "breaker_open", "pacing",
]  # fmt: skip
"""The rows of the contract's table that fall back."""


def test_the_classes_are_those_of_failures_and_two_more() -> None:
    assert set(get_args(HandOver)) == set(get_args(FailureClass)) - {"cancelled"} | {"refusal", "low_quality"}
    assert {*BY_DEFAULT, "low_quality"} == DEFAULT_ON
    assert set(RETRIED) == retry.RETRIED


@pytest.mark.parametrize("deltas", ["none", "output", "all"])
async def test_the_first_that_answers_is_the_only_one_asked(deltas: str) -> None:
    a, b = Scripted("a"), Scripted("b")
    ran = await chained(a, b, deltas=deltas)
    assert (ran.result.output.text, ran.result.output.source_model) == ("the answer of a", "a")
    assert [told(link) for link in ran.result.path] == [(1, "a", "answered", None)]
    assert not b.asked
    assert ran.result.plan is not None
    assert (ran.result.plan.models, ran.result.plan.fallbacks) == (("a", "b"), ("b",))


@pytest.mark.parametrize("deltas", ["none", "output", "all"])
@pytest.mark.parametrize("word", BY_DEFAULT)
async def test_a_failure_is_handed_over_silently_and_told(word: str, deltas: str) -> None:
    ran = await chained(Scripted("a", failure("a", word)), Scripted("b"), deltas=deltas)
    assert (ran.result.status, ran.result.output.text) == ("succeeded", "the answer of b")
    assert [told(link) for link in ran.result.path] == [(1, "a", "handed_over", word), (2, "b", "answered", None)]
    assert [link.candidate_id for link in ran.result.path] == [c.id for c in ran.result.candidates]
    assert ran.result.path[0].reason == f"a is {word}"
    assert [c.status for c in ran.result.candidates] == ["failed", "succeeded"]
    assert not ran.of(OutputReset)
    assert ran.result.warnings == (f"'a' hands over ({word}): a is {word}",)


async def test_what_is_wrong_with_the_request_is_not_handed_over_unless_a_link_says_so() -> None:
    b = Scripted("b")
    ran = await chained(Scripted("a", failure("a", "invalid_request")), b)
    assert (ran.result.status, ran.result.error.code) == ("failed", "invalid_request")
    assert [told(link) for link in ran.result.path] == [(1, "a", "failed", "invalid_request")]
    assert not b.asked
    ran = await chained(
        Scripted("a", failure("a", "invalid_request")), b, chain=[{"model": "a", "on": ["invalid_request"]}, "b"]
    )
    assert ran.result.output.text == "the answer of b"


async def test_a_link_hands_over_on_what_it_names_and_nothing_else() -> None:
    chain = [{"model": "a", "on": ["timeout"]}, "b"]
    ran = await chained(Scripted("a", failure("a", "overloaded")), Scripted("b"), chain=chain)
    assert ran.result.error.code == "overloaded"
    ran = await chained(Scripted("a", failure("a", "timeout")), Scripted("b"), chain=chain)
    assert ran.result.output.source_model == "b"


async def test_when_all_fail_every_reason_is_given() -> None:
    ran = await chained(
        Scripted("a", failure("a", "timeout")), Scripted("b", failure("b")), Scripted("c", failure("c", "auth"))
    )
    error = ran.result.error
    assert (ran.result.status, error.code) == ("failed", "all_candidates_failed")
    assert [(cause.model, cause.failure) for cause in error.causes] == [("a", "timeout"), ("b", "overloaded"), ("c", "auth")]
    assert error.message == (
        "none of the 3 models asked gave an answer. "
        "'a' (timeout): a is timeout; 'b' (overloaded): b is overloaded; 'c' (auth): c is auth"
    )
    assert [link.outcome for link in ran.result.path] == ["handed_over", "handed_over", "failed"]


async def test_a_chain_of_one_fails_with_its_own_failure() -> None:
    ran = await chained(Scripted("a", failure("a", "rate_limited")), chain=["a"])
    assert ran.result.error.code == "rate_limited"


async def test_what_was_shown_is_taken_back_before_another_speaks() -> None:
    broken = Reply(["Half an "], error=failure("a", "incomplete").error)
    ran = await chained(Scripted("a", broken), Scripted("b", Reply(["the ", "answer"])))
    shown = [event for event in ran.events if isinstance(event, (OutputDelta, OutputReset))]
    assert [event.text if isinstance(event, OutputDelta) else "reset" for event in shown] == [
        "Half an ",
        "reset",
        "the ",
        "answer",
    ]
    assert ran.of(OutputReset)[0].reason == "'a' failed after it had begun to answer (incomplete)"
    assert ran.result.output.text == "the answer"
    assert ran.result.candidates[0].text == "Half an "


async def test_the_last_ones_half_answer_stands_beside_its_failure() -> None:
    ran = await chained(Scripted("a", failure("a")), Scripted("b", Reply(["Half"], error=failure("b").error)))
    assert not ran.of(OutputReset)
    assert (ran.result.status, ran.result.output.text) == ("failed", "Half")


@pytest.mark.parametrize(
    ("reply", "word"),
    [(Reply(refusal="No."), "refusal"), (Reply(["I "], finish_reason="content_filter"), "content_filtered")],
)
async def test_a_refusal_is_an_answer_unless_a_link_hands_it_over(reply: Reply, word: str) -> None:
    b = Scripted("b")
    ran = await chained(Scripted("a", reply), b)
    assert ran.result.status == "succeeded"
    assert ran.result.path[0].outcome == "answered"
    assert not b.asked
    ran = await chained(Scripted("a", reply), b, chain=[{"model": "a", "on": [word]}, "b"])
    assert ran.result.output.text == "the answer of b"
    assert told(ran.result.path[0]) == (1, "a", "handed_over", word)
    assert bool(ran.of(OutputReset)) is bool(reply.pieces)  # a refusal was held back, words were not


async def test_the_last_links_refusal_is_the_answer() -> None:
    ran = await chained(
        Scripted("a", failure("a")), Scripted("b", Reply(refusal="No.")), chain=["a", {"model": "b", "on": ["refusal"]}]
    )
    assert (ran.result.status, ran.result.output.refusal) == ("succeeded", "No.")


async def test_a_condition_that_is_false_skips_its_link() -> None:
    chain = [{"model": "a", "when": "tokens > 1000"}, {"model": "b", "when": "'fast' in tags && task == 'chat'"}, "c"]
    models = Scripted("a"), Scripted("b"), Scripted("c")
    ran = await chained(*models, chain=chain, metadata={"tags": ["fast"], "task": "chat"})
    assert [told(link) for link in ran.result.path] == [(1, "a", "skipped", None), (2, "b", "answered", None)]
    assert ran.result.path[0].reason == "its condition is false"
    ran = await chained(*models, chain=chain, messages=(user("long " * 2_000),))
    assert ran.result.output.source_model == "a"


async def test_a_condition_that_cannot_be_decided_skips_its_link_and_says_why() -> None:
    ran = await chained(Scripted("a"), Scripted("b"), chain=[{"model": "a", "when": "metadata.tier == 'gold'"}, "b"])
    assert ran.result.path[0].reason == "its condition cannot be decided: there is no 'tier'"
    assert ran.result.output.source_model == "b"


async def test_with_every_link_skipped_the_request_is_refused() -> None:
    ran = await chained(Scripted("a"), chain=[{"model": "a", "when": "false"}])
    assert (ran.result.status, ran.result.error.code, ran.result.error.param) == ("failed", "invalid_request", "options.chain")
    assert "'a': its condition is false" in ran.result.error.message


PICTURE = (Message("user", (TextPart("What is this?"), ImagePart(url="https://x.test/a.png"))),)


async def test_a_model_that_cannot_do_what_is_asked_is_skipped() -> None:
    blind = Scripted("blind", capabilities=Capabilities(images=False))
    ran = await chained(blind, Scripted("b"), chain=["blind", "b"], messages=PICTURE)
    assert told(ran.result.path[0]) == (1, "blind", "skipped", None)
    assert "takes no images" in str(ran.result.path[0].reason)
    assert not blind.asked
    ran = await chained(blind, chain=[{"model": "blind", "request": {"drop": ["images"]}}], messages=PICTURE)
    assert ran.result.output.source_model == "blind"


async def test_a_model_without_settings_of_sampling_is_asked_where_its_link_leaves_them_out() -> None:
    fixed, hot = Scripted("fixed", capabilities=Capabilities(sampling=False)), Generation(temperature=0.2, top_p=0.5, seed=7)
    ran = await chained(fixed, Scripted("b"), chain=["fixed", "b"], generation=hot)
    assert told(ran.result.path[0]) == (1, "fixed", "skipped", None)
    ran = await chained(fixed, chain=[{"model": "fixed", "request": {"drop": ["temperature", "top_p"]}}], generation=hot)
    assert ran.result.output.source_model == "fixed"
    assert fixed.asked[0].generation == Generation(seed=7)


def refused(*models: Scripted, **request: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        engine(*models, limits={"max_tokens": 1_000, "max_models": 3}).begin(asked("fallback", **request))
    return caught.value


def test_where_no_model_can_the_request_is_refused_before_anything_runs() -> None:
    blind = Scripted("blind", capabilities=Capabilities(images=False))
    error = refused(blind, options={"chain": [{"model": "blind"}, {"model": "blind"}]}, messages=PICTURE)
    assert isinstance(error, CapabilityMissing)


@pytest.mark.parametrize(
    ("options", "param", "said"),
    [
        ({"chain": [{"model": "a"}, {"model": "none"}]}, "options.chain.1.model", "no model 'none'"),
        (
            {"chain": [{"model": "a", "check": {"judge": {"model": "none"}}}]},
            "options.chain.0.check.judge.model",
            "no model 'none'",
        ),
        ({"chain": [{"model": "a", "on": ["cancelled"]}]}, "options.chain.0.on.0", "Input should be"),
        ({"chain": [{"model": "a", "when": "tokens >"}]}, "options.chain.0.when", "line 1, column 9"),
        ({"chain": [{"model": "a", "check": {}}]}, "options.chain.0.check", "is empty"),
        ({"chain": [{"model": "a", "check": {"pattern": "("}}]}, "options.chain.0.check.pattern", "no pattern of RE2"),
        ({"chain": [{"model": "a", "check": {"schema": {"type": 7}}}]}, "options.chain.0.check.schema", "no JSON schema"),
        ({"chain": [{"model": "a", "retry": {"auth": 1}}]}, "options.chain.0.retry.auth", "Input should be 'connection', "),
        (
            {"chain": [{"model": "a", "retry": {"overloaded": 99}}]},
            "options.chain.0.retry.overloaded",
            "less than or equal to 10",
        ),
        ({"chain": [{"model": "a", "when": "1 + 1"}]}, "options.chain.0.when", "it gives int, not true or false"),
        ({"chain": [{"model": "a", "when": "text.matches('(')"}]}, "options.chain.0.when", "'(' is no pattern: unclosed group"),
        ({"chain": [{"model": "a", "check": {"min_chars": 9, "max_chars": 3}}]}, "options.chain.0.check", "no answer has both"),
        (
            {"chain": [{"model": "a", "response": [{"do": "replace", "pattern": "(a)", "text": "\\2"}]}]},
            "options.chain.0.response.0",
            "names a group that '(a)' has not; it has 1",
        ),
        (
            {"chain": [{"model": "a", "response": [{"do": "replace", "pattern": "a", "text": "\\x"}]}]},
            "options.chain.0.response.0",
            "has a backslash that stands for nothing",
        ),
        (
            {"chain": [{"model": "a", "request": {"generation": {"max_tokens": 2_000}}}]},
            "options.chain.0.request.generation.max_tokens",
            "at most 1000",
        ),
        ({"chain": [{"model": "a"}] * 4}, "options.chain", "name 4 models; at most 3"),
        ({"links": []}, "options.links", "the options of 'fallback' are chain, dynamic"),
    ],
)
def test_what_is_refused_of_the_options(options: dict[str, object], param: str, said: str) -> None:
    error = refused(Scripted("a"), options=options)
    assert param in str(error.param)
    assert said in error.message


def test_models_beside_a_chain_are_refused() -> None:
    assert refused(Scripted("a"), models=("a",), options={"chain": [{"model": "a"}]}).param == "models"


async def test_the_path_is_told_link_by_link() -> None:
    ran = await chained(Scripted("a", failure("a")), Scripted("b"))
    types = ran.types
    assert types.index("candidate.failed") < types.index("link.passed") < types.index("candidate.started", 3)
    assert [event.link for event in ran.of(LinkPassed)] == list(ran.result.path)
