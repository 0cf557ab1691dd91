"""The composition root: builds every part once, connects them, and owns their lifetimes."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from inspect import isawaitable
from random import Random

import structlog

from app.api.lines import dialects
from app.api.queued import QueuedReader
from app.api.services import Services
from app.assembly.auditing import Auditing
from app.assembly.calling import Calling
from app.assembly.configuration import all_strategies, checks_of, configuration_of, connect_workflows
from app.assembly.kept_runs import KeptRuns
from app.assembly.reloading import Reloading
from app.assembly.tooling import Tooling
from app.config.loading import Loaded
from app.config.settings import Settings, unknown_variables
from app.config.spec import QuorumSpec
from app.core.clock import Clock, SystemClock
from app.core.errors import ConfigError, StateUnavailable
from app.core.lifecycle import Draining
from app.jobs.background import QUEUE
from app.jobs.parts import Jobs, Running
from app.jobs.training import TrainingJob
from app.listening import is_loopback
from app.orchestration.approving.approvals import Approvals
from app.orchestration.conversations.conversations import Conversations
from app.orchestration.engine import Engine
from app.orchestration.learning.learning import Learning
from app.orchestration.reviewing.reviews import Reviews
from app.orchestration.strategies import Strategies
from app.state.approvals import ApprovalStore, Ready
from app.state.client import StateClient
from app.state.conversations import ConversationStore
from app.state.idempotency import RequestId
from app.state.key_ring import KeyRing
from app.state.reloading import ReloadFeed
from app.state.reviews import ReviewStore
from app.state.secrets import Secret, load_secret
from app.state.shared_clock import SharedClock
from app.state.turns import TurnStore
from app.workflows.keeping import Keeping
from app.workflows.known import Known, no_faults
from app.workflows.library import Library
from app.workflows.surroundings import known_of

_log = structlog.get_logger("quorum.container")


class Container:
    """All parts of one worker. `services` is what the API works with; `run` keeps them alive."""

    def __init__(self, settings: Settings, *, works: bool = False, clock: Clock | None = None) -> None:
        """`works`: the process serves nothing and does what waits in the queue. `clock` is the machine's."""
        if settings.redis_url is None:
            raise ConfigError("no Redis URL: start the service with `quorum serve`, or set QUORUM_REDIS_URL")
        self._works = works
        self._drain_s = settings.drain_s if works else settings.grace_s + settings.drain_s
        strategies = all_strategies()
        self._checks = checks_of(strategies)
        self._configuration = configuration_of(settings, strategies)
        spec = self._configuration.spec
        rng = Random()  # noqa: S311 (waits, not secrets)
        redis_url = settings.redis_url.get_secret_value()
        self._draining = draining = Draining()
        self._state = state = StateClient(redis_url)
        self._clock = clock = SharedClock(state, clock or SystemClock())
        secret = load_secret(settings.secret.get_secret_value() if settings.secret else None, settings.data_dir)

        self._keys = self._key_ring(settings, secret, clock)
        self._calling = Calling(state, secret, clock, rng, spec)
        self._auditing = Auditing(state, secret, clock, spec.audit)
        audit = self._auditing.trail
        self._reloading = Reloading(self._configuration, audit)
        self._reloads = ReloadFeed(state, self._reloading.reload)
        self._training = TrainingJob(state, redis_url, spec, audit)
        self._learning = Learning(state, clock, secret.key_for("terms"), spec.learning)
        self._reviews = Reviews(ReviewStore(state), self._learning.feedback, clock, spec.reviews)
        self._tooling = Tooling(spec, clock, settings.data_dir, audit)
        self._conversations = Conversations(ConversationStore(state), spec)
        self._approvals = Approvals(ApprovalStore(state), clock, spec.approvals, audit, self._tooling.toolbox, self._go_on)
        self._turns = TurnStore(state)

        self._engine = self._engine_for(strategies, spec, clock)
        self._tooling.run_by(self._engine)
        self._library = Library(spec, self._known(spec))
        connect_workflows(strategies, self._engine, self._library)
        self._keeping = Keeping(state, self._library, clock)
        self._kept = KeptRuns(state, secret, spec, clock, draining, self._engine, self._approvals, self._go_on)
        self.executions = self._kept.executions
        self._jobs = self._jobs_for(secret, spec, clock, rng, redis_url)
        self._configuration.subscribe(self._apply)
        self.services = self._services(settings)

    def _key_ring(self, settings: Settings, secret: Secret, clock: Clock) -> KeyRing:
        return KeyRing(
            self._state,
            secret,
            clock,
            configured=self._configuration.spec.keys,
            admin_key=settings.admin_key.get_secret_value() if settings.admin_key else None,
            may_open=self._works or settings.insecure or is_loopback(settings.host),
        )

    def _engine_for(self, strategies: Strategies, spec: QuorumSpec, clock: Clock) -> Engine:
        return Engine(
            self._calling.registry,
            strategies,
            spec,
            clock,
            self._calling.admission,
            self._calling.standings,
            self._draining,
            self._learning.lessons,
            (*self._learning.observers, self._reviews, self._approvals),
            self._tooling.toolbox,
            self._turns,
        )

    def _jobs_for(self, secret: Secret, spec: QuorumSpec, clock: Clock, rng: Random, redis_url: str) -> Jobs:
        kept = self._kept
        return Jobs(
            Running(self._engine, self._conversations, self._approvals, kept.host, kept.records, kept.runs, kept.withdrawal),
            QueuedReader(self._engine, self._keys, clock),
            dialects(self._engine, self._keys),
            self._state,
            secret,
            spec,
            clock,
            rng,
            self._draining,
            redis_url=redis_url,
            dedicated=self._works,
        )

    def _services(self, settings: Settings) -> Services:
        """What the API works with."""
        return Services(
            settings=settings,
            engine=self._engine,
            host=self._kept.host,
            runs=self._kept.runs,
            jobs=self._jobs,
            signals=self._kept.signals,
            registry=self._calling.registry,
            keys=self._keys,
            state=self._state,
            clock=self._clock,
            breakers=self._calling.breakers,
            dynamic_providers=self._calling.providers.stored,
            feedback=self._learning.feedback,
            statistics=self._learning.statistics,
            reviews=self._reviews,
            conversations=self._conversations,
            turns=self._turns,
            approvals=self._approvals,
            audit=self._auditing.trail,
            trail=self._auditing.reader,
            tools=self._tooling.toolbox,
            library=self._library,
            keeping=self._keeping,
            draining=self._draining,
            holds=self._kept.holds,
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
        calling, kept, draining = self._calling, self._kept, self._draining
        for part in (
            self._clock,
            self._auditing.trail,
            self._auditing.keeping,
            self._keys,
            calling.providers,
            self._reloads,
            calling.breakers,
            calling.answers,
            self._learning,
            self._reviews,
            self._conversations,
            self._keeping,
            self._tooling.toolbox,
            self._training,
            calling.admission,
            kept.holds,
        ):
            yield part.start, part.close
        yield kept.host.start, partial(kept.host.close, draining, self._drain_s)
        yield self._jobs.start, partial(self._jobs.close, self._drain_s)
        if not self._works:
            yield kept.executions.start, partial(kept.executions.close, draining, self._drain_s)
        for part in (self._approvals, kept.signals):
            yield part.start, part.close

    def _known(self, spec: QuorumSpec) -> Known:
        return known_of(spec, self._checks.recipe or no_faults, toolbox=self._tooling.toolbox)

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
        self._tooling.configure(spec)
        self._library.configure(spec, self._known(spec))
        self._engine.configure(spec)
        self._kept.configure(spec)
        self._jobs.configure(spec)
        self._learning.configure(spec.learning)
        self._training.spec = spec
        self._reviews.config = spec.reviews
        self._conversations.configure(spec)
        self._approvals.config = spec.approvals
        self._auditing.configure(spec.audit)
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
        if told != "over" or await self._kept.runs.over(ready.tenant, ready.run_id):
            return told != "busy"
        return await self._jobs.background.go_on(ready.run_id) == "hurried"  # what was answered was that it waits in the queue
