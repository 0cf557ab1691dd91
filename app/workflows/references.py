"""References in texts: `${steps.draft.output.text}`, `${inputs.items[0].name}`, `${steps.a.output ?? steps.b.output ?? ""}`.

The first way that leads to something is taken; the last may be JSON. `$${` is a plain `${`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, Final, cast

import orjson

from app.core.errors import InvalidRequest, OrchestratorError

ROOTS: Final = ("inputs", "steps", "item", "index", "run", "workflow")
MOST_FILLED: Final = 16_000_000
"""Characters that the references of one value may lead to: else a text of 9,000 references to an output of 1 MB takes 9 GB."""
Path = tuple[str | int, ...]

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_FLAT: Final = rf'[^{{}}"]|{_QUOTED}'
_OBJECTS: Final = reduce(lambda inner, _: rf"{_FLAT}|\{{(?:{inner})*\}}", range(3), _FLAT)
"""What may stand in a reference: quoted texts, and objects three deep; no other braces."""
MARK: Final = re.compile(rf"\$\$\{{|\$\{{((?:{_OBJECTS})*)\}}|\$\{{")
"""A plain `${` as it is written, a reference with what stands in it, or the beginning of one that does not end."""
_WAYS: Final = re.compile(rf"{_QUOTED}|(\?\?)")
_STEP: Final = re.compile(r'\.([A-Za-z_][A-Za-z0-9_-]*)|\[(\d{1,9})\]|\["((?:[^"\\]|\\.)*)"\]')
_ROOT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Nothing:
    """What a way leads to that leads nowhere."""

    __slots__ = ()


NOTHING: Final = Nothing()


@dataclass(frozen=True, slots=True)
class Reference:
    """What stands between `${` and `}`. `literal` is the value at its end, where it has one (`has_literal`)."""

    text: str
    paths: tuple[Path, ...]
    literal: Any = None
    has_literal: bool = False

    @property
    def optional(self) -> bool:
        """Whether something else stands in where the first way leads nowhere."""
        return self.has_literal or len(self.paths) > 1

    @property
    def plain(self) -> Path | None:
        """The one way that it is; None where there are several."""
        return None if self.optional else self.paths[0]

    def value(self, find: Callable[[Path], Any]) -> Any:
        """What it stands for: the first that is not null, else null; `NOTHING` where no way leads to anything."""
        null = False
        for path in self.paths:
            found = find(path)
            if found is not None and found is not NOTHING:
                return found
            null = null or found is None
        return self.literal if self.has_literal else None if null else NOTHING


@lru_cache(maxsize=4_096)
def parse_reference(text: str) -> Reference:
    """What `text`, the inner of a reference, says.

    Raises:
        InvalidRequest: it says nothing; how it is written.
    """
    ways = _ways(text)
    paths: list[Path] = []
    for number, way in enumerate(ways):
        path = _path(way)
        if path is not None:
            paths.append(path)
            continue
        if number and number == len(ways) - 1:
            try:
                return Reference(text, tuple(paths), orjson.loads(way), has_literal=True)
            except orjson.JSONDecodeError:
                pass
        raise InvalidRequest(f"${{{text}}} is no reference; write it like ${{steps.draft.output.text}} or ${{inputs.topic}}")
    for path in paths:
        if path[0] not in ROOTS:
            known = ", ".join(ROOTS)
            raise InvalidRequest(f"${{{text}}} begins with {path[0]!r}, which there is not; there are {known}")
    return Reference(text, tuple(paths))


def _ways(text: str) -> list[str]:
    """What stands between the `??` of a reference; one in a quoted text is none."""
    marks = [found.span() for found in _WAYS.finditer(text) if found[1]]
    ends = [0, *(place for span in marks for place in span), len(text)]
    return [text[start:end].strip() for start, end in zip(ends[::2], ends[1::2], strict=True)]


def _path(text: str) -> Path | None:
    root = _ROOT.match(text)
    if root is None or text in ("true", "false", "null"):
        return None
    steps: list[str | int] = [root[0]]
    position = root.end()
    while position < len(text):
        found = _STEP.match(text, position)
        if found is None:
            return None
        name, index, quoted = found.groups()
        try:
            steps.append(int(index) if index is not None else name if name is not None else orjson.loads(f'"{quoted}"'))
        except orjson.JSONDecodeError:
            return None
        position = found.end()
    return tuple(steps)


def in_text(text: str) -> Iterator[Reference]:
    """Every reference of a text.

    Raises:
        InvalidRequest: one is none.
    """
    for found in MARK.finditer(text):
        if found[0] == "$${":
            continue
        if found[1] is None:
            raise InvalidRequest("holds a '${' without its '}'; a plain one is written $${")
        yield parse_reference(found[1].strip())


def in_value(value: Any, path: Path = ()) -> Iterator[tuple[Path, Reference]]:
    """Every reference in the texts of a JSON value, with the place of its text.

    Raises:
        InvalidRequest: one is none.
    """
    if isinstance(value, str):
        for reference in in_text(value):
            yield path, reference
    elif isinstance(value, Mapping):
        for name, member in cast("Mapping[str, Any]", value).items():
            yield from in_value(member, (*path, name))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(cast("list[Any]", value)):
            yield from in_value(item, (*path, number))


def malformed(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """The texts of a JSON value in which a reference is none, each with its place and what is wrong."""
    if isinstance(value, str):
        try:
            tuple(in_text(value))
        except InvalidRequest as error:
            yield path, error.message
    elif isinstance(value, Mapping):
        for name, member in cast("Mapping[str, Any]", value).items():
            yield from malformed(member, (*path, name))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(cast("list[Any]", value)):
            yield from malformed(item, (*path, number))


def whole(text: str) -> Reference | None:
    """The reference that all of `text` is; None where it is another text."""
    found = MARK.fullmatch(text)
    return parse_reference(found[1].strip()) if found is not None and found[1] is not None else None


class Unfound(LookupError):
    """A reference leads nowhere."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(reference.text)
        self.reference = reference


