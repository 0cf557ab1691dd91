"""Makes runs of requests: checks them, chooses strategy and models, gives them what they may use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from app.config.planning import PlanTarget
from app.config.spec import QuorumSpec
from app.core.budgets import Limit
from app.core.clock import Clock
from app.core.errors import BudgetExceeded, InvalidRequest
from app.core.lifecycle import Draining
from app.core.runs import Budget, OrchestrationOutput, RunRequest
from app.core.standing import Standings
from app.core.tools import EnclosingRun, ToolCaller, ToolSpec
from app.orchestration.admission import Admission, Permit
from app.orchestration.allowances import Allowances
from app.orchestration.base import BaseOrchestrator
from app.orchestration.charging import charge, check_prices, claim_of_call, counts, counts_dollars, purse_inside
from app.orchestration.context import RunContext
from app.orchestration.delegating import Delegates
from app.orchestration.estimating import Estimate, estimated
from app.orchestration.hosting import Hosting
from app.orchestration.learning.lessons import Lessons, Priors
from app.orchestration.learning.observer import Observer
from app.orchestration.past import Past
from app.orchestration.planning.registry import planner_of
from app.orchestration.prompts import Prompts
from app.orchestration.request_limits import check_limits
from app.orchestration.run import Run, new_run_id
from app.orchestration.runs.taking import withdrawing
from app.orchestration.selection import ModelSource, Targets, select, tuned
from app.orchestration.spending import Spending
from app.orchestration.strategies import Strategies, parse_options
from app.orchestration.tools.offering import check_choice
from app.reliability.purse import NO_BOUNDS, RunPurse
from app.reliability.standings import LocalStandings
from app.state.turns import TurnStore
from app.tools.toolbox import Toolbox

UNBOUNDED = Budget()
REPLICATES_EACH = 64
"""Replicates that a run inside of another may ask for itself: more than any strategy does."""


class Engine:
    """Makes runs of requests, by the configuration in force.

    Parameters:
        source: the models.
        strategies: the strategies.
        spec: the configuration; `configure` replaces it for runs that begin later.
        admission: who knows what tenants and keys have used; without it only the budgets of requests hold.
        standings: how models have been doing; without it, what the runs of this engine see.
        draining: tells that the process stops, which ends runs.
        lessons: by tenant, what was learned; without it the priors.
        observers: who is told of every run that ends.
        toolbox: the tools of the service.
        turns: what was said with them, between two requests of a conversation.
    """

    def __init__(
        self,
        source: ModelSource,
        strategies: Strategies,
        spec: QuorumSpec,
        clock: Clock,
        admission: Admission | None = None,
        standings: Standings | None = None,
        draining: Draining | None = None,
        lessons: Callable[[str], Lessons] | None = None,
        observers: Sequence[Observer] = (),
        toolbox: Toolbox | None = None,
        turns: TurnStore | None = None,
    ) -> None:
        self._toolbox, self._turns = toolbox, turns
        self._draining = draining or Draining()
        self.strategies = strategies
        self._admission = admission
        self._standings = standings or LocalStandings(clock)
        self._lessons = lessons
        self._observers = observers
        self._source = source
        self._clock = clock
        self.configure(spec)

    def configure(self, spec: QuorumSpec) -> None:
        """Take a new configuration.

        Raises:
            ConfigError: a prompt in it is wrong; the old one stays.
        """
        patterns = {name: pattern.prompt for name, pattern in spec.analyses.items()}
        self._prompts = Prompts(spec.prompts, patterns)
        self.targets = Targets(spec)
        self._allowances = Allowances(spec)
        priors = spec.learning.priors
        self._planner = planner_of(spec)
        self._priors = Priors(priors.quality, priors.family_correlation)
        self.spec = spec

    def begin(
        self,
        request: RunRequest,
        run_id: str | None = None,
        before: OrchestrationOutput | None = None,
        *,
        taken: bool = False,
    ) -> Run:
        """Check `request` and prepare its run. Nothing is called yet. Without a `run_id` it gets a new one. `before` is what
        had come of it when it was last paused. With `taken` another process may have begun it already.

        Raises:
            InvalidRequest: it asks for something impossible, unknown or beyond the limits.
            BudgetExceeded: its own budget does not hold its plan.
        """
        strategy = self.strategies.get(request.config.strategy)
        return self.begin_with(strategy, request, run_id, before, taken=taken)

    def begin_with(
        self,
        strategy: BaseOrchestrator,
        request: RunRequest,
        run_id: str | None = None,
        before: OrchestrationOutput | None = None,
        *,
        taken: bool = False,
    ) -> Run:
        """As `begin`, with a strategy that need not be registered."""
        limits = self._limits_of(request)
        bounded = bool(limits) or request.budget.bounded
        spending = self._spending(limits, request) if bounded else Spending()
        run = self._prepared(strategy, request, run_id, spending, past=Past(before, taken))
        if bounded:
            run.charge = charge(strategy, run.request, run.context, limits)
            run.context.spending.purse = run.charge.purse(run.request) if run.charge.claim is None else None
        return run

    def begin_inside(self, request: RunRequest, inside: EnclosingRun, *, number: int = 0, own: Budget = UNBOUNDED) -> Run:
        """A run that is a part of another, the `number`-th of its kind. It is not admitted or counted by itself: its calls are
        the other's, whose purse each is reserved from when it is made.

        Parameters:
            own: what it may use itself at most.

        Raises:
            InvalidRequest: as `begin`; or dollars are counted and a model has no known price.
        """
        strategy = self.strategies.get(request.config.strategy)
        purse = purse_inside(inside.purse, own, request)
        most = None if purse is None else self.spec.limits.default_max_tokens
        run = self._prepared(strategy, request, None, Spending(most, inside.needs_prices), inside=inside)
        context = run.context
        context.first_replicate, context.spending.purse = number * REPLICATES_EACH, purse
        if inside.needs_prices or own.cost_usd is not None:
            check_prices(strategy, run.request, context)
        return run

    def _spending(self, limits: tuple[Limit, ...], request: RunRequest) -> Spending:
        if not counts(limits, request.budget):
            return Spending()
        return Spending(self.spec.limits.default_max_tokens, counts_dollars(limits, request.budget))

    def _prepared(
        self,
        strategy: BaseOrchestrator,
        request: RunRequest,
        run_id: str | None,
        spending: Spending,
        outer: RunContext | None = None,
        *,
        inside: EnclosingRun | None = None,
        past: Past | None = None,
    ) -> Run:
        """The run of `request`; with `outer`, that of a part of its run."""
        original = request
        check_limits(request, self.spec.limits)
        options = parse_options(strategy, request.config.options)
        if not (strategy.brings_tools or options.offers_tools):
            check_choice(request)
        request = self._timed(request)
        selected = select(self._source, self.spec, strategy, request, options)
        recipe = self.spec.recipes.get(request.config.recipe or "")
        if recipe is not None and recipe.reliability.model_fields_set:
            selected = tuned(self._source, selected, recipe.reliability)
        run_id = run_id or new_run_id()
        context = RunContext(
            run_id=run_id,
            request=request,
            models=selected.models,
            lead=selected.lead,
            options=options,
            clock=self._clock,
            prompts=self._prompts,
            max_concurrent_calls=self.spec.limits.max_concurrent_calls,
            max_tokens=self.spec.limits.max_tokens,
            named=selected.named,
            standings=self._standings,
            lessons=self._lessons(request.tenant) if self._lessons else self._priors,
            toolbox=self._toolbox,
            turns=self._turns,
            inside=inside,
            spending=spending,
            past=past or Past(),
            hosting=Hosting(self._draining),
        )
        if inside is not None:
            context.max_concurrent_calls = min(context.max_concurrent_calls, inside.max_concurrent_calls)
        if strategy.delegates:
            context.delegates = Delegates(self._planner, partial(self._delegated, original))
        if outer is not None:
            context.within(outer)
        strategy.check(request, context)
        return Run(run_id, strategy, request, context, observers=self._observers)

    def _timed(self, request: RunRequest) -> RunRequest:
        """`request` with what its recipe says of generation and cache, and the earlier of its deadlines."""
        generation = self.targets.generation(request.generation, request.config.recipe)
        deadline = request.deadline
        if request.budget.seconds is not None:
            own = self._clock.monotonic() + request.budget.seconds
            deadline = own if deadline is None else min(own, deadline)
        cache = request.cache or self.targets.cache(request.config.recipe)
        if generation is request.generation and deadline is request.deadline and cache is request.cache:
            return request
        return replace(request, generation=generation, deadline=deadline, cache=cache)

    def _delegated(self, original: RunRequest, target: PlanTarget, outer: RunContext) -> tuple[BaseOrchestrator, RunContext]:
        """The strategy of `target` and its surroundings, as a part of the run of `outer`, which `original` asked for.

        Raises:
            QuorumError: as `begin`.
        """
        config = self.targets.delegated(target, outer.request.config)
        strategy = self.strategies.get(config.strategy)
        if strategy.delegates:
            raise InvalidRequest(f"the strategy {strategy.name!r} hands requests on itself; name another", param="strategy")
        if not target.models and strategy.models_of(parse_options(strategy, config.options)):
            config = replace(config, models=())
        request = replace(original, config=config, deadline=outer.request.deadline)
        spending = Spending(outer.spending.default_max_tokens, outer.spending.needs_prices)
        return strategy, self._prepared(strategy, request, outer.run_id, spending, outer, inside=outer.inside).context

    async def admit(self, run: Run, *, begun: bool = False) -> Run:
        """Reserve what `run` may use of what its caller may: one round trip to Redis, and none where no limit applies.

        Said once, before the run begins; its end settles it. One that has `begun` before may only be to take back what it did.

        Raises:
            BudgetExceeded: a daily budget has not enough left, and it takes nothing back.
            LimitExceeded: another limit stands against it.
            StateUnavailable: Redis is away, and a daily budget applies.
        """
        if run.charge is None or run.charge.claim is None or self._admission is None:
            return run
        try:
            permit = await self._admission.admit(run.charge.claim)
        except BudgetExceeded as error:
            if not begun:
                raise
            return await self.admit_anyway(withdrawing(run, error))
        run.permit = permit
        beside = partial(self._admission.beside, permit.claim)
        run.context.spending.purse = run.charge.purse(run.request, permit.granted, beside)
        return run

    async def admit_anyway(self, run: Run) -> Run:
        """As `admit`, of one that only takes back what it did, which is no budget's to refuse: what it uses is booked.

        Raises:
            StateUnavailable: Redis is away, and a limit applies.
        """
        run.context.spending.purse = None
        if run.charge is None or run.charge.claim is None or self._admission is None:
            return run
        run.permit = await self._admission.anyway(run.charge.claim)
        run.context.spending.purse = RunPurse(NO_BOUNDS, strict=False, ends_run=True, known_tokens=0)
        return run

    async def admit_call(self, spec: ToolSpec, caller: ToolCaller) -> Permit | None:
        """As `admit`, for a tool that is called by itself; None where no limit applies to that. Its permit has begun."""
        claim = claim_of_call(spec, caller.tenant, self._allowances.of(caller.tenant, caller.key_id, caller.key_name))
        permit = await self._admission.admit(claim) if claim and self._admission else None
        if permit is not None:
            permit.begin()
        return permit

    async def estimate(self, request: RunRequest) -> Estimate:
        """What `request` would run and cost, and whether it would be admitted now. Nothing is called or reserved.

        Raises:
            InvalidRequest: as `begin`.
        """
        limits = self._limits_of(request)
        spending = Spending(self.spec.limits.default_max_tokens, counts_dollars(limits, request.budget))
        run = self._prepared(self.strategies.get(request.config.strategy), request, None, spending)
        return await estimated(run.strategy, run.request, run.context, limits, self._admission)

    def _limits_of(self, request: RunRequest) -> tuple[Limit, ...]:
        return self._allowances.of(request.tenant, request.key_id, request.key_name) if self._admission else ()
