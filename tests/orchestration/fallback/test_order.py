"""The order of a dynamic chain."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.core.standing import Standing
from app.orchestration.fallback.order import by_standing
from tests.orchestration.fallback.chained import again
from tests.orchestration.known import engine
from tests.orchestration.scripted import Scripted, failure


def test_the_reliable_first_the_open_last_else_as_configured() -> None:
    links = [
        ("poor", Standing(0.5)),
        ("open", Standing(1.0, 9.0)),
        ("fine", Standing(0.9)),
        ("soon", Standing(1.0, 2.0)),
        ("good", Standing(0.91)),
    ]
    assert by_standing(links) == ("fine", "good", "poor", "soon", "open")


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 100)), max_size=8))
def test_nobody_is_lost_and_equals_keep_their_order(rows: list[tuple[float, float]]) -> None:
    links = [(number, Standing(*row)) for number, row in enumerate(rows)]
    assert sorted(by_standing(links)) == list(range(len(rows)))
    assert by_standing([(link, Standing(0.9)) for link, _ in links]) == tuple(range(len(rows)))


async def test_a_link_that_keeps_failing_is_asked_later_where_that_is_wanted() -> None:
    bad, good = Scripted("bad", failure("bad")), Scripted("good")
    on, models = engine(bad, good), (bad, good)
    for _ in range(3):
        await again(on, models, {"dynamic": True}, models=("bad", "good"))
    ran = await again(on, models, {"dynamic": True}, models=("bad", "good"))
    assert [(link.link, link.outcome) for link in ran.result.path] == [(2, "answered")]
    assert ran.result.plan is not None
    assert ran.result.plan.models == ("good", "bad")
    ran = await again(on, models, {"dynamic": False}, models=("bad", "good"))
    assert [link.link for link in ran.result.path] == [1, 2]


async def test_a_low_quality_answer_says_nothing_of_reliability() -> None:
    cheap, strong = Scripted("cheap", "x"), Scripted("strong")
    on, models = engine(cheap, strong), (cheap, strong)
    options = {"dynamic": True, "chain": [{"model": "cheap", "check": {"min_chars": 5}}, {"model": "strong"}]}
    for _ in range(4):
        ran = await again(on, models, options)
    assert [link.link for link in ran.result.path] == [1, 2]
