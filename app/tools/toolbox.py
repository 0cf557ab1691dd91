"""The tools of the service: what there is, what may be run, and running it. What everybody above works with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from app.config.tools import ToolsConfig
from app.core.audit import Recorder
from app.core.clock import Clock
from app.core.errors import ConfigError, NotFound
from app.core.tools import FIRST, PermissionDecision, Tool, ToolCaller, ToolResult, Version, parse_reference
from app.observability.counting import tool_decided
from app.tools.builtins.calculator import calculator
from app.tools.builtins.clock import clock_on
from app.tools.builtins.http_fetch import HttpFetch
from app.tools.builtins.json_query import json_query
from app.tools.execution import PreparedCall, approved, checked, permitted, run
from app.tools.failures import unavailable
from app.tools.http_tools import HttpTool, spec_of
from app.tools.mcp.link import McpLink
from app.tools.mcp.tools import SEPARATOR, tools_of
from app.tools.outbound import Outbound, Reach
from app.tools.permissions import Permissions
from app.tools.python_tools import load, tool_of
from app.tools.recording import note_refusal, note_uncertain, recorded_run
from app.tools.registry import Registered, ToolRegistry

_NO_ARGUMENTS: Final = None


class Toolbox:
    """Every tool of a process.

    Parameters:
        recorder: the audit trail; without it nothing is recorded.
        more: gives the tools that others bring, such as orchestrations as tools; asked anew at each reload.

    Raises:
        ConfigError: a tool of the configuration cannot be made.
    """

    def __init__(
        self,
        config: ToolsConfig,
        clock: Clock,
        data_dir: Path,
        *,
        recorder: Recorder | None = None,
        more: Callable[[], Iterable[Tool]] = tuple,
    ) -> None:
        self._clock = clock
        self._outbound = Outbound()
        self._link = McpLink(data_dir, self._servers_changed)
        self._recorder = recorder
        self._more = more
        self.configure(config)

    def configure(self, config: ToolsConfig) -> None:
        """Put another configuration in force. Calls under way go on with what they began with.

        Raises:
            ConfigError: a tool cannot be made; then nothing is changed.
        """
        fixed = [
            *_builtins(config, self._clock, self._outbound),
            *_configured(config, self._outbound, self._clock),
            *self._more(),
        ]
        ToolRegistry(fixed)
        permissions = Permissions(config.permissions)
        self.config = config
        self._fixed = fixed
        self._permissions = permissions
        self._outbound.reach = Reach(config.hosts, config.private_hosts)
        self._link.configure(config.mcp)
        self._servers_changed()

    def start(self) -> None:
        """Connect to the MCP servers; needs a running event loop."""
        self._link.start()

    async def close(self) -> None:
        await self._link.close()
        await self._outbound.aclose()

    # ---- what there is

    def all(self) -> list[Registered]:
        """Every version of every tool, by name, the newest first."""
        return self._registry.all()

    def versions(self, name: str) -> list[Registered]:
        """Every version of the tool `name`, the newest first."""
        return self._registry.versions(name)

    def find(self, reference: str) -> Registered:
        """The tool that `reference` (`name`, `name@1`, `name@1.2.0`) fits.

        Raises:
            NotFound: there is none.
            ToolExecutionError: it is one of an MCP server that has not said which tools it has.
        """
        try:
            return self._registry.find(reference)
        except NotFound:
            why = self.not_yet(reference)
            if why is not None:
                raise unavailable(reference.partition("@")[0], why, retry_after=1.0) from None
            raise

    def not_yet(self, reference: str) -> str | None:
        """Why nothing is known of the tools of the MCP server that `reference`, a name or a pattern, says; None where it is, or
        it says none."""
        server = self._link.servers.get(reference.partition(SEPARATOR)[0])
        if SEPARATOR not in reference or server is None or server.tools:
            return None
        return f"its MCP server is {server.state}: {server.error or 'it has not said which tools it has'}"

    async def decide(
        self, registered: Registered, caller: ToolCaller, arguments: Mapping[str, Any] | None = _NO_ARGUMENTS
    ) -> PermissionDecision:
        """Whether `caller` may have the tool run; without `arguments`, as far as that is known without them."""
        return await self._permissions.decide(registered.spec, caller, arguments)

    def beforehand(self, registered: Registered, caller: ToolCaller) -> PermissionDecision:
        """The same, for who cannot wait."""
        return self._permissions.beforehand(registered.spec, caller)

    # ---- running it

    async def prepare(self, reference: str, arguments: Any, caller: ToolCaller) -> PreparedCall:
        """A call that may be made, or approved (`decision.effect`).

        Raises:
            NotFound: there is no such tool.
            InvalidRequest: the arguments do not fit; names the member at fault.
            Forbidden: it is not permitted.
            ToolExecutionError: its MCP server is not there yet.
        """
        registered = self.find(reference)
        valid = checked(registered, arguments, self.config.max_arguments_bytes)
        decision = await self._permissions.decide(registered.spec, caller, valid)
        tool_decided(registered.spec.name, decision.effect)
        if decision.effect != "allow" and self._recorder is not None:
            note_refusal(self._recorder, registered.spec, caller, valid, decision)
        permitted(decision)
        return PreparedCall(registered, valid, caller, decision)

    async def run(self, prepared: PreparedCall) -> ToolResult:
        """Make a prepared call, whether it was allowed or has been approved. What fails in the tool is in the result.

        Raises:
            StateUnavailable: a tool that writes cannot be recorded, and so was not run.
        """
        if self._recorder is None:
            return await run(prepared, self._clock)
        return await recorded_run(self._recorder, prepared, self._clock)

    def uncertain(self, prepared: PreparedCall) -> None:
        """Record that another process had begun this call, and that it is not run again."""
        if self._recorder is not None:
            note_uncertain(self._recorder, prepared)

    async def execute(self, reference: str, arguments: Any, caller: ToolCaller) -> ToolResult:
        """Prepare and run at once. What fails in the tool is in the result.

        Raises:
            as `prepare`; and Forbidden where an approval would be needed.
        """
        prepared = await self.prepare(reference, arguments, caller)
        approved(prepared.decision)
        return await self.run(prepared)

    def _servers_changed(self) -> None:
        self._registry = ToolRegistry([*self._fixed, *_unless_there(self._fixed, tools_of(self._link))])


def python_faults(config: ToolsConfig) -> list[tuple[tuple[str | int, ...], str]]:
    """What is wrong with the python functions that `config` names, each with its place."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    taken = {f"{name}@1.0.0" for name in config.builtins}
    taken |= {spec_of(reference, http).reference for reference, http in config.http.items() if parse_reference(reference)}
    bundles = [parsed for parsed in map(parse_reference, config.bundles) if parsed]
    taken |= {f"{parsed.name}@{Version(*parsed.version or FIRST)}" for parsed in bundles}
    for index, path in enumerate(config.python):
        try:
            reference = load(path).spec.reference
        except ConfigError as error:
            found.append((("python", index), error.message))
            continue
        if reference in taken:
            found.append((("python", index), f"there is another tool {reference!r}; give one another name or version"))
        taken.add(reference)
    return found


def _builtins(config: ToolsConfig, clock: Clock, outbound: Outbound) -> Iterable[Tool]:
    for name in config.builtins:
        match name:
            case "calculator":
                yield tool_of(calculator, name=name, source="builtin", side_effect="pure", timeout_s=5)
            case "clock":
                yield tool_of(clock_on(clock.now), name=name, source="builtin", side_effect="pure", timeout_s=5)
            case "json_query":
                yield tool_of(json_query, name=name, source="builtin", side_effect="pure", timeout_s=10)
            case "http_fetch":
                yield HttpFetch(outbound)


def _configured(config: ToolsConfig, outbound: Outbound, clock: Clock) -> Iterable[Tool]:
    for reference, http in config.http.items():
        yield HttpTool(reference, http, outbound, clock)
    for path in config.python:
        yield load(path)


def _unless_there(fixed: Sequence[Tool], more: Sequence[Tool]) -> Iterable[Tool]:
    """Those of `more` whose name and version is not taken: a server cannot stand in for a tool of the configuration."""
    taken = {tool.spec.reference for tool in fixed}
    return (tool for tool in more if tool.spec.reference not in taken)
