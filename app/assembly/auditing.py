"""The audit trail, put together."""

from __future__ import annotations

from app.config.audit import AuditConfig
from app.core.clock import Clock
from app.state.audit import AuditStore
from app.state.client import StateClient
from app.state.secrets import Secret
from app.tools.audit.keeping import AuditKeeping
from app.tools.audit.reading import TrailReader
from app.tools.audit.trail import AuditTrail


class Auditing:
    """What writes the trail, what removes its old end, and what reads it."""

    def __init__(self, state: StateClient, secret: Secret, clock: Clock, config: AuditConfig) -> None:
        store = AuditStore(state)
        self.trail = AuditTrail(store, secret, config)
        self.keeping = AuditKeeping(store, self.trail, clock, config)
        self.reader = TrailReader(store, self.trail.key, clock)

    def configure(self, config: AuditConfig) -> None:
        self.trail.config = self.keeping.config = config
