"""Workflows that tenants store and remove at run time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import ValidationError

from app.config.document import Fault
from app.config.faults import deepest
from app.config.workflows import WorkflowConfig, WorkflowsConfig
from app.core.clock import Clock
from app.core.errors import ConflictError, InvalidRequest, LimitExceeded
from app.orchestration.paging import Page, paged
from app.state.client import StateClient
from app.state.run_records import Position
from app.state.workflows import Bounds, TooMuch, WorkflowFeed, WorkflowStore, unknown_workflow
from app.workflows.library import Found, Library, Listed, said_of

_WORDS = {"extra_forbidden": "is no member of a definition", "missing": "is missing"}


class Keeping:
    """What is stored, and what every process knows of it within a second. Methods raise `StateUnavailable` while Redis is
    away."""

    def __init__(self, state: StateClient, library: Library, clock: Clock) -> None:
        self._store = WorkflowStore(state)
        self._library, self._clock = library, clock
        self._feed = WorkflowFeed(state, self._store, library.stored, library.change)

    async def start(self) -> None:
        await self._feed.start()

    async def close(self) -> None:
        await self._feed.close()

    async def page(self, tenant: str, *, cursor: str | None, limit: int) -> Page[Listed]:
        """Up to `limit` workflows of `tenant` by name, as this process knows them.

        Raises:
            InvalidRequest: the cursor is none of ours.
        """

        async def rows(after: Position | None, most: int) -> list[tuple[Position, Listed | None]]:
            return [((0, one.name), one) for one in self._library.listed(tenant, after[1] if after else "", most)]

        async def shown(one: Listed) -> Listed:
            return one

        return await paged(cursor, limit, rows, shown)

    async def put(self, tenant: str, name: str, config: WorkflowConfig) -> Found:
        """Store a definition that was checked, as another version.

        Raises:
            ConflictError: the configuration has a workflow of that name.
            LimitExceeded: the tenant has stored as many, or as much, as it may.
            InvalidRequest: it is too large.
        """
        limits = self._library.limits
        if self._library.is_configured(name):
            raise ConflictError(f"the workflow {name!r} comes from the configuration; choose another name", param="name")
        definition = config.model_dump(mode="json", by_alias=True, exclude_unset=True)
        size = len(orjson.dumps(definition))
        if size > limits.max_bytes:
            raise InvalidRequest(f"the definition has {size} bytes; workflow_limits.max_bytes is {limits.max_bytes}")
        created_at = int(self._clock.now())
        bounds = Bounds(limits.max_stored, limits.max_versions, limits.max_total_bytes)
        version = await self._store.put(tenant, name, definition, created_at, config.description, bounds)
        if isinstance(version, TooMuch):
            raise _refused(version, size, limits)
        await self._feed.load()
        return Found(name, version, config, "stored", created_at)

    async def remove(self, tenant: str, name: str) -> None:
        """Forget every version of a workflow; runs that are under way go on with what they began with.

        Raises:
            NotFound: none is stored under that name.
            ConflictError: it comes from the configuration.
        """
        if self._library.is_configured(name):
            message = f"the workflow {name!r} comes from the configuration; remove it there and reload"
            raise ConflictError(message, param="name")
        if not await self._store.remove(tenant, name):
            raise unknown_workflow(name)
        await self._feed.load()


def _refused(too_much: TooMuch, size: int, limits: WorkflowsConfig) -> LimitExceeded:
    there_are = too_much.there_are
    match too_much.what:
        case "names":
            return LimitExceeded(f"{there_are} workflows are stored, workflow_limits.max_stored; remove one first")
        case "bytes":
            return LimitExceeded(
                f"the definition has {size} bytes, and those that are stored have {there_are}; "
                f"workflow_limits.max_total_bytes is {limits.max_total_bytes}; remove workflows first"
            )


def parsed(definition: Mapping[str, Any]) -> WorkflowConfig:
    """A definition by its shape.

    Raises:
        InvalidRequest: it has another one; names the member.
    """
    try:
        return WorkflowConfig.model_validate(definition)
    except ValidationError as error:
        told = deepest(error.errors(include_url=False, include_input=False, include_context=False), definition, words=_WORDS)
        where = f"{told.member}: " if told.member else ""
        raise InvalidRequest(f"{where}{told.what}", param=told.member or None) from None


def checked(library: Library, tenant: str, name: str, config: WorkflowConfig) -> None:
    """Nothing where a definition can run.

    Raises:
        InvalidRequest: with every fault and its place.
    """
    faults = library.check(tenant, name, config)
    if config.as_tool is not None:
        faults = (Fault(("as_tool",), "is for workflows of the configuration; one that is stored is no tool"), *faults)
    if faults:
        said = "; ".join(said_of(fault) for fault in faults)
        raise InvalidRequest(said, param=".".join(str(step) for step in faults[0].path) or None)
