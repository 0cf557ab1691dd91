"""The tools of the service, put together."""

from __future__ import annotations

from pathlib import Path

from app.config.spec import QuorumSpec
from app.core.clock import Clock
from app.core.tools import Tool
from app.orchestration.bundles.tools import Bundles
from app.orchestration.engine import Engine
from app.tools.audit.trail import AuditTrail
from app.tools.toolbox import Toolbox
from app.workflows.tools import WorkflowTools


class Tooling:
    """The toolbox, with the tools that are orchestrations and workflows: `run_by` says what runs those."""

    def __init__(self, spec: QuorumSpec, clock: Clock, data_dir: Path, audit: AuditTrail) -> None:
        self._bundles = Bundles(spec, clock)
        self._workflows = WorkflowTools(spec)
        self.toolbox = Toolbox(spec.tools, clock, data_dir, recorder=audit, more=self._more)

    def run_by(self, engine: Engine) -> None:
        self._bundles.engine = self._workflows.engine = engine

    def configure(self, spec: QuorumSpec) -> None:
        self._bundles.spec = self._workflows.spec = spec
        self.toolbox.configure(spec.tools)

    def _more(self) -> list[Tool]:
        return [*self._bundles.tools(), *self._workflows.tools()]
