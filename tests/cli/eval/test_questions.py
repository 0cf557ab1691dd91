from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.cli.eval.grading import graded
from app.cli.eval.questions import Question, Reading, read_questions
from app.core.errors import ConfigError

ANSWERS = Path(__file__).resolve().parents[4] / "shared" / "answers"
PLAIN = Reading({})


def written(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def read(tmp_path: Path, *rows: Any, reading: Reading = PLAIN) -> tuple[Question, ...]:
    return read_questions([written(tmp_path / "set.jsonl", *rows)], reading)


def test_a_row_has_an_input_and_what_is_right(tmp_path: Path):
    one, two, three = read(
        tmp_path,
        {"id": 7, "input": "17 * 23?", "answer": 391, "category": "sums", "metadata": {"tier": "gold"}},
        "",
        {"input": "Which?", "answer": "B", "choices": {"A": "the trout", "B": "the whale"}},
        {"messages": [{"role": "user", "content": "A colour?"}], "answer": ["red", "blue"], "grade": "contains"},
    )
    assert (one.id, one.gold, one.grading.kind, one.category, one.metadata) == ("7", (391,), "number", "sums", {"tier": "gold"})
    assert (two.grading.choices, two.grading.texts) == (("A", "B"), {"A": "the trout", "B": "the whale"})
    assert (three.gold, three.grading.kind) == (("red", "blue"), "contains")
    assert isinstance(three.input, list)


def test_the_digest_changes_with_what_decides_the_outcome_and_nothing_else(tmp_path: Path):
    row = {"id": "q", "input": "17 * 23?", "answer": 391, "category": "sums"}
    same, asked, gold, how = (
        read(tmp_path, {**row, **change})[0].digest
        for change in ({"category": "x"}, {"input": "17 * 24?"}, {"answer": 392}, {"grade": "exact"})
    )
    assert len({same, asked, gold, how}) == 4
    assert read(tmp_path, row)[0].digest == same


def test_options_of_the_command_hold_for_questions_without_their_own(tmp_path: Path):
    reading = Reading({"category": "of.subject"}, "choice", ("x", "y"), "is (.)")
    one, two = read(
        tmp_path,
        {"prompt": "?", "gold": "x", "of": {"subject": "s"}},
        {"question": "??", "gold": "z", "grade": "exact", "pattern": ".*"},
        reading=reading,
    )
    assert (one.grading.choices, one.grading.pattern, one.category) == (("x", "y"), "is (.)", "s")
    assert (two.grading.kind, two.grading.pattern, two.category) == ("exact", ".*", None)


def test_several_files_keep_their_questions_apart(tmp_path: Path):
    row = {"id": "q", "input": "17 * 23?", "answer": 391}
    files = [written(tmp_path / "a.jsonl", row), written(tmp_path / "b.jsonl", row)]
    assert [(one.id, one.category) for one in read_questions(files, PLAIN)] == [("a/q", "a"), ("b/q", "b")]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ({"answer": 1}, "no 'input'"),
        ({"input": "x"}, "no 'answer'; where the answers carry their own score"),
        ({"input": "x", "answer": 1, "grade": "nice"}, "grade is 'nice'; it wants one of choice, number"),
        ({"input": "x", "answer": "Z", "choices": ["A"]}, "'Z' is none of the choices A"),
        ({"input": "x", "answer": "A", "choices": 3}, "choices is 3"),
        ({"input": "x", "answer": "(", "grade": "regex"}, "the pattern '\\(' is no pattern of RE2"),
        ({"input": "x", "answer": 1, "metadata": []}, "metadata is no object"),
        ({"id": "q1", "input": "x", "answer": 1}, "the id 'q1' was there before"),
    ],
)
def test_a_wrong_line_is_named_with_its_number(tmp_path: Path, row: Any, said: str):
    with pytest.raises(ConfigError, match=f"set.jsonl:2: .*{said}"):
        read(tmp_path, {"id": "q1", "input": "x", "answer": 1}, row)


def test_a_missing_file_an_empty_one_and_an_unknown_field_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"cannot read .*none\.jsonl"):
        read_questions([tmp_path / "none.jsonl"], PLAIN)
    with pytest.raises(ConfigError, match="no questions in"):
        read(tmp_path)
    with pytest.raises(ConfigError, match="no member 'subject'"):
        read(tmp_path, {"input": "x", "answer": 1}, reading=Reading({"subject": "category"}))


@pytest.mark.skipif(not ANSWERS.is_dir(), reason="the recorded answers are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "reading", "kind"),
    [
        ("gsm8k_openai2021", PLAIN, "number"),
        ("gsm8k_zeroeval2024", PLAIN, "number"),
        ("mmlu_pro_categorical", PLAIN, "choice"),
        ("llmdrift_prime_yesno", PLAIN, "choice"),
        ("llmdrift_happy_numbers", PLAIN, "number"),
        ("routellm_mmlu", Reading({"category": "subject"}, "score"), "score"),
        ("routerdc_nine_models", Reading({}, "score"), "score"),
    ],
)
def test_recordings_are_data_sets_as_they_are(name: str, reading: Reading, kind: str):
    path = ANSWERS / f"{name}.jsonl"
    found = read_questions([path], reading)
    assert {one.grading.kind for one in found} == {kind}
    judged = agree = 0
    for one, line in zip(found, path.read_text().split("\n"), strict=False):
        for given in json.loads(line).get("answers", {}).values():
            if isinstance(given, dict) and "correct" in given:
                judged += 1
                agree += (graded(given["text"], one.gold, one.grading).score == 1) == given["correct"]
    print(f"{name}: {agree} of {judged} answers are graded as they were recorded")
    assert agree >= 0.999 * judged
