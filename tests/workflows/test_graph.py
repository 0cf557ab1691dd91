"""Orders and cycles, against the simplest ones that are right."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.config.workflows import WorkflowConfig
from app.workflows.checking import faults_of, faults_of_all
from app.workflows.graph import cycle, needs, order
from app.workflows.known import Known


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Names, each with those that it needs, in any order, with circles or without."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 12)))]
    return {name: draw(st.lists(st.sampled_from(names), max_size=3, unique=True)) for name in draw(st.permutations(names))}


def acyclic(graph: dict[str, list[str]]) -> bool:
    """By the reference."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        return False
    return True


def workflow(graph: dict[str, list[str]]) -> WorkflowConfig:
    steps = {
        name: {"transform": {"value": [f"${{steps.{one}.output}}" for one in of[1:]]}, "after": of[:1]}
        for name, of in graph.items()
    }
    return WorkflowConfig.model_validate({"steps": steps})


@given(graphs())
def test_there_is_an_order_where_the_reference_has_one(graph: dict[str, list[str]]):
    found = order(graph)
    assert (found is not None) == acyclic(graph)
    if found is not None:
        assert sorted(found) == sorted(graph)
        assert all(found.index(one) < found.index(name) for name, of in graph.items() for one in of)


@given(graphs())
def test_a_cycle_is_named_step_by_step_where_there_is_one(graph: dict[str, list[str]]):
    found = cycle(graph)
    assert (found == ()) == acyclic(graph)
    if found:
        assert found[0] == found[-1]
        assert all(to in graph[one] for one, to in pairwise(found))
        assert len(set(found)) == len(found) - 1


@given(graphs())
def test_the_needs_of_steps_are_read_from_their_references(graph: dict[str, list[str]]):
    config = workflow(graph)
    assert {name: sorted(needs(step)) for name, step in config.steps.items()} == {
        name: sorted(of) for name, of in graph.items()
    }


@given(graphs())
def test_a_workflow_with_a_cycle_is_refused_and_one_without_is_not(graph: dict[str, list[str]]):
    said = [fault.message for fault in faults_of(workflow(graph), Known()) if "waits for itself" in fault.message]
    assert (said == []) == acyclic(graph)


@given(graphs(), st.data())
def test_circles_of_workflows_are_found_unless_a_bound_breaks_them(graph: dict[str, list[str]], data: st.DataObject):
    bounded = {name: [data.draw(st.booleans()) for _ in of] for name, of in graph.items()}
    workflows = {
        name: WorkflowConfig.model_validate(
            {
                "steps": {
                    "own": {"transform": {"value": 1}},
                    **{
                        f"call{number}": {"workflow": {"name": one, **({"max_depth": 2} if bounded[name][number] else {})}}
                        for number, one in enumerate(of)
                    },
                }
            }
        )
        for name, of in graph.items()
    }
    unbounded = {name: [one for number, one in enumerate(of) if not bounded[name][number]] for name, of in graph.items()}
    found = [fault for fault in faults_of_all(workflows, Known(workflows)) if "runs inside of itself" in fault.message]
    assert (found == []) == acyclic(unbounded)
    for fault in found:
        way = fault.message.split(": ", 1)[1].split(";")[0].split(" -> ")
        steps = [one.split(".") for one in way[:-1]]
        assert fault.path[0] == steps[0][0] == way[-1]
        for (name, _, step), following in zip(steps, [*steps[1:], [way[-1]]], strict=True):
            call = workflows[name].steps[step].workflow
            assert call is not None
            assert call.name == following[0]


def test_only_workflows_that_are_reached_are_looked_at():
    own = workflow({"a": []})
    unread: Any = None
    assert faults_of_all({"own": own}, Known({"own": own, "far": unread})) == []
