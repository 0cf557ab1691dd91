"""Tools of MCP servers as tools of the service."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final, cast

from app.config.tools import McpServerConfig, McpToolConfig
from app.core.errors import InvalidRequest
from app.core.json_schemas import compiled
from app.core.tools import FIRST, ToolCaller, ToolSpec, Version, parse_version
from app.tools.failures import cut_off, failed, timed_out, unavailable
from app.tools.mcp.link import McpLink, Server

SEPARATOR: Final = "__"
MAX_NAME: Final = 64
REQUEST_ID: Final = "quorum/request-id"
RUN_ID: Final = "quorum/run-id"
"""Of a call's `_meta`, beside `traceparent`, which MCP reserves for W3C trace context."""
_OUTSIDE: Final = re.compile(r"[^A-Za-z0-9_-]")
_ANY_OBJECT: Final[dict[str, Any]] = {"type": "object"}
_DEFAULT: Final = McpToolConfig()


def tool_name(server: str, tool: str) -> str:
    """`server__tool`, of letters that vendors take in a function's name; a long one ends in a digest of the whole."""
    name = f"{server}{SEPARATOR}{_OUTSIDE.sub('_', tool)}"
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 9]}_{hashlib.sha256(tool.encode()).hexdigest()[:8]}"


class McpTool:
    """A tool of a server, by its description there; terms come from the configuration alone."""

    def __init__(self, server_name: str, server: Server, described: dict[str, Any], link: McpLink) -> None:
        self.spec = spec_of(server_name, server.config, described)
        self._server_name = server_name
        self._server = server
        self._tool: str = described["name"]
        self._link = link

    @property
    def unavailable(self) -> str | None:
        state = self._server.state
        if state == "ready":
            return None
        return f"its MCP server {self._server_name!r} is {state}: {self._server.error or 'it has not said which tools it has'}"

    async def run(self, arguments: dict[str, Any], caller: ToolCaller) -> Any:
        told = {REQUEST_ID: caller.request_id, RUN_ID: caller.run_id, "traceparent": caller.traceparent}
        meta = {name: value for name, value in told.items() if value}
        spec = self.spec
        answer = await self._link.call(
            self._server_name,
            self._tool,
            arguments,
            timeout_s=spec.timeout_s,
            meta=meta,
            most_bytes=spec.max_result_bytes,
        )
        match answer.get("failure"):
            case None:
                return self._value(answer)
            case "timeout":
                raise timed_out(spec.name, spec.timeout_s)
            case "away":
                raise unavailable(spec.name, answer["message"], retry_after=1.0)
            case "unknown":
                raise cut_off(spec.name, answer["message"])
            case _:
                raise failed(spec.name, answer["message"])

    def _value(self, answer: dict[str, Any]) -> Any:
        blocks = cast("list[dict[str, Any]]", answer["content"])
        if answer["is_error"]:
            said = "\n".join(block.get("text", "") for block in blocks)
            raise failed(self.spec.name, said[:2_000] or "it says so, and not why")
        if answer["structured"] is not None:
            return answer["structured"]
        if all(block.get("type") == "text" for block in blocks):
            return "\n".join(block["text"] for block in blocks)
        return blocks


def spec_of(server_name: str, config: McpServerConfig, described: dict[str, Any]) -> ToolSpec:
    """What is known of a tool: its schemas and its description from the server, and its terms from the configuration."""
    own = config.tools.get(described["name"], _DEFAULT)
    scopes = config.scopes if own.scopes is None else own.scopes
    return ToolSpec(
        name=tool_name(server_name, described["name"]),
        description=own.description or described["description"],
        input_schema=_usable(described["input_schema"]) or _ANY_OBJECT,
        version=Version(*(parse_version(config.version) or FIRST)),
        output_schema=_usable(described["output_schema"]),
        side_effect=own.side_effect or config.side_effect,
        source="mcp",
        timeout_s=own.timeout_s or config.timeout_s,
        cost_usd=config.cost_usd if own.cost_usd is None else own.cost_usd,
        scopes=frozenset(scopes),
        deprecated=own.deprecated or config.deprecated,
        max_result_bytes=own.max_result_bytes or config.max_result_bytes,
        max_calls=own.max_calls or config.max_calls,
    )


def tools_of(link: McpLink) -> list[McpTool]:
    """The tools that all servers are known to have; of two with one name the first."""
    found: dict[str, McpTool] = {}
    for name, server in link.servers.items():
        for described in server.tools:
            if server.config.only is None or described["name"] in server.config.only:
                made = McpTool(name, server, described, link)
                found.setdefault(made.spec.name, made)
    return list(found.values())


def _usable(schema: Any) -> dict[str, Any] | None:
    """A server's schema where it is within our bounds; else its own checks must do."""
    if not isinstance(schema, dict):
        return None
    given = cast("dict[str, Any]", schema)
    if given.get("type") != "object":
        return None
    try:
        compiled(given)
    except InvalidRequest:
        return None
    return given
