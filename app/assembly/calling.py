"""Everything that stands around calls to models, put together."""

from __future__ import annotations

from random import Random

from app.assembly.stored_providers import StoredProviders
from app.config.spec import QuorumSpec
from app.core.clock import Clock
from app.orchestration.admission import Admission
from app.providers.registry import ModelRegistry
from app.reliability.answers import Answers
from app.reliability.breakers import Breakers
from app.reliability.policies import StandardPolicies
from app.reliability.standings import LocalStandings
from app.state.answers import AnswerStore
from app.state.breakers import BreakerStore
from app.state.client import StateClient
from app.state.ledger import Ledger
from app.state.secrets import Secret


class Calling:
    """The models with their policies, and what is known of how they do and of who may call them."""

    def __init__(self, state: StateClient, secret: Secret, clock: Clock, rng: Random, spec: QuorumSpec) -> None:
        self.breakers = Breakers(BreakerStore(state), clock, rng, fingerprint=secret.hasher("breaker"))
        self.answers = Answers(AnswerStore(state), spec.cache)
        self.policies = StandardPolicies(clock, self.breakers, spec.reliability.retry_budget, rng, self.answers)
        self.registry = ModelRegistry(spec, wrap=self.policies)
        self.standings = LocalStandings(clock, self.breakers, self.policies.loads)
        self.admission = Admission(Ledger(state), clock, spec.limits.local_share)
        self.providers = StoredProviders(state, secret, self.registry, spec.allowed_hosts)

    def configure(self, spec: QuorumSpec) -> None:
        self.policies.configure(spec.reliability.retry_budget)
        self.answers.config = spec.cache
        self.admission.local_share = spec.limits.local_share
        self.providers.allowed_hosts = spec.allowed_hosts
        self.registry.apply(spec)
