"""How models, providers and strategies have been doing, over all replicas: counts that fade with time."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from app.state.client import StateClient, reaching_state
from app.state.keys import learning_keys

MOST_RECORDS: Final = 600
"""Of a scope: models by category are named by callers, so their number is theirs to choose."""
_KEPT_HALF_LIVES: Final = 20
"""After so many nothing of a record is left."""


@dataclass(frozen=True, slots=True)
class Fading:
    """What a record was worth `age_s` seconds ago, by the store's clock."""

    age_s: float
    amounts: Mapping[str, float]


class HistoryStore:
    """Every method raises `StateUnavailable` while Redis is away.

    Parameters:
        owner: the name of this process.
    """

    def __init__(self, state: StateClient, owner: str) -> None:
        self._state = state
        self._owner = owner
        self._add = state.script("add_decayed")
        self._read = state.script("read_decayed")

    async def add(self, scope: str, batch: int, amounts: Mapping[str, Mapping[str, float]], *, half_life_s: int) -> None:
        """Add `amounts`, by record and name. Of a process each batch has another number; sent again it counts once."""
        keys = learning_keys(scope)
        rows = [part for record, own in amounts.items() for part in (record, json.dumps(dict(own)))]
        kept_ms = half_life_s * 1000 * _KEPT_HALF_LIVES
        with reaching_state():
            await self._add(
                keys=[keys.history, keys.seen, keys.told + self._owner],
                args=[batch, half_life_s * 1000, MOST_RECORDS, kept_ms, *rows],
            )

    async def read(self, scope: str) -> dict[str, Fading]:
        """All records of a scope."""
        with reaching_state():
            reply: Any = await self._read(keys=[learning_keys(scope).history])
        now, flat = reply
        read: dict[str, Fading] = {}
        for field, stored in zip(flat[::2], flat[1::2], strict=True):
            record = orjson.loads(stored)
            read[field.decode()] = Fading((now - record["at"]) / 1000, record["n"])
        return read
