"""What an expression in CEL could cost, read off its text: its loops, the patterns it compiles, and how often it copies values.

The bounds on loops and patterns hold for the text alone. How much is copied depends on the values besides: `Shape.copies` says
how many times a value may be written out at most, in sums (cel copies both sides of each `+`) and in what is given back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from app.core.errors import InvalidRequest

MAX_LOOPS: Final = 4
"""Comprehensions in one expression, none inside or on top of another: with the bound on items that is tens of milliseconds."""
MAX_DEPTH: Final = 32
MAX_MATCHES: Final = 4
"""cel 0.10 compiles a pattern anew at each `matches`, up to 10 MB of it: 80 ms for `\\w{200}`."""
MAX_LOOPED_PATTERN: Final = 100
"""Characters of a pattern inside of a loop, where it is compiled for every item."""
MAX_LOOPED_CLASSES: Final = 2
"""Classes such as `\\w` in it: each is made of some 700 ranges, and takes 0.3 ms."""

LOOPS: Final = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter", "transformList", "transformMap"})
_NO_NAMES: Final = frozenset({"true", "false", "null", "in"})
_ENDS_OPERAND: Final = frozenset("&|?:=!<>")
_TEXTS: Final = frozenset({"raw", "long", "text"})
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
_CLASS = re.compile(r"\\[A-Za-z]")

Piece = re.Match[str]


@dataclass(frozen=True, slots=True)
class Loop:
    """`ranges` are the names in what it walks over, `bound` and `known` those in its body: of its items, and of variables. It
    has `sums` in its longest chain of them."""

    ranges: int
    bound: int
    known: int
    sums: int


@dataclass(frozen=True, slots=True)
class Shape:
    """An expression: its loops; and outside of them the names of variables, and the longest chain of sums."""

    loops: tuple[Loop, ...]
    names: int
    sums: int
    commas: int

    def copies(self, items: int, *, gives: bool) -> int:
        """How many times values with so many `items` in them are written out at most.

        Parameters:
            gives: whether values are given back, rather than decided by; where they are not, only sums copy.
        """
        looped = sum(self._in(loop, items) for loop in self.loops if gives or loop.sums)
        return (self.names + looped) * (1 + self.sums) if gives or self.sums or looped else 0

    def _in(self, loop: Loop, items: int) -> int:
        """All items together are as large as what is walked over; a variable in the body is there again for each of them."""
        each = loop.ranges * items + self.commas + 1
        return (loop.ranges * (1 + loop.bound) + loop.known * each) * (1 + loop.sums)


def pieces(source: str) -> list[Piece]:
    """The tokens of `source`, without spaces and comments."""
    return [found for found in _TOKEN.finditer(source) if found.lastgroup != "space"]


def place(source: str, offset: int) -> str:
    """Where that is, for people."""
    line = source.count("\n", 0, offset) + 1
    return f"line {line}, column {offset - source.rfind(chr(10), 0, offset)}"


def is_pattern(found: Sequence[Piece], at: int) -> bool:
    """Whether the word `matches` at `at` is given a pattern that is written there: `.matches("...")`."""
    after = found[at + 1 : at + 4]
    method = at > 0 and found[at - 1][0] == "."
    return method and len(after) == 3 and after[1].lastgroup in _TEXTS and after[2][0] == ")"


def shape_of(source: str, known: frozenset[str]) -> Shape:
    """The shape of `source` over the variables `known`.

    Raises:
        InvalidRequest: a loop is inside another or walks another's result, there are too many, or brackets nest too deep; or
            patterns would take too long to compile.
    """
    return _Reading(source, known).shape()


@dataclass(slots=True)
class _Group:
    """An open bracket. `walks` if it holds a loop's body, `looped` once a loop is in it, `chain` while its operand has one.
    `names` and `sums` are those of the operand so far, `named` all names, and `longest` the most sums that an operand had."""

    walks: bool = False
    looped: bool = False
    chain: bool = False
    names: int = 0
    named: int = 0
    sums: int = 0
    longest: int = 0

    def name(self, names: int) -> None:
        self.names += names
        self.named += names

    def add(self, sums: int) -> None:
        self.sums += sums
        self.longest = max(self.longest, self.sums)

    def end_operand(self) -> None:
        self.names = self.sums = 0


@dataclass(slots=True)
class _Body:
    """A loop that is being read."""

    ranges: int
    bound: int = 0
    known: int = 0


@dataclass(slots=True)
class _Reading:
    source: str
    known: frozenset[str]
    groups: list[_Group] = field(default_factory=lambda: [_Group()])
    loops: list[Loop] = field(default_factory=list[Loop])
    body: _Body | None = None
    begun: int = 0
    matches: int = 0
    names: int = 0
    commas: int = 0

    def shape(self) -> Shape:
        found = pieces(self.source)
        for at, piece in enumerate(found):
            before = found[at - 1][0] if at else ""
            after = found[at + 1][0] if at + 1 < len(found) else ""
            if piece.lastgroup == "word":
                self._word(found, at, before, after)
            elif piece.lastgroup == "other":
                self._other(piece, found[at - 1] if at else None, found[at - 2][0] if at > 1 else "")
        while len(self.groups) > 1:
            self._close()
        return Shape(tuple(self.loops), self.names, self.groups[0].longest, self.commas)

    def _word(self, found: Sequence[Piece], at: int, before: str, after: str) -> None:
        word = found[at][0]
        if word == "in":
            self.groups[-1].chain = False
            self.groups[-1].end_operand()
        if word == "matches" and after == "(":
            self._match(found, at)
        if before == "." or after == "(" or word in _NO_NAMES:
            return
        self.groups[-1].name(1)
        if self.body is None:
            self.names += 1
        elif word in self.known:
            self.body.known += 1
        else:
            self.body.bound += 1

    def _match(self, found: Sequence[Piece], at: int) -> None:
        self.matches += 1
        where = place(self.source, found[at].start())
        if self.matches > MAX_MATCHES:
            raise InvalidRequest(f"{where}: more than {MAX_MATCHES} 'matches'")
        if self.body is None:
            return
        pattern = found[at + 2][0] if is_pattern(found, at) else None
        if pattern is None or len(pattern) > MAX_LOOPED_PATTERN or "{" in pattern or _classes(pattern) > MAX_LOOPED_CLASSES:
            raise InvalidRequest(
                f"{where}: inside of a loop 'matches' takes a pattern that is written there, of at most {MAX_LOOPED_PATTERN} "
                rf"characters, with at most {MAX_LOOPED_CLASSES} classes such as \d and without {{n}}"
            )

    def _other(self, piece: Piece, before: Piece | None, earlier: str) -> None:
        group = self.groups[-1]
        match piece[0]:
            case "(" | "[" | "{":
                self._open(piece, before, earlier)
            case ")" | "]" | "}":
                self._close()
            case "+":
                group.chain = False
                group.add(1)
            case ".":
                pass
            case sign:
                group.chain = False
                self.commas += sign == ","
                if sign in _ENDS_OPERAND:
                    group.end_operand()

    def _open(self, piece: Piece, before: Piece | None, earlier: str) -> None:
        group = self.groups[-1]
        walks = piece[0] == "(" and before is not None and before[0] in LOOPS and earlier == "."
        if walks and before is not None:
            self._begin(group, before)
        self.groups.append(_Group(walks=walks))
        if len(self.groups) > MAX_DEPTH:
            raise InvalidRequest(f"{place(self.source, piece.start())}: brackets nest deeper than {MAX_DEPTH}")

    def _begin(self, group: _Group, word: Piece) -> None:
        self.begun += 1
        if group.chain or any(open_.walks for open_ in self.groups):
            raise InvalidRequest(f"{place(self.source, word.start())}: {word[0]!r} loops inside or over another loop")
        if self.begun > MAX_LOOPS:
            raise InvalidRequest(f"{place(self.source, word.start())}: more than {MAX_LOOPS} loops")
        for open_ in self.groups:
            open_.looped = True
        group.chain = True
        self.body = _Body(max(1, group.names))

    def _close(self) -> None:
        if len(self.groups) == 1:
            self.groups[0].chain |= self.groups[0].looped
            return
        closed = self.groups.pop()
        outer = self.groups[-1]
        outer.chain |= closed.looped
        outer.name(closed.named)
        if closed.walks and self.body is not None:
            self.loops.append(Loop(self.body.ranges, self.body.bound, self.body.known, closed.longest))
            self.body = None
        else:
            outer.add(closed.longest)


def _classes(pattern: str) -> int:
    return len(_CLASS.findall(pattern))
