from __future__ import annotations

from app.cli.eval.parts import Split, chosen
from tests.cli.eval.made import question

QUESTIONS = [question(f"q{number}") for number in range(1000)]


def ids(part: str, split: Split, limit: int | None = None, of: int = 1000) -> list[str]:
    return [one.id for one in chosen(QUESTIONS[:of], split, part, limit)]


def test_the_parts_are_the_whole_and_share_nothing():
    split = Split(0.3, 5)
    train, report = ids("train", split), ids("report", split)
    assert sorted(train + report) == sorted(ids("all", split))
    assert not set(train) & set(report)
    assert 250 < len(train) < 350


def test_a_question_keeps_its_part_whatever_else_there_is():
    split = Split(0.5, 5)
    assert set(ids("train", split, of=100)) == set(ids("train", split)) & {one.id for one in QUESTIONS[:100]}
    assert ids("train", split) != ids("train", Split(0.5, 6))


def test_without_a_split_nothing_is_set_aside():
    assert ids("train", Split()) == []
    assert len(ids("report", Split())) == 1000


def test_a_limit_draws_by_the_seed_and_keeps_the_order():
    drawn = ids("all", Split(0, 1), 50)
    assert len(drawn) == 50
    assert drawn == sorted(drawn, key=lambda one: int(one[1:]))
    assert drawn != ids("all", Split(0, 2), 50)
    assert set(drawn) < set(ids("all", Split(0, 1), 60))
