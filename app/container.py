"""The composition root: builds every part once, connects them, and owns their lifetimes."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import structlog

from app.api.idempotency.executions import Executions
from app.api.idempotency.holding import Holds
from app.api.lines import dialects
from app.api.queued import QueuedReader
from app.api.services import Services
from app.checking import checks_of, configuration_of
from app.config.loading import Loaded
from app.config.settings import Settings, unknown_variables
from app.config.spec import LLMProvider, QuorumSpec
from app.core.audit import SERVICE, SERVICE_TENANT, Act
from app.core.clock import SystemClock
from app.core.errors import ConfigError, StateUnavailable
from app.core.lifecycle import Draining
from app.core.tools import Tool
from app.jobs.background import QUEUE
from app.jobs.parts import Jobs, Running
from app.jobs.training import TrainingJob
from app.listening import is_loopback
from app.observability.metrics import CONFIG_RELOADS
from app.orchestration.admission import Admission
from app.orchestration.approving.approvals import Approvals
from app.orchestration.bundles.tools import Bundles
from app.orchestration.conversations.conversations import Conversations
from app.orchestration.engine import Engine
from app.orchestration.learning.learning import Learning
from app.orchestration.reviewing.reviews import Reviews
from app.orchestration.runs.host import RunHost
from app.orchestration.runs.signals import Signals
from app.orchestration.runs.stored import StoredRuns
from app.orchestration.strategies import Strategies
from app.providers.destinations import names_of
from app.providers.registry import ModelRegistry
from app.reliability.answers import Answers
from app.reliability.breakers import Breakers
from app.reliability.policies import StandardPolicies
from app.reliability.standings import LocalStandings
from app.state.answers import AnswerStore
from app.state.approvals import ApprovalStore, Ready
from app.state.audit import AuditStore
from app.state.breakers import BreakerStore
from app.state.client import StateClient
from app.state.conversations import ConversationStore
from app.state.dynamic_providers import DynamicProviders, ProviderFeed
from app.state.idempotency import IdempotencyRecords, RequestId
from app.state.key_ring import KeyRing
from app.state.ledger import Ledger
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
from app.workflows.orchestrator import WorkflowOrchestrator
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
        draining = Draining()
        self._clock = SystemClock()
        strategies = Strategies()
        self._workflows = WorkflowOrchestrator()
        strategies.register(self._workflows)
        self._checks = checks_of(strategies)
        self._configuration = configuration_of(settings, strategies)
        spec = self._configuration.spec
        self._state = StateClient(settings.redis_url.get_secret_value())
        secret = load_secret(settings.secret.get_secret_value() if settings.secret else None, settings.data_dir)
        self._keys = KeyRing(
            self._state,
            secret,
            self._clock,
            configured=spec.keys,
            admin_key=settings.admin_key.get_secret_value() if settings.admin_key else None,
            may_open=works or settings.insecure or is_loopback(settings.host),
        )
        rng = Random()  # noqa: S311 (waits, not secrets)
        self._breakers = Breakers(BreakerStore(self._state), self._clock, rng, fingerprint=secret.hasher("breaker"))
        self._answers = Answers(AnswerStore(self._state), spec.cache)
        self._policies = StandardPolicies(self._clock, self._breakers, spec.reliability.retry_budget, rng, self._answers)
        self._registry = ModelRegistry(spec, wrap=self._policies)
        self._admission = Admission(Ledger(self._state), self._clock, spec.limits.local_share)
        standings = LocalStandings(self._clock, self._breakers, self._policies.loads)
        trail = AuditStore(self._state)
        self._audit = AuditTrail(trail, secret, spec.audit)
        self._audit_keeping = AuditKeeping(trail, self._audit, self._clock, spec.audit)
        self._training = TrainingJob(self._state, settings.redis_url.get_secret_value(), spec, self._audit)
        self._learning = Learning(self._state, self._clock, secret.key_for("terms"), spec.learning)
        self._reviews = Reviews(ReviewStore(self._state), self._learning.feedback, self._clock, spec.reviews)
        self._bundles = Bundles(spec, self._clock)
        self._workflow_tools = WorkflowTools(spec)
        self._tools = Toolbox(spec.tools, self._clock, settings.data_dir, recorder=self._audit, more=self._more_tools)
        self._conversations = Conversations(ConversationStore(self._state), spec)
        turns = TurnStore(self._state)
        self._approvals = Approvals(
            ApprovalStore(self._state), self._clock, spec.approvals, self._audit, self._tools, self._go_on
        )
        self._engine = Engine(
            self._registry,
            strategies,
            spec,
            self._clock,
            self._admission,
            standings,
            draining,
            self._learning.lessons,
            (*self._learning.observers, self._reviews, self._approvals),
            self._tools,
            turns,
        )
        self._bundles.engine = self._workflow_tools.engine = self._workflows.engine = self._engine
        self._library = self._workflows.library = Library(spec, self._known(spec))
        self._keeping = Keeping(self._state, self._library, self._clock)
        records = RunRecords(self._state)
        self._host = RunHost(records, RunOrders(self._state), spec.runs, StepRecords(self._state))
        requests = IdempotencyRecords(self._state)
        self._runs = StoredRuns(self._host, records, requests, self._approvals, draining, self._go_on)
        self._signals = Signals(SignalStore(self._state), self._clock, self._go_on)
        sealer = secret.sealer("request")
        self._holds = Holds(requests, sealer, spec.idempotency)
        self.executions = Executions(requests, sealer, spec.idempotency, self._runs.close, self._holds.has)
        draining.at_end(self.executions.leave)  # before their runs: who waits for them is told by the requests
        draining.at_end(self._host.leave)
        self._jobs = Jobs(
            Running(self._engine, self._conversations, self._approvals, self._host, records),
            QueuedReader(self._engine, self._keys),
            dialects(self._engine, self._keys),
            self._state,
            secret,
            spec,
            self._clock,
            rng,
            draining,
            redis_url=settings.redis_url.get_secret_value(),
            dedicated=works,
        )
        stored = DynamicProviders(self._state, secret)
        self._feed = ProviderFeed(self._state, stored, self._sync)
        self._reloads = ReloadFeed(self._state, self._reload)
        self._configuration.subscribe(self._apply)

        async def sync_now() -> None:
            await self._sync(await stored.all())

        self.services = Services(
            settings=settings,
            engine=self._engine,
            host=self._host,
            runs=self._runs,
            jobs=self._jobs,
            signals=self._signals,
            registry=self._registry,
            keys=self._keys,
            state=self._state,
            breakers=self._breakers,
            dynamic_providers=stored,
            feedback=self._learning.feedback,
            statistics=self._learning.statistics,
            reviews=self._reviews,
            conversations=self._conversations,
            turns=turns,
            approvals=self._approvals,
            audit=self._audit,
            trail=TrailReader(trail, self._audit.key, self._clock),
            tools=self._tools,
            library=self._library,
            keeping=self._keeping,
            draining=draining,
            holds=self._holds,
            learned=self._learning.memory.versions,
            reload=self._reload,
            announce_reload=self._reloads.announce,
            sync_providers=sync_now,
        )

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[Services]:
        """Everything started on entering, and closed in reverse order on leaving."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._state.close)
            stack.push_async_callback(self._registry.aclose)
            self._audit.start()
            stack.push_async_callback(self._audit.close)
            self._audit_keeping.start()
            stack.push_async_callback(self._audit_keeping.close)
            await self._keys.start()
            stack.push_async_callback(self._keys.close)
            await self._feed.start()
            stack.push_async_callback(self._feed.close)
            await self._reloads.start()
            stack.push_async_callback(self._reloads.close)
            await self._breakers.start()
            stack.push_async_callback(self._breakers.close)
            self._answers.start()
            stack.push_async_callback(self._answers.close)
            await self._learning.start()
            stack.push_async_callback(self._learning.close)
            self._reviews.start()
            stack.push_async_callback(self._reviews.close)
            self._conversations.start()
            stack.push_async_callback(self._conversations.close)
            await self._keeping.start()
            stack.push_async_callback(self._keeping.close)
            self._tools.start()
            stack.push_async_callback(self._tools.close)
            self._training.start()
            stack.push_async_callback(self._training.close)
            await self._admission.start()
            stack.push_async_callback(self._admission.close)
            self._holds.start()
            stack.push_async_callback(self._holds.close)
            await self._host.start()
            stack.push_async_callback(self._host.close, self.services.draining, self._drain_s)
            await self._jobs.start()
            stack.push_async_callback(self._jobs.close, self._drain_s)
            if not self._works:
                await self.executions.start()
                stack.push_async_callback(self.executions.close, self.services.draining, self._drain_s)
            self._approvals.start()
            stack.push_async_callback(self._approvals.close)
            self._signals.start()
            stack.push_async_callback(self._signals.close)
            for warning in await self._warnings():
                _log.warning(warning)
            yield self.services

    def _more_tools(self) -> list[Tool]:
        return [*self._bundles.tools(), *self._workflow_tools.tools()]

    def _known(self, spec: QuorumSpec) -> Known:
        return known_of(spec, self._checks.recipe or no_faults, toolbox=self._tools)

    def summary(self) -> str:
        """What is served, for the line that is printed at the start."""
        models = [model.profile.name for model in self._registry.models()]
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
        """Reload because an operator of this machine said so. It is recorded afterwards: it must work without the store too."""
        act = Act(tenant=SERVICE_TENANT, actor=SERVICE, action="config.reload", subject_kind="configuration", subject="SIGHUP")
        try:
            loaded = await self._reload()
        except ConfigError as error:
            self._audit.note(act, "failed", {"error": error.code})
            raise
        self._audit.note(act, "done", {"digest": self._audit.digest(loaded.spec.model_dump(mode="json"))})
        return loaded

    async def _reload(self) -> Loaded:
        try:
            loaded = self._configuration.reload()
        except ConfigError as error:
            CONFIG_RELOADS.labels("refused").inc()
            _log.error("the configuration is not reloaded, the old one stays", reason=error.message, faults=error.faults)
            raise
        CONFIG_RELOADS.labels("ok").inc()
        _log.info("the configuration is reloaded", version=self._configuration.version)
        return loaded

    def _apply(self, spec: QuorumSpec) -> None:
        self._bundles.spec = self._workflow_tools.spec = spec
        self._tools.configure(spec.tools)
        self._library.configure(spec, self._known(spec))
        self._engine.configure(spec)
        self._policies.configure(spec.reliability.retry_budget)
        self._host.configure(spec.runs)
        self._jobs.configure(spec)
        self._answers.config = spec.cache
        self._learning.configure(spec.learning)
        self._training.spec = spec
        self._reviews.config = spec.reviews
        self._conversations.configure(spec)
        self._approvals.config = spec.approvals
        self._audit.config = self._audit_keeping.config = spec.audit
        self.executions.config = self._holds.config = spec.idempotency
        self._admission.local_share = spec.limits.local_share
        self._registry.apply(spec)
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

    async def _sync(self, stored: Mapping[str, LLMProvider]) -> None:
        """Make the registry's dynamic providers those that are stored."""
        here = {connection.name: connection for connection in self._registry.providers()}
        for name, connection in here.items():
            if connection.dynamic and stored.get(name) != connection.config:
                self._registry.remove(name)
        for name, config in stored.items():
            now = here.get(name)
            if now is not None and (not now.dynamic or now.config == config):
                continue
            try:
                self._registry.add(name, config, names=names_of(config.base_url, self._engine.spec.allowed_hosts))
            except ConfigError as error:
                _log.error("a stored provider is left out", provider=name, reason=error.message)
