"""What pydantic says about a configuration, in words that name the member and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from app.config.document import Document, Fault, MemberPath
from app.config.spec import QuorumSpec

_NAME_MARK = "[key]"
"""What pydantic puts at the end of a location that means a mapping's key."""

_SPOKEN = {
    "missing": "is missing",
    "string_type": "must be a text",
    "string_sub_type": "must be a text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "none_required": "must be left out",
}
_BOUNDS = {"greater_than": ("more than", "gt"), "greater_than_equal": ("at least", "ge")} | {
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def close_to(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'openai'?` where one of `known` is close to `word`, else nothing."""
    match = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def listed(words: Iterable[str], *, most: int = 12) -> str:
    """`'a', 'b', 'c' and 3 more`."""
    names = [repr(word) for word in sorted(words)]
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def shown(value: Any, path: MemberPath, document: Document) -> str:
    """`value` as it may stand in a message: what came out of the environment is shown as the reference it came from."""
    text = document.expanded.get(path, value)
    return repr(text) if len(str(text)) <= 80 else repr(str(text)[:77] + "...")


def explain(error: ValidationError, document: Document, above: MemberPath = ()) -> list[Fault]:
    """The faults pydantic found, mapped to the members of `document`; members that have a fault already are left out.

    Parameters:
        above: where the document would stand in a configuration, if it is a part of one.
    """
    known = {fault.path for fault in document.faults}
    return [_fault(dict(entry), document, above) for entry in error.errors(include_url=False) if entry["loc"] not in known]


def spoken(kind: str, context: Mapping[str, Any], message: str) -> str:
    """What a fault of pydantic's `kind` means, without the value; `message` is for the kinds that are not known here."""
    if kind in _BOUNDS:
        word, member = _BOUNDS[kind]
        return f"must be {word} {context[member]:g}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty" if context["min_length"] == 1 else f"must have at least {context['min_length']} characters"
    return _SPOKEN.get(kind) or message[:1].lower() + message[1:]


def _fault(entry: dict[str, Any], document: Document, above: MemberPath) -> Fault:
    kind: str = entry["type"]
    context: dict[str, Any] = entry.get("ctx", {})
    path: MemberPath = entry["loc"]
    if path and path[-1] == _NAME_MARK:
        return Fault(path[:-1], f"is not a usable name; {_names_rule((*above, *path))}")
    value = shown(entry["input"], path, document)
    match kind:
        case "missing":
            return Fault(path[:-1], f"{str(path[-1])!r} is missing")
        case "extra_forbidden":
            return Fault(path, _unknown((*above, *path)))
        case "literal_error":
            return Fault(path, _not_one_of((*above, *path), entry["input"], value))
        case "string_pattern_mismatch":
            return Fault(path, f"{value} is not a usable name; {_names_rule((*above, *path))}")
        case _:
            return Fault(path, spoken(kind, context, str(entry["msg"])))


_TOOL_RULES = {
    "http": "use letters, digits, _ -, beginning with a letter, at most 64 characters, with @ and its version if not 1.0.0",
    "mcp": "use letters, digits, -, beginning with a letter, at most 32 characters",
    "python": "write it like package.module:function",
    "version": "write it like 1.0.0",
}


def _names_rule(path: MemberPath) -> str:
    if path[0] == "tools" and (rule := _TOOL_RULES.get(str(path[-1])) or _TOOL_RULES.get(str(path[1]))):
        return rule
    if path[0] == "workflows" and path[2:]:
        return "use letters, digits, _ -, beginning with a letter or _, at most 64 characters"
    more = " and : / @ +" if path[0] == "models" else ""
    length = 128 if path[0] == "models" else 64
    return f"use letters, digits, . _ -{more}, beginning with a letter or digit, at most {length} characters"


def _unknown(path: MemberPath) -> str:
    name, members = str(path[-1]), _members(path[:-1])
    hint = close_to(name, members) or f"; known here: {listed(members)}"
    return f"is not a member{hint}"


def _not_one_of(path: MemberPath, value: Any, said: str) -> str:
    allowed = [str(option) for option in _literal(path)]
    noun = "a kind of provider" if path[0] == "providers" and path[-1] == "kind" else "allowed"
    return f"{said} is not {noun}{close_to(str(value), allowed) or f'; use one of {listed(allowed)}'}"


def _members(path: MemberPath) -> list[str]:
    for option in _annotations(path):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return [field.alias or name for name, field in option.model_fields.items()]
    return []


def _literal(path: MemberPath) -> list[Any]:
    return [
        value for option in _annotations(path) for value in (get_args(option) or (option,)) if isinstance(value, (str, int))
    ]


def _annotations(path: MemberPath) -> list[Any]:
    """The types that the member at `path` may have: unions are taken apart, containers opened by each index or key."""
    options: list[Any] = [QuorumSpec]
    for name in path:
        inner: list[Any] = []
        for option in options:
            if isinstance(option, type) and issubclass(option, BaseModel):
                known = (field for own, field in option.model_fields.items() if str(name) in (own, field.alias))
                inner += [kind for field in known for kind in _options(field.annotation)]
            else:
                inner += [kind for item in _items(option, name) for kind in _options(item)]
        options = inner
    return options


def _items(container: Any, name: str | int) -> list[Any]:
    """The types of what a mapping or a list holds."""
    arguments: list[Any] = list(get_args(container))
    return arguments[1:2] if isinstance(name, str) else arguments[:1]


def _options(annotation: Any) -> list[Any]:
    annotation = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    arguments = get_args(annotation)
    return [a for a in arguments if a is not type(None)] if type(None) in arguments else [annotation]
