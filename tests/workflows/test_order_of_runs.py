"""Runs of random graphs, against a reference order and the values that it gives."""

from __future__ import annotations

import asyncio
from graphlib import TopologicalSorter

from hypothesis import given, settings
from hypothesis import strategies as st

from app.assembly.configuration import all_strategies, connect_workflows, library_of
from app.config.spec import LLMProvider, QuorumSpec
from app.config.workflows import WorkflowConfig
from app.core.messages import user
from app.core.run_events import RunEvent, RunFinished, StepFinished, StepSkipped, StepStarted
from app.core.runs import OrchestrationConfig, RunRequest
from app.orchestration.local import LocalRuntime


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Names, each with earlier ones that it needs, told in any order."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 12)))]
    needed = {
        name: draw(st.lists(st.sampled_from(names[:place]), max_size=3, unique=True)) if place else []
        for place, name in enumerate(names)
    }
    return {name: needed[name] for name in draw(st.permutations(names))}


def workflow(graph: dict[str, list[str]], skipped: set[str]) -> WorkflowConfig:
    """Each step gives one more than those that it needs together."""
    steps = {
        name: {
            "transform": {"expression": " + ".join(["1", *(f"${{steps.{one}.output ?? 0}}" for one in of)])},
            **({"when": "false"} if name in skipped else {}),
        }
        for name, of in graph.items()
    }
    returns = {name: f"${{steps.{name}.output ?? 0}}" for name in graph}
    return WorkflowConfig.model_validate({"steps": steps, "returns": returns})


async def events_of(config: WorkflowConfig) -> list[RunEvent]:
    spec = QuorumSpec(providers={"mock": LLMProvider(kind="mock")}, workflows={"flow": config})
    strategies = all_strategies()
    async with LocalRuntime(spec, strategies) as runtime:
        connect_workflows(strategies, runtime.engine, library_of(spec, strategies))
        asked = RunRequest(OrchestrationConfig("workflow", options={"workflow": "flow"}), (user("x"),))
        return [event async for event in runtime.engine.begin(asked).events()]


@settings(max_examples=40, deadline=None)
@given(graphs(), st.data())
def test_every_step_runs_once_after_those_that_it_needs_and_gives_what_the_reference_gives(
    graph: dict[str, list[str]], data: st.DataObject
):
    skipped = data.draw(st.sets(st.sampled_from(sorted(graph)), max_size=3))
    events = asyncio.run(events_of(workflow(graph, skipped)))
    values: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        values[name] = 0 if name in skipped else 1 + sum(values[one] for one in graph[name])
    started = [event.step for event in events if isinstance(event, StepStarted)]
    over = [event.step for event in events if isinstance(event, StepFinished | StepSkipped)]
    assert sorted(started) == sorted(graph.keys() - skipped)
    assert sorted(over) == sorted(graph)
    told = [(type(event), event.step) for event in events if isinstance(event, StepStarted | StepFinished | StepSkipped)]
    for name in started:
        before = told[: told.index((StepStarted, name))]
        assert {step for kind, step in before if kind is not StepStarted} >= set(graph[name])
    (end,) = [event for event in events if isinstance(event, RunFinished)]
    assert end.json == values
