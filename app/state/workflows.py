"""Workflows that tenants have stored, each version a record, and how a process follows what changes of them."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import orjson

from app.core.chat import JsonObject
from app.core.errors import NotFound
from app.state.client import StateClient, reaching_state
from app.state.feed import Feed
from app.state.keys import WORKFLOW_CHANGES, WORKFLOWS, workflow_keys

CHANGES_KEPT: Final = 10_000
"""A process that has missed more of them than this reads everything again."""
NUMBERS_KEPT: Final = 10_000
"""Removed names of a tenant whose numbers are remembered one by one."""
_AT_ONCE: Final = 500
"""Names or changes that one command reads."""
_BYTES_AT_ONCE: Final = 2_000_000
"""Definitions that one command reads, unpacked: one at least."""

Name = tuple[str, str]
"""A tenant, and the name of a workflow of it."""


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version of a workflow. `created_at` is Unix time in seconds, `size` the bytes of the definition as JSON, which is
    held packed."""

    tenant: str
    name: str
    version: int
    created_at: int
    description: str | None
    size: int
    packed: bytes

    def definition(self) -> JsonObject:
        return orjson.loads(zlib.decompress(self.packed))


Versions = tuple[StoredVersion, ...]
"""Those of one workflow, the oldest first; empty where it is removed."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a tenant may store: names, versions that are kept of each, bytes of all definitions together."""

    names: int
    versions: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class TooMuch:
    """Why nothing was stored: how many there are already of what is bounded."""

    what: Literal["names", "bytes"]
    there_are: int


@dataclass(frozen=True, slots=True)
class Changed:
    """What has changed: by tenant and name the versions that there are now. Where `whole`, there is nothing else."""

    whole: bool
    workflows: Mapping[Name, Versions]


class WorkflowStore:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient, *, numbers_kept: int = NUMBERS_KEPT) -> None:
        self._state, self._numbers_kept = state, numbers_kept
        self._put = state.script("workflow_put")
        self._remove = state.script("workflow_remove")

    async def put(
        self, tenant: str, name: str, definition: JsonObject, created_at: int, description: str | None, bounds: Bounds
    ) -> int | TooMuch:
        """Store another version of a workflow, and drop the oldest beyond those that are kept: its number. No number of a name
        is given twice, also where the name was removed."""
        body = orjson.dumps(definition)
        head = orjson.dumps({"created_at": created_at, "description": description, "size": len(body)})
        record = head + b"\n" + zlib.compress(body)
        terms = [WORKFLOWS.channel, CHANGES_KEPT, record, len(body), bounds.names, bounds.versions, bounds.total_bytes]
        with reaching_state():
            became, number = await self._put(keys=_keys(tenant), args=[tenant, name, *terms])
        return int(number) if became == b"stored" else TooMuch(became.decode(), int(number))

    async def remove(self, tenant: str, name: str) -> bool:
        """Forget every version of a workflow: whether there was one."""
        with reaching_state():
            args = [tenant, name, WORKFLOWS.channel, CHANGES_KEPT, self._numbers_kept]
            return bool(await self._remove(keys=_keys(tenant), args=args))

    async def newest_change(self) -> bytes | None:
        """The id of the change that was made last, None where there was none."""
        with reaching_state():
            rows: Any = await self._state.commands.xrevrange(WORKFLOW_CHANGES, count=1)
        return rows[0][0] if rows else None

    async def changes(self, since: bytes) -> tuple[bytes, set[Name]] | None:
        """What has changed since a change, and the id of the last; None where that one is not known any more, or never was:
        as of a store that has lost its last writes."""
        found, last = set[Name](), since
        while True:
            with reaching_state():
                rows: Any = await self._state.commands.xrange(WORKFLOW_CHANGES, min=last, count=_AT_ONCE)
            if not rows or rows[0][0] != last:
                return None
            last = rows[-1][0]
            for _, fields in rows[1:]:
                tenant, _, name = fields[b"of"].decode().partition(":")
                found.add((tenant, name))
            if len(rows) < _AT_ONCE:
                return last, found

    async def everything(self) -> AsyncIterator[tuple[Name, dict[int, int]]]:
        """Every workflow of all tenants: the sizes of its versions by their number."""
        with reaching_state():
            tenants = cast("list[bytes]", await self._state.commands.hkeys(WORKFLOWS.records))
        for tenant in (found.decode() for found in tenants):
            place, names = 0, workflow_keys(tenant).names
            while True:
                with reaching_state():
                    place, rows = cast("tuple[int, dict[bytes, bytes]]", await self._hscan(names, place))
                for name, sizes in rows.items():
                    yield (tenant, name.decode()), dict(orjson.loads(sizes))
                if not place:
                    break

    async def _hscan(self, key: str, place: int) -> Any:
        return await self._state.commands.hscan(key, place, count=_AT_ONCE)

    async def sizes(self, tenant: str, names: Iterable[str]) -> dict[Name, dict[int, int]]:
        """The same of some workflows."""
        wanted = list(names)
        with reaching_state():
            rows = cast("list[bytes | None]", await self._state.commands.hmget(workflow_keys(tenant).names, wanted))
        return {(tenant, name): dict(orjson.loads(row)) if row else {} for name, row in zip(wanted, rows, strict=True)}

    async def versions(self, tenant: str, wanted: Mapping[tuple[str, int], int]) -> list[StoredVersion]:
        """Versions of workflows, which are wanted by name and number with their sizes. One that is gone is left out."""
        found: list[StoredVersion] = []
        for part in _parts(wanted):
            fields = [f"{name}@{number}" for name, number in part]
            with reaching_state():
                rows = cast("list[bytes | None]", await self._state.commands.hmget(workflow_keys(tenant).records, fields))
            found += [_read(tenant, name, number, row) for (name, number), row in zip(part, rows, strict=True) if row]
        return found


