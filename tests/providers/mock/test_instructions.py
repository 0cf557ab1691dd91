"""What a prompt says of the form of its answer is followed, by every persona in its own words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.orchestration.evidence.extraction import AnswerKind, Choices, JsonAnswer, NumberAnswer, extract, instruction
from app.providers.mock import DEFAULT_PERSONAS
from app.providers.mock.instructions import read_instructions
from tests.providers.mock.asking import provider, text

SUM = "What is 17 * 23?"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"sum": {"type": "number"}, "answer": {"type": "integer"}}}
SURE = {"personas": {name: {"accuracy": 1} for name in DEFAULT_PERSONAS}}


def asked(question: str, kind: AnswerKind, *, confidence: bool = False) -> str:
    return f"{question}\n\n{instruction(kind, confidence=confidence)}"


@pytest.mark.parametrize("persona", DEFAULT_PERSONAS)
@pytest.mark.parametrize(
    ("question", "kind", "line"),
    [
        (SUM, NumberAnswer(), "Answer: 391"),
        (SUM, NumberAnswer("apples"), "Answer: 391"),
        ("Is 91 a prime number?", Choices(("Yes", "No")), "Answer: No"),
        ("What is 6*7?\nA) 41\nB) 42\nC) 43", Choices(("A", "B", "C")), "Answer: B"),
    ],
)
async def test_the_answer_ends_with_the_line_that_is_asked_for(
    persona: str, question: str, kind: AnswerKind, line: str
) -> None:
    said = await text(asked(question, kind), persona, mock=provider(**SURE))
    assert said.splitlines()[-1] == line


async def test_a_persona_keeps_its_words_before_that_line() -> None:
    mock = provider(**SURE)
    assert await text(asked(SUM, NumberAnswer()), "mock-swift", mock=mock) == "391. Quick answer, no detours.\n\nAnswer: 391"
    assert await text(asked(SUM, NumberAnswer()), "mock-terse", mock=mock) == "Answer: 391"


@pytest.mark.parametrize("kind", [Choices(("billing", "a fault, of ours")), NumberAnswer()])
async def test_accurate_personas_agree_where_nobody_knows_and_others_do_not(kind: AnswerKind) -> None:
    mock = provider(personas={**SURE["personas"], "never": {"accuracy": 0}})
    said = [
        await text(asked("My card was charged twice.", kind), persona, mock=mock) for persona in (*DEFAULT_PERSONAS, "never")
    ]
    *right, wrong = [extract(one, kind).label for one in said]
    assert None not in (*right, wrong)
    assert len(set(right)) == 1
    assert wrong != right[0]


async def test_it_says_how_sure_it_is_where_that_is_asked() -> None:
    said = await text(asked(SUM, NumberAnswer(), confidence=True))
    assert said.splitlines()[-2].startswith("Answer: ")
    assert 0.5 < (extract(said, NumberAnswer(), stated=True).stated or 0) < 1


@pytest.mark.parametrize(
    "words",
    [
        instruction(JsonAnswer(SCHEMA)),
        f"Answer with one JSON value and nothing else.\nIt must follow this JSON schema:\n\n{json.dumps(SCHEMA)}",
    ],
)
async def test_json_that_is_asked_for_in_words_follows_its_schema(words: str) -> None:
    said = json.loads(await text(f"{SUM}\n\n{words}", mock=provider(**SURE)))
    assert said["answer"] == 391
    assert isinstance(said["sum"], int | float)


async def test_any_json_that_is_asked_for_in_words_holds_the_answer() -> None:
    assert json.loads(await text(asked(SUM, JsonAnswer()), mock=provider(**SURE))) == {"answer": 391}


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        ("What is 2+2? End with a line `Answer: X`.", "What is 2+2?"),
        ("End with a line Answer: X, where X is one of cat, dog or bird.\nWho purrs?", "Who purrs?"),
        ("End with a line `Answer: X`.", "End with a line `Answer: X`."),
        ("It follows this JSON schema: none", "It follows this JSON schema: none"),
        ('What does this JSON schema: {"a": 1} mean?', 'What does this JSON schema: {"a": 1} mean?'),
        ("What does the line `Answer: 4` mean?", "What does the line `Answer: 4` mean?"),
    ],
)
def test_what_is_asked_is_told_from_how_it_is_to_be_answered(prompt: str, question: str) -> None:
    assert read_instructions(prompt).question == question


def test_labels_may_be_listed_in_any_words() -> None:
    found = read_instructions("Who purrs?\nEnd with a line `Answer: X`, where X is one of cat, dog or bird.")
    assert found.labels == ("cat", "dog", "bird")


def test_a_prompt_that_is_nothing_but_instructions_is_read_quickly() -> None:
    assert read_instructions("line `Answer: X " * 20_000).line
    assert read_instructions("follow this JSON schema: {" * 20_000).schema is None
