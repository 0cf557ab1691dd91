"""Tasks around generators are made in `core/streams.py` alone, and nothing yields inside a time limit or a task group."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "app"
MAKERS = {"create_task", "ensure_future", "TaskGroup", "gather"}
SCOPES = {"timeout", "timeout_at", "TaskGroup", "start_as_current_span"}
ALLOWED = {
    "core/streams.py",
    "orchestration/runs/host.py",  # writes the log, and waits for ends: no generators
    "orchestration/runs/hosted.py",  # a run that belongs to the process
    "api/idempotency/execution.py",  # a request that belongs to the process
    "api/idempotency/executions.py",  # leases and takeovers: no generators
    "providers/registry.py",  # checks and closes providers: no generators
    "providers/mock/server/delivery.py",  # another program's server
    "orchestration/admission.py",  # renews permits and settles what it could not: no generators
    "api/sse.py",  # whatever is done beside a stream, not the stream
}
SPINE = ("core", "orchestration", "providers", "reliability", "api")
FILES = sorted(APP.rglob("*.py"))


def called(node: ast.expr) -> str | None:
    match node:
        case ast.Call(func=ast.Attribute(attr=name)) | ast.Call(func=ast.Name(id=name)):
            return name
        case _:
            return None


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All below `node`, but not what is inside of functions defined there."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from own_nodes(child)


def makers(tree: ast.AST) -> list[int]:
    """The lines that make tasks."""
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and called(node) in MAKERS]


def yields_in_scope(tree: ast.AST) -> list[int]:
    """The lines that yield inside a block that belongs to the task: a fixture-like context manager included."""
    found: list[int] = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.With, ast.AsyncWith)) and any(called(item.context_expr) in SCOPES for item in node.items):
            found += [inner.lineno for inner in own_nodes(node) if isinstance(inner, (ast.Yield, ast.YieldFrom))]
    return found


def test_only_streams_makes_tasks_in_the_spine() -> None:
    found = {
        f"{path.relative_to(APP)}:{line}"
        for path in FILES
        if path.relative_to(APP).parts[0] in SPINE and str(path.relative_to(APP)) not in ALLOWED
        for line in makers(ast.parse(path.read_text()))
    }
    assert found == set()


def test_nothing_yields_inside_a_time_limit_a_task_group_or_a_current_span() -> None:
    assert {f"{path}:{line}" for path in FILES for line in yields_in_scope(ast.parse(path.read_text()))} == set()


@pytest.mark.parametrize(
    "text", ["asyncio.create_task(f())", "loop.create_task(f())", "async def f():\n async with TaskGroup() as g: pass"]
)
def test_the_check_sees_tasks(text: str) -> None:
    assert makers(ast.parse(text))


def test_the_check_sees_yields() -> None:
    assert yields_in_scope(ast.parse("async def f():\n async with asyncio.timeout(1):\n  for x in y:\n   yield x")) == [4]
    assert not yields_in_scope(ast.parse("async def f():\n async with asyncio.timeout(1):\n  def g():\n   yield 1"))
