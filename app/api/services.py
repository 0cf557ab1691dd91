"""What the routes work with. The container makes one and puts it on `app.state.services`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

from fastapi import Request

from app.api.idempotency.holding import Holds
from app.api.refusals import Refusals
from app.config.loading import Loaded
from app.config.settings import Settings
from app.core.clock import Clock
from app.core.lifecycle import Draining
from app.jobs.parts import Jobs
from app.orchestration.approving.approvals import Approvals
from app.orchestration.conversations.conversations import Conversations
from app.orchestration.engine import Engine
from app.orchestration.learning.feedback import Feedback
from app.orchestration.learning.statistics import Statistics
from app.orchestration.reviewing.reviews import Reviews
from app.orchestration.runs.host import RunHost
from app.orchestration.runs.signals import Signals
from app.orchestration.runs.stored import StoredRuns
from app.providers.registry import ModelRegistry
from app.reliability.breakers import Breakers
from app.state.client import StateClient
from app.state.dynamic_providers import DynamicProviders
from app.state.key_ring import KeyRing
from app.state.turns import TurnStore
from app.tools.audit.reading import TrailReader
from app.tools.audit.trail import AuditTrail
from app.tools.toolbox import Toolbox
from app.workflows.keeping import Keeping
from app.workflows.library import Library


@dataclass(slots=True)
class Services:
    """What there is one of in a process.

    `reload` reads the configuration anew and raises ConfigError where it is bad; the old one then stays. `announce_reload`
    has every other process do the same. `sync_providers` brings the registry up to what is stored, at once instead of
    within a second. `learned` are the versions in force for a tenant. `holds` has somebody go on with runs that came without a
    key.
    """

    settings: Settings
    engine: Engine
    host: RunHost
    runs: StoredRuns
    jobs: Jobs
    signals: Signals
    registry: ModelRegistry
    keys: KeyRing
    state: StateClient
    clock: Clock
    breakers: Breakers
    dynamic_providers: DynamicProviders
    feedback: Feedback
    statistics: Statistics
    reviews: Reviews
    conversations: Conversations
    turns: TurnStore
    approvals: Approvals
    audit: AuditTrail
    trail: TrailReader
    tools: Toolbox
    library: Library
    keeping: Keeping
    draining: Draining
    holds: Holds
    learned: Callable[[str], tuple[str, ...]]
    reload: Callable[[], Awaitable[Loaded]]
    announce_reload: Callable[[], Awaitable[None]]
    sync_providers: Callable[[], Awaitable[None]]
    refusals: Refusals = field(default_factory=Refusals)


def services_of(request: Request) -> Services:
    """The services of the application that `request` came to."""
    return cast("Services", request.app.state.services)
