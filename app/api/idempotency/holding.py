"""Runs whose requests came without a key, and that somebody is to go on with: because they are paused, or because they keep
their steps, so that another process may take them over when this one dies."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Literal

import structlog

from app.api.idempotency.request import KeyedRequest
from app.config.spec import IdempotencyConfig
from app.core.alarm import Alarm
from app.core.clock import Clock
from app.core.errors import StateUnavailable
from app.core.lifecycle import Pause
from app.orchestration.runs.hosted import Handing
from app.state.flusher import Flusher
from app.state.idempotency import LEASE_S, Asked, Begun, IdempotencyRecords, RequestId, Write
from app.state.secrets import Sealer

RENEW_S: Final = LEASE_S / 5
"""How often leases are renewed, and those forgotten whose runs are over."""

Kept = Literal["not yet", "yes", "never"]
"""Whether the log has the end of a run."""

_log = structlog.get_logger("quorum.idempotency")


class Hold:
    """A run that is held: from now on whoever finds that this process is dead goes on with it."""

    def __init__(self, holds: Holds, request: KeyedRequest, begun: Begun | None) -> None:
        self.request = request
        self.begun = begun
        self._holds = holds
        self._kept: Callable[[], Kept] = lambda: "not yet"
        self._pausing = False

    def until(self, kept: Callable[[], Kept]) -> None:
        """Hold it until its end is `kept`, or never will be by this process."""
        self._kept = kept

    def leave(self) -> None:
        """Nothing of it was begun, or it is over."""
        self._kept = lambda: "yes"

    @property
    def kept(self) -> Kept:
        return "not yet" if self._pausing else self._kept()

    async def pausing(self, pause: Pause) -> Handing:
        """The run is about to pause; what is returned is awaited once its log says so, and then nobody has it."""
        self._pausing = True
        return partial(self._holds.pause, self, pause)


class Holds:
    """All runs that a process holds.

    Parameters:
        config: in force now; may be replaced.
        alarm: rings when one of those that wait is to go on at the latest.
    """

    def __init__(
        self, records: IdempotencyRecords, sealer: Sealer, clock: Clock, config: IdempotencyConfig, alarm: Alarm
    ) -> None:
        self.config = config
        self._clock = clock
        self._alarm = alarm
        self._records, self._sealer = records, sealer
        self._held: dict[RequestId, Hold] = {}
        self._flusher = Flusher("held runs", self._renew, every_s=RENEW_S)

    def start(self) -> None:
        self._flusher.start()

    async def close(self) -> None:
        """Let others go on with what is not over. The runs of this process have ended, or are let go of."""
        await self._flusher.close()
        left = list(self._held.values())
        try:
            if left:
                await self._records.write([self._write(hold, release=True) for hold in left])
        except StateUnavailable as error:
            _log.warning("runs are left to others once their leases have passed", runs=len(left), reason=error.message)

    async def begin(self, request: KeyedRequest, run_id: str) -> Hold:
        """Hold the run of `request`. May be said again.

        Raises:
            StateUnavailable: Redis is away.
        """
        hold = await self._begun(request, run_id)
        if hold.begun is not None:
            self._held[request.id] = hold
        return hold

    async def _begun(self, request: KeyedRequest, run_id: str) -> Hold:
        asked = self._asked(request, run_id)
        operation = secrets.token_hex(8)
        found = await self._records.begin(request.id, operation=operation, keep_s=self.config.keep_s, asked=asked)
        # else it was begun before a reply was lost, and whoever sweeps goes on with it, or pauses it again
        return Hold(self, request, found if isinstance(found, Begun) else None)

    async def hold(self, request: KeyedRequest, pause: Pause) -> Handing:
        """As `begin` and `Hold.pausing` at once, of a run that nobody was to go on with before it paused."""
        return await (await self._begun(request, pause.run_id)).pausing(pause)

    def has(self, request: RequestId) -> bool:
        """Whether its run is held here."""
        return request in self._held

    async def pause(self, hold: Hold, pause: Pause) -> None:
        """Nobody has the run until it is to go on. May be said again.

        Raises:
            StateUnavailable: Redis is away.
        """
        if hold.begun is not None:
            wait_s = max(0.0, pause.expires_at - self._clock.now())
            await self._records.write([self._write(hold, wait_s=wait_s)])
            self._alarm.ring_in(wait_s)
            self._forget([hold])

    async def _renew(self) -> None:
        self._forget([hold for hold in self._held.values() if hold.kept == "never"])
        over = [hold for hold in self._held.values() if hold.kept == "yes"]
        going = [hold for hold in self._held.values() if hold.kept == "not yet"]
        holds = [*over, *going]
        if not holds:
            return
        writes = [*(self._write(hold, drop=True) for hold in over), *(self._write(hold) for hold in going)]
        try:
            told = await self._records.write(writes)
            missing = [hold for hold, outcome in zip(holds, told, strict=True) if outcome == "missing"]
            if missing:
                _log.warning("the store has lost runs under way; they are recorded again", runs=len(missing))
                await self._records.write([self._write(hold, again=True) for hold in missing])
        except StateUnavailable:
            return
        gone = [hold for hold, outcome in zip(holds, told, strict=True) if outcome == "lost"]
        self._forget([*over, *gone])

    def _forget(self, holds: Iterable[Hold]) -> None:
        for hold in holds:
            if self._held.get(hold.request.id) is hold:
                del self._held[hold.request.id]

    def _write(
        self, hold: Hold, *, wait_s: float | None = None, drop: bool = False, release: bool = False, again: bool = False
    ) -> Write:
        begun = hold.begun
        assert begun is not None  # noqa: S101 - only those are held that were begun
        return Write(
            hold.request.id,
            begun.operation,
            begun.epoch,
            self.config.keep_s,
            end="drop" if drop else "" if wait_s is None else "pause",
            wait_s=wait_s or 0.0,
            release=release,
            again=self._asked(hold.request, begun.run_id) if again else None,
        )

    def _asked(self, request: KeyedRequest, run_id: str) -> Asked:
        return Asked(request.fingerprint, self._sealer.seal(request.packed(), owner=request.id.member), run_id)
