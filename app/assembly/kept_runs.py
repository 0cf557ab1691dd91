"""What keeps runs, and the requests that they are of, apart from connections, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from app.api.idempotency.executions import Executions
from app.api.idempotency.holding import Holds
from app.api.idempotency.refused import Refused
from app.config.spec import QuorumSpec
from app.core.alarm import Alarm
from app.core.clock import Clock
from app.core.lifecycle import Draining
from app.orchestration.approving.approvals import Approvals
from app.orchestration.engine import Engine
from app.orchestration.runs.host import RunHost
from app.orchestration.runs.signals import Signals
from app.orchestration.runs.stored import StoredRuns
from app.orchestration.runs.withdrawal import Withdrawal
from app.state.approvals import Ready
from app.state.client import StateClient
from app.state.idempotency import IdempotencyRecords
from app.state.run_orders import RunOrders
from app.state.run_records import RunRecords
from app.state.secrets import Secret
from app.state.signals import SignalStore
from app.state.step_records import StepRecords


class KeptRuns:
    """Hosted runs and their log (`host`, `runs`, `signals`), requests with a key (`executions`) or held as one (`holds`), and
    what takes back runs that cannot go on (`withdrawal`).

    Parameters:
        go_on: goes on with a run that waits for nothing any more; False where that is to be tried again.
    """

    def __init__(
        self,
        state: StateClient,
        secret: Secret,
        spec: QuorumSpec,
        clock: Clock,
        draining: Draining,
        engine: Engine,
        approvals: Approvals,
        go_on: Callable[[Ready], Awaitable[bool]],
    ) -> None:
        self.records = RunRecords(state)
        self.host = RunHost(self.records, RunOrders(state), spec.runs, StepRecords(state))
        requests = IdempotencyRecords(state)
        self.runs = StoredRuns(self.host, self.records, requests, approvals, draining, go_on)
        self.signals = Signals(SignalStore(state), clock, go_on)
        sealer = secret.sealer("request")
        alarm = Alarm(asyncio.Event())
        self.holds = Holds(requests, sealer, clock, spec.idempotency, alarm)
        self.withdrawal = Withdrawal(engine, self.host, self.records, approvals)
        refused = Refused(self.withdrawal, self.runs)
        self.executions = Executions(requests, sealer, clock, spec.idempotency, refused.close, self.holds.has, alarm)
        draining.at_end(self.executions.leave)  # before their runs: who waits for them is told by the requests
        draining.at_end(self.host.leave)

    def configure(self, spec: QuorumSpec) -> None:
        self.host.configure(spec.runs)
        self.executions.config = self.holds.config = spec.idempotency
