"""The lines of a part of a batch: each is a run, and its result is stored once.

A result is stored with what is to be booked of it, and booked then. So a process that dies before it has stored it leaves its
reservation to whoever asks the line again, and one that dies after that leaves the booking: no line is booked twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import orjson

from app.core.budgets import nano_usd
from app.core.errors import ErrorReport, LimitExceeded, QuorumError, StateUnavailable, report
from app.core.jobs import QueuedRequest
from app.core.lifecycle import Draining
from app.core.run_json import json_bytes
from app.core.runs import OrchestrationOutput
from app.jobs.batch_apart import ApartLines
from app.jobs.batch_upload import BatchOrder, Line
from app.observability import metrics
from app.orchestration.engine import Engine, Run
from app.state.batches import Batches, BatchRecord, LineResult
from app.state.ledger import Ledger, Settlement
from app.state.run_records import UNDER_WAY

LOOK_S: Final = 1.0
"""How often a part looks whether its batch is cancelled; and how long it waits at least for a limit of its caller."""
AGAIN_S: Final = 0.5
"""How often a result is offered to a store that is away: it is paid for."""


Came = Literal["over", "elsewhere", "waits"]
"""What came of a part: nothing is left to do of it, or the rest is another worker's, or some lines wait for their own runs."""


@dataclass(frozen=True, slots=True)
class LineRun:
    """A line as a run, and how its result is answered: status and body, as its endpoint would."""

    run: Run
    answered: Callable[[OrchestrationOutput], tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Dialects:
    """How lines are read and answered, by their endpoint: `prepare` makes a run of a request, under an id where one is given
    (raises `QuorumError` where it cannot be); `refused` is the answer where there was no run."""

    prepare: Callable[[QueuedRequest, str | None], LineRun]
    refused: Callable[[ErrorReport, str], tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a batch that is to be run: what was asked for, how many lines at once, why none is to be run any more, and the
    id of its job."""

    tenant: str
    batch: BatchRecord
    number: int
    order: BatchOrder
    at_once: int
    why: str = ""
    job_id: str = ""


class Lines:
    """Runs lines. `keep_s` is how long results are kept."""

    def __init__(
        self, engine: Engine, store: Batches, ledger: Ledger, dialects: Dialects, draining: Draining, apart: ApartLines
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._apart = apart
        self._store = store
        self._dialects = dialects
        self._draining = draining

    async def run(self, part: Part, lines: Sequence[Line], keep_s: int) -> Came | float:
        """Run those of `lines` that have no result. Seconds where a limit of the caller stands against all that are left: the
        part goes back, so that no other work waits for that.

        Raises:
            StateUnavailable: Redis is away.
        """
        await self._book(part)
        done = await self._store.done_places(part.tenant, part.batch.id, part.number)
        known = await self._store.waiting(part.tenant, part.batch.id, part.number)
        waits, limited_s, away = False, 0.0, False
        left = deque((place, line) for place, line in enumerate(lines) if place not in done)
        stop = asyncio.Event()

        async def one_after_another() -> None:
            nonlocal waits, limited_s, away
            while left:
                place, line = left.popleft()
                try:
                    came = await self._begun(part, line, place, known, keep_s)
                    if isinstance(came, LineRun):
                        cancelled = await self._ended(part, line, place, came, keep_s, stop)
                    else:
                        cancelled = isinstance(came, LineResult) and await self._stored(part, came, keep_s)
                except LimitExceeded as error:
                    left.appendleft((place, line))
                    limited_s = max(limited_s, LOOK_S, error.retry_after or 0.0)
                    return  # as many as the limit lets through go on
                except StateUnavailable:  # those under way are paid for, and come to their end
                    left.appendleft((place, line))
                    away = True
                    return
                waits = waits or came == "waits"
                if cancelled:
                    stop.set()
                if stop.is_set() or self._draining.begun:
                    return

        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(one_after_another()) for _ in range(min(part.at_once, len(lines) - len(done)))]
        watching = loop.create_task(self._watch(part, stop))
        try:
            await _done_or(stop, tasks)
        finally:
            for task in (*tasks, watching):
                task.cancel()
            ends = await asyncio.gather(*tasks, watching, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end
        if stop.is_set():
            await self.drop(part, keep_s)
            return "over"
        if left and away:
            raise StateUnavailable("the state store is away; the lines that are left are done later")
        if left:
            return limited_s or "elsewhere"
        return "waits" if waits else "over"

    async def drop(self, part: Part, keep_s: int) -> None:
        """Nobody waits any more for the lines of a part that have runs of their own."""
        await self._book(part)
        for place in await self._store.waiting(part.tenant, part.batch.id, part.number):
            await self._apart.cancel(part.tenant, _run_id(part, place))
        await self._store.wait(part.tenant, part.batch.id, part.number, None, keep_s)

    async def _book(self, part: Part) -> None:
        """Book what was stored by a process that died before it had; what is booked already stays as it is."""
        for packed in await self._store.owed(part.tenant, part.batch.id, part.number):
            owed = Settlement.unpacked(packed)
            await self._ledger.settle(owed.claim, owed.used)

    async def _watch(self, part: Part, stop: asyncio.Event) -> None:
        """Lines may take long: look whether they are wanted still."""
        while not stop.is_set():
            await asyncio.sleep(LOOK_S)
            try:
                batch = await self._store.get(part.tenant, part.batch.id)
            except StateUnavailable:
                continue
            if batch is None or batch.cancelling:
                stop.set()

    async def _stored(self, part: Part, result: LineResult, keep_s: int) -> bool:
        """Store a result, whenever that is. Whether the batch is to be cancelled, or is not there any more."""
        metrics.BATCH_LINES.labels("succeeded" if result.good else "failed").inc()
        while True:
            try:
                cancel = await self._store.done(part.tenant, part.batch.id, part.number, result, keep_s)
            except StateUnavailable:
                await asyncio.sleep(AGAIN_S)
            else:
                return cancel is None or cancel

    async def _begun(
        self, part: Part, line: Line, place: int, known: Collection[int], keep_s: int
    ) -> LineRun | LineResult | Literal["waits", "done"]:
        """A line's run, which may begin; or what has come of it, if it is impossible, say; or that it waits for a run of its
        own, as `known` ones do; or that who was thought to be dead has done it meanwhile.

        Raises:
            LimitExceeded: a limit of its caller stands against it now.
            StateUnavailable: Redis is away.
        """
        run_id, order = _run_id(part, place), part.order
        if part.why:
            if place in known:
                await self._apart.cancel(part.tenant, run_id)
            return self._refused(line, ErrorReport("OrchestratorError", "gave_up", f"given up: {part.why}"), run_id, place)
        request = QueuedRequest(line.url, line.body, order.who, run_id, address=order.address, part=part.job_id)
        try:
            prepared = self._dialects.prepare(request, run_id)
            if self._apart.wants(prepared.run):
                result = await self._apart.standing(prepared.run, request, order.priority, known=place in known)
            else:
                await self._engine.admit(prepared.run)
                return "done" if await self._done_meanwhile(part, place, prepared.run) else prepared
        except (LimitExceeded, StateUnavailable):
            raise
        except QuorumError as error:
            if place in known:
                await self._apart.cancel(part.tenant, run_id)
            return self._refused(line, report(error), run_id, place)
        if result.status in UNDER_WAY:
            row = _answer(line, run_id, 202, json_bytes(result), None)
            await self._store.wait(part.tenant, part.batch.id, part.number, (place, row), keep_s)
            return "waits"
        return _came_of(line, place, prepared, result)

    async def _done_meanwhile(self, part: Part, place: int, run: Run) -> bool:
        """Whether a line whose use is booked has its result too. Its run is given up then."""
        done = True
        try:
            done = run.anew and await self._store.has_result(part.tenant, part.batch.id, part.number, place)
        finally:
            if done:
                run.settle_later()
        return done

    async def _ended(self, part: Part, line: Line, place: int, prepared: LineRun, keep_s: int, stop: asyncio.Event) -> bool:
        """Run a line, store what comes of it, and book that. As `_stored`. Of one that is left to another process nothing is
        booked here, so that it is booked once."""
        run = prepared.run
        run.settles = False
        try:
            result = await run.result()
            cancelled = await self._stored(part, _came_of(line, place, prepared, result), keep_s)
            await run.settle()
        finally:
            if stop.is_set() or run.anew:  # nobody else goes on with its reservation
                run.settle_later()
            elif run.permit is not None:
                run.permit.leave()
        return cancelled

    def _refused(self, line: Line, error: ErrorReport, run_id: str, place: int) -> LineResult:
        status, body = self._dialects.refused(error, run_id)
        return LineResult(place, _answer(line, run_id, status, body, error), good=False)


def _came_of(line: Line, place: int, prepared: LineRun, result: OrchestrationOutput) -> LineResult:
    status, body = prepared.answered(result)
    owed = prepared.run.settlement
    return LineResult(
        place,
        _answer(line, result.id, status, body, result.error),
        result.error is None,
        result.usage.input_tokens,
        result.usage.output_tokens,
        None if result.cost_usd is None and result.usage.total_tokens else nano_usd(result.cost_usd or 0.0),
        b"" if owed is None else owed.packed(),
    )


async def _done_or(stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Until all `tasks` are done, one has failed, or it is time to `stop`."""
    stopping = asyncio.get_running_loop().create_task(stop.wait())
    try:
        pending = set(tasks)
        while pending and not stop.is_set():
            done, rest = await asyncio.wait({stopping, *pending}, return_when=asyncio.FIRST_COMPLETED)
            if any(not task.cancelled() and task.exception() for task in done):
                return
            pending = {task for task in tasks if task in rest}
    finally:
        stopping.cancel()


def _run_id(part: Part, place: int) -> str:
    """The same each time the line is run in a round, so that what it used is booked once."""
    told = f"{part.batch.id}:{part.number}:{place}:{part.batch.round}".encode()
    return "run_" + hashlib.sha256(told).hexdigest()[:24]


def _answer(line: Line, run_id: str, status: int, body: bytes, error: ErrorReport | None) -> bytes:
    """A line of results, in the shape of OpenAI's batch API."""
    told = None if error is None else {"code": error.code, "message": error.message}
    response = {"status_code": status, "request_id": run_id, "body": orjson.Fragment(body)}
    return orjson.dumps({"id": run_id, "custom_id": line.custom_id, "response": response, "error": told})
