"""The lines of a batch as they come: kept in sealed parts, so that no process ever holds more than one."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from app.core.errors import InvalidRequest
from app.core.jobs import Priority
from app.core.principal import Principal
from app.state.batches import Batches, BatchRecord
from app.state.secrets import Sealer

PART_LINES: Final = 64
PART_BYTES: Final = 1_000_000
"""What a part holds at most, and so what a process holds of a batch: it is a job, and what a dead worker leaves to another."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line: its name, the endpoint whose body it has, and that body as JSON."""

    custom_id: str
    url: str
    body: bytes


@dataclass(frozen=True, slots=True)
class BatchOrder:
    """What a batch was made with, besides its lines. `about` is shown to who asks for it."""

    who: Principal
    about: Mapping[str, Any]
    priority: Priority = "normal"
    webhook: str | None = None
    address: str | None = None


def sealed_lines(sealer: Sealer, place: tuple[str, str, int], lines: Sequence[Line]) -> str:
    """The lines of a part, for the store. `place`: tenant, batch, number of the part."""
    packed = orjson.dumps([[line.custom_id, line.url, line.body.decode()] for line in lines]).decode()
    return sealer.seal(packed, owner=":".join(map(str, place)))


def opened_lines(sealer: Sealer, place: tuple[str, str, int], sealed: str) -> list[Line]:
    """The inverse of `sealed_lines`. Raises `ConfigError` where the secret is another one by now."""
    packed = orjson.loads(sealer.open(sealed, owner=":".join(map(str, place))))
    return [Line(custom_id, url, body.encode()) for custom_id, url, body in packed]


class Upload:
    """The lines of one batch, as they come. `add` each, then `finish`, or `drop` what came.

    Parameters:
        max_lines: how many it may have.
        enqueue: has the parts done; told of each how many lines it has, and whom they ask.
    """

    def __init__(
        self,
        order: BatchOrder,
        store: Batches,
        sealer: Sealer,
        max_lines: int,
        enqueue: Callable[[Upload, Sequence[tuple[int, set[str]]]], Awaitable[BatchRecord]],
    ) -> None:
        self.id = f"batch_{secrets.token_hex(12)}"
        self.order = order
        self._store = store
        self._sealer = sealer
        self._max_lines = max_lines
        self._enqueue = enqueue
        self._parts: list[tuple[int, set[str]]] = []
        self._lines: list[Line] = []
        self._bytes = 0
        self._asked: set[str] = set()
        self._total = 0

    async def add(self, line: Line, providers: Sequence[str]) -> None:
        """Take a line, which will ask `providers`.

        Raises:
            InvalidRequest: one line too many, or two with one name.
        """
        self._total += 1
        if self._total > self._max_lines:
            raise InvalidRequest(f"a batch has at most {self._max_lines:,} lines (batches.max_lines)", code="too_large")
        self._lines.append(line)
        self._asked.update(providers)
        self._bytes += len(line.body)
        if len(self._lines) >= PART_LINES or self._bytes >= PART_BYTES:
            await self._keep()

    async def _keep(self) -> None:
        part, lines, tenant = len(self._parts), self._lines, self.order.who.tenant
        self._parts.append((len(lines), self._asked))
        self._lines, self._bytes, self._asked = [], 0, set()
        names = [hashlib.sha256(line.custom_id.encode()).digest()[:16] for line in lines]
        sealed = sealed_lines(self._sealer, (tenant, self.id, part), lines)
        if len(set(names)) < len(names) or not await self._store.put(tenant, self.id, part, sealed, names):
            first, last = self._total - len(lines) + 1, self._total
            message = f"a custom_id of the lines {first} to {last} stands twice in the batch; each line needs its own"
            raise InvalidRequest(message, param="custom_id")

    async def finish(self) -> BatchRecord:
        """All lines are there.

        Raises:
            InvalidRequest: there is none.
        """
        if self._lines:
            await self._keep()
        if not self._parts:
            raise InvalidRequest("there is no line in the batch", param="items")
        return await self._enqueue(self, self._parts)

    async def drop(self) -> None:
        """It came to nothing."""
        await self._store.drop(self.order.who.tenant, self.id, len(self._parts))
