"""YAML as plain values, with the place of every member and with `${NAME}` references filled in.

A value is read in three steps: the events are counted, so that nothing deep or huge is built; the tree is composed; the
tree becomes dicts, lists and scalars, while the place and the written text of each value are kept under its path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import yaml

MAX_BYTES = 1_000_000
MAX_DEPTH = 64
MAX_VALUES = 100_000
"""Bounds on the file. Aliases multiply values, so those are counted as if written out."""

MemberPath = tuple[str | int, ...]
"""Where a value is: member names and list indices from the top."""
LITERAL: MemberPath = ("workflows",)
"""Below this nothing is filled in: the references of workflows look alike, and are theirs."""

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{[^}]*\}?")
_MERGE = "tag:yaml.org,2002:merge"
_STRING = "tag:yaml.org,2002:str"
_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
_KNOWN_TAGS = _PLAIN_TAGS | {_STRING, _MERGE, *(f"tag:yaml.org,2002:{name}" for name in ("timestamp", "value", "map", "seq"))}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line and a column, both counted from 1."""

    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong: what, at which member, and where if that is not the member's own place."""

    path: MemberPath
    message: str
    place: Place | None = None


@dataclass(slots=True)
class Document:
    """A parsed file.

    `places` has the place of each member's name and each list item, `written` the text of each unquoted scalar,
    `expanded` the text of each scalar that references were filled into, as it stands in the file.
    """

    value: Any = None
    places: dict[MemberPath, Place] = field(default_factory=dict[MemberPath, Place])
    written: dict[MemberPath, str] = field(default_factory=dict[MemberPath, str])
    expanded: dict[MemberPath, str] = field(default_factory=dict[MemberPath, str])
    faults: list[Fault] = field(default_factory=list[Fault])

    def place(self, path: MemberPath) -> Place:
        """The place of `path`, or of the nearest member around it."""
        for end in range(len(path), -1, -1):
            if place := self.places.get(path[:end]):
                return place
        return Place()


def parse(text: str, environ: Mapping[str, str], *, literal: MemberPath | None = LITERAL) -> Document:
    """Read `text`, filling in references from `environ`. What is wrong is in the document's `faults`.

    Parameters:
        literal: the member below which nothing is filled in; None where it is filled in everywhere.
    """
    document = Document()
    try:
        _measure(text)
        loader: Any = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is not None:
                document.value = _Builder(document, loader, environ, literal).build(root, ())
        finally:
            loader.dispose()
    except _Unreadable as error:
        document.faults.append(Fault((), str(error), error.place))
    except yaml.reader.ReaderError as error:
        document.faults.append(Fault((), f"the character {_character(error)} is not allowed", _at(text, error.position)))
    except yaml.MarkedYAMLError as error:
        document.faults.append(_not_yaml(error, text))
    return document


class _Unreadable(Exception):
    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.place = place


