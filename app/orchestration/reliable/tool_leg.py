"""A tool of the service that is run directly, as a run's answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import orjson

from app.core.errors import QuorumError
from app.core.messages import ToolCallPart
from app.core.run_events import OutputDelta, RunEvent, RunFinished
from app.core.run_json import json_bytes
from app.core.streams import close
from app.orchestration.context import RunContext
from app.orchestration.planning.planner import ToolWay
from app.orchestration.reliable.deciding import direct_id
from app.orchestration.tools.calling import ServedCall, Terms
from app.orchestration.tools.offering import caller_of
from app.orchestration.tools.pausing import paused_by


class ToolLeg:
    """One call, checked, permitted, recorded and run as any other.

    `failure` is there where it gave no result; `wrote` tells whether the tool writes and was run, or may have been.

    Parameters:
        place: which of the run's tries it is, from 1. It makes the call's id, by which another process that takes the run over
            knows what became of it.
    """

    def __init__(self, way: ToolWay, context: RunContext, place: int) -> None:
        self._way, self._context, self._place = way, context, place
        self.failure: QuorumError | None = None
        self.wrote = False
        self.said = False

    async def events(self) -> AsyncGenerator[RunEvent]:
        registered, context = self._way.registered, self._context
        part = ToolCallPart(direct_id(self._place), registered.spec.name, orjson.dumps(self._way.arguments).decode())
        terms = Terms(context, caller_of(context), "policy", (registered.spec.name,))
        call = ServedCall(terms, part, self._place, registered, repeated=False)
        yield call.called()
        source = call.events()
        try:
            async for event in source:
                yield event
        finally:
            await close(source)
        if call.waits_for is not None:
            yield paused_by((call.waits_for,))
            return
        self.wrote = call.run.may_have_written
        self.failure = call.failure
        if self.failure is not None:
            return
        value = call.run.result
        yield OutputDelta(0, "text", value if isinstance(value, str) else json_bytes(value).decode())
        yield RunFinished(json=None if isinstance(value, str) else value)
