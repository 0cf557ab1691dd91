"""The circuit breakers that all replicas share: one script call for many of them at once."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, NotRequired, TypedDict, cast

from app.state.client import StateClient, reaching_state
from app.state.feed import Feed
from app.state.keys import BREAKERS, breaker_window

State = Literal["closed", "open", "half_open"]
_NOTHING: Final = ()


class ProbeEnd(TypedDict):
    """A probe that is over: in which epoch it was admitted, and what it says."""

    generation: int
    permit: str
    verdict: Literal["passed", "failed", "void"]


class Entry(TypedDict):
    """What one replica tells or asks of one breaker.

    `rules` are the members of `reliability.circuit.Rules`; `tally` those of its `Tally`, of calls admitted in `generation`.
    `renew` holds permits of probes that are under way, `cool_ms` a pause the provider wants, `jitter` is in [0, 1).
    """

    id: str
    rules: dict[str, Any]
    jitter: float
    generation: NotRequired[int]
    tally: NotRequired[dict[str, int]]
    probes: NotRequired[list[ProbeEnd]]
    renew: NotRequired[list[str]]
    cool_ms: NotRequired[int]
    permit: NotRequired[str]


class Record(TypedDict):
    """A breaker's shared state. Times are milliseconds of the server's clock."""

    state: State
    generation: int
    until_ms: int
    trips: int
    issued: int
    passed: int
    cool_until_ms: int
    leases: dict[str, int]


class Granted(TypedDict):
    admitted: bool
    generation: int
    probe: bool
    retry_ms: int


class Reply(TypedDict):
    """`now` is the server's time in milliseconds; `records` hold the breakers that were told of, or all for `read`."""

    now: int
    records: dict[str, Record]
    grants: dict[str, Granted]


class BreakerStore:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._script = state.script("breakers")

    async def report(self, entries: Sequence[Entry]) -> Reply:
        """Tell of calls, pauses and probes. Not to be sent again: calls would count twice."""
        return await self._call("report", entries)

    async def ask(self, entry: Entry) -> Reply:
        """Ask whether a call may be made. Sent again with the same `permit` it gives the same answer."""
        return await self._call("ask", (entry,))

    async def reset(self, entry: Entry) -> Reply:
        """Close a breaker by hand, and end the pause."""
        return await self._call("reset", (entry,))

    async def read(self) -> Reply:
        """All breakers that ever left their first state."""
        return await self._call("read", _NOTHING)

    def feed(self, load: Callable[[], Awaitable[None]]) -> Feed:
        """Calls `load` whenever some breaker changes its state."""
        return Feed(self._state, BREAKERS, load)

    async def _call(self, operation: str, entries: Sequence[Entry]) -> Reply:
        with reaching_state():
            answer = await self._script(
                keys=[BREAKERS.records, BREAKERS.version, *(breaker_window(entry["id"]) for entry in entries)],
                args=[BREAKERS.channel, operation, json.dumps(entries)],
            )
        return cast("Reply", json.loads(answer))
