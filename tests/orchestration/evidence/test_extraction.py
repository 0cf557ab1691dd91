"""What an answer says: read from what models really write, and refused where it says nothing."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import InvalidRequest
from app.orchestration.evidence.extraction import Choices, JsonAnswer, NumberAnswer, TextAnswer, extract, instruction
from app.orchestration.evidence.labels import among, normalised
from app.orchestration.evidence.loose_json import loose_json
from app.orchestration.evidence.stated import stated_confidence

LETTERS = Choices(("A", "B", "C", "D"), {"A": "Oslo", "B": "Paris", "C": "Rome", "D": "Bern"})
YES_NO = Choices(("Yes", "No"))


@pytest.mark.parametrize(
    "text",
    [
        "B",
        "(B)",
        "B.",
        "b",
        "B) Paris",
        "Paris",
        "The answer is B.",
        "The answer is (B): Paris, for it has the tower.",
        "I first thought of A. The correct answer is **B**.",
        "Answer: B",
        "**Final Answer:** B",
        r"So we get $\boxed{B}$.",
        r"\boxed{\text{B}}",
        '{"reasoning": "It is not A.", "answer": "B"}',
        '```json\n{"answer": "B"}\n```',
        "Reasons against A, C and D follow. [B]",
        "A is cold. C is old. So it must be (B)",
        "The best option is B because a capital is asked for.",
        "#### B",
    ],
)
def test_a_choice_is_read_from(text):
    assert extract(text, LETTERS).label == "B"


@pytest.mark.parametrize("text", ["", "I cannot tell.", "A rose is a rose", "E"])
def test_no_choice_is_read_from(text):
    found = extract(text, Choices(("B", "C", "D")))
    assert (found.label, found.valid) == (None, False)
    assert "says none of 'B', 'C', 'D'" in found.errors[0]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("[No]\n\nLet us see. It is only divisible by 1 and itself, so yes, it is prime.", "No"),
        ("Step by step ... therefore it is prime. [Yes]", "Yes"),
        ("true", "Yes"),
        ("Yes, it is.", "Yes"),
        ("Nobody knows. no", "No"),
    ],
)
def test_yes_and_no_are_read_from(text, label):
    assert extract(text, YES_NO).label == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("She has 3 + 4 = 7 apples.\n#### 7", "7"),
        ("The answer is 1,234 dollars. She had 5 before.", "1234"),
        ("So she pays $29.00.", "29"),
        (r"Thus \boxed{\frac{1}{2}}", "0.5"),
        (r"first \boxed{1}, then \boxed{2}", "2"),
        ('{"reasoning": "9 * 2", "answer": 18}', "18"),
        ('{"reasoning": "she said "no" and left", "answer": "18"', "18"),
        ('```json\n{"reasoning": "line\nbreak", "answer": "$9 500",}\n```', "9500"),
        ("A: 26", "26"),
        ("In total that is 12 eggs", "12"),
        ("answer: 3 x 4 = 12", "12"),
        ("The value is 10^3", "1000"),
        ("Answer: 10^3", "1000"),
        ("Answer: 1000", "1000"),
        (r"\boxed{1.5 \times 10^{6}}", "1500000"),
        ("Answer: 1,5", "1.5"),
        ("Answer: ½", "0.5"),
        ("Answer: 25% of 80 is 20", "20"),
        ("Answer: the sum of 3 and 4 is 7", "7"),
        ("Answer: 7 eggs, for the sum of the others is 12", "7"),
        ("Answer: 7, which is 3 more than 4", "7"),
    ],
)
def test_a_number_is_read_from(text, label):
    assert extract(text, NumberAnswer()).label == label


def test_a_number_is_told_in_the_unit_that_was_asked_for():
    assert extract("It is 1.5 km.", NumberAnswer("m")).data == 1500
    assert extract("It takes 3 hours and 20 minutes.", NumberAnswer("minutes")).data == pytest.approx(200)


def test_an_answer_member_without_a_number_is_no_number_although_the_reasoning_has_some():
    text = '{"reasoning": "14 records or more", "answer": "It cannot be told."}'
    assert extract(text, NumberAnswer()).errors == ("says no number",)


def test_the_callers_pattern_rules_alone():
    assert extract("RESULT<7> and the answer is 9", NumberAnswer(pattern=r"RESULT<(\d+)>")).label == "7"
    assert not extract("the answer is 9", NumberAnswer(pattern=r"RESULT<(\d+)>")).valid
    assert extract("key=B; answer: C", Choices(("B", "C"), pattern=r"key=(\w)")).label == "B"
    assert extract("code: XY-12!", TextAnswer(r"[A-Z]{2}-\d+")).data == "XY-12"
    with pytest.raises(InvalidRequest):
        extract("x", TextAnswer("(unclosed"))


def test_json_is_read_repaired_and_held_against_its_schema():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert extract('Sure!\n```json\n{"n": 3,}\n```', JsonAnswer(schema)).data == {"n": 3}
    refused = extract('{"n": "three"}', JsonAnswer(schema))
    assert not refused.valid
    assert "does not follow the schema" in refused.errors[0]
    assert extract("no JSON here", JsonAnswer()).errors == ("holds no JSON",)
    assert extract('{"b": 1, "a": 2}', JsonAnswer()).label == extract('{"a":2,"b":1}', JsonAnswer()).label


@pytest.mark.parametrize("kind", [LETTERS, NumberAnswer("kg"), JsonAnswer({"type": "object"}), TextAnswer()])
def test_an_instruction_asks_for_what_the_parser_reads(kind):
    told = instruction(kind, confidence=True)
    assert "Confidence" in told or isinstance(kind, JsonAnswer)
    if isinstance(kind, Choices):
        assert '"A", "B", "C", "D"' in told
    if isinstance(kind, NumberAnswer):
        assert "in kg" in told


def test_an_answer_that_follows_the_instruction_is_read_with_its_confidence():
    found = extract("Paris it is.\nAnswer: B\nConfidence: 85 %", LETTERS, stated=True)
    assert (found.label, found.stated) == ("B", 0.85)


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "It is 17 because 17 is odd.\nConfidence: 80 %",
        "So we get 17.\n**Confidence:** 80%",
        "So we get 17.\n\n- Confidence level: about 0.8\n",
        "So we get 17 (confidence: 8/10).",
        "So we get 17. I am 80% sure.",
        "So we get 17. My confidence in this answer is 80 %.",
        "Confidence: 80 %\nSo we get 17.",
        "17\nMy confidence is 80%.",
        "Answer: 17\nConfidence: 80 %",
    ],
)
def test_how_sure_an_answer_is_is_not_what_it_says(text, stated):
    assert extract(text, NumberAnswer(), stated=stated).label == "17"
    if stated:
        assert extract(text, NumberAnswer(), stated=stated).stated == 0.8


def test_an_answer_that_says_only_how_sure_it_is_says_nothing_where_that_was_asked_for():
    assert not extract("Confidence: 80 %", NumberAnswer(), stated=True).valid
    assert not extract("I cannot tell.\nConfidence: 80 %", NumberAnswer()).valid
    assert extract("Confidence level: 95%", NumberAnswer()).label == "95"
    assert not extract("None of them.\nConfidence: high", Choices(("high", "low")), stated=True).valid


def test_texts_are_compared_without_how_sure_they_are_and_patterns_and_json_see_all():
    assert extract("Paris\nConfidence: 80 %", TextAnswer()).label == extract("Paris\nConfidence: 20 %", TextAnswer()).label
    assert extract("The 95% confidence interval is wide.", TextAnswer()).data == "The 95% confidence interval is wide."
    assert extract("x\nConfidence: 80 %", NumberAnswer(pattern=r"Confidence: (\d+)")).label == "80"
    assert extract('{"note": "Confidence: 80 %"}', JsonAnswer()).data == {"note": "Confidence: 80 %"}
    assert extract('{"answer": 17, "confidence": 80}', NumberAnswer()).label == "17"


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("Confidence: 0.8", 0.8),
        ("I am 90% confident.", 0.9),
        ("confidence level: 8/10", 0.8),
        ("My confidence is about 70 %", 0.7),
        ("Confidence: high", 0.85),
        ('{"answer": 1, "confidence": 0.65}', 0.65),
        ('{"answer": 1, "confidence": "95%"}', 0.95),
        ("Confidence: 250 %", None),
        ("There is no word of it.", None),
        ('{"confidence": true}', None),
    ],
)
def test_an_answers_own_confidence_is_read_from(text, share):
    assert stated_confidence(text, loose_json(text) if "{" in text else None) == share


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", " the PARIS. "),
        ("**Yes**", "yes"),
        ("1,000", "1000"),
        ("½ cup", "1⁄2 cup"),
        ('"x y"', "x  y"),
        ("$5", "5"),
        ("10^3", "1000"),
        ("1.5 × 10^6", "1500000"),
    ],
)
def test_labels_that_mean_the_same_are_the_same(one, other):
    assert normalised(one) == normalised(other)


def test_labels_that_do_not_are_not():
    assert (
        len(
            {
                normalised(text)
                for text in ("a", "b", "5", "5%", "-5", "9007199254740993", "9007199254740992", "C++", "C", "5 to 7")
            }
        )
        >= 9
    )
    assert among("maybe", ("Yes", "No")) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "line\nbreak", "b": 2}',
        '{"a": "line\\nbreak", "b": 2,}',
        'Here: {"a": "line\\nbreak", "b": 2} as {asked}.',
        '```json\n{"a": "line\\nbreak",\n"b": 2}\n```',
        '{"a": "line\\nbreak", "b": 2',
    ],
)
def test_broken_json_is_repaired(text):
    assert loose_json(text) == {"a": "line\nbreak", "b": 2}


def test_json_that_was_cut_keeps_what_was_said():
    assert loose_json('{"a": [1, 2], "b": "half a sen') == {"a": [1, 2], "b": "half a sen"}
    assert loose_json('{"a": {"c": 1}, "b":') == {"a": {"c": 1}, "b": None}


carried = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8)


@given(st.recursive(carried, lambda inner: st.lists(inner, max_size=3)))
def test_json_in_prose_is_read_back(value):
    held = {"value": value}
    assert loose_json(f"Here you are:\n{json.dumps(held)}\nAnything else?") == held


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 99), min_size=1), st.data())
def test_a_cut_object_is_closed_or_given_up_and_never_fails(held, data):
    text = json.dumps(held)
    cut = text[: data.draw(st.integers(1, len(text)))]
    found = loose_json(cut)
    assert found is None or isinstance(found, dict)


@given(st.text(max_size=400), st.sampled_from([LETTERS, NumberAnswer(), JsonAnswer(), TextAnswer()]))
def test_no_text_makes_extraction_fail(text, kind):
    found = extract(text, kind)
    assert (found.label is None) == (not found.valid)


@pytest.mark.parametrize(
    "piece", ["{", "[", "\\boxed{", "answer is ", "**", '{"answer":', "(A", "```json", "A: ", "Answer: 3 is ", "Confidence: "]
)
def test_a_hostile_text_is_read_in_linear_time(piece):
    began = time.perf_counter()
    for kind in (LETTERS, NumberAnswer(), JsonAnswer()):
        extract(piece * 30_000, kind)
    assert time.perf_counter() - began < 3
