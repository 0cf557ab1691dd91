"""What a request asks for, told from its words."""

from __future__ import annotations

import time
from statistics import median

import pytest

from app.core.chat import DEFAULT_GENERATION, Generation, ResponseFormat, ToolDefinition
from app.core.messages import ImagePart, Message, TextPart, assistant, system, user
from app.orchestration.tasks import TaskProfile, panel_size, profile_of


def told(text: str, **metadata: object) -> TaskProfile:
    return profile_of((user(text),), (), DEFAULT_GENERATION, metadata)


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("Hello there!", "chat"),
        ("What is 17 * 23?", "math"),
        ("How many clips did Natalia sell altogether? Calculate the sum.", "math"),
        ("Fix this bug:\n```python\nreturn x+\n```", "code"),
        ("Translate into French: the dog is big", "translation"),
        ("Summarize the following article in three sentences.", "summarisation"),
        ("Classify the sentiment of this review: I loved it.", "classification"),
        ("Write a poem about autumn", "writing"),
        ("Why is the sky blue?", "reasoning"),
        ("Who was the first of them?", "question"),
        ("Which is a mammal?\nA) Trout\nB) Whale\nC) Eagle", "question"),
        ("日本の首都はどこですか？", "question"),
    ],
)
def test_the_category_is_told_from_signs(text: str, category: str) -> None:
    assert told(text).category == category


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "en"),
        ("Was ist die Hauptstadt und warum ist das so?", "de"),
        ("¿Cuál es la capital de España?", "es"),
        ("日本の首都はどこですか？", "ja"),
        ("Столица Франции?", "ru"),
        ("17 * 23", "und"),
    ],
)
def test_the_language_is_told_from_its_script_or_its_small_words(text: str, language: str) -> None:
    assert told(text).language == language


def test_the_caller_knows_the_category_better() -> None:
    assert told("What is 17 * 23?", category="homework").category == "homework"
    assert told("What is 17 * 23?", category=7).category == "math"
    assert len(told("Hello", category="x" * 1_000).category) == 64


def test_complexity_grows_with_what_is_asked() -> None:
    greeting = told("Hello!").complexity
    sum_ = told("What is 17 * 23?").complexity
    plan = told("Design the architecture, compare tradeoffs, explain each step and evaluate the constraints. " * 12).complexity
    assert 0 <= greeting < sum_ < plan <= 1
    assert [panel_size(one, 9) for one in (greeting, 0.5, plan)] == [3, 5, 7]
    assert panel_size(plan, 4) == 4


def test_the_last_thing_that_the_user_said_counts() -> None:
    turns = (system("You fix code bugs."), user("What is 2 + 2?"), assistant("4"), user("Translate that."))
    assert profile_of(turns, (), DEFAULT_GENERATION, {}).category == "translation"
    assert profile_of((), (), DEFAULT_GENERATION, {}).category == "chat"


def test_what_a_model_must_be_able_to_do() -> None:
    seen = Message("user", (TextPart("What is it?"), ImagePart(url="https://example.com/a.png")))
    form = Generation(response_format=ResponseFormat("json_object"), reasoning_effort="low")
    found = profile_of((seen,), (ToolDefinition("look"),), form, {})
    assert found.needs == ("tools", "vision", "json", "reasoning")
    assert told("word " * 20_000).needs == ("long_context",)
    assert told("word " * 4_000).tokens == pytest.approx(5_000, rel=0.05)


def test_the_domain_is_told_from_several_signs() -> None:
    assert told("Is this clause of the contract enforceable in court?").domain == "law"
    assert told("The law of large numbers").domain == "general"


@pytest.mark.alone
def test_it_takes_a_fraction_of_a_millisecond_however_long_the_prompt_is() -> None:
    usual = ("Explain why the following plan, with its constraints, works. " * 40)[:2_048]
    taken = {name: _median_ms(text) for name, text in [("2 KB", usual), ("10 MB", "word, other; " * 800_000)]}
    print(", ".join(f"{name}: {ms:.3f} ms" for name, ms in taken.items()))
    assert taken["2 KB"] < 0.3
    assert taken["10 MB"] < 5


def _median_ms(text: str) -> float:
    taken = []
    for _ in range(51):
        began = time.perf_counter()
        told(text)
        taken.append(time.perf_counter() - began)
    return median(taken) * 1000


@pytest.mark.parametrize("sign", ["{", "SELECT ", "$", "\\", "1 ", "A", "é", "```", "\n", "?"])
def test_no_text_takes_long(sign: str) -> None:
    began = time.perf_counter()
    told(sign * 500_000)
    assert time.perf_counter() - began < 0.5
