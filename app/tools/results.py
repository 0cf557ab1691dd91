"""Results of tools made safe: tool output is data from somewhere else, so it is bounded and made of what JSON can say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, TypeVar, cast

import orjson
from pydantic_core import PydanticSerializationError, to_jsonable_python

T = TypeVar("T")
MAX_DEPTH: Final = 32
MAX_NODES: Final = 50_000
"""Members and items of a result. Below both bounds what is built of it is small, however it was meant."""
_DEEPER: Final = "[deeper levels left out]"
_MORE: Final = "[more left out]"
_CONTROLS: Final = {code: None for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if chr(code) not in "\t\n\r"}
"""C0 and C1 control characters but for line ends and tabs: terminals obey them, and no reader needs them."""


@dataclass(frozen=True, slots=True)
class Safe:
    """`value` is JSON, `text` the same to read. `truncated`: something was left out."""

    value: Any
    text: str
    truncated: bool


def jsonable(value: Any) -> Any:
    """`value` as JSON values: bytes as text with what is no UTF-8 replaced, models and dataclasses as objects.

    Raises:
        ValueError: it has something in it that JSON cannot say.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    try:
        return _read(value)
    except (PydanticSerializationError, ValueError, RecursionError):
        pass  # said also of what nests too deep to be read, of which the beginning can be
    try:
        return _read(_Beginning().of(value))
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise ValueError(f"it gave what is no JSON: {type(error).__name__}") from None


def _read(value: Any) -> Any:
    try:
        return to_jsonable_python(value, bytes_mode="utf8", inf_nan_mode="strings")
    except UnicodeDecodeError:
        return to_jsonable_python(_decoded(value), inf_nan_mode="strings")


class _Beginning:
    """Copies the levels of lists and mappings that `safe` keeps, and a little more, so that it finds something to leave out."""

    def __init__(self) -> None:
        self._nodes = 0
        self._around: set[int] = set()

    def of(self, value: Any, depth: int = 0) -> Any:
        """Raises ValueError: a list or mapping is a part of itself, and has no end."""
        self._nodes += 1
        if not isinstance(value, dict | list | tuple):
            return value
        own = id(value)  # pyright: ignore[reportUnknownArgumentType]
        if own in self._around:
            raise ValueError("it holds itself")
        if depth > MAX_DEPTH:
            return []
        self._around.add(own)
        if isinstance(value, dict):
            members = self._first(cast("dict[Any, Any]", value).items())
            kept: Any = {name: self.of(member, depth + 1) for name, member in members}
        else:
            kept = [self.of(item, depth + 1) for item in self._first(cast("list[Any]", value))]
        self._around.discard(own)
        return kept

    def _first(self, items: Iterable[T]) -> Iterator[T]:
        return takewhile(lambda _: self._nodes < MAX_NODES + 2, items)


def _decoded(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_decoded(name): _decoded(member) for name, member in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_decoded(item) for item in cast("list[Any]", value)]
    return value


def safe(value: Any, most_bytes: int) -> Safe:
    """JSON values within bounds. What is longer than `most_bytes` becomes a text: the beginning of it."""
    if isinstance(value, str):
        return _safe_text(value, most_bytes)
    if value is None or isinstance(value, bool | int):
        return (
            Safe(value, orjson.dumps(value).decode(), truncated=False) if _small(value) else _safe_text(str(value), most_bytes)
        )
    pruning = _Pruning()
    pruned = pruning.of(value, 0)
    written = orjson.dumps(pruned)
    if len(written) > most_bytes:
        text = written[:most_bytes].decode("utf-8", "ignore")
        return Safe(text, text, truncated=True)
    return Safe(pruned, written.decode(), pruning.cut)


def _safe_text(text: str, most_bytes: int) -> Safe:
    cut = len(text) > most_bytes
    clean = _clean(text[:most_bytes])
    encoded = clean.encode()
    if len(encoded) > most_bytes:
        clean, cut = encoded[:most_bytes].decode("utf-8", "ignore"), True
    return Safe(clean, clean, cut)


def _clean(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return text.encode("utf-8", "replace").decode().translate(_CONTROLS)


def _small(value: int | None) -> bool:
    return value is None or -(2**63) <= value < 2**64


class _Pruning:
    """Copies a value down to the bounds."""

    def __init__(self) -> None:
        self._nodes = 0
        self.cut = False

    def of(self, value: Any, depth: int) -> Any:
        self._nodes += 1
        match value:
            case str():
                return _clean(value)
            case bool() | None:
                return value
            case int():
                return value if _small(value) else str(value)
            case float():
                return value if math.isfinite(value) else str(value)
            case _ if depth >= MAX_DEPTH:
                self.cut = True
                return _DEEPER
            case Mapping():
                return self._members(cast("Mapping[Any, Any]", value), depth)
            case _:
                return self._items(cast("list[Any]", value), depth)

    def _members(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, member in value.items():
            if self._nodes > MAX_NODES:
                self.cut = True
                break
            kept[_clean(str(name))] = self.of(member, depth + 1)
        return kept

    def _items(self, value: list[Any], depth: int) -> list[Any]:
        kept: list[Any] = []
        for item in value:
            if self._nodes > MAX_NODES:
                self.cut = True
                kept.append(_MORE)
                break
            kept.append(self.of(item, depth + 1))
        return kept
