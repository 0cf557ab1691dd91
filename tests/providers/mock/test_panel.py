from __future__ import annotations

import orjson
import pytest

from app.core.chat import Generation, ResponseFormat
from app.providers.mock.panel import read_panel
from tests.providers.mock.asking import text

ANSWERS = {"A": "I think it is 390.", "B": "It is 391.", "C": "391, quick answer."}
TAGGED = "\n".join(f'<answer-0a1b2c3d4e5f label="{k}">\n{v}\n</answer-0a1b2c3d4e5f>' for k, v in ANSWERS.items())
HEADED = "\n\n".join(f"### Answer {k}\n{v}" for k, v in ANSWERS.items())
LISTED = orjson.dumps([{"label": k, "text": v} for k, v in ANSWERS.items()]).decode()
QUESTION = "Please compare and rank: what is 17*23?"


@pytest.mark.parametrize("quoted", [TAGGED, HEADED, LISTED], ids=["tags", "headings", "json"])
def test_quoted_answers_are_found_and_ordered_by_how_many_stand_behind_them(quoted: str):
    panel = read_panel(f"Rank the answers.\n\n{quoted}")
    assert panel is not None
    assert {answer.label: answer.text for answer in panel.answers} == ANSWERS
    assert panel.order[-1] == "A"
    assert panel.task == "ranking"


@pytest.mark.parametrize(
    ("instructions", "task"),
    [
        ("Rank the answers from best to worst, each label once.", "ranking"),
        ("Compare the answers for the person who will write the final one.", "comparative"),
        ("Check the facts for the person who will write the final answer.", "factual"),
        ("Review each answer by its number, strictly and fairly.", "critique"),
        ("Write the one answer that the conversation should get.", "synthesis"),
    ],
)
def test_the_task_is_read_from_the_instructions_and_not_from_the_question(instructions: str, task: str):
    panel = read_panel(f"{QUESTION}\n\n{TAGGED}\n\n{instructions}")
    assert panel is not None
    assert panel.task == task


def test_a_prompt_without_answers_is_no_panel():
    assert read_panel("What is 17*23? Answer in one word.") is None


async def test_a_judge_ranks_in_json():
    schema = {"type": "object", "properties": {"ranking": {"type": "array", "items": {"enum": ["A", "B", "C"]}}}}
    form = Generation(response_format=ResponseFormat("json_schema", schema=schema))
    prompt = f"{QUESTION}\n\n{TAGGED}\n\nRank the answers from best to worst."
    ranking = orjson.loads(await text(prompt, generation=form))["ranking"]
    assert sorted(ranking) == ["A", "B", "C"]
    assert ranking[-1] == "A"
    assert orjson.loads(await text(prompt)) == {"ranking": ranking}


async def test_a_judge_scores_each_answer_within_the_bounds():
    item = {
        "type": "object",
        "properties": {"label": {"type": "string"}, "points": {"type": "integer", "minimum": 0, "maximum": 10}},
    }
    schema = {"type": "object", "properties": {"scores": {"type": "array", "items": item}}}
    form = Generation(response_format=ResponseFormat("json_schema", schema=schema))
    rows = orjson.loads(await text(f"{TAGGED}\n\nScore the answers, please.", generation=form))["scores"]
    points = {row["label"]: row["points"] for row in rows}
    assert set(points) == {"A", "B", "C"}
    assert 0 <= points["A"] < points["B"] <= 10


async def test_a_synthesis_says_what_most_say_in_the_leads_own_words():
    prompt = f"{QUESTION}\n\n{TAGGED}\n\nWrite the one answer that the conversation should get."
    merged = await text(prompt, "mock-scholar")
    assert "391" in merged
    assert merged.startswith("A synthesis of the answers")


async def test_a_synthesis_of_json_answers_keeps_their_members():
    quoted = "\n".join(f'<answer label="{n}">{{"total": {total}}}</answer>' for n, total in enumerate((7, 8, 8), 1))
    schema = {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}
    form = Generation(response_format=ResponseFormat("json_schema", schema=schema))
    assert orjson.loads(await text(f"{quoted}\n\nWrite the one answer.", generation=form)) == {"total": 8}


async def test_a_critique_speaks_of_every_answer():
    critique = await text(f"{TAGGED}\n\nReview each answer by its number, strictly.")
    assert [line[:9] for line in critique.splitlines()] == ["Answer A:", "Answer B:", "Answer C:"]
