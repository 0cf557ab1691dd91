"""Background runs: accepted at once, run by whoever has room, and ended in any case."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from app.core.budgets import NOTHING
from app.core.clock import Clock
from app.core.errors import (
    BudgetExceeded,
    ConfigError,
    ConversationBusy,
    ErrorReport,
    Forbidden,
    LimitExceeded,
    QuorumError,
    StateUnavailable,
    Unauthorized,
    report,
)
from app.core.jobs import Job, Priority, QueuedRequest, Reader, unpacked
from app.core.run_events import RunPaused
from app.core.runs import OrchestrationOutput
from app.jobs.dead import DeadLetters
from app.jobs.webhooks import Ended, Webhooks
from app.jobs.worker import Announce, Later
from app.orchestration.approving.approvals import Approvals
from app.orchestration.conversations.conversations import Conversations
from app.orchestration.engine import Engine, Run
from app.orchestration.runs.endings import Endings, known_of
from app.orchestration.runs.host import RunHost
from app.orchestration.runs.hosted import Handing
from app.orchestration.runs.run_log import record_of
from app.orchestration.runs.taking import check_same, go_on_from, left_of, read_paused, withdrawing
from app.orchestration.runs.withdrawal import Origin, Withdrawal
from app.state.jobs import Claimed, JobQueue
from app.state.queued_runs import QueuedRuns
from app.state.run_records import UNDER_WAY, Record, RunRecords
from app.state.secrets import Sealer

LIMITED_S: Final = 1.0
"""How long a run waits at least that a limit of its caller stands against now."""
PAUSED_S: Final = 0.1
"""How long a run waits at least that was paused: two clocks that differ by less than that make no loop."""
QUEUE: Final = "queue"
"""In place of the digest of a request: who goes on with the run is the queue."""


class BackgroundRuns:
    """Puts runs into the queue, and runs them.

    Parameters:
        read: makes of a stored request what is to be run.
        sealer: requests are stored encrypted.
    """

    def __init__(
        self,
        engine: Engine,
        conversations: Conversations,
        approvals: Approvals,
        host: RunHost,
        records: RunRecords,
        withdrawal: Withdrawal,
        waiting: QueuedRuns,
        queue: JobQueue,
        dead: DeadLetters,
        webhooks: Webhooks,
        read: Reader,
        sealer: Sealer,
        clock: Clock,
        announce: Announce,
    ) -> None:
        self._announce = announce
        self._engine = engine
        self._conversations = conversations
        self._approvals = approvals
        self._host = host
        self._records = records
        self._withdrawal = withdrawal
        self._endings = Endings(host, records, approvals)
        self._waiting = waiting
        self._queue = queue
        self._dead = dead
        self._webhooks = webhooks
        self._read = read
        self._sealer = sealer
        self._clock = clock

    async def put(self, run: Run, request: QueuedRequest, priority: Priority) -> OrchestrationOutput:
        """Have `run` done, which was made only to see that it can be. What is known of it, as `queued`. May be said again.

        Raises:
            InvalidRequest: nobody may be told of its end where `request` wants that.
            StateUnavailable: Redis is away, and it is not accepted.
        """
        tenant, created_us = run.request.tenant, int(self._clock.now() * 1_000_000)
        self._webhooks.check(request.webhook)
        fields = record_of(run, created_us, "continue", request.keyed or QUEUE)
        await self._waiting.put(tenant, run.id, fields, self._sealer.seal(request.packed(), owner=_owner(tenant, run.id)))
        providers = tuple(dict.fromkeys(model.profile.provider for model in run.context.models))
        put = await self._queue.put(Job(run.id, tenant, "run", priority, providers=providers))
        keep_s = self._host.config.keep_s + self._engine.spec.jobs.max_wait_s
        await self._waiting.keep(tenant, run.id, created_us, keep_s)
        if put:
            await self._announce(run.id, 1)
        about = fields["request"]
        return known_of(
            Record(
                run.id,
                "queued",
                run.strategy.name,
                run.request.config.recipe,
                created_us // 1_000_000,
                request=about if isinstance(about, bytes) else about.encode(),
            )
        )

    async def work(self, job: Claimed) -> Later | None:
        """Run what waits under the job's id, or go on with it, or end it, and have its end told."""
        held = await self._waiting.sealed(job.tenant, job.id)
        if held is None:  # deleted, or its process died before anybody was told of it
            return None
        status, sealed = held
        try:
            request = unpacked(self._sealer.open(sealed, owner=_owner(job.tenant, job.id)))
        except ConfigError as error:
            await self._give_up(job, report(error))
            return None
        if status in UNDER_WAY:
            later = await self._run(job, request, begun=status != "queued")
            if later is not None:
                if later.waits and request.part:
                    await self.go_on(request.part)
                return later
        if request.part:
            await self.go_on(request.part)
        if request.webhook:
            await self._webhooks.put(job.tenant, job.id)
        return None

    async def _run(self, job: Claimed, request: QueuedRequest, *, begun: bool) -> Later | None:
        if job.why:
            await self._give_up(job, ErrorReport("OrchestratorError", "gave_up", f"the run was given up: {job.why}"))
            return None
        try:
            run = await self._begun(job, request, begun=begun)
        except (LimitExceeded, ConversationBusy) as error:
            return Later(max(LIMITED_S, error.retry_after or 0.0))
        except BudgetExceeded as error:
            await self._endings.give_up(job.tenant, job.id, report(error))
            return None
        except StateUnavailable:
            raise
        except QuorumError as error:  # what was possible when it was accepted is not any more
            digest, asked = request.keyed or QUEUE, (request.request_id, request.traceparent, request.address)
            if begun and await self._withdrawal.withdraw(job.id, digest, request.who, Origin(*asked), error):
                return None
            await self._endings.give_up(job.tenant, job.id, report(error))
            return None
        taken = await self._host.take(run, request.keyed or QUEUE)
        if taken is None:  # cancelled or deleted meanwhile
            await self._not_run(run)
            return None
        run.context.past.taken = taken.epoch > 1 and not taken.paused
        until: list[float] = []

        async def pausing(event: RunPaused, number: int) -> Handing:
            until.append(event.expires_at)
            return _nobody

        resumable = request.keyed or QUEUE
        hosted = await self._host.begin(run, on_disconnect="continue", resumable=resumable, taken=taken, pausing=pausing)
        await hosted.awaited()
        if hosted.lost:
            return Later()
        if until:  # somebody decides before, or it goes on when it is too late for that
            return Later(max(PAUSED_S, until[0] - self._clock.now()), waits=True)
        await self._host.written(hosted)
        return None

    async def go_on(self, job_id: str) -> Literal["hurried", "running", "absent"]:
        """What a job waited for is there: a run that was paused, say, is over or waits for nothing any more. One that is
        `running` is to be told again, one that is `absent` is not in the queue."""
        hurried = await self._queue.hurry(job_id)
        if hurried == "hurried":
            await self._announce(job_id, 1)
        return hurried

    async def _begun(self, job: Claimed, request: QueuedRequest, *, begun: bool) -> Run:
        withdrawn: QuorumError | None = None
        try:
            asking = self._read(request)
        except (Unauthorized, Forbidden) as error:
            if not begun:
                raise
            asking, withdrawn = self._read(request, withdrawn=True), error
        before = read_paused((await self._records.paused(job.tenant, job.id))[1])
        if before is not None:
            asking = replace(asking, budget=left_of(asking.budget, before))
        if asking.conversation_id is None:
            run = withdrawing(self._engine.begin(asking, job.id, before, taken=True), withdrawn)
            return await self._admitted(run, before, begun=begun)
        seen = None if before is None else await self._records.turns_seen(job.tenant, job.id)
        async with self._conversations.joining(asking, job.id, seen) as conversation:
            run = withdrawing(self._engine.begin(conversation.request, job.id, before, taken=True), withdrawn)
            run.context.conversation = conversation
            return await self._admitted(run, before, begun=begun)

    async def _admitted(self, run: Run, before: OrchestrationOutput | None, *, begun: bool) -> Run:
        """`before` is what had come of it when it was last paused."""
        if before is not None:
            check_same(run.strategy.name, before)
        await self._engine.admit(run, begun=begun)
        if before is not None or run.strategy.may_pause(run.context):
            run.context.approvals = self._approvals.of_run(QUEUE, before)
        if before is not None:
            go_on_from(run.context, before)
        return run

    async def _not_run(self, run: Run) -> None:
        """Give back what was taken for a run that was ended meanwhile."""
        if run.context.conversation is not None:
            await run.context.conversation.release()
        if run.permit is not None:
            await run.permit.settle(NOTHING)

    async def _give_up(self, job: Claimed, error: ErrorReport) -> None:
        """End the run as failed, and keep a dead letter that says why."""
        await self._endings.give_up(job.tenant, job.id, error)
        await self._dead.put(job, error.message)

    async def ended(self, tenant: str, run_id: str) -> Ended | None:
        """What is to be told of the end of a run; None where nothing is any more.

        Raises:
            ConfigError: its request cannot be read.
        """
        held = await self._waiting.sealed(tenant, run_id)
        record = await self._records.get(tenant, run_id)
        if held is None or record is None or record.result is None:
            return None
        url = unpacked(self._sealer.open(held[1], owner=_owner(tenant, run_id))).webhook
        return None if url is None else Ended(url, "orchestration", record.status, record.result)


async def _nobody() -> None:
    """Nobody need be told that a run is paused: its job waits in the queue until then."""


def _owner(tenant: str, run_id: str) -> str:
    return f"{tenant}:{run_id}"
