"""What is recorded of a run's steps, so that whoever goes on with it need not do them again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from app.core.chat import JsonObject


class StepStore(Protocol):
    """The records of one run, by the paths of its steps."""

    async def all(self) -> Mapping[str, JsonObject]:
        """Every record.

        Raises:
            StateUnavailable: the store is away.
        """
        ...

    async def signal(self, name: str) -> JsonObject | None:
        """The signal of that name that the run was sent, with its `payload`; None where there is none.

        Raises:
            StateUnavailable: the store is away.
        """
        ...

    async def put(self, path: str, record: JsonObject) -> None:
        """Write a record down; it is there when this returns.

        Raises:
            StateUnavailable: the store is away.
            OrchestratorError: with the code `owner_lost`: the run belongs to another process.
        """
        ...
