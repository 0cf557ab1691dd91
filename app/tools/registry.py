"""Which tools there are: by name, several versions side by side."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from app.core.errors import ConfigError, InvalidRequest, NotFound
from app.core.json_schemas import Schema, compiled
from app.core.tools import Tool, ToolReference, ToolSpec, parse_reference


@dataclass(frozen=True, slots=True)
class Registered:
    """A tool with its schemas, compiled."""

    tool: Tool
    input: Schema
    output: Schema | None

    @property
    def spec(self) -> ToolSpec:
        return self.tool.spec


class ToolRegistry:
    """Tools by name, the newest version first. Made whole: a reload makes another one.

    Raises:
        ConfigError: a schema is none, or a version of a name is there twice.
    """

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools: dict[str, list[Registered]] = {}
        for tool in tools:
            self._add(tool)
        for versions in self._tools.values():
            versions.sort(key=lambda one: one.spec.version, reverse=True)
        self._found: dict[str, Registered] = {
            name: _newest(versions) for name, versions in self._tools.items()
        }  # what is asked for most; references with a version are looked up

    def _add(self, tool: Tool) -> None:
        spec = tool.spec
        versions = self._tools.setdefault(spec.name, [])
        if any(other.spec.version == spec.version for other in versions):
            raise ConfigError(f"there are two tools {spec.reference!r}: give one another version, as {spec.name}@2")
        versions.append(
            Registered(tool, _schema(spec, "input"), None if spec.output_schema is None else _schema(spec, "output"))
        )

    def find(self, reference: str) -> Registered:
        """The newest version that `reference` (`name`, `name@1`, `name@1.2.0`, `name@latest`) fits, one that is not
        deprecated before one that is.

        Raises:
            NotFound: there is none; says what there is.
        """
        found = self._found.get(reference)
        if found is not None:
            return found
        parsed = parse_reference(reference)
        if parsed is None:
            raise NotFound(
                f"{reference[:100]!r} is no tool's name; write it like 'clock', 'clock@1' or 'clock@1.0.0'", param="name"
            )
        fitting = [one for one in self._tools.get(parsed.name, ()) if parsed.fits(one.spec.name, one.spec.version)]
        if not fitting:
            raise NotFound(self._missing(parsed), param="name")
        return _newest(fitting)

    def all(self) -> list[Registered]:
        """Every version of every tool, by name, the newest first."""
        return [one for name in sorted(self._tools) for one in self._tools[name]]

    def versions(self, name: str) -> list[Registered]:
        """Every version of the tool `name`, the newest first."""
        return list(self._tools.get(name, ()))

    def _missing(self, wanted: ToolReference) -> str:
        versions = self._tools.get(wanted.name)
        if versions:
            there = ", ".join(str(one.spec.version) for one in versions)
            return f"there is no tool {str(wanted)!r}; of {wanted.name!r} there is {there}"
        close = difflib.get_close_matches(wanted.name, self._tools, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "; GET /v1/tools lists what there is"
        return f"there is no tool {wanted.name!r}{hint}"


def _newest(versions: list[Registered]) -> Registered:
    return next((one for one in versions if one.spec.deprecated is None), versions[0])


def _schema(spec: ToolSpec, which: str) -> Schema:
    schema = spec.input_schema if which == "input" else spec.output_schema
    if which == "input" and schema is not None and schema.get("type") != "object":
        raise ConfigError(f"tool {spec.reference!r}: the input schema is not of type object")
    try:
        return compiled(schema or {})
    except InvalidRequest as error:
        raise ConfigError(f"tool {spec.reference!r}: the {which} schema {error.message}") from None
