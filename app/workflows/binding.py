"""Expressions whose variables are references: each stands for one, so the expression language never sees more than what was
named."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from app.core.conditions import Condition, Expression, compiled_expression
from app.core.conditions import compiled as compiled_condition
from app.core.errors import InvalidRequest
from app.workflows.references import MARK, NOTHING, Path, Reference, parse_reference

MOST_REFERENCES: Final = 90
"""In one text: more do not fit the names that stand for them in an expression."""
_LITERAL: Final = re.compile(
    r"""[bBrR]{0,2}(?:\"\"\".*?\"\"\"|'''.*?'''|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')|//[^\n]*|""" + MARK.pattern,
    re.DOTALL,
)
_UNKNOWN: Final = re.compile(r"there is no variable '(\w+)'( \([^)]*\))?")


@dataclass(frozen=True, slots=True)
class Bound:
    """An expression with the references that it reads, by the names that they have in it."""

    compiled: Condition | Expression
    references: Mapping[str, Reference]

    def values(self, find: Callable[[Path], Any]) -> dict[str, Any]:
        """What it is to be given. A reference that leads nowhere is null."""
        found = {name: reference.value(find) for name, reference in self.references.items()}
        return {name: None if value is NOTHING else value for name, value in found.items()}


@lru_cache(maxsize=1_024)
def bound_condition(source: str) -> Bound:
    """As `bound_expression`, for one that is true or false."""
    text, references = _named(source)
    return Bound(_compiled(compiled_condition, text, references), references)


@lru_cache(maxsize=1_024)
def bound_expression(source: str) -> Bound:
    """The expression `source`, compiled. Each reference is a variable of the same length, so that places stay true.

    Raises:
        InvalidRequest: it is none, or larger than an expression may be.
    """
    text, references = _named(source)
    return Bound(_compiled(compiled_expression, text, references), references)


def _compiled(
    compile_: Callable[[str, frozenset[str]], Any], text: str, references: Mapping[str, Reference]
) -> Condition | Expression:
    try:
        return compile_(text, frozenset(references))
    except InvalidRequest as error:
        unknown = _UNKNOWN.search(error.message)
        if unknown is None:
            raise
        message = f"{unknown[1]!r} is no variable{unknown[2] or ''}; write what it reads as a reference, ${{inputs.topic}}"
        raise InvalidRequest(message) from None


def _named(source: str) -> tuple[str, dict[str, Reference]]:
    references: dict[str, Reference] = {}

    def name(found: re.Match[str]) -> str:
        piece = found[0]
        if not piece.startswith("$"):
            if "${" in piece and not piece.startswith("//"):
                raise InvalidRequest("a reference stands inside of a quoted text; write it outside, as 'a' + ${inputs.b}")
            return piece
        if found[1] is None:
            raise InvalidRequest("holds a '${' without its '}'")
        if len(references) >= MOST_REFERENCES:
            raise InvalidRequest(f"has more than {MOST_REFERENCES} references")
        variable = f"_{len(references)}".ljust(len(piece), "_")
        references[variable] = parse_reference(found[1].strip())
        return variable

    return _LITERAL.sub(name, source), references
