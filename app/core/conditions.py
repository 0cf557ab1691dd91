"""Conditions in CEL, the one expression language of the service: compiled once, bounded, and free of nested loops.

An expression is a caller's own text, so it may neither hang nor crash the process. What cel 0.10 was seen to do: it evaluates
while it holds Python's lock, and `map` copies its result for every item, so 20,000 items took 11 s in which nothing else ran.
A sum copies both of its sides, and `matches` compiles its pattern each time. Hence the bounds below and in `condition_shape`:
on the text, on its loops and patterns, on the values that it may read, and on how much of them it may write out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from app.core.condition_shape import LOOPS, MAX_DEPTH, Shape, is_pattern, pieces, place, shape_of
from app.core.errors import InvalidRequest

if TYPE_CHECKING:
    from cel import Program

MAX_CHARACTERS: Final = 2_000
MAX_ITEMS: Final = 300
MAX_VALUE_CHARACTERS: Final = 200_000
"""Bounds on all values that an expression is given, together."""
MAX_PATH_ITEMS: Final = 20_000
"""The first bound for an expression that gives a value and does not loop: 50,000 items took it 0.1 s."""
MAX_COPIED: Final = 50_000_000
"""Characters that an expression may write out, by what its text says at most: 0.3 s. Without it 285 sums of a list of 20,000
items took 33 s and 690 MB."""
ITEM_CHARACTERS: Final = 32
"""What copying an item takes, in characters."""

_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")
_REASON = re.compile(r"(?m)^error: ([^.\n]*)")
_BOUND = re.compile(rf"\.\s*(?:{'|'.join(LOOPS)})\s*\(\s*([A-Za-z_]\w*)\s*,")
_EXPECTING = re.compile(r" expecting \{.*")


class Unanswerable(Exception):
    """A condition that could not be decided on these values: what was wrong, in words that follow the condition."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled expression. `loops` says whether it walks over values."""

    source: str
    shape: Shape
    _program: Program

    @property
    def loops(self) -> bool:
        return bool(self.shape.loops)

    async def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true of `values`; one that loops is evaluated off the event loop.

        Raises:
            Unanswerable: it cannot be evaluated, is no truth value, or the values are larger than a condition may read.
        """
        if self.loops:
            return await asyncio.to_thread(self.decide, values)
        return self.decide(values)

    def decide(self, values: Mapping[str, Any]) -> bool:
        """As `holds`, here and now."""
        _check_size(values, self.shape)
        found = _executed(self._program, values)
        if not isinstance(found, bool):
            raise Unanswerable(f"it gives {type(found).__name__}, not true or false")
        return found


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression that gives any value. `loops` says whether it walks over values."""

    source: str
    shape: Shape
    _program: Program

    @property
    def loops(self) -> bool:
        return bool(self.shape.loops)

    async def value(self, values: Mapping[str, Any]) -> Any:
        """What it gives for `values`; one that loops is evaluated off the event loop.

        Raises:
            Unanswerable: it cannot be evaluated, or the values are larger than it may read.
        """
        if self.loops:
            return await asyncio.to_thread(self._evaluate, values, MAX_ITEMS)
        return self._evaluate(values, MAX_PATH_ITEMS)

    def _evaluate(self, values: Mapping[str, Any], most: int) -> Any:
        _check_size(values, self.shape, most=most, gives=True)
        return _executed(self._program, values)


@lru_cache(maxsize=1_024)
def compiled(source: str, known: frozenset[str]) -> Condition:
    """The condition that `source` states over the variables `known`.

    Raises:
        InvalidRequest: it is no expression, too long, nests loops, or names a variable that there is not; says where.
    """
    program, shape = _program(source, known)
    condition = Condition(source, shape, program)
    if not program.variables():
        try:
            condition.decide({})
        except Unanswerable as error:
            raise InvalidRequest(f"is no condition: {error}") from None
    return condition


@lru_cache(maxsize=256)
def compiled_expression(source: str, known: frozenset[str]) -> Expression:
    """As `compiled`, for an expression that gives a value of any kind."""
    program, shape = _program(source, known)
    return Expression(source, shape, program)


def _program(source: str, known: frozenset[str]) -> tuple[Program, Shape]:
    if len(source) > MAX_CHARACTERS:
        raise InvalidRequest(f"has {len(source)} characters; an expression has at most {MAX_CHARACTERS}")
    shape = shape_of(source, known)
    from cel import compile as compile_cel  # here: it brings a command line with it, which takes 30 MB and 0.2 s

    try:
        program = compile_cel(source)
    except ValueError as error:
        raise InvalidRequest(_said(str(error))) from None
    bound = _bound_names(source)
    unknown = [name for name in program.variables() if name not in known and name not in bound]
    if unknown:
        listed = ", ".join(sorted(known))
        raise InvalidRequest(f"there is no variable {unknown[0]!r}{_at(source, unknown[0])}; there are {listed}")
    _check_constants(source)
    return program, shape


def _executed(program: Program, values: Mapping[str, Any]) -> Any:
    try:
        return program.execute(dict(values))
    except KeyError as error:
        raise Unanswerable(f"there is no {error}") from None
    except IndexError as error:
        raise Unanswerable(f"there is no such item: {error}") from None
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise Unanswerable(str(error)) from None


def _check_constants(source: str) -> None:
    """Raises InvalidRequest: a pattern that is written in `source` is none."""
    from cel import evaluate

    found = pieces(source)
    for at, word in enumerate(found):
        if word[0] == "matches" and is_pattern(found, at):
            text = found[at + 2]
            try:
                evaluate(f"''.matches({text[0]})", {})
            except (ValueError, RuntimeError) as error:
                reason = _REASON.findall(str(error))
                why = f": {reason[-1]}" if reason else ""
                raise InvalidRequest(f"{place(source, text.start())}: {text[0]} is no pattern{why}") from None


def _said(message: str) -> str:
    found = _PLACE.search(message)
    if found is None:
        return "is no expression"
    return f"line {found[1]}, column {found[2]}: {_EXPECTING.sub('', found[3])}"


def _at(source: str, name: str) -> str:
    found = re.search(rf"\b{re.escape(name)}\b", source)
    return "" if found is None else f" ({place(source, found.start())})"


def _bound_names(source: str) -> frozenset[str]:
    """The names that loops give to what they walk over."""
    return frozenset(_BOUND.findall(source))


def _check_size(values: Any, shape: Shape, *, most: int = MAX_ITEMS, gives: bool = False) -> None:
    items = characters = 0
    what, verb = ("the value", "is") if gives else ("the request's values", "are")
    waiting: list[tuple[Any, int]] = [(values, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, Mapping):
            inner = cast("Mapping[str, Any]", value)
            items += len(inner)
            characters += sum(len(str(key)) for key in inner)
            waiting += [(member, depth + 1) for member in inner.values()]
        elif isinstance(value, list | tuple):
            rows = cast("list[Any]", value)
            items += len(rows)
            waiting += [(item, depth + 1) for item in rows]
        if items > most or characters > MAX_VALUE_CHARACTERS or depth > MAX_DEPTH:
            bound = f"{most} members and {MAX_VALUE_CHARACTERS} characters"
            raise Unanswerable(f"{what} {verb} too large: an expression reads {bound}")
    copied = shape.copies(items, gives=gives) * (characters + ITEM_CHARACTERS * items)
    if copied > MAX_COPIED:
        raise Unanswerable(f"{what} would be copied too often: name fewer of them, add up fewer, or ask of a part")
