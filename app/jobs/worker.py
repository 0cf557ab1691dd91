"""Doing what waits in the queue: claims as much as there is room for, renews the leases, and looks after dead workers."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from app.config.jobs import JobsConfig
from app.core.alarm import Alarm
from app.core.errors import StateUnavailable
from app.core.jobs import JobKind
from app.core.lifecycle import Draining
from app.observability import metrics
from app.state.jobs import LEASE_S, Bounds, Claimed, JobQueue

if TYPE_CHECKING:
    from app.jobs.announcing import Announcements

HEARTBEAT_S: Final = LEASE_S / 5
LOOK_S: Final = 1.0
"""How often a worker looks by itself while something waits: for what could not begin where it was announced."""
SWEEP_S: Final = 4.0
"""How often dead owners are looked for: with the lease before it, within 20 s of the death."""
BROKEN_S: Final = 10.0
"""Until a job is tried again that has broken the code that does it."""

_log = structlog.get_logger("quorum.jobs")


@dataclass(frozen=True, slots=True)
class Later:
    """A job is to be done later, after a while. `counts`: this was one of its attempts.
    `broke`: the code that does it failed; with `jobs.max_attempts` of those it is given up. `waits`: for others, not for its
    turn, so that it is not given up for that."""

    after_s: float = 0.0
    counts: bool = False
    broke: bool = False
    waits: bool = False


Work = Callable[[Claimed], Awaitable[Later | None]]
"""Does a job to its end, or says that somebody is to do it later. Cancelled where the job is somebody else's by now."""


Announce = Callable[[str, int], Awaitable[None]]
"""Tells workers of a job that was put into the queue, so many of them."""