def _not_yaml(error: yaml.MarkedYAMLError, text: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    if mark is not None and text[max(0, mark.index - 1) : mark.index + 1] == "${":
        return Fault((), 'inside { } or [ ] a reference is quoted: "${NAME}"', _place(mark))
    what = " ".join(part for part in (error.problem, error.context) if part)
    return Fault((), f"not YAML: {what}", _place(mark))


def _place(mark: yaml.Mark | None) -> Place:
    return Place() if mark is None else Place(mark.line + 1, mark.column + 1)


def _at(text: str, position: int) -> Place:
    before = text[:position]
    return Place(before.count("\n") + 1, len(before) - before.rfind("\n"))


def _character(error: yaml.reader.ReaderError) -> str:
    return f"U+{error.character:04X}" if isinstance(error.character, int) else f"U+{ord(error.character):04X}"


def _measure(text: str) -> None:
    depth = 0
    events: Iterable[Any] = cast("Any", yaml).parse(text, Loader=yaml.SafeLoader)
    for count, event in enumerate(events):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _Unreadable(f"nested more than {MAX_DEPTH} deep", _place(event.start_mark))
        if count > MAX_VALUES:
            raise _Unreadable(f"more than {MAX_VALUES} values", _place(event.start_mark))


class _Builder:
    """Turns nodes into values and notes their places."""

    def __init__(self, document: Document, loader: Any, environ: Mapping[str, str], literal: MemberPath | None) -> None:
        self._document = document
        self._literal = literal
        self._loader = loader
        self._environ = environ
        self._count = 0
        self._merging: set[int] = set()

    def build(self, node: yaml.Node, path: MemberPath) -> Any:
        self._spend(node)
        if len(path) > MAX_DEPTH:
            raise _Unreadable(f"nested more than {MAX_DEPTH} deep once aliases are written out", _place(node.start_mark))
        self._document.places.setdefault(path, _place(node.start_mark))
        if node.tag not in _KNOWN_TAGS:
            self._fault(path, f"the tag {node.tag!r} is not allowed; leave it out", node)
            return None
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path)
            case yaml.SequenceNode():
                return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
            case yaml.ScalarNode():
                return self._scalar(node, path)
            case _:
                raise TypeError(f"YAML has no node of type {type(node).__name__}")

    def _spend(self, node: yaml.Node) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _Unreadable(f"more than {MAX_VALUES} values once aliases are written out", _place(node.start_mark))

    def _fault(self, path: MemberPath, message: str, node: yaml.Node) -> None:
        self._document.faults.append(Fault(path, message, _place(node.start_mark)))

    def _mapping(self, node: yaml.MappingNode, path: MemberPath) -> dict[str, Any]:
        self._spend(node)
        members: dict[str, Any] = {}
        first: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._fault(path, "a member's name must be a text", key)
            elif key.tag == _MERGE:
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            elif key.value in first:
                self._fault((*path, key.value), f"stands twice, first in line {first[key.value]}; keep one of them", key)
            else:
                first[key.value] = key.start_mark.line + 1
                inner = (*path, key.value)
                self._document.places[inner] = _place(key.start_mark)
                members[key.value] = self.build(value, inner)
        for source in merged:
            self._merge(source, path, members)
        return members

    def _merge(self, source: yaml.Node, path: MemberPath, members: dict[str, Any]) -> None:
        if not isinstance(source, yaml.MappingNode):
            self._fault(path, "'<<' takes a mapping, or a list of mappings", source)
            return
        if id(source) in self._merging:
            self._fault(path, "merges itself", source)
            return
        self._merging.add(id(source))
        own = [pair for pair in source.value if not (isinstance(pair[0], yaml.ScalarNode) and pair[0].value in members)]
        members.update(self._mapping(yaml.MappingNode(source.tag, own, source.start_mark), path))
        self._merging.discard(id(source))

    def _scalar(self, node: yaml.ScalarNode, path: MemberPath) -> Any:
        plain = node.style is None
        text: str = node.value
        if plain:
            self._document.written[path] = text
        literal = self._literal
        if "${" not in text or (literal is not None and path[: len(literal)] == literal):
            return self._typed(node.tag, text, node, path)
        filled = _REFERENCE.sub(lambda match: self._reference(match, node, path), text)
        self._document.expanded[path] = text
        if not plain or not _REFERENCE.fullmatch(text) or text == "$${":
            return filled
        self._document.written[path] = filled
        return self._typed(self._loader.resolve(yaml.ScalarNode, filled, (True, False)), filled, node, path)

    def _typed(self, tag: str, text: str, node: yaml.ScalarNode, path: MemberPath) -> Any:
        if tag not in _PLAIN_TAGS:
            return text
        try:
            return self._loader.construct_object(yaml.ScalarNode(tag, text, node.start_mark, node.end_mark))
        except (ValueError, KeyError):
            self._fault(path, f"cannot be read as {tag.rpartition(':')[2]}", node)
            return None

    def _reference(self, match: re.Match[str], node: yaml.ScalarNode, path: MemberPath) -> str:
        whole, name, default = match[0], match[1], match[2]
        if whole == "$${":
            return "${"
        if name is None:
            self._fault(
                path, f"{whole!r} is not a reference; write ${{NAME}} or ${{NAME:-default}}, or $${{ for a plain ${{", node
            )
            return ""
        value = self._environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            self._fault(path, f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}", node)
            return ""
        return value
