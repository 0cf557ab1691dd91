"""JSON schemas of callers: compiled, with bounds, so that none can take for ever or reach for another document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

import jsonschema_rs

from app.core.chat import JsonObject
from app.core.errors import InvalidRequest

MAX_NODES: Final = 10_000
"""Members and items of a schema, with every reference written out: schemas that refer to others twice double with each step."""
_ELSEWHERE: Final = ("$dynamicRef", "$recursiveRef")


@dataclass(frozen=True, slots=True)
class SchemaFault:
    """What is wrong with a value, and at which place in it."""

    path: tuple[str | int, ...]
    message: str


class Schema:
    """A compiled schema."""

    __slots__ = ("_validator",)

    def __init__(self, validator: jsonschema_rs.Validator) -> None:
        self._validator = validator

    def fault(self, value: Any) -> str | None:
        """What is wrong with `value`, and where; None where it is valid."""
        found = self.first_fault(value)
        if found is None:
            return None
        where = "".join(f"/{step}" for step in found.path)
        return f"{found.message} (at {where})" if where else found.message

    def first_fault(self, value: Any) -> SchemaFault | None:
        """As `fault`, with the place by itself."""
        if self._validator.is_valid(value):
            return None
        error = next(iter(self._validator.iter_errors(value)), None)
        return None if error is None else SchemaFault(tuple(error.instance_path), error.message)


def compiled(schema: JsonObject) -> Schema:
    """The schema, ready to hold values against. Patterns in it take linear time; nothing is fetched.

    Raises:
        InvalidRequest: it is none; it refers to another document, or to itself in a circle; or it is too large.
    """
    try:
        _Size(schema).of(schema, ())
    except RecursionError:
        raise InvalidRequest("nests too deep") from None
    try:
        validator = jsonschema_rs.validator_for(
            dict(schema), offline=True, validate_formats=True, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise InvalidRequest(f"is no JSON schema: {str(error).splitlines()[0]}") from None
    return Schema(validator)


class _Size:
    """Counts the nodes of a schema with its references written out."""

    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._known: dict[str, int] = {}

    def of(self, node: Any, within: tuple[str, ...]) -> int:
        size = 1
        if isinstance(node, dict):
            members = cast("dict[str, Any]", node)
            for name, value in members.items():
                if name in _ELSEWHERE or (name == "$id" and node is not self._root and isinstance(value, str)):
                    raise InvalidRequest(f"uses {name}; refer to its own parts as #/..., without it")
                size += self._referred(value, within) if name == "$ref" and isinstance(value, str) else self.of(value, within)
        elif isinstance(node, list):
            size += sum(self.of(item, within) for item in cast("list[Any]", node))
        if size > MAX_NODES:
            raise InvalidRequest(f"has more than {MAX_NODES} members with its references written out")
        return size

    def _referred(self, pointer: str, within: tuple[str, ...]) -> int:
        if pointer in within:
            raise InvalidRequest(f"refers to itself in a circle, by {pointer!r}")
        if pointer not in self._known:
            self._known[pointer] = self.of(self._at(pointer), (*within, pointer))
        return self._known[pointer]

    def _at(self, pointer: str) -> Any:
        if pointer != "#" and not pointer.startswith("#/"):
            raise InvalidRequest(f"refers to {pointer!r}; only its own parts, as #/..., may be referred to")
        try:
            return at_pointer(self._root, pointer[1:])
        except LookupError:
            raise InvalidRequest(f"refers to {pointer!r}, which is not there") from None


def at_pointer(value: Any, pointer: str) -> Any:
    """What a JSON pointer (RFC 6901) points at in `value`.

    Raises:
        LookupError: there is nothing.
    """
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = cast("dict[str, Any]", value)[name]
        elif isinstance(value, list) and name.isdecimal():
            value = cast("list[Any]", value)[int(name)]
        else:
            raise LookupError(name)
    return value
