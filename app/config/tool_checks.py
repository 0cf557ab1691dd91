"""What holds in the part of the configuration about tools, beyond the shape of each member."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final, cast
from urllib.parse import urlsplit

from app.config.document import Fault, MemberPath
from app.config.explaining import close_to, listed
from app.config.headers import FRAMING, header_faults
from app.config.tools import HttpToolConfig, McpServerConfig, PermissionRule, ToolsConfig
from app.core.conditions import compiled, compiled_expression
from app.core.errors import InvalidRequest
from app.core.hosts import fits, host_fault
from app.core.json_schemas import compiled as compiled_schema
from app.core.templates import placeholders
from app.core.tools import FIRST, RESULT_VARIABLES, RULE_VARIABLES, Version, parse_reference

ToolsCheck = Callable[[ToolsConfig], list[tuple[MemberPath, str]]]

_OURS: Final = FRAMING | {"host"}
"""Headers that are not the configuration's: with `Host` a tool would reach another host than the one that is listed."""


def tool_faults(config: ToolsConfig, check: ToolsCheck | None, recipes: Collection[str] = ()) -> Iterator[Fault]:
    """All faults of the member `tools`, beside these recipes."""
    for member in ("hosts", "private_hosts"):
        for index, pattern in enumerate(getattr(config, member)):
            if (fault := host_fault(pattern)) is not None:
                yield Fault(("tools", member, index), fault)
    versions: dict[tuple[str, Version], str] = {}
    for reference, http in config.http.items():
        yield from _http(reference, http, config)
        if (parsed := parse_reference(reference)) is not None:
            other = versions.setdefault((parsed.name, Version(*parsed.version or FIRST)), reference)
            if other != reference:
                yield Fault(("tools", "http", reference), f"is the same version as {other!r}; give it another")
    for name, server in config.mcp.items():
        yield from _mcp(("tools", "mcp", name), server)
    names: set[str] = set()
    for index, rule in enumerate(config.permissions):
        yield from _rule(("tools", "permissions", index), rule, names, recipes)
    if check is not None:
        yield from (Fault(("tools", *inner), message) for inner, message in check(config))


def _http(reference: str, config: HttpToolConfig, tools: ToolsConfig) -> Iterator[Fault]:
    path: MemberPath = ("tools", "http", reference)
    parsed = parse_reference(reference)
    if parsed is None:
        yield Fault(path, "is not a usable name; write it like weather or weather@2")
    elif parsed.name in tools.builtins:
        yield Fault(path, f"{parsed.name!r} is a built-in tool; choose another name")
    yield from _url(config.url, (*path, "url"), tools)
    yield from header_faults(config.headers, (*path, "headers"), _OURS)
    yield from _schema(config.input, (*path, "input"))
    if config.input.get("type") != "object":
        yield Fault((*path, "input"), "is not of type object, which arguments are")
    if config.output is not None:
        yield from _schema(config.output, (*path, "output"))
    if config.result is not None:
        try:
            compiled_expression(config.result, RESULT_VARIABLES)
        except InvalidRequest as error:
            yield Fault((*path, "result"), error.message)
    yield from _arguments(config, path)


def _arguments(config: HttpToolConfig, path: MemberPath) -> Iterator[Fault]:
    properties, required = config.input.get("properties"), config.input.get("required")
    known = set(cast("dict[str, object]", properties)) if isinstance(properties, dict) else set[str]()
    given = set(cast("list[str]", required)) if isinstance(required, list) else set[str]()
    for member in ("url", "query", "headers", "body"):
        for name in dict.fromkeys(placeholders(getattr(config, member))):
            top = name.partition(".")[0]
            if top not in known:
                yield Fault((*path, member), f"{{{name}}} stands for nothing; the input schema has no property {top!r}")
            elif member == "url" and top not in given:
                yield Fault((*path, member), f"{{{name}}} may be missing; list {top!r} as required in the input schema")


def _url(url: str, path: MemberPath, tools: ToolsConfig) -> Iterator[Fault]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        yield Fault(path, "is not a URL; write it like https://api.example.com/v1/{city}")
        return
    if parts.scheme not in ("http", "https") or not host or parts.username is not None or parts.fragment:
        yield Fault(path, "is not a URL; write it like https://api.example.com/v1/{city}, without a user or a fragment")
    elif any(placeholders(parts.netloc)):
        yield Fault(path, "its host must stand there as it is: arguments may not say where a request goes")
    elif not any(fits(pattern, parts.scheme, host, port) for pattern in tools.hosts):
        yield Fault(path, f"its host {parts.netloc!r} is not listed; add it to tools.hosts")


def _mcp(path: MemberPath, config: McpServerConfig) -> Iterator[Fault]:
    if bool(config.command) == (config.url is not None):
        yield Fault(path, "needs either 'command', for a program, or 'url'")
    if config.url is not None:
        if config.env or config.cwd is not None:
            yield Fault(path, "'env' and 'cwd' are for a program; a URL has 'headers'")
        parts = urlsplit(config.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            yield Fault((*path, "url"), "is not a URL; write it like https://mcp.example.com/mcp")
    elif config.headers:
        yield Fault((*path, "headers"), "are for a URL; a program has 'env'")
    yield from header_faults(config.headers, (*path, "headers"), _OURS)
    if config.only is not None:
        for name in config.tools:
            if name not in config.only:
                yield Fault((*path, "tools", name), "is not one of 'only', so it is not served")


def _schema(schema: Mapping[str, object], path: MemberPath) -> Iterator[Fault]:
    try:
        compiled_schema(schema)
    except InvalidRequest as error:
        yield Fault(path, error.message)


def _rule(path: MemberPath, rule: PermissionRule, names: set[str], recipes: Collection[str]) -> Iterator[Fault]:
    if rule.name is not None:
        if rule.name in names:
            yield Fault((*path, "name"), f"{rule.name!r} is the name of another rule too; every rule needs its own")
        names.add(rule.name)
    if rule.when is not None:
        try:
            compiled(rule.when, RULE_VARIABLES)
        except InvalidRequest as error:
            yield Fault((*path, "when"), error.message)
    for index, pattern in enumerate(rule.recipes or ()):
        if not any(fnmatchcase(recipe, pattern) for recipe in recipes) and not re.search(r"[*?\[]", pattern):
            known = close_to(pattern, recipes) or (
                f"; recipes here: {listed(recipes)}" if recipes else "; there are no recipes here"
            )
            yield Fault((*path, "recipes", index), f"{pattern!r} is not a recipe, so no call fits the rule by it{known}")
    for index, pattern in enumerate(rule.tools or ()):
        name, at, version = pattern.partition("@")
        if (at and not re.fullmatch(r"\d+(\.\d+){0,2}", version)) or not re.fullmatch(r"[\w*?-]+", name):
            yield Fault((*path, "tools", index), "is no tool; write it like clock, files__* or weather@1")
