"""Runs as resources: list, read, follow, cancel and delete them, on whichever process they run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from app.core.errors import ConflictError, ErrorReport, Gone, NotFound, QuorumError, StateUnavailable, report
from app.core.lifecycle import Draining, stopping
from app.core.run_json import LoggedEvent, event_json, json_bytes
from app.core.run_reading import read_result
from app.core.runs import OrchestrationOutput
from app.core.streams import in_time
from app.orchestration.approving.approvals import Approvals
from app.orchestration.paging import Page, paged
from app.orchestration.runs.endings import Endings, known_of, unknown
from app.orchestration.runs.host import RunHost
from app.orchestration.runs.hosted import HostedRun
from app.orchestration.runs.run_log import resync_event
from app.orchestration.runs.taking import read_paused
from app.state.approvals import Ready
from app.state.idempotency import IdempotencyRecords, RequestId
from app.state.run_records import PAUSED, UNDER_WAY, Record, RunRecords

_LOOK_S: Final = 2.0
"""How often a reader says that it is there and looks whether the owner lives; oftener where the grace period is short."""
_WAIT_S: Final = 1.0
_AGAIN_S: Final = 0.5
_AT_ONCE: Final = 1_000
_END_S: Final = 2.0
"""How long a cancellation waits for the end of the run."""


class StoredRuns:
    """The runs of all processes. Raises `StateUnavailable` while Redis is away, unless the run is hosted here.

    Parameters:
        draining: tells that the process stops: then nobody waits here for a run that is paused.
        resume: has somebody go on with a run.
    """

    def __init__(
        self,
        host: RunHost,
        records: RunRecords,
        requests: IdempotencyRecords,
        approvals: Approvals,
        draining: Draining,
        resume: Callable[[Ready], Awaitable[bool]],
    ) -> None:
        self._resume = resume
        self._approvals = approvals
        self._draining = draining
        self._host = host
        self._records = records
        self._requests = requests
        self._endings = Endings(host, records, approvals)

    async def read(self, tenant: str, run_id: str) -> bytes:
        """The JSON of the result; of a run that has not ended, of what is known of it.

        Raises:
            NotFound: nothing of that id is kept for `tenant`.
        """
        hosted = self._host.find(tenant, run_id)
        if hosted:
            return json_bytes(hosted.result())
        await self._endings.settled(tenant, run_id)
        record = await self._records.get(tenant, run_id)
        if record is None:
            raise unknown(run_id)
        if record.result is not None:
            return record.result
        return json_bytes(known_of(record))

    async def logged(self, tenant: str, run_id: str) -> list[LoggedEvent]:
        """The events of a run that its log has."""
        if self._host.find(tenant, run_id):
            await self._host.flush()
        found: list[LoggedEvent] = []
        while more := await self._records.events(tenant, run_id, found[-1].seq if found else 0, most=_AT_ONCE):
            found += more
        return found

    async def ended(self, tenant: str, run_id: str) -> OrchestrationOutput | None:
        """The result of a run that has ended; None where nothing of that id is kept for `tenant`, or it has not."""
        record = await self._records.get(tenant, run_id)
        if record is None or record.status in UNDER_WAY or record.result is None:
            return None
        return read_result(record.result)

    async def over(self, tenant: str, run_id: str) -> bool:
        """Whether a run has ended, if need be because its process is dead; or nothing of that id is kept."""
        try:
            return await self._endings.settled(tenant, run_id)
        except NotFound:
            return True

    async def paused(self, tenant: str, run_id: str) -> tuple[bool, OrchestrationOutput | None]:
        """Whether a run of that id is kept for `tenant`, and what had come of it when it was last paused; None where it never
        was, or is over.

        Raises:
            Gone: it was deleted just now.
        """
        standing, content = await self._records.paused(tenant, run_id)
        if standing == "deleted":
            raise Gone(f"{run_id} was deleted")
        return standing == "kept", read_paused(content)

    async def turns_seen(self, tenant: str, run_id: str) -> int | None:
        """How many turns its conversation had ever had when the run joined it; None where it did not, or is not kept."""
        return await self._records.turns_seen(tenant, run_id)

    async def close(self, tenant: str, run_id: str, error: QuorumError | None = None) -> bool:
        """End a run that is paused: with `error`, else as cancelled. False where it is not paused any more."""
        closed = await self._endings.close(tenant, run_id, None if error is None else report(error))
        if closed:
            await self._approvals.closed(tenant, run_id)
        return closed

    async def page(
        self, tenant: str, *, cursor: str | None, limit: int, status: str | None = None, strategy: str | None = None
    ) -> Page[Record]:
        """Up to `limit` runs. With a filter a page may hold fewer although another one follows.

        Raises:
            InvalidRequest: the cursor is none of ours.
        """

        async def shown(row: Record) -> Record | None:
            current = await self._current(tenant, row)
            return current if status in (None, current.status) and strategy in (None, current.strategy) else None

        return await paged(cursor, limit, partial(self._records.page, tenant), shown)

    async def latest(self, tenant: str) -> str:
        """The id of the newest run.

        Raises:
            NotFound: `tenant` has none.
        """
        page = await self.page(tenant, cursor=None, limit=1)
        if not page.found:
            raise NotFound("no run is kept yet; those that are streamed from POST /v1/orchestrations are", param="id")
        return page.found[0].run_id

    async def _current(self, tenant: str, row: Record) -> Record:
        """`row`, after a look whether the owner of a running one lives."""
        if row.status != "running":
            return row
        try:
            ended = await self._endings.settled(tenant, row.run_id)
        except NotFound:
            return row
        return (await self._records.get(tenant, row.run_id) or row) if ended else row

    async def cancel(self, tenant: str, run_id: str) -> bool:
        """End a run wherever it runs. True when it has ended, as it had before or within 2 s; False when that is still to come.
        One that takes back what it did does that first, also where it is paused.

        Raises:
            NotFound: nothing of that id is kept for `tenant`.
        """
        hosted = self._host.find(tenant, run_id)
        if hosted:
            hosted.cancel("request")
            ended = await _within(hosted.over.wait(), _END_S)
            if not hosted.paused:
                return ended
        digest = await self._records.cancel(tenant, run_id)
        if digest is None:
            raise unknown(run_id)
        if digest:
            await self._resume(Ready(tenant, run_id, digest))
        elif await self.close(tenant, run_id) or await self._endings.settled(tenant, run_id):
            return True
        until = asyncio.get_running_loop().time() + _END_S
        while asyncio.get_running_loop().time() < until:
            standing = await self._records.look(tenant, run_id)
            if standing is None or not standing.goes_on or (not digest and await self.close(tenant, run_id)):
                return True
            await asyncio.sleep(0.05)
        return False

    async def delete(self, tenant: str, run_id: str) -> None:
        """End a run and remove all that is stored of it, also as the answer to its request with an idempotency key.

        Raises:
            NotFound: nothing of that id is kept for `tenant`.
            ConflictError: it still takes back what it did.
        """
        if not await self.cancel(tenant, run_id) and await self._records.ends_itself(tenant, run_id):
            raise ConflictError(f"{run_id} is cancelled, and still takes back what it did; delete it once it has ended")
        hosted = self._host.find(tenant, run_id)
        if hosted:
            await self._host.flush()
        digest = await self._records.request_of(tenant, run_id)
        if digest:
            await self._requests.delete(RequestId(tenant, digest), run_id)
        if not await self._records.delete(tenant, run_id):
            raise unknown(run_id)

    async def follow(self, tenant: str, run_id: str, after: int) -> AsyncIterator[LoggedEvent] | None:
        """The events that follow number `after`, to the run's last one; None where that was number `after`.

        Raises:
            NotFound: nothing of that id is kept for `tenant`.
            Gone: its events are not kept any more.
        """
        hosted = self._host.find(tenant, run_id)
        if hosted:
            if hosted.over.is_set() and hosted.window.last == after and not (hosted.lost or hosted.paused):
                return None
            return self.events(tenant, run_id, after, hosted)
        standing = await self._records.look(tenant, run_id, reading=True)
        if standing is None:
            raise unknown(run_id)
        if not standing.goes_on:
            if standing.last_seq == after:
                return None
            if await self._records.last_event(tenant, run_id) is None:
                message = f"the events of {run_id} are not kept any more; GET /v1/orchestrations/{run_id} has its result"
                raise Gone(message)
        return self.events(tenant, run_id, after)

    async def events(
        self, tenant: str, run_id: str, after: int, hosted: HostedRun | None = None, *, while_hosted: bool = False
    ) -> AsyncGenerator[LoggedEvent]:
        """As `follow`, of a run that is known to be there: from memory where it is hosted here, else from the log.

        A reader who is too far behind gets a `resync`. Where the run pauses one waits for the rest of it, unless only what
        comes `while_hosted` is wanted.
        """
        while True:
            if hosted is None or hosted.lost:
                hosted = self._host.find(tenant, run_id)
            if hosted and hosted.handed_over and after >= hosted.window.last:
                if while_hosted:
                    return
                hosted = None
            elif hosted and not hosted.lost and hosted.window.holds(after):
                async with aclosing(hosted.read(after)) as live:
                    async for event in live:
                        yield event
                        after = event.seq
                        if event.ends:
                            return
                if hosted.over.is_set() and not (hosted.lost or hosted.paused) and after >= hosted.window.last:
                    return
                continue
            async with aclosing(self._logged(tenant, run_id, after, hosted)) as stored:
                async for event in stored:
                    yield event
                    after = event.seq
                    if event.ends:
                        return

    async def _logged(self, tenant: str, run_id: str, after: int, hosted: HostedRun | None) -> AsyncGenerator[LoggedEvent]:
        """The events of the log, to the run's last one, or until the process that hosts it can go on from memory."""
        loop, looked = asyncio.get_running_loop(), -1e9
        look_s = min(_LOOK_S, max(self._host.config.on_disconnect_grace_s / 4, 0.05))
        while not (hosted and not hosted.lost and hosted.window.holds(after)):
            try:
                wait_s = min(_WAIT_S, look_s)
                events = await in_time(
                    self._records.events(tenant, run_id, after, wait_s=wait_s), wait_s + 1, lambda: StateUnavailable("frozen")
                )
                if events and events[0].seq > after + 1:
                    resync = await self._resync(tenant, run_id, after)
                    if resync:
                        yield resync
                        after = resync.seq
                        continue
                for event in events:
                    yield event
                    after = event.seq
                    if event.ends:
                        return
                if loop.time() - looked >= look_s or not events:
                    looked = loop.time()
                    last = await self._look(tenant, run_id, after)
                    if last:
                        yield last
                        return
            except StateUnavailable:
                if hosted and not hosted.lost:
                    resync = hosted.resync()
                    yield resync
                    after = resync.seq
                else:
                    await asyncio.sleep(_AGAIN_S)

    async def _resync(self, tenant: str, run_id: str, after: int) -> LoggedEvent | None:
        snapshot = await self._records.snapshot(tenant, run_id)
        return resync_event(run_id, snapshot.seq, snapshot.result) if snapshot and snapshot.seq > after else None

    async def _look(self, tenant: str, run_id: str, after: int) -> LoggedEvent | None:
        """Say that somebody reads, and see to a dead owner. The last event where nothing follows `after` any more.

        Raises:
            OrchestratorError: the run is paused, and this process stops: who reads is to read on elsewhere.
        """
        standing = await self._records.look(tenant, run_id, reading=True)
        if standing is None:
            report = ErrorReport("Gone", "gone", f"{run_id} was deleted")
            members = {"error": report, "status": "failed", "timing": None, "result": None}
            return LoggedEvent(after + 1, "run.failed", event_json("run.failed", run_id, after + 1, members))
        if standing.goes_on:
            if standing.lost:
                await self._endings.lose(tenant, run_id, standing, after)
            elif standing.status == PAUSED and standing.last_seq <= after and self._draining.begun:
                raise stopping()
            return None
        return await self._records.last_event(tenant, run_id) if standing.last_seq <= after else None


async def _within(work: Any, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return False
    return True
