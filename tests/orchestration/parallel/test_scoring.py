"""How good answers are, told without a judge."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.chat import Choice
from app.core.messages import ToolCallPart
from app.orchestration.evidence.asked import asked_kind, stated_answer
from app.orchestration.evidence.confidence import Calibrators
from app.orchestration.evidence.extraction import Choices, JsonAnswer
from app.orchestration.evidence.weights import prior_weights
from app.orchestration.parallel.scoring import Scorer, said

YES_NO = Choices(("yes", "no"))
LONG = "Water boils at a hundred degrees Celsius at sea level, and at less on a mountain, where the air is thin. "
NEAR = "At sea level water boils at a hundred degrees Celsius, on a mountain at less, for the air is thin there. "
OTHER = "Penguins live in Antarctica and feed on krill, squid and fish, which they catch in the cold sea at night. "


def scores(*choices: Choice, kind: Any = None, open_ended: bool = False, **quality: float) -> tuple[float, ...]:
    members = [chr(ord("a") + place) for place in range(len(choices))]
    weights = prior_weights(members, reliability=quality)
    scorer = Scorer(weights, Calibrators(), len(members), "math")
    answers = [said(member, choice, kind, open_ended=open_ended) for member, choice in zip(members, choices, strict=True)]
    return scorer.scores(answers)


def saying(*texts: str) -> list[Choice]:
    return [Choice(0, text) for text in texts]


def test_two_that_agree_outrank_one() -> None:
    right, also, wrong = scores(*saying("The answer is 391.", "17 * 23: **Answer:** 391", "400"))
    assert right == also > 0.5 > wrong
    assert 0.5 < scores(Choice(0, "391"))[0] < scores(*saying("391", "The answer is 391."))[0]


def test_one_that_is_known_to_be_good_outranks_two_that_are_not() -> None:
    good, weak, weaker = scores(*saying("yes", "no", "no"), kind=YES_NO, a=0.97, b=0.55, c=0.55)
    assert good > weak == weaker


def test_texts_that_are_alike_speak_for_each_other_and_others_not_against_them() -> None:
    one, near, other = scores(*saying(LONG, NEAR, OTHER))
    assert one == near > other
    assert scores(Choice(0, OTHER)) == (other,)


@pytest.mark.parametrize(
    ("one", "other"), [("Answer: A", "Answer: B"), (f"It is safe. {LONG}", f"It is not safe. {LONG}"), ("東京です", "大阪です")]
)
def test_texts_that_say_opposite_things_do_not_speak_for_each_other(one: str, other: str) -> None:
    alone = scores(Choice(0, one), open_ended=True)[0]
    assert scores(*saying(one, other), open_ended=True) == (alone, alone)
    assert scores(*saying(one, one), open_ended=True)[0] > alone


def test_many_answers_to_an_open_question_do_not_contradict_each_other() -> None:
    first, second = scores(*saying("Golden leaves fall.", "Mist over fields."), open_ended=True)
    assert first == second == scores(Choice(0, "Golden leaves fall."))[0]
    assert scores(*saying("Golden leaves fall.", "Mist over fields."))[0] < first


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        (Choice(0, ""), None),
        (Choice(0, "", refusal="I cannot help with that."), None),
        (Choice(0, "I will not.", finish_reason="content_filter"), None),
        (Choice(0, LONG, finish_reason="length"), None),
        (Choice(0, "It depends on what you mean by a prime."), YES_NO),
        (Choice(0, "Here you are: nothing"), JsonAnswer({"type": "object"})),
        (Choice(0, "[1, 2]"), JsonAnswer({"type": "object"})),
    ],
)
def test_an_answer_that_lacks_something_is_not_good(choice: Choice, kind: Any) -> None:
    assert scores(choice, kind=kind)[0] < 0.5


def test_an_answer_that_has_all_that_was_asked_for_is_good() -> None:
    assert scores(Choice(0, '{"city": "Paris"}'), kind=JsonAnswer({"type": "object"}))[0] > 0.5
    assert scores(Choice(0, "After some thought: [Yes]"), kind=YES_NO)[0] > 0.5
    call = ToolCallPart("1", "look", "{}")
    assert scores(Choice(0, "", tool_calls=(call,), finish_reason="tool_calls"))[0] > 0.5


def test_a_text_much_shorter_than_the_others_is_taken_to_leave_something_out() -> None:
    whole, other, stub = scores(
        *saying(LONG * 4, OTHER * 4, "Hot water is what you get when you heat it for a while, I think.")
    )
    assert stub < other
    assert whole == other


@pytest.mark.parametrize(
    ("prompt", "labels"),
    [
        ('Is 17077 a prime number? Think step by step and then answer "[Yes]" or "[No]".', ("yes", "no")),
        ("Is it so? Answer yes/no.", ("yes", "no")),
        ("True or false: water is wet.", ("true", "false")),
        ("Which is a mammal?\nA) Trout\nB) Whale\nC) Eagle", ("A", "B", "C")),
        ("Which is a mammal?\n(A) Trout\n(B) Whale", ("A", "B")),
        ("What is 17 * 23?", None),
        ("A) is one option and that is all", None),
    ],
)
def test_what_a_prompt_asks_for(prompt: str, labels: tuple[str, ...] | None) -> None:
    found = asked_kind(prompt)
    assert (found.labels if found else None) == labels


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("391", "391"),
        ("First 340, then 51.\nThe answer is 391.", "391"),
        ("... so \\boxed{1,200}", "1200"),
        ("Step one.\n#### 42", "42"),
        ("It has divisors. [No]", "no"),
        ('{"reason": "it is", "answer": "Paris"}', "paris"),
        ('{"city": "Paris"}', None),
        (LONG, None),
        ("See [the guide] for how to begin, and come back with questions that you have then.", None),
        ("", None),
    ],
)
def test_what_a_text_states_as_its_answer(text: str, label: str | None) -> None:
    assert stated_answer(text) == label
