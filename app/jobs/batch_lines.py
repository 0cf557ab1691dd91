"""The lines of a part of a batch: each is a run, and its result is stored once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from app.core.budgets import nano_usd
from app.core.errors import ErrorReport, LimitExceeded, QuorumError, StateUnavailable, report
from app.core.jobs import QueuedRequest
from app.core.lifecycle import Draining
from app.core.principal import Principal
from app.core.runs import OrchestrationOutput
from app.jobs.batch_upload import Line
from app.observability import metrics
from app.orchestration.engine import Engine, Run
from app.state.batches import Batches, BatchRecord, LineResult

LOOK_S: Final = 1.0
"""How often a line that waits for a limit of its caller tries again at least, and looks whether its batch is cancelled."""
AGAIN_S: Final = 0.5
"""How often a result is offered to a store that is away: it is paid for."""


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
    """A part of a batch that is to be run: who asks, how many lines at once, and why none is to be run any more."""

    tenant: str
    batch: BatchRecord
    number: int
    who: Principal
    address: str | None
    at_once: int
    why: str = ""


class Lines:
    """Runs lines. `keep_s` is how long results are kept."""

    def __init__(self, engine: Engine, store: Batches, dialects: Dialects, draining: Draining) -> None:
        self._engine = engine
        self._store = store
        self._dialects = dialects
        self._draining = draining

    async def run(self, part: Part, lines: Sequence[Line], keep_s: int) -> bool:
        """Run those of `lines` that have no result. False where that is to be gone on with elsewhere.

        Raises:
            StateUnavailable: Redis is away.
        """
        done = await self._store.done_places(part.tenant, part.batch.id, part.number)
        left = iter([(place, line) for place, line in enumerate(lines) if place not in done])
        stop = asyncio.Event()

        async def one_after_another() -> None:
            for place, line in left:
                result = await self._result(part, line, place)
                if await self._stored(part, result, keep_s):
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
        return stop.is_set() or next(left, None) is None

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

    async def _result(self, part: Part, line: Line, place: int) -> LineResult:
        """What comes of a line. One that a limit of its caller stands against waits; one that is impossible fails."""
        run_id = _run_id(part, place)
        if part.why:
            return self._refused(line, ErrorReport("OrchestratorError", "gave_up", f"given up: {part.why}"), run_id, place)
        request = QueuedRequest(line.url, line.body, part.who, run_id, address=part.address)
        try:
            prepared = await self._admitted(request)
        except StateUnavailable:
            raise
        except QuorumError as error:
            return self._refused(line, report(error), run_id, place)
        result = await prepared.run.result()
        status, body = prepared.answered(result)
        return LineResult(
            place,
            _answer(line, run_id, status, body, result.error),
            result.error is None,
            result.usage.input_tokens,
            result.usage.output_tokens,
            None if result.cost_usd is None and result.usage.total_tokens else nano_usd(result.cost_usd or 0.0),
        )

    async def _admitted(self, request: QueuedRequest) -> LineRun:
        while True:
            prepared = self._dialects.prepare(request, request.request_id)
            try:
                await self._engine.admit(prepared.run)
            except LimitExceeded as error:
                await asyncio.sleep(max(LOOK_S, error.retry_after or 0.0))
            else:
                return prepared

    def _refused(self, line: Line, error: ErrorReport, run_id: str, place: int) -> LineResult:
        status, body = self._dialects.refused(error, run_id)
        return LineResult(place, _answer(line, run_id, status, body, error), good=False)


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
