"""Workflows as tools: the inputs are the arguments, what is returned is the result."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import orjson

from app.config.spec import QuorumSpec
from app.config.workflows import WorkflowConfig
from app.core.errors import ErrorReport, ToolExecutionError
from app.core.messages import user
from app.core.runs import OrchestrationConfig, OrchestrationOutput, RunRequest
from app.core.tools import EnclosingRun, Priced, ToolCaller, ToolSpec
from app.orchestration.engine import Engine
from app.orchestration.inner_run import InnerRun
from app.orchestration.tools.offering import DEEPEST
from app.tools.failures import failed
from app.workflows.action_checks import schema_of_inputs


class WorkflowTools:
    """The workflows of the configuration in force that are tools. They can be called once `engine` is there."""

    engine: Engine | None = None

    def __init__(self, spec: QuorumSpec) -> None:
        self.spec = spec

    def tools(self) -> list[WorkflowAsATool]:
        """Those of `spec`."""
        return [WorkflowAsATool(name, config, self) for name, config in _those(self.spec)]


def specs_of(spec: QuorumSpec) -> list[WorkflowAsATool]:
    """The same, to be looked at and not called."""
    return WorkflowTools(spec).tools()


class WorkflowAsATool:
    """Runs a workflow."""

    def __init__(self, name: str, config: WorkflowConfig, tools: WorkflowTools) -> None:
        self.spec = spec_of(name, config)
        self._tools = tools

    @property
    def unavailable(self) -> str | None:
        return "workflows are not run here" if self._tools.engine is None else None

    async def run(self, arguments: dict[str, Any], caller: ToolCaller) -> Any:
        engine = self._tools.engine
        if engine is None:
            raise failed(self.spec.name, "workflows are not run here")
        request = self._request(arguments, caller)
        if caller.inside is None:
            result = await (await engine.admit(engine.begin(request))).result()
            cost = result.cost_usd or 0.0
        else:
            result, cost = await self._inside(engine, request, caller.inside)
        if result.error is not None:
            raise self._failure(result.error)
        if result.status != "succeeded":
            raise failed(self.spec.name, f"the workflow ended as {result.status}: {result.output.text[:500]}")
        value = result.output.json if result.output.json is not None else result.output.text
        return Priced(value, cost)

    async def _inside(self, engine: Engine, request: RunRequest, inside: EnclosingRun) -> tuple[OrchestrationOutput, float]:
        """As a part of the run whose model calls it, which books the calls of models."""
        name = self.spec.name
        if name in inside.within or len(inside.within) >= DEEPEST:
            raise failed(name, f"it is called inside of {' -> '.join(inside.within)}, where it may not be")
        run = engine.begin_inside(request, replace(inside, within=(*inside.within, name)))
        inner = InnerRun(run, "step")
        inside.beside(inner)
        async with aclosing(inner.events()) as events:
            async for event in events:
                inside.tell(event)
        if inner.result is None:
            raise RuntimeError(f"the run {run.id} ended without a result")
        return inner.result, inner.tools_usd

    def _request(self, arguments: dict[str, Any], caller: ToolCaller) -> RunRequest:
        options = {"workflow": self.spec.name, "inputs": arguments}
        return RunRequest(
            OrchestrationConfig("workflow", options=options),
            (user(orjson.dumps(arguments).decode()),),
            tenant=caller.tenant,
            key_id=caller.key_id,
            key_name=caller.key_name,
            request_id=caller.request_id,
            traceparent=caller.traceparent,
            scopes=caller.scopes,
            address=caller.address,
            deadline=caller.deadline,
        )

    def _failure(self, error: ErrorReport) -> ToolExecutionError:
        failure = ToolExecutionError(error.message, tool=self.spec.name, retry_after=error.retry_after)
        if error.failure is None:
            failure.code = error.code
        return failure


def spec_of(name: str, config: WorkflowConfig) -> ToolSpec:
    """What is known of a workflow as a tool."""
    terms = config.as_tool
    assert terms is not None  # noqa: S101 - only those that are tools are asked
    return ToolSpec(
        name=name,
        description=terms.description,
        input_schema=schema_of_inputs(config),
        side_effect=terms.side_effect,
        source="orchestration",
        timeout_s=terms.timeout_s,
        scopes=frozenset(terms.scopes),
        max_result_bytes=terms.max_result_bytes,
    )


def _those(spec: QuorumSpec) -> Iterable[tuple[str, WorkflowConfig]]:
    return ((name, config) for name, config in spec.workflows.items() if config.as_tool is not None)
