"""`simple` with layers: proposing again in the light of what was proposed."""

import pytest

from app.core.messages import ToolCallPart, user
from tests.orchestration.scripted import Reply, Scripted, failure, run


async def test_each_layer_sees_the_answers_of_the_one_before_and_the_last_is_synthesised():
    turns = {"layer": lambda request: f"better than ({request.messages[-1].text.count('better')})"}
    one, two = Scripted("a", **turns), Scripted("b", **turns)

    ran = await run([one, two], layers=3)

    assert one.phases == ["candidate", "layer", "layer", "synthesis"]
    assert [c.layer for c in ran.result.candidates] == [1, 1, 2, 2, 3, 3]
    assert [c.id for c in ran.result.candidates] == ["c1", "c2", "c3", "c4", "c5", "c6"]
    second, third = one.prompts("layer")
    assert "the answer of a" in second
    assert "the answer of b" in second
    assert "the answer of" not in third
    assert second.startswith("What is it?\n\n---\n")
    final = one.prompts("synthesis")[0]
    assert "the answer of" not in final
    assert final.count("better than") == 2


async def test_a_model_that_failed_is_asked_again_in_the_next_layer():
    ran = await run([Scripted("a", failure("a")), Scripted("b"), Scripted("c")], layers=2, min_responses=2)

    assert [(c.model, c.layer, c.status) for c in ran.result.candidates if c.model == "a"] == [
        ("a", 1, "failed"),
        ("a", 2, "succeeded"),
    ]
    assert ran.result.output.source_model == "a"


@pytest.mark.parametrize(
    ("later", "why"),
    [
        (failure("x"), "0 of 2 models answered, and 1 must"),
        (Reply(refusal="No."), "no answer can be worked with"),
    ],
)
async def test_a_layer_that_fails_leaves_the_answers_of_the_one_before(later, why):
    one = Scripted("a", layer=later)

    ran = await run([one, Scripted("b", layer=later)], layers=3)

    assert ran.result.status == "succeeded"
    assert "the answer of b" in one.prompts("synthesis")[0]
    assert ran.result.warnings == (f"layer 2 of 3: {why}; the answers of layer 1 stand",)
    assert max(c.layer for c in ran.result.candidates) == 2


async def test_one_model_with_layers_improves_on_itself_and_is_passed_through():
    one = Scripted("a")

    ran = await run([one], layers=2)

    assert one.phases == ["candidate", "layer"]
    assert (ran.result.output.text, ran.result.output.is_synthesized) == ("layer by a", False)


async def test_no_layer_follows_once_tools_are_asked_for():
    asks = Reply(tool_calls=(ToolCallPart("t", "look", "{}"),), finish_reason="tool_calls")
    models = [Scripted("a", layer=asks), Scripted("b")]

    ran = await run(models, layers=4)

    assert models[1].phases == ["candidate", "layer"]
    assert ran.result.output.finish_reason == "tool_calls"


async def test_the_question_stays_the_users_in_every_layer():
    one = Scripted("a")
    await run([one, Scripted("b")], messages=(user("First"), user("Second")), layers=2)
    assert one.asked[1].messages[0] == user("First")
    assert one.asked[1].messages[1].text.startswith("Second")
