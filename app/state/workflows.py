"""Workflows that tenants have stored, each version a record."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import orjson

from app.core.chat import JsonObject
from app.core.errors import NotFound
from app.state.client import StateClient, reaching_state
from app.state.feed import Feed
from app.state.keys import WORKFLOWS


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version of a workflow. `created_at` is Unix time in seconds."""

    tenant: str
    name: str
    version: int
    definition: JsonObject
    created_at: int


class WorkflowStore:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._put = state.script("put_record")
        self._remove = state.script("remove_record")

    async def add(self, tenant: str, name: str, definition: JsonObject, created_at: int, after: int) -> int:
        """Store another version of a workflow: its number, which is the first free one above `after`."""
        record = orjson.dumps({"definition": definition, "created_at": created_at})
        version = after
        written = 0
        while not written:
            version += 1
            args = [_field(tenant, name, version), record, WORKFLOWS.channel, "0"]
            with reaching_state():
                written = await self._put(keys=[WORKFLOWS.records, WORKFLOWS.version], args=args)
        return version

    async def remove(self, tenant: str, name: str, versions: tuple[int, ...]) -> None:
        """Forget versions of a workflow; those that are gone already do not matter."""
        for version in versions:
            args = [_field(tenant, name, version), WORKFLOWS.channel]
            with reaching_state():
                await self._remove(keys=[WORKFLOWS.records, WORKFLOWS.version], args=args)

    async def all(self) -> list[StoredVersion]:
        """Every version of every workflow of all tenants, the oldest of each first."""
        with reaching_state():
            rows = cast("dict[bytes, bytes]", await self._state.commands.hgetall(WORKFLOWS.records))
        found = [_read(field.decode(), record) for field, record in rows.items()]
        return sorted(found, key=lambda one: (one.tenant, one.name, one.version))


class WorkflowFeed:
    """Tells `on_change` all stored workflows: at the start and within a second of every change by any replica."""

    def __init__(
        self, state: StateClient, store: WorkflowStore, on_change: Callable[[list[StoredVersion]], Awaitable[None]]
    ) -> None:
        self._store = store
        self._on_change = on_change
        self._feed = Feed(state, WORKFLOWS, self.load)

    async def start(self) -> None:
        await self._feed.start()

    async def close(self) -> None:
        await self._feed.close()

    async def load(self) -> None:
        """Tell them now."""
        await self._on_change(await self._store.all())


def _field(tenant: str, name: str, version: int) -> str:
    return f"{tenant}:{name}@{version}"


def _read(field: str, record: bytes) -> StoredVersion:
    about, _, version = field.rpartition("@")
    tenant, _, name = about.partition(":")
    said = orjson.loads(record)
    return StoredVersion(tenant, name, int(version), said["definition"], int(said["created_at"]))


def unknown_workflow(name: str) -> NotFound:
    """What is said of a workflow that was not stored."""
    return NotFound(f"no workflow {name!r} was stored", param="name")