class WorkflowFeed:
    """Tells `on_change` what is stored: all at the start, and within a second of every change by any replica what has changed.

    Parameters:
        held: the versions of a workflow that this process has. Numbers are given once, so they are not read again.
    """

    def __init__(
        self,
        state: StateClient,
        store: WorkflowStore,
        held: Callable[[str, str], Versions],
        on_change: Callable[[Changed], None],
    ) -> None:
        self._store, self._held, self._on_change = store, held, on_change
        self._seen: bytes | None = None
        self._feed = Feed(state, WORKFLOWS, self.load)

    async def start(self) -> None:
        await self._feed.start()

    async def close(self) -> None:
        await self._feed.close()

    async def load(self) -> None:
        """Tell it now. Others may do so at the same time: whoever is overtaken looks again."""
        while True:
            seen = self._seen
            since = None if seen is None else await self._store.changes(seen)
            if since is None:
                last = await self._store.newest_change()
                changed = Changed(True, await self._everything())
            else:
                last = since[0]
                changed = Changed(False, await self._those(since[1]))
            if seen is self._seen:
                self._seen = last
                self._on_change(changed)
                return

    async def _everything(self) -> dict[Name, Versions]:
        found: dict[Name, Versions] = {}
        part: dict[Name, dict[int, int]] = {}
        async for (tenant, name), sizes in self._store.everything():
            if part and next(iter(part))[0] != tenant:
                found |= await self._read(part, held=False)
                part = {}
            part[tenant, name] = sizes
        return found | await self._read(part, held=False)

    async def _those(self, names: set[Name]) -> dict[Name, Versions]:
        found: dict[Name, Versions] = {}
        for tenant in sorted({tenant for tenant, _ in names}):
            sizes = await self._store.sizes(tenant, sorted(name for of, name in names if of == tenant))
            found |= await self._read(sizes, held=True)
        return found

    async def _read(self, sizes: Mapping[Name, Mapping[int, int]], *, held: bool) -> dict[Name, Versions]:
        """The versions of workflows of one tenant; those that are held are taken where they are."""
        there: dict[tuple[str, int], StoredVersion] = {}
        if held:
            there = {(one.name, one.version): one for about in sizes for one in self._held(*about)}
        wanted = {(name, number): size for (_, name), of in sizes.items() for number, size in of.items()}
        missing = {which: size for which, size in wanted.items() if which not in there}
        if missing:
            tenant = next(iter(sizes))[0]
            there |= {(one.name, one.version): one for one in await self._store.versions(tenant, missing)}
        return {
            (tenant, name): tuple(there[name, number] for number in sorted(of) if (name, number) in there)
            for (tenant, name), of in sizes.items()
        }


def _keys(tenant: str) -> list[str]:
    of = workflow_keys(tenant)
    return [of.records, of.names, of.numbers, WORKFLOWS.records, WORKFLOWS.version, WORKFLOW_CHANGES]


def _parts(wanted: Mapping[tuple[str, int], int]) -> list[list[tuple[str, int]]]:
    """What is wanted, in parts that are not too large to be read at once."""
    parts: list[list[tuple[str, int]]] = []
    room = 0
    for which, size in wanted.items():
        if not parts or size > room or len(parts[-1]) >= _AT_ONCE:
            parts.append([])
            room = _BYTES_AT_ONCE
        parts[-1].append(which)
        room -= size
    return parts


def _read(tenant: str, name: str, number: int, record: bytes) -> StoredVersion:
    head, _, packed = record.partition(b"\n")
    said = orjson.loads(head)
    return StoredVersion(tenant, name, number, int(said["created_at"]), said["description"], int(said["size"]), packed)


def unknown_workflow(name: str) -> NotFound:
    """What is said of a workflow that was not stored."""
    return NotFound(f"no workflow {name!r} was stored", param="name")
