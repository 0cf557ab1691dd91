"""Panels that stop early: with `decided` the winner is the one that all the answers would have given."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.orchestration.consensus.paneled import paneled
from tests.orchestration.scripted import Ran, Scripted, failure

CHOICE = {"type": "choice", "choices": ["A", "B", "C"]}
PANELS = 250
Says = Callable[[random.Random], str]


def letter(draw: random.Random) -> str:
    return f"Answer: {draw.choice('AAABC')}"


def sure_letter(draw: random.Random) -> str:
    return f"{letter(draw)}\nConfidence: {draw.choice([0, 5, 20, 50, 90, 100])} %"


def pair(draw: random.Random) -> str:
    return json.dumps({"x": draw.choice([1, 1, 2]), "y": draw.choice([1, 1, 2])})


def nested(draw: random.Random) -> str:
    inner: dict[str, Any] = {"city": draw.choice(["Paris", "paris", "Lyon"])}
    if draw.random() < 0.3:
        inner["more"] = draw.choice([True, None, [1]])
    return json.dumps({"a": inner if draw.random() < 0.8 else 1, "list": draw.choice([[1], [1], [1, 2], []])})


def panel(draw: random.Random, says: Says, k: int, fails: float) -> tuple[list[str], dict[str, list[str]], dict[str, float]]:
    """The members, what each says in turn ("" where it fails), and what its word weighs."""
    names = list("abcdef"[: draw.randint(2, 6)])
    said = {name: ["" if draw.random() < fails else says(draw) for _ in range(k)] for name in names}
    return names, said, {name: draw.choice([0.5, 1, 1, 1.7, 2, 3]) for name in names}


async def ran(said: dict[str, list[str]], weights: dict[str, float], stop: str, **options: Any) -> Ran:
    turns = {name: iter(texts) for name, texts in said.items()}

    def answer(name: str) -> Callable[[Any], Any]:
        return lambda _request: next(turns[name]) or failure(name)

    models = [Scripted(name, candidate=answer(name)) for name in said]
    return await paneled(*models, stop=stop, weights=weights, request={"deltas": "output"}, **options)


@pytest.mark.parametrize(
    ("says", "fails", "options"),
    [
        pytest.param(letter, 0.0, {"extract": CHOICE}, id="votes"),
        pytest.param(sure_letter, 0.0, {"extract": CHOICE, "stated_confidence": True}, id="votes by stated confidence"),
        pytest.param(sure_letter, 0.2, {"extract": CHOICE, "stated_confidence": True, "k": 2}, id="with failures, twice"),
        pytest.param(letter, 0.3, {"extract": CHOICE, "k": 3}, id="replicates, of which some fail"),
        pytest.param(pair, 0.0, {"extract": {"type": "json"}}, id="fields"),
        pytest.param(pair, 0.2, {"extract": {"type": "json"}, "k": 2}, id="fields of replicates, of which some fail"),
        pytest.param(nested, 0.1, {"extract": {"type": "json"}}, id="fields within fields, and lists"),
    ],
)
async def test_what_is_decided_is_what_all_answers_would_have_decided(
    says: Says, fails: float, options: dict[str, Any]
) -> None:
    stopped = 0
    for seed in range(PANELS):
        draw = random.Random(seed)
        _, said, weights = panel(draw, says, options.get("k", 1), fails)
        early = await ran(said, weights, "decided", **options)
        if early.result.evidence is None or not early.result.evidence.meta.early_stopped:
            continue
        stopped += 1
        whole = await ran(said, weights, "never", **options)
        assert early.result.consensus
        assert whole.result.consensus
        assert folded(early.result.consensus.winner) == folded(whole.result.consensus.winner), (said, weights)
    print(f"{stopped} of {PANELS} panels stopped early, and none had another winner for it")
    assert stopped > PANELS // 20


def folded(value: Any) -> Any:
    """The same label may be written in several ways; whose way is told depends on who was asked."""
    if isinstance(value, str):
        return value.casefold()
    if isinstance(value, dict):
        return {name: folded(inner) for name, inner in value.items()}
    return [folded(inner) for inner in value] if isinstance(value, list) else value


async def test_an_answer_that_is_surer_of_itself_may_still_win() -> None:
    said = {"a": ["Answer: A\nConfidence: 20 %"], "b": ["Answer: B\nConfidence: 90 %"]}
    found = await ran(said, {"a": 1.7, "b": 1}, "decided", extract=CHOICE, stated_confidence=True)
    assert found.result.consensus
    assert found.result.consensus.winner == "B"


async def test_objects_are_asked_for_until_each_field_is_decided() -> None:
    said = {"a": ['{"x": 1, "y": 1}'], "b": ['{"x": 2, "y": 1}'], "c": ['{"x": 2, "y": 1}'], "d": ['{"x": 2, "y": 2}']}
    found = await ran(said, {"a": 3, "b": 1.7, "c": 1, "d": 0.5}, "decided", extract={"type": "json"})
    assert found.result.consensus
    assert found.result.consensus.winner == {"x": 2, "y": 1}
    alike = {name: ['{"x": 1, "y": 1}'] for name in "abcde"}
    assert len((await ran(alike, {}, "decided", extract={"type": "json"})).result.candidates) == 3
