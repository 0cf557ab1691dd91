"""An instance for a JSON schema: the smallest one that is valid, with what is known put where it fits by name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from app.core.chat import JsonObject

_FORMATS = {
    "date": "2024-01-15",
    "date-time": "2024-01-15T09:30:00Z",
    "time": "09:30:00Z",
    "duration": "PT1H",
    "email": "mock@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_NOT_PLAIN = frozenset(("$ref", "const", "anyOf", "oneOf", "allOf"))
_DEEP = 6
"""Below this depth only what is required is filled in, so that recursive schemas end."""
_TOO_DEEP, _MOST_VALUES = 40, 10_000
"""Bounds on an instance, so that a schema that asks for endless ones gets an end (and an invalid instance)."""

_MOST = 1_000
"""Items and characters beyond which a lower bound is not met."""


@dataclass(frozen=True, slots=True)
class Known:
    """What there is to fill in.

    `values` by property name, each taken where it has the type the schema wants; `text` for strings nothing is known of;
    `share` (0 to 1) places numbers between their bounds; arrays of objects get one item for each of `rows`, which adds
    its own values.
    """

    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    text: str = "text"
    share: float = 0.0
    rows: Sequence[Mapping[str, Any]] = ()


NOTHING_KNOWN = Known()


def instance(schema: JsonObject, known: Known = NOTHING_KNOWN) -> Any:
    """A value valid against `schema`, the same one every time.

    A pattern is met by a known value, an example or a default alone.
    """
    return _Filler(schema, known).fill(schema, "", 0)


class _Filler:
    def __init__(self, root: JsonObject, known: Known, room: Iterator[int] | None = None) -> None:
        self.root = root
        self._room = room or iter(range(_MOST_VALUES))
        self.known = known
        self.values = known.values

    def fill(self, schema: Any, name: str, depth: int) -> Any:
        """The value of the property `name`. Steps: what the schema fixes, what is known, then the type's smallest value."""
        if not isinstance(schema, Mapping) or depth > _TOO_DEEP or next(self._room, None) is None:
            return None
        node = self._resolve(cast(JsonObject, schema))
        if "const" in node:
            return node["const"]
        known = self.values.get(name.lower())
        if choices := node.get("enum"):
            return known if known in choices else choices[0]
        for key in ("anyOf", "oneOf"):
            if node.get(key):
                return self.fill(_simplest(node[key], known), name, depth + 1)
        kind = _kind(node)
        if known is not None and _fits(known, kind, node):
            return known
        for key in ("default", "examples"):
            if node.get(key) is not None:
                return node[key][0] if key == "examples" else node[key]
        return self._by_type(kind, node, name, depth)

    def _by_type(self, kind: str, node: JsonObject, name: str, depth: int) -> Any:
        match kind:
            case "object":
                required = set(node.get("required", ()))
                properties: Mapping[str, Any] = node.get("properties") or {}
                wanted = properties if depth < _DEEP else {key: properties[key] for key in properties if key in required}
                filled = {key: self.fill(child, key, depth + 1) for key, child in wanted.items()}
                more = node.get("additionalProperties")
                if not filled and isinstance(more, Mapping):
                    return {str(row["label"]): self._row(row, more, depth) for row in self.known.rows if "label" in row}
                return filled | {key: self.known.text for key in required if key not in filled}
            case "array":
                return self._array(node, name, depth)
            case "integer" | "number":
                return _number(node, self.known.share, whole=kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._string(node)

    def _array(self, node: JsonObject, name: str, depth: int) -> list[Any]:
        first = [self.fill(item, name, depth + 1) for item in node.get("prefixItems") or ()]
        least = int(node.get("minItems", 1 if depth < _DEEP and not first else 0))
        least = min(least, int(node.get("maxItems", least)), _MOST)
        items = node.get("items", {"type": "string"})
        if self.known.rows and depth < _DEEP and not first and isinstance(items, Mapping):
            item = self._resolve(cast(JsonObject, items))
            if _kind(item) == "object":
                return [self._row(row, item, depth) for row in self.known.rows][: node.get("maxItems")]
        rest = [self.fill(items, name.rstrip("s"), depth + 1) for _ in range(max(0, least - len(first)))]
        if node.get("uniqueItems"):
            rest = _distinct(rest, cast(JsonObject, items) if isinstance(items, Mapping) else {})
        return first + rest

    def _row(self, row: Mapping[str, Any], schema: Any, depth: int) -> Any:
        share = row.get("share", self.known.share)
        filler = _Filler(self.root, Known({**self.known.values, **row}, self.known.text, share), self._room)
        return filler.fill(schema, "", depth + 1)

    def _string(self, node: JsonObject) -> str:
        text = _FORMATS.get(node.get("format", ""), self.known.text)
        least, most = min(_MOST, int(node.get("minLength", 0))), node.get("maxLength")
        text = text if len(text) >= least else (text or "x") * (least // max(1, len(text)) + 1)
        return text if most is None else text[: int(most)]

    def _resolve(self, schema: JsonObject) -> JsonObject:
        """The schema with `$ref` followed and `allOf` merged in."""
        node = dict(schema)
        for _ in range(_TOO_DEEP):
            if isinstance(ref := node.pop("$ref", None), str):
                node = dict(_at(self.root, ref)) | node
            elif parts := node.pop("allOf", None):
                for part in map(self._resolve, parts):
                    node = _merged(node, part)
            else:
                break
        return node


def _merged(a: dict[str, Any], b: JsonObject) -> dict[str, Any]:
    both = a | dict(b)
    if "properties" in a and "properties" in b:
        both["properties"] = {**a["properties"], **b["properties"]}
    if "required" in a and "required" in b:
        both["required"] = [*a["required"], *b["required"]]
    return both


def _at(root: JsonObject, ref: str) -> JsonObject:
    """What a local reference (`#/$defs/Name`) points at; nothing for others."""
    node: Any = root
    for key in ref.lstrip("#/").split("/") if ref != "#" else ():
        node = cast(JsonObject, node).get(key.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
    return cast(JsonObject, node) if isinstance(node, Mapping) else {}


def _kind(node: JsonObject) -> str:
    kind = node.get("type")
    if isinstance(kind, list):
        kinds = cast(list[str], kind)
        kind = next((one for one in kinds if one.lower() != "null"), "null")
    if isinstance(kind, str):
        return kind.lower()
    if "properties" in node or "required" in node:
        return "object"
    return "array" if "items" in node or "prefixItems" in node else "string"


_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
}


def _fits(value: Any, kind: str, node: JsonObject) -> bool:
    if not isinstance(value, _TYPES.get(kind, ())) or (isinstance(value, bool) and kind != "boolean"):
        return False
    if isinstance(value, int | float):
        return _within(value, node)
    if isinstance(value, str):
        sized = int(node.get("minLength", 0)) <= len(value) <= int(node.get("maxLength", len(value)))
        return sized and "format" not in node and _matches(node.get("pattern"), value)
    if kind == "array":
        items = cast(list[Any], value)
        schema: JsonObject = node["items"] if isinstance(node.get("items"), Mapping) else {}
        sized = int(node.get("minItems", 0)) <= len(items) <= int(node.get("maxItems", len(items)))
        return sized and "prefixItems" not in node and all(_item_fits(item, schema) for item in items)
    return True


def _matches(pattern: str | None, value: str) -> bool:
    """Whether a text has a pattern; patterns that only ECMA-262 knows are had by none."""
    try:
        return pattern is None or re.search(pattern, value) is not None
    except re.error:
        return False


def _item_fits(item: Any, schema: JsonObject) -> bool:
    if "enum" in schema:
        return item in schema["enum"]
    return not schema or (_NOT_PLAIN.isdisjoint(schema) and _fits(item, _kind(schema), schema))


def _within(value: int | float, node: JsonObject) -> bool:
    """A boolean is within too: its schemas have no bounds."""
    step = node.get("multipleOf")
    return (
        node.get("minimum", value) <= value <= node.get("maximum", value)
        and node.get("exclusiveMinimum", value - 1) < value < node.get("exclusiveMaximum", value + 1)
        and (step is None or value % step == 0)
    )


def _simplest(options: list[Any], known: Any) -> Any:
    """The option that fits what is known, else the first that is not null."""
    plain = [cast(JsonObject, option) for option in options if isinstance(option, Mapping)]
    for option in plain:
        if known is not None and _NOT_PLAIN.isdisjoint(option) and "enum" not in option and _fits(known, _kind(option), option):
            return option
    return next((option for option in plain if option.get("type") != "null"), options[0])


def _number(node: JsonObject, share: float, *, whole: bool) -> int | float:
    step = 1 if whole else 0.5
    if "minimum" in node and "maximum" in node:
        value = round(node["minimum"] + share * (node["maximum"] - node["minimum"]), 0 if whole else 2)
    elif "minimum" in node:
        value = node["minimum"]
    elif "exclusiveMinimum" in node:
        value = node["exclusiveMinimum"] + step
    else:
        value = 1
        if "maximum" in node:
            value = min(value, node["maximum"])
        if "exclusiveMaximum" in node:
            value = min(value, node["exclusiveMaximum"] - step)
    if multiple := node.get("multipleOf"):
        value = -(-value // multiple) * multiple
    return math.ceil(value) if whole else value


def _distinct(items: list[Any], schema: JsonObject) -> list[Any]:
    """The items made different from one another, where their type allows it."""
    choices: list[Any] = list(schema.get("enum") or ())
    if choices:
        return choices[: len(items)]
    return [
        f"{item} {n}" if isinstance(item, str) and n else item + n if isinstance(item, int) else item
        for n, item in enumerate(items)
    ]
