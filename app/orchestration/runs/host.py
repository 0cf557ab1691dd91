"""All hosted runs of a process, and the one task that writes their events to the log."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Final

import structlog

from app.config.spec import RunsConfig
from app.core.errors import StateUnavailable
from app.core.lifecycle import Draining
from app.observability.metrics import HOSTED_RUNS, LOG_APPEND_SECONDS, LOG_DROPPED_EVENTS
from app.orchestration.run import Run
from app.orchestration.runs.hosted import HostedRun, Pausing
from app.orchestration.runs.run_log import OnDisconnect
from app.orchestration.runs.taking import UNLOGGED, Taken, finished_work, read_paused
from app.orchestration.stopping import Stop
from app.state.run_orders import RunOrders
from app.state.run_records import LEASE_S, RunRecords
from app.state.step_records import StepRecords

FLUSH_S: Final = 0.05
"""Events wait for so long at most before they are written, together with those of all other runs."""
HEARTBEAT_S: Final = 1.0
"""How often an owner writes although nothing happens: renews its lease and learns what others want."""
_AWAY_S: Final = 0.5
_FORGET_S: Final = LEASE_S
"""How long the end of a run is held for a Redis that is away: afterwards the run counts as its owner's loss there."""
_AT_ONCE: Final = 64
_BEGIN_S: Final = 0.25
_TOLD_S: Final = 2.0

_log = structlog.get_logger("quorum.run")


