"""Texts with `{name}` in them that stand for arguments: `{place.city}` is a member of one, `{{` and `}}` are plain brackets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

import orjson

_PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*(?:\.\w+)*)\}")


class Missing(LookupError):
    """The argument that a placeholder stands for is not there."""


def placeholders(value: Any) -> Iterator[str]:
    """The names in every text of `value`, a JSON value."""
    if isinstance(value, str):
        yield from (found[1] for found in _PLACEHOLDER.finditer(value) if found[1])
    elif isinstance(value, Mapping):
        for member in cast("Mapping[str, Any]", value).values():
            yield from placeholders(member)
    elif isinstance(value, list | tuple):
        for item in cast("list[Any]", value):
            yield from placeholders(item)


def filled(template: str, arguments: Mapping[str, Any], written: Callable[[str], str] = str) -> str:
    """`template` with its placeholders replaced, each by the text that `written` makes of the argument's.

    Raises:
        Missing: an argument is not there.
    """

    def replaced(found: re.Match[str]) -> str:
        return found[0][0] if found[1] is None else written(_text(_at(arguments, found[1])))

    return _PLACEHOLDER.sub(replaced, template)


def filled_value(template: Any, arguments: Mapping[str, Any]) -> Any:
    """A JSON value with the placeholders of its texts replaced. A text that is one placeholder becomes the argument itself;
    members and items whose argument is not there are left out.

    Raises:
        Missing: `template` is itself a text whose argument is not there.
    """
    if isinstance(template, str):
        found = _PLACEHOLDER.fullmatch(template)
        return _at(arguments, found[1]) if found and found[1] else filled(template, arguments)
    if isinstance(template, Mapping):
        members: dict[str, Any] = {}
        for name, member in cast("Mapping[str, Any]", template).items():
            try:
                members[name] = filled_value(member, arguments)
            except Missing:
                continue
        return members
    if isinstance(template, list | tuple):
        items: list[Any] = []
        for item in cast("list[Any]", template):
            try:
                items.append(filled_value(item, arguments))
            except Missing:
                continue
        return items
    return template


def _at(arguments: Mapping[str, Any], path: str) -> Any:
    value: Any = arguments
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            raise Missing(path)
        value = cast("Mapping[str, Any]", value)[step]
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
