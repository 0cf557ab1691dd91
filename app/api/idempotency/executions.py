"""All requests with an idempotency key that this process runs: their leases, their answers, and those of dead owners."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Literal

import structlog
from starlette.types import ASGIApp

from app.api.idempotency.execution import Execution, Lost
from app.api.idempotency.late import Late
from app.api.idempotency.request import KeyedRequest, unpacked
from app.config.spec import IdempotencyConfig
from app.core.alarm import Alarm
from app.core.clock import Clock
from app.core.errors import ConfigError, QuorumError, StateUnavailable
from app.core.lifecycle import AGAIN, LOGGED, UNREPEATABLE, Draining
from app.observability.metrics import TAKEOVERS
from app.orchestration.run import new_run_id
from app.state.idempotency import LEASE_S, Asked, Begun, Busy, IdempotencyRecords, Outcome, RequestId, Told, Write
from app.state.secrets import Sealer

FLUSH_S: Final = 0.05
"""Pieces of streams wait for so long at most before they are stored, together with those of all others."""
HEARTBEAT_S: Final = LEASE_S / 3
SWEEP_S: Final = 4.0
"""How often one looks for requests whose owner is dead: with the lease before it, within 20 s of the death."""
_MOST_TAKEN: Final = 64
_AWAY_S: Final = 0.5
"""How often a Redis that was away is told what is late."""
_STOPPED_S: Final = 2.0

_log = structlog.get_logger("quorum.idempotency")


class Executions:
    """What a process runs under idempotency keys.

    Parameters:
        records: what is stored of requests.
        sealer: requests are stored encrypted, since another process may have to run them.
        close: ends a run that is paused and can never go on. Whether there was one.
        held: whether the run of a request is under way here, though nobody asks for it under a key.
    """

    def __init__(
        self,
        records: IdempotencyRecords,
        sealer: Sealer,
        clock: Clock,
        config: IdempotencyConfig,
        close: Callable[[KeyedRequest, str, QuorumError], Awaitable[bool]],
        held: Callable[[RequestId], bool],
        alarm: Alarm,
    ) -> None:
        self._alarm = alarm
        self._held = held
        self._close = close
        self.records = records
        self.config = config
        self.clock = clock
        self._sealer = sealer
        self._running: dict[RequestId, Execution] = {}
        self._late = Late()
        self._needless: set[RequestId] = set()
        self._wake = asyncio.Event()
        self._app: ASGIApp | None = None
        self._root: object = None
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving = False

    def serve(self, app: ASGIApp, root: object) -> None:
        """Requests are run by `app`, which is a part of the application `root`."""
        self._app, self._root = app, root

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep(), name="keyed requests"), loop.create_task(self._sweep(), name="takeovers")]

    def leave(self) -> None:
        """Stop what runs, so that other processes go on with it; `close` tells them."""
        self._leaving = True
        for execution in self._running.values():
            execution.stop(released=True)

    async def close(self, draining: Draining, within_s: float) -> None:
        """Let requests end until `within_s` seconds after draining began, and leave the others to other processes."""
        deadline = 0.0 if draining.begun_at is None else draining.begun_at + within_s
        sweep = self._tasks.pop() if self._tasks else None
        if sweep:
            sweep.cancel()
        await _ended(list(self._running.values()), deadline - time.monotonic())
        self.leave()
        left = [execution for execution in self._running.values() if execution.released]
        await _ended(left, _STOPPED_S)
        with contextlib.suppress(StateUnavailable):
            if left:
                await self._tell(left)
            await self._tell_late()
        for task in (*self._tasks, *([sweep] if sweep else [])):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._alarm.close()

    async def resume(self, request: RequestId) -> Literal["due", "busy", "over"]:
        """Go on with a request whose run is paused: here, or elsewhere where this process stops.

        Raises:
            StateUnavailable: Redis is away.
        """
        told = await self.records.resume(request)
        if told == "due" and not self._leaving:
            await self._take(request)
        return told

    async def begin(self, request: KeyedRequest) -> Outcome:
        """Begin `request`, or learn what has become of it. What has begun is to be given to `run`.

        What runs here needs no store for that; of what has ended here the store is told before it is asked.

        Raises:
            StateUnavailable: Redis is away, so that nobody knows whether it runs.
        """
        running = self._running.get(request.id)
        if running is not None and not running.lost:
            return Busy(LEASE_S) if running.request.fingerprint == request.fingerprint else "other"
        await self._late.tell_end(request.id, self._tell_end)
        operation = secrets.token_hex(8)
        asked = self._asked(request, new_run_id())
        try:
            outcome = await self.records.begin(request.id, operation=operation, keep_s=self.config.keep_s, asked=asked)
        except StateUnavailable:  # it may have begun all the same, and nobody is to go on with what was refused
            self._late.dropped(Write(request.id, operation, 1, self.config.keep_s, end="drop"))
            self._wake.set()
            raise
        if not isinstance(outcome, Begun) and request.id not in self._running:
            self._needless.add(request.id)
        return outcome

    def run(self, request: KeyedRequest, begun: Begun) -> Execution:
        """Run what has begun."""
        if self._app is None:
            raise RuntimeError("nothing serves the requests")
        if begun.epoch > 1:
            TAKEOVERS.inc()
            _log.info("a request is taken over", run_id=begun.run_id, epoch=begun.epoch)
        execution = Execution(
            request,
            begun,
            keep_s=self.config.keep_s,
            most_bytes=self.config.max_answer_bytes,
            clock=self.clock,
            finish=self._finished,
            notify=self._wake.set,
        )
        self._running[request.id] = execution
        execution.start(self._app, request.scope(self._root, self.clock.now()))
        return execution

    def find(self, request: RequestId) -> Execution | None:
        """The execution of `request`, where it runs here."""
        return self._running.get(request)

    async def _finished(self, execution: Execution) -> None:
        """Store the end. While Redis is away it is stored later, and the answer given all the same."""
        try:
            if LOGGED in execution.scope:  # else nobody would go on with the run if this process died in between
                await execution.scope[LOGGED]()
            await self._close_refused(execution)
            if await self._tell_end(execution) == "lost":
                raise Lost
        except StateUnavailable:
            self._late.ended(execution)
            self._wake.set()
        finally:
            self._gone(execution)

    async def _close_refused(self, execution: Execution) -> None:
        """End the paused run of `execution` where that can never go on."""
        refusal = execution.refusal
        if refusal is None:
            return
        try:
            closed = await self._close(execution.request, execution.ticket.run_id, refusal)
        except StateUnavailable:
            execution.scope[AGAIN] = True  # else nobody would find it again
            raise
        if closed:
            execution.scope[UNREPEATABLE] = True  # that was the end of it: the request does not begin another

    def _gone(self, execution: Execution) -> None:
        if self._running.get(execution.request.id) is execution:
            del self._running[execution.request.id]

    # ---- leases and pieces

    async def _keep(self) -> None:
        told = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AWAY_S if self._late else HEARTBEAT_S / 2):
                    await self._wake.wait()
                    await asyncio.sleep(FLUSH_S)
            self._wake.clear()
            heartbeat = time.monotonic() - told >= HEARTBEAT_S
            try:
                await self._store([e for e in self._running.values() if heartbeat or e.due])
                await self._tell_late()
                if heartbeat:
                    told = time.monotonic()
                    await self._forget_needless()
            except StateUnavailable:
                pass
            except Exception:  # the boundary: leases must be renewed
                _log.exception("leases could not be renewed")

    async def _store(self, executions: list[Execution]) -> None:
        for execution, told in zip(executions, await self._tell(executions), strict=True):
            if told == "lost" and not execution.over:
                _log.warning("a request has gone to another process", run_id=execution.ticket.run_id)
                execution.stop(released=False)
                self._gone(execution)

    async def _tell(self, executions: list[Execution], *, last: bool = False) -> list[Told]:
        """Tell the store what it lacks of `executions`: all, where it was emptied."""
        if not executions:
            return []
        writes = [execution.next_write(last=last) for execution in executions]
        told = await self.records.write(writes)
        missing = [place for place, outcome in enumerate(told) if outcome == "missing"]
        if missing:
            _log.warning("the store has lost requests under way; they are recorded again", requests=len(missing))
            for place in missing:
                execution = executions[place]
                asked = self._asked(execution.request, execution.ticket.run_id)
                writes[place] = execution.next_write(last=last, again=asked)
            again = await self.records.write([writes[place] for place in missing])
            for place, outcome in zip(missing, again, strict=True):
                told[place] = outcome
        for execution, write, outcome in zip(executions, writes, told, strict=True):
            if outcome == "ok":
                execution.written(write)
                if write.end == "pause":
                    self._alarm.ring_in(write.wait_s)
        return told

    async def _tell_end(self, execution: Execution) -> Told:
        [told] = await self._tell([execution], last=True)
        return told

    async def _tell_late(self) -> None:
        await self._late.tell(self._tell_end, self.records.write)

    def _asked(self, request: KeyedRequest, run_id: str) -> Asked:
        return Asked(request.fingerprint, self._sealer.seal(request.packed(), owner=request.id.member), run_id)

    async def _forget_needless(self) -> None:
        """Leases that were noted for requests that have their answer."""
        needless, self._needless = self._needless - self._running.keys(), set()
        done = [request for request in needless if (await self.records.standing(request))[0] != "running"]
        if done:
            await self.records.forget_leases(done)

    # ---- dead owners

    async def _sweep(self) -> None:
        while True:
            await self._alarm.wait(SWEEP_S)
            try:
                for request in await self.records.due(_MOST_TAKEN):
                    if not (request in self._running or request in self._late.ends or self._held(request)):
                        await self._take(request)
            except StateUnavailable:
                pass
            except Exception:  # the boundary: the next sweep must come
                _log.exception("requests of dead processes could not be taken over")

    async def _take(self, request: RequestId) -> None:
        """Go on with a request whose owner is dead."""
        operation = secrets.token_hex(8)
        found = await self.records.begin(request, operation=operation, keep_s=self.config.keep_s)
        if isinstance(found, Busy):
            await self.records.look_later(request, found.left_s)
            return
        if not isinstance(found, Begun):
            await self.records.forget_leases([request])
            return
        try:
            keyed = unpacked(request, self._sealer.open(found.request, owner=request.member))
        except ConfigError as error:
            _log.error("a request cannot be taken over", run_id=found.run_id, reason=error.message)
            await self.records.write([Write(request, operation, found.epoch, self.config.keep_s, end="drop")])
            return
        if keyed.deadline is not None:  # which does not run while nobody could do anything
            keyed = replace(keyed, deadline=keyed.deadline + found.waited_s)
        self.run(keyed, found)


async def _ended(executions: list[Execution], within_s: float) -> None:
    """Wait until all have ended, `within_s` seconds at most."""
    tasks = [execution.task for execution in executions if execution.task is not None]
    if tasks:
        await asyncio.wait(tasks, timeout=max(0.0, within_s))