class Worker:
    """Does the jobs of the queue in this process.

    Parameters:
        announcements: made when the first job is looked for: it loads a library.
        config: in force now; may be replaced.
        dedicated: the process is there for nothing else. Others work only while there is none of those.
    """

    def __init__(
        self,
        queue: JobQueue,
        announcements: Callable[[], Announcements],
        config: JobsConfig,
        draining: Draining,
        *,
        dedicated: bool,
    ) -> None:
        self.config = config
        self.owner = f"w_{secrets.token_hex(8)}"
        self._queue = queue
        self._make_announcements = announcements
        self._announcements: Announcements | None = None
        self.work: dict[JobKind, Work] = {}
        """What is done for each kind of job."""
        self._draining = draining
        self._dedicated = dedicated
        self._waiting = False
        self._wake = asyncio.Event()
        self._alarm = Alarm(self._wake)
        self._listening = False
        self._running: dict[asyncio.Task[None], Claimed] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._time_over = asyncio.Event()
        draining.at_end(self._time_over.set)

    async def start(self) -> None:
        if self._dedicated:  # from now on servers leave the work to it
            with contextlib.suppress(StateUnavailable):
                await self._renewed()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._keep(), name="job leases"),
            loop.create_task(self._claim_on(), name="jobs"),
            loop.create_task(self._sweep_on(), name="dead workers"),
        ]
        if self._dedicated:
            self._listen()

    async def close(self, within_s: float) -> None:
        """Take nothing more, let what runs end until `within_s` seconds after draining began, or draining ends, and leave the
        rest to others."""
        deadline = 0.0 if self._draining.begun_at is None else self._draining.begun_at + within_s
        claiming = self._tasks[1:]
        for task in claiming:
            task.cancel()
        await asyncio.gather(*claiming, return_exceptions=True)
        await self._leave()  # from now on servers do the work where this was the last worker
        if self._announcements is not None:  # what is left to others is for them to hear of
            await self._announcements.leave()
        await self._last_runs(deadline)
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, *self._stopped(), return_exceptions=True)
        if self._announcements is not None:
            await self._announcements.close()
        self._alarm.close()
        await self._leave()  # a renewal may have been under way

    async def _leave(self) -> None:
        if self._dedicated:
            with contextlib.suppress(StateUnavailable):
                await self._queue.leave(self.owner)

    async def _last_runs(self, deadline: float) -> None:
        async def ended() -> None:
            while self._running:
                await asyncio.wait(list(self._running))

        loop = asyncio.get_running_loop()
        waiting = [loop.create_task(ended()), loop.create_task(self._time_over.wait())]
        await asyncio.wait(waiting, timeout=max(0.0, deadline - time.monotonic()), return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    def _stopped(self) -> list[asyncio.Task[None]]:
        for task in self._tasks:
            task.cancel()
        return self._tasks

    async def announce(self, job_id: str, times: int = 1) -> None:
        """A job was put into the queue here."""
        self._waiting = True
        self._wake.set()
        await self._told().announce(job_id, times)

    def _told(self) -> Announcements:
        self._announcements = self._announcements or self._make_announcements()
        return self._announcements

    def _listen(self) -> None:
        if not self._listening:
            self._listening = True
            self._told().start(self._wake.set)

    # ---- claiming

    @property
    def _works(self) -> bool:
        """Whether jobs are for this process."""
        return not self._draining.begun and (self._dedicated or self.config.embedded)

    @property
    def _free(self) -> int:
        return self.config.concurrency - sum(job.granted for job in self._running.values())

    async def _claim_on(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S if self._waiting and self._free > 0 else SWEEP_S):
                    await self._wake.wait()
            self._wake.clear()
            if not self._works:
                continue
            try:
                await self._claim_all()
            except StateUnavailable:
                continue
            except Exception:  # the boundary: the next job must be claimed
                _log.exception("jobs could not be claimed")

    async def _claim_all(self) -> None:
        config = self.config
        bounds = Bounds(config.per_tenant, config.per_provider, config.max_wait_s)
        while self._free > 0:
            job = await self._queue.claim(self.owner, self._free, bounds, yields=not self._dedicated)
            if job is None:
                return
            self._listen()
            metrics.JOB_WAIT_SECONDS.labels(job.kind).observe(job.waited_s)
            task = asyncio.get_running_loop().create_task(self._do(job), name=f"job {job.id}")
            self._running[task] = job
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._wake.set()

    async def _do(self, job: Claimed) -> None:
        later: Later | None
        try:
            later = await self.work[job.kind](job)
        except asyncio.CancelledError:
            later = Later()
        except StateUnavailable:
            later = Later(LOOK_S)
        except Exception:  # the boundary: one job's fault is no other job's
            _log.exception("a job broke", job=job.id)
            later = Later(BROKEN_S, counts=True, broke=True)
        outcome = "done" if later is None else "later"
        try:
            if later is None:
                ours = await self._queue.done(self.owner, job)
            else:
                most = self.config.max_attempts if later.broke else 0
                anew = later.waits or (later.counts and not later.broke)
                ours = await self._queue.back(
                    self.owner, job, delay_s=later.after_s, counts=later.counts, most_faults=most, anew=anew
                )
        except StateUnavailable:  # its lease passes, and whoever has it then finds what is done
            ours = False
        metrics.JOBS.labels(job.kind, outcome if ours else "lost").inc()
        if ours and later is not None:
            if later.after_s:
                self._alarm.ring_in(later.after_s)
            else:
                await self._told().announce(job.id)

    # ---- leases

    async def _keep(self) -> None:
        while True:
            try:
                lost = await self._renewed()
            except StateUnavailable:
                lost = set[str]()
            except Exception:  # the boundary: leases must be renewed
                _log.exception("leases of jobs could not be renewed")
                lost = set[str]()
            for task, job in list(self._running.items()):
                if job.id in lost:
                    _log.warning("a job has gone to another process", job=job.id)
                    task.cancel()
            await asyncio.sleep(HEARTBEAT_S)

    async def _renewed(self) -> set[str]:
        held = list(self._running.values())
        if not held and not self._dedicated:
            return set()
        return await self._queue.renew(self.owner, held, worker=self._dedicated and not self._draining.begun)

    async def _sweep_on(self) -> None:
        while True:
            try:
                swept = await self._queue.sweep(self.config.max_attempts)
            except StateUnavailable:
                pass
            except Exception:  # the boundary: the next sweep must come
                _log.exception("jobs of dead processes could not be looked for")
            else:
                self._waiting = swept.waiting + swept.delayed > 0
                if swept.again:
                    _log.warning("jobs of dead processes wait again", jobs=swept.again, given_up=swept.given_up)
                    metrics.JOBS_RECLAIMED.inc(swept.again)
                for state, count in (("waiting", swept.waiting), ("delayed", swept.delayed), ("running", swept.running)):
                    metrics.QUEUE.labels(state).set(count)
                metrics.QUEUE_WORKERS.set(swept.workers)
                if self._waiting:
                    self._wake.set()
            await asyncio.sleep(SWEEP_S)
