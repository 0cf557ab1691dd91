from __future__ import annotations

from typing import get_args

import pytest

from app.core.errors import FailureClass
from app.providers.mock.faults import FAULTS, NO_KNOBS, KnobError, Knobs, directives, knobs_of, split_model, without_directives


def test_every_failure_class_is_a_fault_of_that_name():
    assert {name: FAULTS[name].failure for name in get_args(FailureClass)} == {name: name for name in get_args(FailureClass)}


def test_knobs_are_read_by_any_spelling_of_their_names():
    assert knobs_of({"Latency-Ms": "200", "chunk": 5, "fault": "429", "retry-after": "1.5"}) == Knobs(
        latency_ms=200, chunk_ms=5, fault=FAULTS["429"], retry_after=1.5
    )
    assert knobs_of({"fault": "truncate:3"}) == Knobs(fault=FAULTS["truncate"], after=3)
    assert knobs_of({}) is NO_KNOBS


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ({"lag": "1"}, "no knob 'lag'; there are latency_ms"),
        ({"fault": "meteor"}, "no fault 'meteor'; there are connection"),
        ({"latency": "soon"}, "latency_ms is 'soon'; it wants a number"),
        ({"chunks": "-1"}, "chunks is '-1'; it wants a whole number"),
    ],
)
def test_a_wrong_knob_is_named_with_what_would_be_right(pairs: dict[str, str], said: str):
    with pytest.raises(KnobError, match=said.replace("(", r"\(")):
        knobs_of(pairs)


def test_a_directive_speaks_to_the_models_and_the_stage_it_names():
    prompt = "Hi [[mock: fault=overloaded model=a,b]] there [[mock: chunks=4]] [[mock: stage=lead fault=500]]"
    assert directives(prompt, model="a", stage="answer") == {"fault": "overloaded", "chunks": "4"}
    assert directives(prompt, model="c", stage="answer") == {"chunks": "4"}
    assert directives(prompt, model="c", stage="lead") == {"fault": "500"}
    assert without_directives(prompt).split() == ["Hi", "there"]


@pytest.mark.parametrize("prompt", ["[[mock: overloaded]]", "[[mock: stage=middle]]", "[[mock: speed=9]]"])
def test_a_directive_that_says_nothing_is_refused(prompt: str):
    with pytest.raises(KnobError):
        directives(prompt, model="a", stage="answer")


def test_a_models_name_may_carry_knobs():
    assert split_model("mock-swift?latency_ms=200&fault=429") == ("mock-swift", {"latency_ms": "200", "fault": "429"})
    assert split_model("mock-swift;fault=429") == ("mock-swift", {"fault": "429"})
    assert split_model("mock-swift") == ("mock-swift", {})
