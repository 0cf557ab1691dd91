"""The parts that take and do what waits in the queue, put together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from app.config.spec import QuorumSpec
from app.core.clock import Clock
from app.core.jobs import Reader
from app.core.lifecycle import Draining
from app.jobs.background import BackgroundRuns
from app.jobs.batch_apart import ApartLines
from app.jobs.batch_lines import Dialects, Lines
from app.jobs.batches import BatchRuns
from app.jobs.cleaning import Cleaning
from app.jobs.dead import DeadLetters
from app.jobs.webhooks import Webhooks
from app.jobs.worker import Worker
from app.orchestration.approving.approvals import Approvals
from app.orchestration.conversations.conversations import Conversations
from app.orchestration.engine import Engine
from app.orchestration.runs.host import RunHost
from app.orchestration.runs.stored import StoredRuns
from app.orchestration.runs.withdrawal import Withdrawal
from app.state.batches import Batches
from app.state.client import StateClient
from app.state.deliveries import Deliveries
from app.state.jobs import JobQueue
from app.state.ledger import Ledger
from app.state.queued_runs import QueuedRuns
from app.state.run_records import RunRecords
from app.state.secrets import Secret

if TYPE_CHECKING:
    from app.jobs.announcing import Announcements


@dataclass(frozen=True, slots=True)
class Running:
    """What runs are run with."""

    engine: Engine
    conversations: Conversations
    approvals: Approvals
    host: RunHost
    records: RunRecords
    runs: StoredRuns
    withdrawal: Withdrawal


class Jobs:
    """The queue's work in this process.

    Parameters:
        read, dialects: make of stored requests, and of lines of batches, what is to be run.
        redis_url: where workers are told of work.
        dedicated: the process serves nothing, and does only this.
    """

    def __init__(
        self,
        running: Running,
        read: Reader,
        dialects: Dialects,
        state: StateClient,
        secret: Secret,
        spec: QuorumSpec,
        clock: Clock,
        rng: Random,
        draining: Draining,
        *,
        redis_url: str,
        dedicated: bool,
    ) -> None:
        queue, store = JobQueue(state), Batches(state)
        self._worker = Worker(queue, partial(_announcements, redis_url), spec.jobs, draining, dedicated=dedicated)
        announce = self._worker.announce
        self.dialects = dialects
        self.dead = DeadLetters(queue, clock)
        self.webhooks = Webhooks(spec.webhooks, queue, Deliveries(state), self.dead, clock, rng, announce)
        self.background = BackgroundRuns(
            running.engine,
            running.conversations,
            running.approvals,
            running.host,
            running.records,
            running.withdrawal,
            QueuedRuns(state),
            queue,
            self.dead,
            self.webhooks,
            read,
            secret.sealer("queued"),
            clock,
            announce,
        )
        apart = ApartLines(self.background, running.runs, running.records)
        lines = Lines(running.engine, store, Ledger(state), dialects, draining, apart)
        sealer = secret.sealer("batch")
        self.batches = BatchRuns(
            store, lines, queue, self.dead, self.webhooks, sealer, clock, spec.batches, spec.jobs, announce
        )
        self._cleaning = Cleaning(state, queue)
        self.webhooks.find = {"run": self.background.ended, "batch": self.batches.ended}
        self._worker.work = {"run": self.background.work, "batch": self.batches.work, "webhook": self.webhooks.work}

    async def start(self) -> None:
        await self._worker.start()
        self._cleaning.start()

    async def close(self, within_s: float) -> None:
        """Let what runs end until `within_s` seconds after draining began, and leave the rest to other processes."""
        await self._cleaning.close()
        await self._worker.close(within_s)
        await self.webhooks.aclose()

    def configure(self, spec: QuorumSpec) -> None:
        self._worker.config = spec.jobs
        self.webhooks.configure(spec.webhooks)
        self.batches.config, self.batches.jobs = spec.batches, spec.jobs


def _announcements(redis_url: str) -> Announcements:
    """Imported when the first job is there: the library of the queue is not needed before."""
    from app.jobs.announcing import Announcements

    return Announcements(redis_url)
