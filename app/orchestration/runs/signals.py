"""Signals from outside that runs wait for: who sends one, before the run comes to that or after, has it go on."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from app.core.chat import JsonObject
from app.core.clock import Clock
from app.core.errors import ConflictError, InvalidRequest, StateUnavailable
from app.core.json_schemas import compiled
from app.orchestration.runs.endings import unknown
from app.state.approvals import Ready
from app.state.flusher import Flusher
from app.state.signals import Signalled, SignalStore

LOOK_S: Final = 4.0
"""How often one looks for runs that were sent a signal while they were about to be paused."""
MOST_BYTES: Final = 1_000_000
"""A payload, as JSON: as large as a step's output may be by default."""

_log = structlog.get_logger("quorum.run")


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal that a run was sent. `at` is Unix time in seconds, `by` the name of the key."""

    name: str
    payload: Any
    at: float
    by: str


class Signals:
    """The signals of all runs. Its methods raise `StateUnavailable` while Redis is away.

    Parameters:
        resume: has somebody go on with a run; False where that is to be tried again.
    """

    def __init__(self, store: SignalStore, clock: Clock, resume: Callable[[Ready], Awaitable[bool]]) -> None:
        self._store, self._clock, self._resume = store, clock, resume
        self._looker = Flusher("signalled runs", self.look, every_s=LOOK_S)

    def start(self) -> None:
        self._looker.start()

    async def close(self) -> None:
        await self._looker.close()

    async def send(self, tenant: str, run_id: str, name: str, payload: Any, by: str) -> Signal:
        """Send a run a signal, once; sent again with the same payload it is the same.

        Raises:
            NotFound: nothing of that id is kept for `tenant`.
            InvalidRequest: the run waits for no such signal, or the payload does not fit.
            ConflictError: the run has ended, or was sent another payload before.
        """
        known = await self._store.known(tenant, run_id)
        if known is None:
            raise unknown(run_id)
        _check(run_id, name, payload, known)
        signal: JsonObject = {"payload": payload, "at": self._clock.now(), "by": by}
        sent = await self._store.put(tenant, run_id, name, signal)
        if sent.outcome == "missing":
            raise unknown(run_id)
        if sent.outcome == "over":
            raise ConflictError(f"{run_id} has ended, and waits for nothing any more")
        held = sent.held
        if held["payload"] != payload:
            raise ConflictError(f"{run_id} was sent the signal {name!r} before, with another payload", param="name")
        if sent.digest:
            await self._go_on(await self._store.wake(Ready(tenant, run_id, sent.digest), f"{name} {secrets.token_hex(4)}"))
        return Signal(name, held["payload"], held["at"], held["by"])

    async def look(self) -> None:
        """Go on with runs that were sent a signal and that nobody has gone on with."""
        try:
            for signalled in await self._store.due():
                await self._go_on(signalled)
        except StateUnavailable:
            return

    async def _go_on(self, signalled: Signalled) -> None:
        """Have the run gone on with; while it is at work, that is tried again until it is paused, or over."""
        try:
            if await self._resume(signalled.ready):
                await self._store.gone_on(signalled)
        except StateUnavailable as error:
            _log.warning("a run goes on later", run_id=signalled.ready.run_id, reason=error.message)


def _check(run_id: str, name: str, payload: Any, known: dict[str, list[JsonObject]]) -> None:
    if name not in known:
        names = ", ".join(map(repr, sorted(known))) or "none"
        raise InvalidRequest(f"{run_id} waits for no signal {name!r}; it may wait for {names}", param="name")
    for schema in known[name]:
        fault = compiled(schema).first_fault(payload)
        if fault is not None:
            where = ".".join(("payload", *map(str, fault.path)))
            raise InvalidRequest(f"{where}: {fault.message}", param=where)
