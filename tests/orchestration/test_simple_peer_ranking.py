"""`simple` with the analysis `peer_ranking`: the models rank one another without knowing it."""

import json
import re

import pytest

from app.core.chat import Generation
from app.core.models import Capabilities
from app.core.run_events import CandidateScored
from tests.orchestration.scripted import Reply, Scripted, failure, run


def ranks(*best: str):
    """A ranker that wants the answers in the order of `best`, whatever their labels are."""

    def reply(request):
        shown = dict(re.findall(r'label="([A-Z]+)">\nthe answer of (\w+)', request.messages[-1].text))
        labels = {name: label for label, name in shown.items()}
        return json.dumps({"ranking": [labels[name] for name in best]})

    return reply


async def test_borda_points_score_the_candidates_and_go_into_the_synthesis():
    models = [
        Scripted("a", ranking=ranks("b", "a", "c")),
        Scripted("b", ranking=ranks("b", "c", "a")),
        Scripted("c", ranking=ranks("a", "b", "c")),
    ]

    ran = await run(models, analysis="peer_ranking")

    data = ran.result.analysis.data
    assert data["borda"] == {"c1": 3.0, "c2": 5.0, "c3": 1.0}
    assert [c.score for c in ran.result.candidates] == [0.5, 5 / 6, 1 / 6]
    assert [(event.candidate_id, event.score) for event in ran.of(CandidateScored)][:1] == [("c1", 0.5)]
    assert data["ballots"][0]["model"] == "a"
    assert data["ballots"][0]["ranking"] == [["c2"], ["c1"], ["c3"]]
    assert sorted(data["ballots"][0]["shown"]) == ["A", "B", "C"]
    assert data["agreement"] == pytest.approx(4 / 9)
    assert json.dumps(data)
    final = models[0].prompts("synthesis")[0]
    assert "Best first, from 0 to 1: answer 2 (0.83), answer 1 (0.50), answer 3 (0.17)." in final
    assert [call.role for call in ran.result.calls] == ["ranking"] * 3 + ["synthesis"]


async def test_nobody_can_tell_whose_an_answer_is_and_each_stands_once_at_every_place():
    models = [Scripted(name, ranking=ranks(*"abcd")) for name in "abcd"]

    ran = await run(models, analysis="peer_ranking", generation=Generation(seed=1))

    shown = [tuple(ballot["shown"].values()) for ballot in ran.result.analysis.data["ballots"]]
    assert all({row[place] for row in shown} == {"c1", "c2", "c3", "c4"} for place in range(4))
    assert ran.result.analysis.data["agreement"] == 1.0
    again = await run(models, analysis="peer_ranking", generation=Generation(seed=1))
    assert again.result.analysis.data == ran.result.analysis.data


@pytest.mark.parametrize(
    ("capabilities", "wanted"),
    [
        (Capabilities(), "json_schema"),
        (Capabilities(json_schema=False), "json_object"),
        (Capabilities(json_schema=False, json_object=False), None),
    ],
)
async def test_a_ranking_is_asked_for_in_the_strictest_format_the_model_has(capabilities, wanted):
    one = Scripted("a", capabilities=capabilities, ranking=ranks("a", "b"))

    await run([one, Scripted("b", ranking=ranks("a", "b"))], analysis="peer_ranking")

    format_ = one.asked[1].generation.response_format
    assert (format_ and format_.type) == wanted
    if wanted == "json_schema":
        assert format_.schema["properties"]["ranking"]["items"]["enum"] == ["A", "B"]


async def test_bad_ballots_are_told_and_not_counted():
    models = [
        Scripted("a", ranking="I would rather not."),
        Scripted("b", ranking=failure("b")),
        Scripted("c", ranking=ranks("c", "b", "a")),
        Scripted("d", "the answer of d", ranking='{"ranking": ["A", "A"]}'),
    ]
    models[2] = Scripted("c", ranking=ranks("c", "b", "a", "d"))

    ran = await run(models, analysis="peer_ranking")

    assert ran.result.analysis.data["borda"] == {"c1": 1.0, "c2": 2.0, "c3": 3.0, "c4": 0.0}
    assert ran.result.analysis.data["agreement"] is None
    assert ran.result.warnings == (
        "the ranking by 'a' is not counted: its reply holds no valid ranking",
        "the ranking by 'b' is not counted: b is overloaded",
        "the ranking by 'd' is not counted: its reply holds no valid ranking",
    )


async def test_without_any_ballot_the_run_goes_on_unranked():
    ran = await run([Scripted("a", ranking=Reply()), Scripted("b", ranking=failure("b"))], analysis="peer_ranking")

    assert ran.result.analysis.error.message == "no model gave a valid ranking"
    assert ran.result.output.is_synthesized
    assert [c.score for c in ran.result.candidates] == [None, None]


async def test_if_no_lead_manages_the_best_ranked_answer_is_the_output():
    broken = failure("x")
    models = [Scripted(name, ranking=ranks("c", "b", "a"), synthesis=broken) for name in "abc"]

    ran = await run(models, analysis="peer_ranking")

    assert (ran.result.output.text, ran.result.output.source_model) == ("the answer of c", "c")
    assert not ran.result.output.is_synthesized
    assert "the best-ranked answer, by 'c'" in ran.result.warnings[-1]