class RunHost:
    """Runs that belong to this process instead of to a request.

    `begin` starts one; it goes on whoever reads. Its events reach the log within `FLUSH_S`, written by one task for all runs.
    While Redis is away runs and their readers here go on: events are held up to the configured bound, then the oldest are
    dropped, and readers elsewhere get a `resync` in their place.

    The lease (`LEASE_S`) is renewed every `HEARTBEAT_S`. Once it has passed, the run may be ended by anybody (`run_lose.lua`),
    or taken over by who has the right to it (`take`), which counts the epoch up; from then on every write of ours is
    refused, and the run here is stopped without an end of its own (`HostedRun.lost`); its readers go on from the log.
    """

    def __init__(self, records: RunRecords, orders: RunOrders, config: RunsConfig, steps: StepRecords | None = None) -> None:
        self._steps = steps
        self.owner = f"w_{secrets.token_hex(8)}"
        self._records = records
        self._orders = orders
        self._config = config
        self._runs: dict[str, HostedRun] = {}
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._away_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    def configure(self, config: RunsConfig) -> None:
        """For runs that begin later."""
        self._config = config

    @property
    def config(self) -> RunsConfig:
        return self._config

    async def start(self) -> None:
        await self._orders.start(self.owner, self._ordered)
        self._task = asyncio.create_task(self._write_on(), name="run log")

    async def take(self, run: Run, digest: str) -> Taken | None:
        """Make `run` the one of that id that waits in the queue, or the continuation of the one that another process has lost,
        or that is paused: what its log shows finished is not asked again. None where the log has nothing of it. `digest` is
        that of the request that has it.

        Raises:
            StateUnavailable: Redis is away.
        """
        tenant, config = run.request.tenant, self._config
        whose = (tenant, run.id, self.owner)
        seen = None if run.context.conversation is None else run.context.conversation.seen
        found = await self._records.take(whose, digest, keep_s=config.keep_s, events_keep_s=config.events_keep_s, seen=seen)
        if found is None:
            return None
        if found.epoch == 1:
            return Taken(1, 0)
        before = read_paused(found.before)
        run.context.recall(*await finished_work(self._records, tenant, run.id, before))
        return Taken(found.epoch, found.last_seq + (0 if found.paused else UNLOGGED), found.paused, found.cancelled)

    async def begin(
        self,
        run: Run,
        *,
        on_disconnect: OnDisconnect = "cancel",
        resumable: str = "",
        taken: Taken | None = None,
        pausing: Pausing | None = None,
    ) -> HostedRun:
        """Start a run; it is known to the log when this returns, unless Redis is away (which costs 250 ms once).

        Parameters:
            resumable: where somebody goes on with it when this process dies: the digest of the request that has it.
            taken: where it was taken over.
            pausing: awaited where the run pauses, before its log says so; what it gives, after that.
        """
        hosted = HostedRun(
            run,
            self._config,
            owner=self.owner,
            notify=self._wake.set,
            on_disconnect=on_disconnect,
            resumable=resumable,
            epoch=taken.epoch if taken else 1,
            after=taken.after if taken else 0,
            goes_on=taken is not None and taken.paused,
            pausing=pausing,
        )
        old = self._runs.get(run.id)
        if old is not None:  # it was paused here a moment ago
            HOSTED_RUNS.dec()
            if not old.log.settled:  # or was about to be
                old.cancel("lost")
        if resumable and run.strategy.keeps_steps and self._steps is not None:
            hosting, stop = run.context.hosting, Stop()
            hosting.steps, hosting.stop = self._steps.of(hosted.whose, self._config.keep_s), stop
            if hosting.withdrawn is not None:
                stop.ask(hosting.withdrawn)
            if taken is not None and taken.cancelled:
                hosted.cancel("request")
        self._runs[run.id] = hosted
        HOSTED_RUNS.inc()
        self._wake.set()
        self._urgent.set()
        if self._away_since is None:
            try:
                async with asyncio.timeout(_BEGIN_S):
                    await hosted.log.recorded.wait()
            except TimeoutError:
                _log.warning("a run begins without its log", run_id=run.id)
        return hosted

    async def written(self, hosted: HostedRun) -> None:
        """Until the log has all of a run that is over, or never will have."""
        while not hosted.log.settled:
            self._wake.set()
            await asyncio.sleep(FLUSH_S)

    async def told(self, hosted: HostedRun) -> None:
        """Wait until the log has the end of a run that is over; where it does not take it, a moment at most."""
        until = asyncio.get_running_loop().time() + _TOLD_S
        while not hosted.log.settled and self._away_since is None and asyncio.get_running_loop().time() < until:
            self._wake.set()
            self._urgent.set()
            await _set_within(hosted.log.written, FLUSH_S)

    def find(self, tenant: str, run_id: str) -> HostedRun | None:
        """The run, if it is hosted here: not one that was paused, and handed over."""
        hosted = self._runs.get(run_id)
        return hosted if hosted and hosted.whose.tenant == tenant and not hosted.handed_over else None

    def _ordered(self, tenant: str, run_id: str) -> None:
        hosted = self.find(tenant, run_id)
        if hosted:
            hosted.cancel("request")

    def leave(self) -> None:
        """End what runs, or release it where another process goes on with it."""
        for hosted in list(self._runs.values()):
            hosted.cancel("released" if hosted.resumable else "draining")

    async def close(self, draining: Draining, within_s: float) -> None:
        """Let runs end until `within_s` seconds after draining began, `leave` the others, and write what the log lacks."""
        deadline = 0.0 if draining.begun_at is None else draining.begun_at + within_s
        overs = [asyncio.ensure_future(hosted.over.wait()) for hosted in self._runs.values()]
        if overs:
            await asyncio.wait(overs, timeout=max(0.0, deadline - time.monotonic()))
            self.leave()
            await asyncio.wait(overs, timeout=2)
            for over in overs:
                over.cancel()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for _ in range(20):
            if not await self.flush() or self._away_since is not None:
                break
        await self._orders.close()

    async def _write_on(self) -> None:
        while True:
            await self._pause()
            try:
                await self.flush()
            except Exception:  # the boundary: the next flush must come
                _log.exception("the run log could not be written")

    async def _pause(self) -> None:
        """Until something is to be written: at once for a new run, soon for events, in a while for leases."""
        if not self._runs:
            await self._wake.wait()
        wait_s = FLUSH_S if self._away_since is None else _AWAY_S
        if not self._wake.is_set() and not self._urgent.is_set():
            await _set_within(self._wake, HEARTBEAT_S)
        if self._away_since is not None:
            await asyncio.sleep(wait_s)
        else:
            await _set_within(self._urgent, wait_s)
        self._wake.clear()
        self._urgent.clear()

    async def flush(self) -> bool:
        """Write what is due. False when nothing was."""
        now = asyncio.get_running_loop().time()
        due = [hosted for hosted in self._runs.values() if hosted.due(now, HEARTBEAT_S)]
        try:
            for start in range(0, len(due), _AT_ONCE):
                await self._write_each(due[start : start + _AT_ONCE])
        except StateUnavailable as error:
            if self._away_since is None:
                self._away_since = now
                _log.warning("the run log is away, runs go on without it", reason=error.message)
        else:
            if due and self._away_since is not None:
                _log.info("the run log is back", seconds=round(now - self._away_since, 1))
            self._away_since = None if due else self._away_since
        self._forget(now)
        return bool(due)

    async def _write_each(self, runs: list[HostedRun]) -> None:
        """Write `runs`, without the one that cannot be, whatever is wrong with it."""
        try:
            await self._write(runs)
        except StateUnavailable:
            raise
        except Exception as fault:  # the boundary: one run's fault is no other run's
            if len(runs) == 1:
                _log.exception("a run cannot be written to the log", run_id=runs[0].run.id)
                runs[0].unwritable(fault)
                return
            for hosted in runs:
                await self._write_each([hosted])

    async def _write(self, runs: list[HostedRun]) -> None:
        for hosted in runs:
            if not hosted.log.recorded.is_set():  # first: what is listed and not there is left out, but not the other way round
                await self._records.enter(hosted.whose.tenant, hosted.run.id, hosted.created_us, hosted.config.keep_s)
        appends = [hosted.next_append() for hosted in runs]
        dropped = {hosted: hosted.window.lost for hosted in runs if hosted.window.lost}
        began = time.perf_counter()
        replies = await self._records.append(appends)
        LOG_APPEND_SECONDS.observe(time.perf_counter() - began)
        for hosted, append, reply in zip(runs, appends, replies, strict=True):
            if reply is None:
                _log.error("Redis refused the events of a run", run_id=hosted.run.id)
                hosted.log.renewed = asyncio.get_running_loop().time()
                continue
            hosted.appended(append, reply)
            if hosted in dropped and not hosted.window.lost:
                LOG_DROPPED_EVENTS.inc(dropped[hosted])
            if hosted.due(hosted.log.renewed, HEARTBEAT_S):
                self._wake.set()

    def _forget(self, now: float) -> None:
        """Let go of runs that are over and written, or that Redis was away for too long for."""
        for run_id, hosted in list(self._runs.items()):
            away = self._away_since is not None and now - self._away_since > _FORGET_S
            if hosted.over.is_set() and (hosted.log.settled or away):
                if not hosted.log.settled:
                    LOG_DROPPED_EVENTS.inc(hosted.window.last - hosted.window.stored + hosted.window.lost)
                    hosted.log.settled = True
                del self._runs[run_id]
                HOSTED_RUNS.dec()


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
