"""The workflows that there are: those of the configuration, which every tenant has, and those that a tenant has stored."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from app.config.document import Fault
from app.config.spec import QuorumSpec
from app.config.workflows import WorkflowConfig
from app.core.errors import InvalidRequest, NotFound
from app.state.workflows import Changed, StoredVersion, Versions
from app.workflows.checking import faults_of_all
from app.workflows.known import Known
from app.workflows.opening import Newest, Opened

Source = Literal["configuration", "stored"]
_SHOWN = 5
CHECKS_KEPT: Final = 10_000
"""Versions whose faults are remembered."""


@dataclass(frozen=True, slots=True)
class Found:
    """A workflow. `created_at` is Unix time in seconds, None where it is of the configuration."""

    name: str
    version: int
    config: WorkflowConfig
    source: Source = "configuration"
    created_at: int | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """What is told of a workflow without opening it: its newest version, and which there are, the oldest first."""

    name: str
    versions: tuple[int, ...]
    source: Source
    created_at: int | None
    description: str | None


class Library:
    """All workflows of a process.

    Parameters:
        known: what definitions are checked against, but for other workflows. `configure` replaces both.
    """

    def __init__(self, spec: QuorumSpec, known: Known) -> None:
        self._stored: dict[str, dict[str, Versions]] = {}
        self._opened = Opened()
        self.configure(spec, known)

    def configure(self, spec: QuorumSpec, known: Known) -> None:
        self.limits = spec.workflow_limits
        self._known = known
        self._configured = {name: Found(name, 1, config) for name, config in spec.workflows.items()}
        self._checked: OrderedDict[tuple[str, str, int], tuple[tuple[Fault, ...], dict[str, int]]] = OrderedDict()

    def change(self, changed: Changed) -> None:
        """Take over what has changed of what is stored. Where that is all there is, nothing stays that was known before."""
        if changed.whole:
            self._stored.clear()
            self._checked.clear()
        for (tenant, name), versions in changed.workflows.items():
            of_tenant = self._stored.setdefault(tenant, {})
            if versions:
                of_tenant[name] = versions
            else:
                of_tenant.pop(name, None)

    def stored(self, tenant: str, name: str) -> Versions:
        """The versions of a workflow that are stored."""
        return self._stored.get(tenant, {}).get(name, ())

    def names(self, tenant: str) -> list[str]:
        """The workflows that `tenant` has, in order."""
        return sorted({*self._stored.get(tenant, {}), *self._configured})

    def listed(self, tenant: str, after: str, limit: int) -> list[Listed]:
        """Up to `limit` workflows of `tenant` by their names, those that come after a name."""
        names = self.names(tenant)
        begin = bisect_right(names, after)
        return [self.about(tenant, name) for name in names[begin : begin + limit]]

    def about(self, tenant: str, name: str) -> Listed:
        """What is told of a workflow that there is."""
        configured = self._configured.get(name)
        if configured is not None:
            return Listed(name, (1,), "configuration", None, configured.config.description)
        versions = self.stored(tenant, name)
        newest = versions[-1]
        return Listed(name, self.versions(tenant, name), "stored", newest.created_at, newest.description)

    def versions(self, tenant: str, name: str) -> tuple[int, ...]:
        """The numbers of the versions that are kept of a workflow, the oldest first."""
        return (1,) if name in self._configured else tuple(one.version for one in self.stored(tenant, name))

    def is_configured(self, name: str) -> bool:
        return name in self._configured

    def find(self, tenant: str, reference: str) -> Found:
        """The workflow that `name` (the newest version) or `name@2` refers to.

        Raises:
            NotFound: there is none.
            InvalidRequest: another version of the service stored it, with a shape that is not known here.
        """
        name, at, version = reference.partition("@")
        versions = self.versions(tenant, name)
        if not versions:
            known = ", ".join(self.names(tenant)[:20]) or "there are none"
            raise NotFound(f"there is no workflow {name!r}; known: {known}", param="workflow")
        wanted = str(versions[-1]) if not at else version
        if name in self._configured and wanted == "1":
            return self._configured[name]
        for one in self.stored(tenant, name) if name not in self._configured else ():
            if str(one.version) == wanted:
                return self._open(one)
        kept = ", ".join(str(number) for number in versions)
        raise NotFound(f"the workflow {name!r} has no version {version!r}; kept: {kept}", param="workflow")

    def _open(self, stored: StoredVersion) -> Found:
        config = self._opened.open(stored)
        if config is None:
            message = f"{stored.name!r} has a shape of another version of the service, which stored it; store it again"
            raise InvalidRequest(message, param="workflow")
        return Found(stored.name, stored.version, config, "stored", stored.created_at)

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
        """What is wrong with a workflow by the configuration in force. Places begin at its definition.

        It is found once, until the configuration changes or a workflow that it asks about.
        """
        key = (tenant, found.name, found.version)
        before = self._checked.get(key)
        if before is not None and all(self._number(tenant, asked) == number for asked, number in before[1].items()):
            self._checked.move_to_end(key)
            return before[0]
        is_newest = self._number(tenant, found.name) == found.version
        name = found.name if is_newest else f"{found.name}@{found.version}"
        newest = self._newest(tenant, {name: found.config})
        faults = self._faults(name, found.config, newest)
        if not newest.all_asked:  # which is for hints in faults
            self._checked[key] = faults, newest.asked
            if len(self._checked) > CHECKS_KEPT:
                self._checked.popitem(last=False)
        return faults

    def check(self, tenant: str, name: str, config: WorkflowConfig) -> tuple[Fault, ...]:
        """The faults of a definition as the workflow `name` of `tenant`, also where it would close a circle of workflows."""
        return self._faults(name, config, self._newest(tenant, {name: config}))

    def _faults(self, name: str, config: WorkflowConfig, newest: Newest) -> tuple[Fault, ...]:
        found = faults_of_all({name: config}, replace(self._known, workflows=newest, pinned=newest.get))
        return tuple(replace(fault, path=fault.path[1:]) if fault.path[:1] == (name,) else fault for fault in found)

    def _newest(self, tenant: str, over: Mapping[str, WorkflowConfig]) -> Newest:
        def found(reference: str) -> tuple[int, WorkflowConfig | None]:
            name, version = reference.partition("@")[0], self._number(tenant, reference)
            configured = self._configured.get(name)
            if configured is not None:
                return version, configured.config if version else None
            for one in reversed(self.stored(tenant, name)):
                if one.version == version:
                    return version, self._opened.open(one)
            return 0, None

        return Newest(over, lambda: self.names(tenant), found)

    def _number(self, tenant: str, reference: str) -> int:
        """The version that `name` (the newest) or `name@2` refers to; 0 where there is none."""
        name, at, wanted = reference.partition("@")
        versions = self.versions(tenant, name)
        if not at:
            return versions[-1] if versions else 0
        return next((one for one in versions if str(one) == wanted), 0)


def said_of(fault: Fault) -> str:
    """A fault with its place, as `steps.draft.tool.name: what is wrong`."""
    where = ".".join(str(step) for step in fault.path)
    return f"{where}: {fault.message}" if where else fault.message
