"""One run that belongs to a process: its events are numbered and kept, whoever reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Final, Literal, TypeVar

import structlog

from app.config.spec import RunsConfig
from app.core.errors import OrchestratorError, StateUnavailable, report
from app.core.lifecycle import stopping
from app.core.run_events import (
    RunEvent,
    RunFailed,
    RunFinished,
    RunPaused,
    RunRestarted,
    RunResumed,
    Warning,
)
from app.core.run_fold import RunFold
from app.core.run_json import LoggedEvent, json_bytes, logged
from app.core.runs import OrchestrationOutput, Timing
from app.core.streams import close
from app.orchestration.run import Run
from app.orchestration.runs.readers import Readers
from app.orchestration.runs.run_log import OnDisconnect, RunLog, record_of, resync_event
from app.orchestration.runs.speaking import Speaking
from app.orchestration.runs.window import EventWindow
from app.state.run_records import Append, Appended, Ownership, Snapshot

_AGAIN_S: Final = 0.5

Handing = Callable[[], Awaitable[None]]
Pausing = Callable[[RunPaused, int], Awaitable[Handing]]
"""Has somebody go on with a paused run later; told the event that pauses it, and its number. From then on whoever finds that
this process is dead goes on with it; what it gives is awaited once the log says that nobody has the run. Both raise
`StateUnavailable`."""

T = TypeVar("T")
Why = Literal["request", "unread", "draining", "lost", "released"]

_log = structlog.get_logger("quorum.run")


class HostedRun:
    """A run in a task of its own.

    Its end is one of: what the strategy made of it; `run.finished` with the status `cancelled`; `run.failed` with the code
    `draining`, or `internal_error` where something of it cannot be written down; or none at all here, where the process has
    lost it to another (`lost`), whose log then has the end, or where it is `paused`, so that none has it.

    Parameters:
        run: what to run. Nothing of it has begun.
        config: bounds and times; those of the moment when it began hold for all of it.
        on_disconnect: `cancel` ends it when no reader was there for the grace period, `continue` does not.
        resumable: where somebody goes on with it when this process dies or lets go of it,
            the digest of the request that has it.
        epoch: the number of this ownership: 1 for a new run, more for one taken over from a dead process.
        after: the number that its events follow, where it was taken over.
        goes_on: whether it was taken over from nobody: it was paused.
        pausing: awaited where it pauses, before its log says so; what it gives, after that. Then it is over here.
        notify: called, in the event loop, when the log lacks something.
    """

    def __init__(
        self,
        run: Run,
        config: RunsConfig,
        *,
        owner: str,
        notify: Callable[[], None],
        on_disconnect: OnDisconnect = "cancel",
        resumable: str = "",
        epoch: int = 1,
        after: int = 0,
        goes_on: bool = False,
        pausing: Pausing | None = None,
    ) -> None:
        self.run = run
        self.config = config
        self.whose = Ownership(run.request.tenant, run.id, owner, epoch)
        self.window = EventWindow(config.max_events, config.max_event_bytes, after)
        self.over = asyncio.Event()
        """Set with its last event, or when it is lost."""
        self.lost = False
        self.created_us = int(run.context.clock.now() * 1_000_000)
        self.resumable = resumable
        self._after = after
        self._goes_on = goes_on
        self._pausing = pausing
        self._notify = notify
        self._loop = asyncio.get_running_loop()
        self._began = run.context.clock.monotonic()
        self._fold = RunFold(run.id)
        self._speaking = Speaking()
        self._end: RunFinished | RunFailed | RunPaused | None = None
        self._handed = False
        self._why: Why | None = None
        self._fault: BaseException | None = None
        grace_s = config.on_disconnect_grace_s if on_disconnect == "cancel" else None
        self._readers = Readers(self.over, grace_s, partial(self.cancel, "unread"))
        self.log = RunLog(
            self.whose,
            config,
            run.context.clock,
            self.window,
            record=record_of(run, self.created_us, on_disconnect, resumable),
            state=self._now,
        )
        self._task = self._loop.create_task(self._pump(), name=f"run {run.id}")
        self._task.add_done_callback(self._ended)

    # ---- running

    async def _pump(self) -> None:
        if self._goes_on:
            self._take(RunResumed("what it waited for is decided, or has expired"))
        if self.whose.epoch > 1:
            self._take(RunRestarted(self.whose.epoch))
        if self.run.context.hosting.steps is not None:  # nothing is done that nobody could go on with
            await self.log.recorded.wait()
        source = self.run.events()
        try:
            async for event in source:
                self._take(event)
        finally:
            await close(source)
        if isinstance(self._end, RunPaused):
            await self._hand_over(self._end)

    async def _hand_over(self, paused: RunPaused) -> None:
        """Once the log says that it is paused, it belongs to nobody. Before that the store knows who is to go on with it, so
        that it is never left behind."""
        handing = None
        if self._pausing is not None:
            handing = await self._insisted(partial(self._pausing, paused, self.window.last))
        self._handed = True
        self._notify()
        await self.log.written.wait()
        if handing is not None:
            await self._insisted(handing)

    async def _insisted(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except StateUnavailable as error:
                _log.warning("a paused run waits for the store", run_id=self.run.id, reason=error.message)
                await asyncio.sleep(_AGAIN_S)

    @property
    def paused(self) -> bool:
        """Whether it goes on some time, from its log, here or elsewhere."""
        return isinstance(self._end, RunPaused)

    @property
    def kept(self) -> Literal["not yet", "yes", "never"]:
        """Whether the log has its end, or that it is paused."""
        if self.log.written.is_set() or self._fault is not None:
            return "yes"
        return "never" if self.log.settled else "not yet"

    @property
    def handed_over(self) -> bool:
        """Whether it is paused and belongs to nobody any more."""
        return self.paused and self.over.is_set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The last event where the run itself did not come to it."""
        error = self._fault if task.cancelled() else task.exception()
        if self._end is None and not self.lost:
            if error is not None:
                _log.error("a hosted run broke", run_id=self.run.id, exc_info=error)
            try:
                self._take_end(error)
            except Exception as fault:  # the boundary: what is known of it cannot be told, and it must end
                _log.exception("the end of a run cannot be told", run_id=self.run.id)
                self._fold = RunFold(self.run.id)
                self._speaking = Speaking()
                self._take(self._own_end(fault))
        self.over.set()
        self._readers.wake()
        self._readers.close()
        self._notify()

    def _take_end(self, error: BaseException | None) -> None:
        for event in self.run.context.book.unheard(self._fold):
            self._take(event)
        if self.run.context.hosting.stop is None:
            self._note_unread()
        self._take(self._own_end(error))

    def _note_unread(self) -> None:
        if self._why == "unread":
            grace = self.config.on_disconnect_grace_s
            self._take(Warning(f"cancelled: nobody had read its events for {grace:g} s (on_disconnect)"))

    def _own_end(self, error: BaseException | None) -> RunFinished | RunFailed:
        timing = Timing((self.run.context.clock.monotonic() - self._began) * 1000)
        if error is not None:
            return RunFailed(report(error), timing=timing)
        if self._why in ("request", "unread"):
            return RunFinished("cancelled", endings=(), timing=timing)
        return RunFailed(report(stopping()), timing=timing)

    def _take(self, event: RunEvent) -> None:
        if isinstance(event, (RunFinished, RunFailed)):
            self._fold.add(event)
            if event.result is None:
                event = replace(event, result=self.result())
            entry = logged(event, self.run.id, self.window.last + 1)
            self._end = event  # only now that it can be told: else it needs another end
        else:
            entry = logged(event, self.run.id, self.window.last + 1)
            self._fold.add(event)
            if isinstance(event, RunPaused):
                self._end = event
        self._speaking.take(event)
        self.log.add(entry)
        self._readers.wake()
        self._notify()

    def result(self) -> OrchestrationOutput:
        """What has come of it so far; of candidates that still speak, what they have said."""
        return self._speaking.shown_in(self._fold.result())

    async def awaited(self) -> None:
        """Until it is over, or paused. Where its caller is cancelled meanwhile, it is left to another process."""
        try:
            await self.over.wait()
        except BaseException:
            self.cancel("released")
            raise

    def cancel(self, why: Why) -> None:
        """End it. Harmless where it has ended, or is about to. A run that ends itself is only asked to."""
        stop = self.run.context.hosting.stop
        if stop is not None and why in ("request", "unread"):
            if self._end is None and self._why is None:
                self._why = why
                self._note_unread()
                stop.ask()
        elif self._end is None and (self._why is None or stop is not None):
            self._why = why
            if why in ("lost", "released"):
                self.lost = True
            self._task.cancel()
        elif why == "lost" and self.paused:  # somebody else pauses it, or goes on with it already
            self.lost = True
            self._task.cancel()

    def unwritable(self, fault: Exception) -> None:
        """The log cannot take it, and never will. It ends as failed for its readers here; elsewhere it counts as lost."""
        self._fault = fault
        self.log.settled = True
        if self._end is None:
            self._task.cancel()

    # ---- readers

    async def ended(self) -> OrchestrationOutput:
        """The result, once it is there.

        Raises:
            OrchestratorError: with the code `owner_lost`, where the run has gone to another process.
        """
        await self.over.wait()
        if self.lost:
            raise OrchestratorError("the run has gone to another process; ask again", code="owner_lost")
        return self.result()

    async def happening(self) -> AsyncGenerator[RunEvent]:
        """The events themselves, for a reader in this process that keeps up with them."""
        async with aclosing(self.read(self._after)) as events:
            async for logged_event in events:
                if isinstance(logged_event.event, RunPaused):
                    await self.over.wait()  # nobody is told before it is kept
                if logged_event.event is not None:
                    yield logged_event.event

    async def read(self, after: int) -> AsyncGenerator[LoggedEvent]:
        """The events that follow number `after`, as they come; the last one in any case, where `after` is beyond it.

        Ends with the run, or when they are not held here any more.
        """
        window = self.window
        with self._readers.reading():
            while not self.lost and window.holds(after):
                events = window.since(after)
                for event in events:
                    yield event
                    after = event.seq
                if not events:
                    if self.over.is_set():
                        for event in window.since(window.last - 1) if after > window.last else ():
                            yield event
                        return
                    await self._readers.more()

    def resync(self) -> LoggedEvent:
        """What a reader needs to go on after the newest event, whatever it has missed."""
        snapshot = self._now()
        return resync_event(self.run.id, snapshot.seq, snapshot.result)

    def _now(self) -> Snapshot:
        """The state of all events but the last one of the run, which every reader gets as an event."""
        seq = self.window.last - (1 if self._end and not self.paused else 0)
        return Snapshot(seq, json_bytes(self.result()))

    # ---- the log

    def due(self, now: float, heartbeat_s: float) -> bool:
        """Whether there is something to write."""
        return self.log.due(now, heartbeat_s, over=self.over.is_set() or self._handed)

    def next_append(self) -> Append:
        """What the log lacks, or as much of it as is sent at once."""
        end = None if isinstance(self._end, RunPaused) and not self._handed else self._end
        return self.log.next_append(end, self.result)

    def appended(self, append: Append, reply: Appended) -> None:
        """Take note of what the log has answered."""
        self.log.appended(append, reply, self._loop.time())
        match reply.outcome:
            case "lost":
                self.cancel("lost")
            case "missing":
                pass
            case _:
                if reply.reader_s is not None:
                    self._readers.elsewhere(reply.reader_s)
                if reply.cancel:
                    self.cancel("request")
