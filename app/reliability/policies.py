"""The policies that stand around every call, in the order that `compose` documents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from app.config.calls import CallConfig
from app.config.spec import CacheConfig, RetryBudgetConfig
from app.core.clock import Clock
from app.core.models import Call, ModelProfile, Policy
from app.observability.model_counts import AttemptMetrics
from app.reliability.answers import Answers
from app.reliability.attempt import attempt
from app.reliability.breakers import Breakers
from app.reliability.bulkhead import Bulkheads
from app.reliability.charge import charge
from app.reliability.circuit import rules_of
from app.reliability.compose import compose
from app.reliability.gate import Gate
from app.reliability.hedge import Usual, hedge
from app.reliability.load import Loads
from app.reliability.repair import repair
from app.reliability.retry import RetryBudget, retry
from app.reliability.timeout import timeout


class StandardPolicies:
    """Puts around a model's bare call what its configuration says. Breakers, bulkheads and the retry budget are the process's.

    Called with a model's profile, its settings and its call, it gives the call with everything around.
    """

    def __init__(
        self,
        clock: Clock,
        breakers: Breakers,
        budget: RetryBudgetConfig,
        rng: Random,
        answers: Answers,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._sleep = sleep
        self._bulkheads = Bulkheads()
        self._budget = RetryBudget(budget, clock)
        self.breakers = breakers
        self.answers = answers
        self.loads = Loads()

    def configure(self, budget: RetryBudgetConfig) -> None:
        """Take a new retry budget; the other settings come with each model."""
        self._budget.configure(budget)

    def __call__(self, profile: ModelProfile, config: CallConfig, call: Call) -> Call:
        gate, observer = self._gate(profile, config), AttemptMetrics(profile.provider, profile.name)
        policies: list[Policy] = [self.answers.policy(profile), charge(profile)]
        if config.hedge.enabled:
            observer = Usual(observer, config.hedge)
            policies.append(hedge(profile, observer, gate.calm))
        if config.repair.enabled:
            policies.append(repair(profile))
        policies += [
            retry(profile, config.retry, self._budget, self._clock, self._rng, self._sleep),
            attempt(observer, self._clock, gate),
            timeout(
                profile,
                first_token_s=config.timeouts.first_token_s,
                idle_s=config.timeouts.idle_s,
                total_s=config.timeouts.total_s,
            ),
        ]
        return compose(call, policies)

    def _gate(self, profile: ModelProfile, config: CallConfig) -> Gate:
        breaker = None
        if config.breaker.enabled or config.pace.enabled:
            rules = rules_of(config.breaker)
            breaker = self.breakers.of(profile.provider, profile.model, config.credential, rules, on_demand=config.on_demand)
        found = (
            self._bulkheads.of(f"the provider {profile.provider!r}", config.provider_bulkhead),
            self._bulkheads.of(f"the model {profile.name!r}", config.model_bulkhead),
        )
        bulkheads = [bulkhead for bulkhead in found if bulkhead is not None]
        load = self.loads.of(profile.provider, profile.model)
        load.bulkheads = bulkheads
        return Gate(profile, config, breaker, bulkheads, self._clock, self._rng, self._sleep, load)


def local_policies(clock: Clock, budget: RetryBudgetConfig) -> StandardPolicies:
    """The policies of a process of its own, which shares nothing."""
    rng = Random()  # noqa: S311 (waits, not secrets)
    return StandardPolicies(clock, Breakers(None, clock, rng), budget, rng, Answers(None, CacheConfig()))
