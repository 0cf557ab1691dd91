"""Panels whose members act with tools: they read by themselves, and what writes is run once, for the winner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.core.chat import ToolDefinition
from app.core.run_events import OutputDelta, ToolCalled, ToolReturned
from app.orchestration.base import BaseOrchestrator
from app.orchestration.past import Past
from app.tools.python_tools import tool_of
from tests.orchestration.scripted import Scripted, failure
from tests.orchestration.tools.acting import asks, call, ends, script, told, toolbox
from tests.orchestration.tools.convened import CONSENSUS, PANELS, PARALLEL, SIMPLE, convene

EACH = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)
VOTE = {"extract": {"type": "choice", "choices": ["A", "B"]}}


def look(title: str) -> str:
    """Looks a book up."""
    return f"{title} is there"


class Shop:
    """A tool that writes, and what it has written."""

    def __init__(self) -> None:
        self.ordered: list[str] = []
        self.tool = tool_of(self.order, name="order", side_effect="write")

    def order(self, title: str) -> str:
        """Orders a book."""
        self.ordered.append(title)
        return f"ordered {title}"


def buyer(name: str, title: str = "Emma", *, then: Any = None) -> Scripted:
    """Looks a book up, and orders it."""
    first, second = asks(call("look", title=title)), asks(call("order", title=title), say="I order it.")
    return Scripted(name, candidate=script(first, second, *([then] if then else [f"{name} has it."])))


@EACH
async def test_three_members_want_the_same_written_and_it_is_once(tmp_path: Path, panel: BaseOrchestrator) -> None:
    shop = Shop()
    models = [buyer("a"), buyer("b"), buyer("c")]
    ran = await convene(panel, models, toolbox(tmp_path, look, shop.tool), tools=["look", "order"])
    assert shop.ordered == ["Emma"]
    assert (ran.result.status, ran.result.error) == ("succeeded", None)
    assert [one.status for one in ran.result.tool_calls if one.name == "order"] == ["succeeded"]
    assert ran.result.output.text in ("a has it.", "b has it.", "c has it.")
    winner = ran.result.output.text[0]
    assert ran.result.output.source_model == winner
    (order,) = [one for one in ran.result.tool_calls if one.name == "order"]
    (asker,) = [one for one in ran.result.candidates if one.id == order.candidate_id]
    assert asker.model == winner
    assert "".join(event.text for event in ran.of(OutputDelta)) == ran.result.output.text


@EACH
async def test_members_read_with_tools_before_they_answer(tmp_path: Path, panel: BaseOrchestrator) -> None:
    models = [
        Scripted(name, candidate=script(asks(call("look", title=name)), "It is A.\nAnswer: A")) for name in ("a", "b", "c")
    ]
    ran = await convene(panel, models, toolbox(tmp_path, look), tools=["look"], **(VOTE if panel is CONSENSUS else {}))
    assert ran.result.status == "succeeded"
    if panel is not SIMPLE:
        assert "It is A." in ran.result.output.text
    asked = {one.id: one.model for one in ran.result.candidates}
    for event in ran.of(ToolReturned):
        assert event.call.result == f"{asked[event.call.candidate_id]} is there"
    assert {event.candidate_id for event in ran.of(ToolCalled)} <= set(asked)
    assert len({one.id for one in ran.result.tool_calls}) == len(ran.result.tool_calls)
    if panel is CONSENSUS:
        assert told(models[0].asked[1]) == [{"result": "a is there"}]
        assert [one.model for one in ran.result.candidates if one.layer == 2] == ["a", "b", "c"]
        assert ran.result.consensus is not None
        assert ran.result.consensus.winner == "A"
        assert ran.result.evidence is not None
        assert [one["usage"] for one in ran.result.evidence.replicates] == [{"input_tokens": 6, "output_tokens": 4}] * 3


@EACH
async def test_a_member_that_fails_leaves_the_others_to_it(tmp_path: Path, panel: BaseOrchestrator) -> None:
    models = [Scripted("a", failure("a")), Scripted("b", candidate=script(asks(call("look", title="x")), "B it is."))]
    ran = await convene(panel, models, toolbox(tmp_path, look), tools=["look"])
    assert (ran.result.status, ran.result.output.text) == ("succeeded", "B it is.")


@EACH
async def test_a_tool_that_fails_may_fail_its_member(tmp_path: Path, panel: BaseOrchestrator) -> None:
    def broken() -> str:
        """Breaks."""
        raise RuntimeError("no luck")

    models = [Scripted("a", candidate=script(asks(call("broken")), "no")), Scripted("b", "B it is.")]
    how = {"min_responses": 1, **({"max_models": 2} if panel is PARALLEL else {})}
    ran = await convene(panel, models, toolbox(tmp_path, broken), tools=["broken"], on_tool_error="fail", **how)
    assert (ran.result.status, ran.result.output.text) == ("succeeded", "B it is.")
    if panel is not PARALLEL:  # which may not wait for it
        failed = next(one for one in ran.result.candidates if one.status == "failed")
        assert failed.error is not None
        assert (failed.model, failed.error.code) == ("a", "tool_failed")


async def test_a_panel_that_rather_answers_writes_nothing_and_says_what_was_wanted(tmp_path: Path) -> None:
    shop = Shop()
    models = [buyer("a"), Scripted("b", "Answer: A"), Scripted("c", "Answer: A")]
    ran = await convene(CONSENSUS, models, toolbox(tmp_path, look, shop.tool), tools=["look", "order"], **VOTE)
    assert shop.ordered == []
    assert ran.result.output.text == "Answer: A"
    assert ran.result.consensus is not None
    wanted = {"calls": [{"tool": "order", "arguments": {"title": "Emma"}}]}
    assert [(one["value"], one["members"], one["reason"]) for one in ran.result.consensus.dissent] == [
        (wanted, ["a"], "not_run")
    ]
    assert any("'a' wanted order" in warning for warning in ran.result.warnings)
    assert ran.result.evidence is not None
    assert ran.result.evidence.replicates[0]["data"] == wanted


async def test_arguments_that_mean_the_same_are_the_same_whatever_their_order(tmp_path: Path) -> None:
    written: list[tuple[str, int]] = []

    def order(title: str, pieces: int) -> str:
        """Orders books."""
        written.append((title, pieces))
        return "ordered"

    models = [
        Scripted("a", candidate=script(asks(call("order", title="Emma", pieces=1)), "Done.")),
        Scripted("b", candidate=script(asks(call("order", pieces=1, title="Emma")), "Done.")),
        Scripted("c", candidate=script(asks(call("order", title="Nana", pieces=1)), "Done.")),
    ]
    box = toolbox(tmp_path, tool_of(order, side_effect="write"))
    ran = await convene(CONSENSUS, models, box, tools=["order"])
    assert written == [("Emma", 1)]
    assert ran.result.consensus is not None
    assert ran.result.consensus.clusters[0]["members"] == ["a", "b"]
    assert [one["members"] for one in ran.result.consensus.dissent] == [["c"]]


@pytest.mark.parametrize("panel", [CONSENSUS, SIMPLE], ids=lambda panel: panel.name)
async def test_a_panel_that_does_not_agree_on_what_to_write_writes_nothing(tmp_path: Path, panel: BaseOrchestrator) -> None:
    shop = Shop()
    models = [buyer("a", "Emma", then="I could not."), buyer("b", "Nana"), buyer("c", "Ulysses")]
    ran = await convene(panel, models, toolbox(tmp_path, look, shop.tool), tools=["look", "order"])
    assert shop.ordered == []
    assert ran.result.output.text == "I could not."
    refused = next(one for one in ran.result.tool_calls if one.name == "order")
    assert refused.error is not None
    assert (refused.status, refused.error.code) == ("refused", "approval_needed")
    assert "agree on it" in refused.error.message


async def test_a_panel_that_is_to_be_reviewed_writes_nothing_before(tmp_path: Path) -> None:
    shop = Shop()
    models = [buyer("a", then="It waits for somebody."), buyer("b"), Scripted("c", "Answer: A")]
    box = toolbox(tmp_path, look, shop.tool)
    ran = await convene(CONSENSUS, models, box, tools=["look", "order"], review_below=1.0, **VOTE)
    assert shop.ordered == []
    assert (ran.result.status, ran.result.output.text) == ("needs_review", "It waits for somebody.")


@pytest.mark.parametrize("panel", [CONSENSUS, SIMPLE], ids=lambda panel: panel.name)
async def test_the_winner_may_write_more_and_another_model_goes_on_where_it_fails(
    tmp_path: Path, panel: BaseOrchestrator
) -> None:
    shop = Shop()
    emma, nana = asks(call("order", title="Emma")), asks(call("order", title="Nana"))
    models = [Scripted("a", candidate=script(emma, nana, failure("a"))), Scripted("b", candidate=script(emma, "Both are."))]
    ran = await convene(panel, models, toolbox(tmp_path, shop.tool), tools=["order"])
    assert shop.ordered == ["Emma", "Nana"]
    assert (ran.result.output.text, ran.result.output.source_model) == ("Both are.", "b")
    assert told(models[1].asked[1]) == [{"result": "ordered Nana"}]


async def test_a_write_that_does_not_fit_is_told_to_the_member_which_asks_again(tmp_path: Path) -> None:
    shop = Shop()
    models = [
        Scripted(name, candidate=script(asks(call("order", titel="Emma")), asks(call("order", title="Emma")), "Done."))
        for name in ("a", "b")
    ]
    ran = await convene(CONSENSUS, models, toolbox(tmp_path, shop.tool), tools=["order"])
    assert shop.ordered == ["Emma"]
    assert [status for _, status in ends(ran)] == ["invalid", "invalid", "succeeded"]


async def test_once_somebody_wants_to_write_all_are_heard(tmp_path: Path) -> None:
    shop = Shop()
    models = [
        buyer(name, then="Done.") if name in "bcfg" else Scripted(name, "Answer: A")
        for name in ("a", "b", "c", "d", "e", "f", "g")
    ]
    box = toolbox(tmp_path, look, shop.tool)
    ran = await convene(CONSENSUS, models, box, tools=["look", "order"], stop="decided", weights="uniform", **VOTE)
    assert ran.result.output.text == "Done."  # three answers were decided among answers
    assert shop.ordered == ["Emma"]


@pytest.mark.parametrize("panel", [PARALLEL, SIMPLE], ids=lambda panel: panel.name)
async def test_calls_of_the_client_s_own_tools_are_handed_to_it(tmp_path: Path, panel: BaseOrchestrator) -> None:
    browser = ToolDefinition("browser", "Opens a page.")
    models = [Scripted(name, candidate=script(asks(call("look", title="x")), asks(call("browser")))) for name in ("a", "b")]
    ran = await convene(panel, models, toolbox(tmp_path, look), tools=["look"], client=(browser,))
    assert [one.name for one in ran.result.output.tool_calls] == ["browser"]
    assert ran.result.output.finish_reason == "tool_calls"


@EACH
async def test_without_tools_a_panel_is_offered_none(tmp_path: Path, panel: BaseOrchestrator) -> None:
    models = [Scripted("a"), Scripted("b")]
    await convene(panel, models, toolbox(tmp_path, look))
    assert not any(request.tools for model in models for request in model.asked)


@EACH
async def test_who_takes_a_run_over_asks_and_writes_nothing_again(tmp_path: Path, panel: BaseOrchestrator) -> None:
    shop = Shop()
    box = toolbox(tmp_path, look, shop.tool)
    ran = await convene(panel, [buyer("a"), buyer("b"), buyer("c")], box, tools=["look", "order"])
    known = [one for one in ran.result.candidates if one.status == "succeeded"]
    returned = {one.id: one for one in ran.result.tool_calls if one.status == "succeeded"}
    past = Past(None, True, [*known], returned)
    models = [Scripted(one) for one in ("a", "b", "c")]
    again = await convene(panel, models, box, tools=["look", "order"], past=past)
    assert shop.ordered == ["Emma"]
    if panel is not PARALLEL:  # where others may be quicker the second time
        assert not any(model.asked for model in models)
        assert again.result.output == ran.result.output
        assert again.result.tool_calls == ran.result.tool_calls


async def test_a_write_that_another_process_may_have_begun_is_not_made(tmp_path: Path) -> None:
    shop = Shop()
    box = toolbox(tmp_path, look, shop.tool)
    past = Past(taken=True)
    ran = await convene(CONSENSUS, [buyer("a"), buyer("b"), buyer("c")], box, tools=["look", "order"], past=past)
    (order,) = [one for one in ran.result.tool_calls if one.name == "order"]
    assert order.error is not None
    assert order.error.code == "effect_uncertain"
    assert shop.ordered == []
