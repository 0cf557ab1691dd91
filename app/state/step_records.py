"""What is recorded of the steps of a run, beside its log and in its slot. Only its owner may write."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from typing import Any, cast

import orjson

from app.core.chat import JsonObject
from app.core.errors import OrchestratorError
from app.state.client import StateClient, reaching_state
from app.state.keys import run_keys
from app.state.run_records import Ownership


class StepRecords:
    """Where runs find the records of their steps."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._put = state.script("step_put")

    def of(self, whose: Ownership, keep_s: int) -> OwnedSteps:
        """Those of a run, for its owner."""
        return OwnedSteps(self._state, self._put, whose, keep_s)


class OwnedSteps:
    """The records of one run's steps (a `StepStore`). Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient, put: Any, whose: Ownership, keep_s: int) -> None:
        self._state, self._put, self._whose, self._keep_s = state, put, whose, keep_s
        self._keys = run_keys(whose.tenant, whose.run_id)

    async def all(self) -> dict[str, JsonObject]:
        """Every record, by its path."""
        with reaching_state():
            rows = cast("dict[bytes, bytes]", await self._state.commands.hgetall(self._keys.steps))
        return {path.decode(): orjson.loads(record) for path, record in rows.items()}

    async def signal(self, name: str) -> JsonObject | None:
        """The signal of that name that the run was sent; None where there is none."""
        with reaching_state():
            found = cast("bytes | None", await self._state.commands.hget(self._keys.signals, name))
        return None if found is None else orjson.loads(found)

    async def put(self, path: str, record: JsonObject) -> None:
        """Write a record down. May be sent again.

        Raises:
            OrchestratorError: with the code `owner_lost`: the run belongs to another process, or was deleted.
        """
        whose = self._whose
        args = [whose.owner, whose.epoch, self._keep_s * 1000, path, orjson.dumps(record)]
        with reaching_state():
            written = await self._put(keys=[self._keys.record, self._keys.steps], args=args)
        if not written:
            raise OrchestratorError("the run has gone to another process", code="owner_lost")
