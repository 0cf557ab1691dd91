"""Workflows that tenants store and remove at run time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from pydantic import ValidationError

from app.config.document import Fault
from app.config.faults import deepest
from app.config.workflows import WorkflowConfig
from app.core.clock import Clock
from app.core.errors import ConflictError, InvalidRequest, LimitExceeded
from app.state.client import StateClient
from app.state.workflows import StoredVersion, WorkflowFeed, WorkflowStore, unknown_workflow
from app.workflows.library import Found, Library, said_of

_WORDS = {"extra_forbidden": "is no member of a definition", "missing": "is missing"}

_log = structlog.get_logger("quorum.workflow")


class Keeping:
    """What is stored, and what every process knows of it within a second. Methods raise `StateUnavailable` while Redis is
    away."""

    def __init__(self, state: StateClient, library: Library, clock: Clock) -> None:
        self._store = WorkflowStore(state)
        self._library, self._clock = library, clock
        self._feed = WorkflowFeed(state, self._store, self._changed)

    async def start(self) -> None:
        await self._feed.start()

    async def close(self) -> None:
        await self._feed.close()

    async def put(self, tenant: str, name: str, config: WorkflowConfig) -> Found:
        """Store a definition that was checked, as another version.

        Raises:
            ConflictError: the configuration has a workflow of that name.
            LimitExceeded: the tenant has stored as many as it may.
            InvalidRequest: it is too large.
        """
        limits = self._library.limits
        if self._library.is_configured(name):
            raise ConflictError(f"the workflow {name!r} comes from the configuration; choose another name", param="name")
        definition = config.model_dump(mode="json", by_alias=True, exclude_unset=True)
        size = len(orjson.dumps(definition))
        if size > limits.max_bytes:
            raise InvalidRequest(f"the definition has {size} bytes; workflow_limits.max_bytes is {limits.max_bytes}")
        await self._feed.load()
        before = self._library.versions(tenant, name)
        stored = sum(found.source == "stored" for found in self._library.all(tenant))
        if not before and stored >= limits.max_stored:
            raise LimitExceeded(f"{stored} workflows are stored, workflow_limits.max_stored; remove one first")
        created_at = int(self._clock.now())
        version = await self._store.add(tenant, name, definition, created_at, before[-1].version if before else 0)
        too_many = len(before) + 1 - limits.max_versions
        await self._store.remove(tenant, name, tuple(found.version for found in before[: max(0, too_many)]))
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
        await self._feed.load()
        before = self._library.versions(tenant, name)
        if not before:
            raise unknown_workflow(name)
        await self._store.remove(tenant, name, tuple(found.version for found in before))
        await self._feed.load()

    async def _changed(self, stored: list[StoredVersion]) -> None:
        found: dict[str, dict[str, tuple[Found, ...]]] = {}
        for one in stored:
            try:
                config = WorkflowConfig.model_validate(one.definition)
            except ValidationError:
                _log.error("a stored workflow is left out: another version of the service stored it", workflow=one.name)
                continue
            of_tenant = found.setdefault(one.tenant, {})
            version = Found(one.name, one.version, config, "stored", one.created_at)
            of_tenant[one.name] = (*of_tenant.get(one.name, ()), version)
        self._library.store(found)


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
