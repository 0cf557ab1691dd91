"""A workflow, and how a run of it stands, as a Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.config.workflows import WorkflowAction, WorkflowConfig, WorkflowStep, WorkflowWait
from app.core.errors import InvalidRequest
from app.workflows.graph import kind_of, needs

_SHAPES: Final = {
    "orchestration": ('(["', '"])'),
    "tool": ('[["', '"]]'),
    "transform": ('["', '"]'),
    "workflow": ('[/"', '"/]'),
    "switch": ('{"', '"}'),
    "map": ('>"', '"]'),
    "wait": ('{{"', '"}}'),
}
_STATES: Final = {
    "running": "stroke:#1d4ed8,stroke-width:3px",
    "halted": "stroke:#7e22ce,stroke-width:3px,stroke-dasharray:4",
    "succeeded": "fill:#dcfce7,stroke:#15803d",
    "failed": "fill:#fee2e2,stroke:#b91c1c",
    "skipped": "fill:#f3f4f6,stroke:#9ca3af,stroke-dasharray:4",
    "undone": "fill:#fef3c7,stroke:#b45309",
}


def drawn(config: WorkflowConfig, states: Mapping[str, str] | None = None) -> str:
    """The flowchart. `states` says of steps how they stand: running, halted, succeeded, failed, skipped, undone."""
    names = {name: f"s{number}" for number, name in enumerate(config.steps)}
    lines = ["flowchart TD"]
    for name, step in config.steps.items():
        before, after = _SHAPES.get(kind_of(step) or "transform", ('["', '"]'))
        lines.append(f"    {names[name]}{before}{_label(name, step)}{after}")
    for name, step in config.steps.items():
        try:
            needed = needs(step)
        except InvalidRequest:
            continue
        arrow = "-->" if step.when is None else f'-- "{_text(step.when)}" -->'
        lines += [f"    {names[one]} {arrow} {names[name]}" for one in needed if one in names]
        if step.undo is not None:
            lines.append(f'    {names[name]}u["{_text("undo: " + _what(step.undo))}"] -. undo .-> {names[name]}')
    known = {name: state for name, state in (states or {}).items() if name in names and state in _STATES}
    for state in dict.fromkeys(known.values()):
        lines.append(f"    classDef {state} {_STATES[state]}")
        lines.append(f"    class {','.join(names[name] for name, own in known.items() if own == state)} {state}")
    return "\n".join(lines) + "\n"


def _label(name: str, step: WorkflowStep) -> str:
    return f"{_text(name)}<br/>{_text(_what(step))}"


def _what(action: WorkflowAction) -> str:
    if action.orchestration is not None:
        return action.orchestration.recipe or action.orchestration.strategy or "orchestration"
    if action.tool is not None:
        return f"tool {action.tool.name}"
    if action.workflow is not None:
        return f"workflow {action.workflow.name}"
    if action.map is not None:
        return f"for each: {_what(action.map.do)}"
    if action.switch is not None:
        return f"switch of {len(action.switch.cases)}"
    if action.wait is not None:
        return f"wait for {_awaited(action.wait)}"
    return "transform"


def _awaited(wait: WorkflowWait) -> str:
    if wait.signal is not None:
        return f"signal {wait.signal}"
    if wait.review is not None:
        return "a review"
    return f"{wait.seconds} s" if wait.seconds is not None else str(wait.until)


def _text(text: str) -> str:
    """A text that ends no label and is no directive (`%%{init: ...}%%`): Mermaid knows entities by `#name;`."""
    short = text if len(text) <= 60 else text[:57] + "..."
    return "".join(_ENTITIES.get(character, character if character.isprintable() else " ") for character in short)


_ENTITIES: Final = {'"': "#quot;", "<": "#lt;", ">": "#gt;", "#": "#35;", "%": "#37;", "&": "#amp;", "`": "#96;"}
