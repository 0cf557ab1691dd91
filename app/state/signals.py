"""Signals that runs are sent, each kept in its run's slot until the run ends, and which runs may go on because of them."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import orjson

from app.core.chat import JsonObject
from app.state.approvals import Ready
from app.state.client import StateClient, reaching_state
from app.state.keys import SIGNALLED, run_keys


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a signal: of one that was `there` before, `held` is what that says. `digest` names the run's request."""

    outcome: Literal["missing", "over", "there", "new"]
    held: JsonObject
    digest: str


@dataclass(frozen=True, slots=True)
class Signalled:
    """A run that was sent a signal, as `which` says, and that nobody has gone on with yet."""

    ready: Ready
    which: str


class SignalStore:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._put = state.script("signal_put")
        self._done = state.script("signal_done")

    async def known(self, tenant: str, run_id: str) -> dict[str, list[JsonObject]] | None:
        """The signals that a run may wait for, with their schemas; None where nothing of it is stored."""
        with reaching_state():
            found: Any = await self._state.commands.hmget(run_keys(tenant, run_id).record, "status", "signals")
        status, signals = found
        if status is None or status == b"deleted":
            return None
        return orjson.loads(signals) if signals else {}

    async def put(self, tenant: str, run_id: str, name: str, signal: JsonObject) -> Sent:
        """Keep a signal. May be sent again."""
        keys = run_keys(tenant, run_id)
        with reaching_state():
            reply: Any = await self._put(keys=[keys.record, keys.signals], args=[name, orjson.dumps(signal)])
        outcome, held, digest = reply
        return Sent(outcome.decode(), orjson.loads(held) if held else {}, digest.decode())

    async def wake(self, ready: Ready, which: str) -> Signalled:
        """Note that a run may go on."""
        with reaching_state():
            await self._state.commands.hset(SIGNALLED, _field(ready), f"{ready.digest} {which}")
        return Signalled(ready, which)

    async def due(self) -> list[Signalled]:
        """The runs that may go on."""
        with reaching_state():
            rows = cast("dict[bytes, bytes]", await self._state.commands.hgetall(SIGNALLED))
        found: list[Signalled] = []
        for field, value in rows.items():
            tenant, _, run_id = field.decode().rpartition(":")
            digest, _, which = value.decode().partition(" ")
            found.append(Signalled(Ready(tenant, run_id, digest), which))
        return found

    async def gone_on(self, signalled: Signalled) -> None:
        """Somebody has gone on with a run, or nobody can; unless it was sent another signal since."""
        ready = signalled.ready
        with reaching_state():
            await self._done(keys=[SIGNALLED], args=[_field(ready), f"{ready.digest} {signalled.which}"])


def _field(ready: Ready) -> str:
    return f"{ready.tenant}:{ready.run_id}"