def filled(value: Any, find: Callable[[Path], Any], *, missing: Any = NOTHING) -> Any:
    """`value` with its references replaced by what they stand for, `missing` where one leads nowhere.

    Raises:
        Unfound: one leads nowhere, and nothing was given for that.
        OrchestratorError: all of them together come to more than MOST_FILLED characters.
    """
    return _Filling(find, missing).of(value)


class _Filling:
    """One value being filled in. `_left` is what its references may still come to."""

    def __init__(self, find: Callable[[Path], Any], missing: Any) -> None:
        self._find, self._missing, self._left = find, missing, MOST_FILLED

    def of(self, value: Any) -> Any:
        if isinstance(value, str):
            if "${" not in value:
                return value
            alone = whole(value)
            return MARK.sub(self._said, value) if alone is None else self._found(alone)
        if isinstance(value, Mapping):
            return {name: self.of(member) for name, member in cast("Mapping[str, Any]", value).items()}
        if isinstance(value, list | tuple):
            return [self.of(item) for item in cast("list[Any]", value)]
        return value

    def _said(self, found: re.Match[str]) -> str:
        return "${" if found[1] is None else _text(self._found(parse_reference(found[1].strip())))

    def _found(self, reference: Reference) -> Any:
        found = reference.value(self._find)
        if found is NOTHING and self._missing is NOTHING:
            raise Unfound(reference)
        if found is NOTHING:
            return self._missing
        self._left -= _weight(found, self._left)
        if self._left < 0:
            raise OrchestratorError(f"what its references lead to comes to more than {MOST_FILLED} characters")
        return found


def _weight(value: Any, most: int) -> int:
    """About how many characters a JSON value takes; what is over `most` is not looked at."""
    found, waiting = 0, [value]
    while waiting and found <= most:
        one = waiting.pop()
        found += len(one) if isinstance(one, str) else 4
        if isinstance(one, Mapping):
            members = cast("Mapping[str, Any]", one)
            found += sum(map(len, members))
            waiting += members.values()
        elif isinstance(one, list | tuple):
            waiting += cast("list[Any]", one)
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()


def at(value: Any, path: Path) -> Any:
    """What `path` leads to in `value`; `NOTHING` where it leads nowhere."""
    for step in path:
        if isinstance(value, Mapping) and step in value:
            value = cast("Mapping[Any, Any]", value)[step]
        elif isinstance(value, list | tuple) and isinstance(step, int) and step < len(cast("list[Any]", value)):
            value = cast("list[Any]", value)[step]
        else:
            return NOTHING
    return value
