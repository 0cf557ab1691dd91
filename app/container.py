"""The composition root: builds every part once, connects them, and owns their lifetimes."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from inspect import isawaitable
from random import Random

import structlog

from app.api.idempotency.executions import Executions
from app.api.idempotency.holding import Holds
from app.api.idempotency.refused import Refused
from app.api.lines import dialects
from app.api.queued import QueuedReader
from app.api.services import Services
from app.assembly.calling import Calling
from app.assembly.configuration import all_strategies, checks_of, configuration_of, connect_workflows
from app.assembly.reloading import Reloading
from app.config.loading import Loaded
from app.config.settings import Settings, unknown_variables
from app.config.spec import QuorumSpec
from app.core.clock import SystemClock
from app.core.errors import ConfigError, StateUnavailable
from app.core.lifecycle import Draining
from app.core.tools import Tool
from app.jobs.background import QUEUE
from app.jobs.parts import Jobs, Running
from app.jobs.training import TrainingJob
from app.listening import is_loopback
from app.orchestration.approving.approvals import Approvals
from app.orchestration.bundles.tools import Bundles
from app.orchestration.conversations.conversations import Conversations
from app.orchestration.engine import Engine
from app.orchestration.learning.learning import Learning
from app.orchestration.reviewing.reviews import Reviews
from app.orchestration.runs.host import RunHost
from app.orchestration.runs.signals import Signals
from app.orchestration.runs.stored import StoredRuns
from app.orchestration.runs.withdrawal import Withdrawal
from app.state.approvals import ApprovalStore, Ready
from app.state.audit import AuditStore
from app.state.client import StateClient
from app.state.conversations import ConversationStore
from app.state.idempotency import IdempotencyRecords, RequestId
from app.state.key_ring import KeyRing
from app.state.reloading import ReloadFeed
from app.state.reviews import ReviewStore
from app.state.run_orders import RunOrders
from app.state.run_records import RunRecords
from app.state.secrets import load_secret
from app.state.signals import SignalStore
from app.state.step_records import StepRecords
from app.state.turns import TurnStore
from app.tools.audit.keeping import AuditKeeping
from app.tools.audit.reading import TrailReader
from app.tools.audit.trail import AuditTrail
from app.tools.toolbox import Toolbox
from app.workflows.keeping import Keeping
from app.workflows.known import Known, no_faults
from app.workflows.library import Library
from app.workflows.surroundings import known_of
from app.workflows.tools import WorkflowTools

_log = structlog.get_logger("quorum.container")


class Container:
    """All parts of one worker. `services` is what the API works with; `run` keeps them alive."""

    def __init__(self, settings: Settings, *, works: bool = False) -> None:
        """`works`: the process serves nothing and does what waits in the queue."""
        if settings.redis_url is None:
            raise ConfigError("no Redis URL: start the service with `quorum serve`, or set QUORUM_REDIS_URL")
        self._works = works
        self._drain_s = settings.drain_s if works else settings.grace_s + settings.drain_s
        strategies = all_strategies()
        self._checks = checks_of(strategies)
        self._configuration = configuration_of(settings, strategies)
        spec, clock, draining = self._configuration.spec, SystemClock(), Draining()
        redis_url = settings.redis_url.get_secret_value()
        self._state = state = StateClient(redis_url)
        secret = load_secret(settings.secret.get_secret_value() if settings.secret else None, settings.data_dir)
        self._keys = KeyRing(
            state,
            secret,
            clock,
            configured=spec.keys,
            admin_key=settings.admin_key.get_secret_value() if settings.admin_key else None,
            may_open=works or settings.insecure or is_loopback(settings.host),
        )
        rng = Random()  # noqa: S311 (waits, not secrets)
        self._calling = Calling(state, secret, clock, rng, spec)
        trail = AuditStore(state)
        self._audit = AuditTrail(trail, secret, spec.audit)
        self._audit_keeping = AuditKeeping(trail, self._audit, clock, spec.audit)
        self._reloading = Reloading(self._configuration, self._audit)
        self._reloads = ReloadFeed(state, self._reloading.reload)
        self._training = TrainingJob(state, redis_url, spec, self._audit)
        self._learning = Learning(state, clock, secret.key_for("terms"), spec.learning)
        self._reviews = Reviews(ReviewStore(state), self._learning.feedback, clock, spec.reviews)
        self._bundles = Bundles(spec, clock)
        self._workflow_tools = WorkflowTools(spec)
        self._tools = Toolbox(spec.tools, clock, settings.data_dir, recorder=self._audit, more=self._more_tools)
        self._conversations = Conversations(ConversationStore(state), spec)
        turns = TurnStore(state)
        self._approvals = Approvals(ApprovalStore(state), clock, spec.approvals, self._audit, self._tools, self._go_on)
        self._engine = Engine(
            self._calling.registry,
            strategies,
            spec,
            clock,
            self._calling.admission,
            self._calling.standings,
            draining,
            self._learning.lessons,
            (*self._learning.observers, self._reviews, self._approvals),
            self._tools,
            turns,
        )
        self._bundles.engine = self._workflow_tools.engine = self._engine
        self._library = Library(spec, self._known(spec))
        connect_workflows(strategies, self._engine, self._library)
        self._keeping = Keeping(state, self._library, clock)
        records = RunRecords(state)
        self._host = RunHost(records, RunOrders(state), spec.runs, StepRecords(state))
        requests = IdempotencyRecords(state)
        self._runs = StoredRuns(self._host, records, requests, self._approvals, draining, self._go_on)
        self._signals = Signals(SignalStore(state), clock, self._go_on)
        sealer = secret.sealer("request")
        self._holds = Holds(requests, sealer, spec.idempotency)
        withdrawal = Withdrawal(self._engine, self._host, records, self._approvals)
        refused = Refused(withdrawal, self._runs)
        self.executions = Executions(requests, sealer, spec.idempotency, refused.close, self._holds.has)
        draining.at_end(self.executions.leave)  # before their runs: who waits for them is told by the requests
        draining.at_end(self._host.leave)
        self._jobs = Jobs(
            Running(self._engine, self._conversations, self._approvals, self._host, records, self._runs, withdrawal),
            QueuedReader(self._engine, self._keys),
            dialects(self._engine, self._keys),
            state,
            secret,
            spec,
            clock,
            rng,
            draining,
            redis_url=redis_url,
            dedicated=works,
        )
        self._configuration.subscribe(self._apply)
        self.services = Services(
            settings=settings,
            engine=self._engine,
            host=self._host,
            runs=self._runs,
            jobs=self._jobs,
            signals=self._signals,
            registry=self._calling.registry,
            keys=self._keys,
            state=state,
            breakers=self._calling.breakers,
            dynamic_providers=self._calling.providers.stored,
            feedback=self._learning.feedback,
            statistics=self._learning.statistics,
            reviews=self._reviews,
            conversations=self._conversations,
            turns=turns,
            approvals=self._approvals,
            audit=self._audit,
            trail=TrailReader(trail, self._audit.key, clock),
            tools=self._tools,
            library=self._library,
            keeping=self._keeping,
            draining=draining,
            holds=self._holds,
            learned=self._learning.memory.versions,
            reload=self._reloading.reload,
            announce_reload=self._reloads.announce,
            sync_providers=self._calling.providers.sync,
        )

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[Services]:
        """Everything started on entering, and closed in reverse order on leaving."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._state.close)
            stack.push_async_callback(self._calling.registry.aclose)
            for start, close in self._lifetimes():
                starting = start()
                if isawaitable(starting):
                    await starting
                stack.push_async_callback(close)
            for warning in await self._warnings():
                _log.warning(warning)
            yield self.services

    def _lifetimes(self) -> Iterator[tuple[Callable[[], Awaitable[None] | None], Callable[[], Awaitable[None]]]]:
        """How each part starts and closes, after those that it works with."""
        calling, draining = self._calling, self.services.draining
        for part in (
            self._audit,
            self._audit_keeping,
            self._keys,
            calling.providers,
            self._reloads,
            calling.breakers,
            calling.answers,
            self._learning,
            self._reviews,
            self._conversations,
            self._keeping,
            self._tools,
            self._training,
            calling.admission,
            self._holds,
        ):
            yield part.start, part.close
        yield self._host.start, partial(self._host.close, draining, self._drain_s)
        yield self._jobs.start, partial(self._jobs.close, self._drain_s)
        if not self._works:
            yield self.executions.start, partial(self.executions.close, draining, self._drain_s)
        for part in (self._approvals, self._signals):
            yield part.start, part.close

    def _more_tools(self) -> list[Tool]:
        return [*self._bundles.tools(), *self._workflow_tools.tools()]

    def _known(self, spec: QuorumSpec) -> Known:
        return known_of(spec, self._checks.recipe or no_faults, toolbox=self._tools)

    def summary(self) -> str:
        """What is served, for the line that is printed at the start."""
        models = [model.profile.name for model in self._calling.registry.models()]
        notes = self._configuration.loaded.notes
        shown = ", ".join(models[:8]) + (f" and {len(models) - 8} more" if len(models) > 8 else "")
        return "\n".join((*notes, f"Models: {shown or 'none'}"))

    async def _warnings(self) -> tuple[str, ...]:
        try:
            of_state = await self._state.warnings()
        except StateUnavailable as error:
            of_state = (error.message,)
        return (*self._configuration.loaded.warnings, *unknown_variables(os.environ), *of_state)

    async def reload_on_signal(self) -> Loaded:
        """Reload because an operator of this machine said so.

        Raises:
            ConfigError: it is wrong; the old one stays.
        """
        return await self._reloading.on_signal()

    def _apply(self, spec: QuorumSpec) -> None:
        self._bundles.spec = self._workflow_tools.spec = spec
        self._tools.configure(spec.tools)
        self._library.configure(spec, self._known(spec))
        self._engine.configure(spec)
        self._host.configure(spec.runs)
        self._jobs.configure(spec)
        self._learning.configure(spec.learning)
        self._training.spec = spec
        self._reviews.config = spec.reviews
        self._conversations.configure(spec)
        self._approvals.config = spec.approvals
        self._audit.config = self._audit_keeping.config = spec.audit
        self.executions.config = self._holds.config = spec.idempotency
        self._calling.configure(spec)
        self._keys.configure(spec.keys)

    async def _go_on(self, ready: Ready) -> bool:
        """Go on with a run that waits for nothing any more. False where that is to be tried again, as where it is about to be
        paused."""
        if ready.digest == QUEUE:
            return await self._jobs.background.go_on(ready.run_id) != "running"
        if self._works:  # a server answers what came as a request
            return False
        told = await self.executions.resume(RequestId(ready.tenant, ready.digest))
        if told != "over" or await self._runs.over(ready.tenant, ready.run_id):
            return told != "busy"
        return await self._jobs.background.go_on(ready.run_id) == "hurried"  # what was answered was that it waits in the queue
