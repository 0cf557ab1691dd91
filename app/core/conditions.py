"""Conditions in CEL, the one expression language of the service: compiled once, bounded, and free of nested loops.

An expression is a caller's own text, so it may neither hang nor crash the process. What cel 0.10 was seen to do: it evaluates
while it holds Python's lock, and `map` copies its result for every item, so 20,000 items took 11 s in which nothing else ran.
Hence the bounds below, on the text, on its loops, and on the values that a loop may walk.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from app.core.errors import InvalidRequest

if TYPE_CHECKING:
    from cel import Program

MAX_CHARACTERS: Final = 2_000
MAX_LOOPS: Final = 4
"""Comprehensions in one expression, none inside or on top of another: with the next bound that is tens of milliseconds."""
MAX_ITEMS: Final = 300
MAX_VALUE_CHARACTERS: Final = 200_000
"""Bounds on all values that an expression is given, together."""
MAX_PATH_ITEMS: Final = 20_000
"""The first bound for an expression that gives a value and does not loop: 50,000 items took it 0.1 s."""
MAX_DEPTH: Final = 32

_LOOPS: Final = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter", "transformList", "transformMap"})
_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<raw>[bB]?[rR][bB]?(?:\"\"\".*?\"\"\"|'''.*?'''|\"[^\"\n]*\"|'[^'\n]*'))
    |(?P<long>[bB]?(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|\'\'\'(?:\\.|[^\\])*?\'\'\'))
    |(?P<text>[bB]?(?:\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'))
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[0-9][0-9A-Za-z.]*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")
_REASON = re.compile(r"(?m)^error: ([^.\n]*)")
_EXPECTING = re.compile(r" expecting \{.*")


class Unanswerable(Exception):
    """A condition that could not be decided on these values: what was wrong, in words that follow the condition."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled expression. `loops` says whether it walks over values."""

    source: str
    loops: bool
    _program: Program

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
        _check_size(values)
        found = _executed(self._program, values)
        if not isinstance(found, bool):
            raise Unanswerable(f"it gives {type(found).__name__}, not true or false")
        return found


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression that gives any value. `loops` says whether it walks over values."""

    source: str
    loops: bool
    _program: Program

    async def value(self, values: Mapping[str, Any]) -> Any:
        """What it gives for `values`; one that loops is evaluated off the event loop.

        Raises:
            Unanswerable: it cannot be evaluated, or the values are larger than it may read.
        """
        if self.loops:
            return await asyncio.to_thread(self._evaluate, values, MAX_ITEMS)
        return self._evaluate(values, MAX_PATH_ITEMS)

    def _evaluate(self, values: Mapping[str, Any], most: int) -> Any:
        _check_size(values, most=most, what="the value")
        return _executed(self._program, values)


@lru_cache(maxsize=1_024)
def compiled(source: str, known: frozenset[str]) -> Condition:
    """The condition that `source` states over the variables `known`.

    Raises:
        InvalidRequest: it is no expression, too long, nests loops, or names a variable that there is not; says where.
    """
    program, loops = _program(source, known)
    condition = Condition(source, loops, program)
    if not program.variables():
        try:
            condition.decide({})
        except Unanswerable as error:
            raise InvalidRequest(f"is no condition: {error}") from None
    return condition


@lru_cache(maxsize=256)
def compiled_expression(source: str, known: frozenset[str]) -> Expression:
    """As `compiled`, for an expression that gives a value of any kind."""
    program, loops = _program(source, known)
    return Expression(source, loops, program)


def _program(source: str, known: frozenset[str]) -> tuple[Program, bool]:
    if len(source) > MAX_CHARACTERS:
        raise InvalidRequest(f"has {len(source)} characters; an expression has at most {MAX_CHARACTERS}")
    loops = _loops(source)
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
    return program, loops > 0


def _executed(program: Program, values: Mapping[str, Any]) -> Any:
    try:
        return program.execute(dict(values))
    except KeyError as error:
        raise Unanswerable(f"there is no {error}") from None
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise Unanswerable(str(error)) from None


def _check_constants(source: str) -> None:
    """Raises InvalidRequest: a pattern that is written in `source` is none."""
    from cel import evaluate

    pieces = [found for found in _TOKEN.finditer(source) if found.lastgroup != "space"]
    for word, bracket, text in zip(pieces, pieces[1:], pieces[2:], strict=False):
        if word[0] == "matches" and bracket[0] == "(" and text.lastgroup in ("raw", "long", "text"):
            try:
                evaluate(f"''.matches({text[0]})", {})
            except (ValueError, RuntimeError) as error:
                reason = _REASON.findall(str(error))
                why = f": {reason[-1]}" if reason else ""
                raise InvalidRequest(f"{_place(source, text.start())}: {text[0]} is no pattern{why}") from None


def _said(message: str) -> str:
    found = _PLACE.search(message)
    if found is None:
        return "is no expression"
    return f"line {found[1]}, column {found[2]}: {_EXPECTING.sub('', found[3])}"


def _at(source: str, name: str) -> str:
    found = re.search(rf"\b{re.escape(name)}\b", source)
    return "" if found is None else f" ({_place(source, found.start())})"


def _place(source: str, offset: int) -> str:
    line = source.count("\n", 0, offset) + 1
    return f"line {line}, column {offset - source.rfind(chr(10), 0, offset)}"


@dataclass(slots=True)
class _Group:
    """An open bracket. `walks` if it holds a loop's body, `looped` once a loop is in it, `chain` while its operand has one."""

    walks: bool = False
    looped: bool = False
    chain: bool = False


def _loops(source: str) -> int:
    """How many loops there are.

    Raises:
        InvalidRequest: one is inside another or walks another's result, there are too many, or brackets nest too deep.
    """
    groups, count = [_Group()], 0
    before, word_at, ahead = "", 0, ""
    for found in _TOKEN.finditer(source):
        if found.lastgroup == "space":
            continue
        piece = found[0]
        group = groups[-1]
        if found.lastgroup == "other" and piece in "([{":
            walks = piece == "(" and ahead in _LOOPS and before == "."
            if walks:
                count += 1
                if group.chain or any(open_.walks for open_ in groups):
                    raise InvalidRequest(f"{_place(source, word_at)}: {ahead!r} loops inside or over another loop")
                if count > MAX_LOOPS:
                    raise InvalidRequest(f"{_place(source, word_at)}: more than {MAX_LOOPS} loops")
                for open_ in groups:
                    open_.looped = True
                group.chain = True
            groups.append(_Group(walks=walks))
            if len(groups) > MAX_DEPTH:
                raise InvalidRequest(f"{_place(source, found.start())}: brackets nest deeper than {MAX_DEPTH}")
        elif found.lastgroup == "other" and piece in ")]}":
            closed = groups.pop() if len(groups) > 1 else group
            groups[-1].chain |= closed.looped
        elif piece == "in" or (found.lastgroup == "other" and piece != "."):
            group.chain = False
        if found.lastgroup == "word":
            ahead, word_at = piece, found.start()
        else:
            before, ahead = piece, ""
    return count


def _bound_names(source: str) -> frozenset[str]:
    """The names that loops give to what they walk over."""
    return frozenset(re.findall(rf"\.\s*(?:{'|'.join(_LOOPS)})\s*\(\s*([A-Za-z_]\w*)\s*,", source))


def _check_size(values: Any, *, most: int = MAX_ITEMS, what: str = "the request's values") -> None:
    items = characters = 0
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
            verb = "are" if what.endswith("s") else "is"
            raise Unanswerable(f"{what} {verb} too large: an expression reads {bound}")
