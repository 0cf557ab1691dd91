"""The workflows that there are: those of the configuration, which every tenant has, and those that a tenant has stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from app.config.document import Fault
from app.config.spec import QuorumSpec
from app.config.workflows import WorkflowConfig
from app.core.errors import InvalidRequest, NotFound
from app.workflows.checking import faults_of_all
from app.workflows.known import Known

Source = Literal["configuration", "stored"]
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Found:
    """A workflow. `created_at` is Unix time in seconds, None where it is of the configuration."""

    name: str
    version: int
    config: WorkflowConfig
    source: Source = "configuration"
    created_at: int | None = None


class Library:
    """All workflows of a process.

    Parameters:
        known: what definitions are checked against, but for other workflows. `configure` replaces both.
    """

    def __init__(self, spec: QuorumSpec, known: Known) -> None:
        self._stored: dict[str, dict[str, tuple[Found, ...]]] = {}
        self.configure(spec, known)

    def configure(self, spec: QuorumSpec, known: Known) -> None:
        self.limits = spec.workflow_limits
        self._known = known
        self._configured = {name: Found(name, 1, config) for name, config in spec.workflows.items()}
        self._checked: dict[tuple[str, str, int], tuple[Fault, ...]] = {}

    def store(self, stored: Mapping[str, Mapping[str, tuple[Found, ...]]]) -> None:
        """Take over what is stored: by tenant and name, the versions, the oldest first."""
        self._stored = {tenant: dict(workflows) for tenant, workflows in stored.items()}
        self._checked = {}

    def all(self, tenant: str) -> list[Found]:
        """The newest version of each workflow that `tenant` has, by name."""
        newest = {name: versions[-1] for name, versions in self._stored.get(tenant, {}).items()}
        return [found for _, found in sorted({**newest, **self._configured}.items())]

    def versions(self, tenant: str, name: str) -> tuple[Found, ...]:
        """Every version that is kept of a workflow, the oldest first."""
        configured = self._configured.get(name)
        return (configured,) if configured is not None else self._stored.get(tenant, {}).get(name, ())

    def is_configured(self, name: str) -> bool:
        return name in self._configured

    def find(self, tenant: str, reference: str) -> Found:
        """The workflow that `name` (the newest version) or `name@2` refers to.

        Raises:
            NotFound: there is none.
        """
        name, at, version = reference.partition("@")
        versions = self.versions(tenant, name)
        if not versions:
            known = ", ".join(found.name for found in self.all(tenant)[:20]) or "there are none"
            raise NotFound(f"there is no workflow {name!r}; known: {known}", param="workflow")
        if not at:
            return versions[-1]
        for found in versions:
            if str(found.version) == version:
                return found
        kept = ", ".join(str(found.version) for found in versions)
        raise NotFound(f"the workflow {name!r} has no version {version!r}; kept: {kept}", param="workflow")

    def runnable(self, tenant: str, reference: str) -> Found:
        """As `find`, of one that can run by the configuration in force.

        Raises:
            InvalidRequest: it cannot; says why.
        """
        found = self.find(tenant, reference)
        faults = self.faults(tenant, found)
        if faults:
            said = "; ".join(said_of(fault) for fault in faults[:_SHOWN])
            more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            raise InvalidRequest(f"the workflow {found.name!r} cannot run: {said}{more}", param="workflow")
        return found

    def faults(self, tenant: str, found: Found) -> tuple[Fault, ...]:
        """What is wrong with a workflow by the configuration in force. Places begin at its definition."""
        key = (tenant, found.name, found.version)
        known = self._checked.get(key)
        if known is None:
            known = self._checked[key] = self.check(tenant, found.name, found.config)
        return known

    def check(self, tenant: str, name: str, config: WorkflowConfig) -> tuple[Fault, ...]:
        """The faults of a definition as the workflow `name` of `tenant`, also where it would close a circle of workflows."""
        known = self.known(tenant)
        known = replace(known, workflows={**known.workflows, name: config})
        found = faults_of_all({name: config}, known)
        return tuple(replace(fault, path=fault.path[1:]) if fault.path[:1] == (name,) else fault for fault in found)

    def known(self, tenant: str) -> Known:
        """What the definitions of `tenant` are checked against."""
        return replace(self._known, workflows={found.name: found.config for found in self.all(tenant)})

    def configured(self) -> Iterable[Found]:
        return self._configured.values()


def said_of(fault: Fault) -> str:
    """A fault with its place, as `steps.draft.tool.name: what is wrong`."""
    where = ".".join(str(step) for step in fault.path)
    return f"{where}: {fault.message}" if where else fault.message
