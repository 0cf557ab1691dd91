"""The calculator: arithmetic read as a tree and worked out node by node, within bounds. Nothing is evaluated as code."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from app.tools.failures import BadArguments

MAX_CHARACTERS: Final = 1_000
MAX_BITS: Final = 4_096
"""Of a whole number: some 1,200 digits. Powers and factorials beyond it are refused before they are worked out."""
MAX_DEPTH: Final = 64
MAX_FACTORIAL: Final = 400

Number = int | float
_BINARY: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda left, right: left / right,
    ast.FloorDiv: lambda left, right: left // right,
    ast.Mod: operator.mod,
}
_UNARY: Final[Mapping[type[ast.unaryop], Callable[[Any], Number]]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_CONSTANTS: Final = {"pi": math.pi, "e": math.e, "tau": math.tau}


def _factorial(number: Number) -> int:
    if not isinstance(number, int) or not 0 <= number <= MAX_FACTORIAL:
        raise ValueError(f"factorial takes whole numbers from 0 to {MAX_FACTORIAL}")
    return math.factorial(number)


def _gcd(*numbers: Number) -> int:
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError("gcd takes whole numbers")
    return math.gcd(*map(int, numbers))


def _round(number: Number, digits: Number = 0) -> Number:
    rounded = round(number, int(digits)) if abs(digits) <= 100 else number
    return int(rounded) if digits == 0 else rounded


_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "abs": abs,
    "ceil": math.ceil,
    "cos": math.cos,
    "degrees": math.degrees,
    "exp": math.exp,
    "factorial": _factorial,
    "floor": math.floor,
    "gcd": _gcd,
    "ln": math.log,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "max": max,
    "min": min,
    "radians": math.radians,
    "round": _round,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
}


async def calculator(expression: str) -> Number:
    """Works out an arithmetic expression exactly: use it for every calculation instead of doing it in your head.

    Operators + - * / // % ** and brackets; abs, ceil, floor, round, sqrt, exp, ln, log, log2, log10, sin, cos, tan, degrees,
    radians, factorial, gcd, min, max; pi, e, tau. ^ means a power.

    Parameters:
        expression: such as (17 * 23 + 4) / 3 or sqrt(2) ** 3, without units or words.
    """
    try:
        return calculated(expression)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise BadArguments(str(error)) from None


def calculated(expression: str) -> Number:
    """The value of an expression.

    Raises:
        ValueError, TypeError, ArithmeticError: it has none, or too large a one.
    """
    if len(expression) > MAX_CHARACTERS:
        raise ValueError(f"the expression has {len(expression)} characters; {MAX_CHARACTERS} are the most")
    text = expression.replace("^", "**").replace("×", "*").replace("÷", "/").replace("−", "-").strip()
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(f"{expression[:100]!r} is no arithmetic expression") from None
    try:
        value = _worked_out(tree.body, 0)
    except RecursionError:  # where what is no arithmetic is to be shown
        raise ValueError(f"the expression nests deeper than {MAX_DEPTH} levels") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("the result is not a finite number")
    return value


def _worked_out(node: ast.expr, depth: int) -> Number:
    if depth > MAX_DEPTH:
        raise ValueError(f"the expression nests deeper than {MAX_DEPTH} levels")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_worked_out(operand, depth + 1))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _bounded(_power(_worked_out(left, depth + 1), _worked_out(right, depth + 1)))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _bounded(_BINARY[type(op)](_worked_out(left, depth + 1), _worked_out(right, depth + 1)))
        case ast.Call(func=ast.Name(id=name), args=given, keywords=[]) if name in _FUNCTIONS:
            return _bounded(_FUNCTIONS[name](*(_worked_out(one, depth + 1) for one in given)))
        case _:
            raise ValueError(f"{ast.unparse(node)[:60]!r} is not arithmetic; numbers, operators and functions such as sqrt are")


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and abs(exponent) * max(1, base.bit_length()) > MAX_BITS:
        raise ValueError("the result of a power has too many digits")
    value: Any = base**exponent
    if isinstance(value, complex):
        raise ValueError("the result is not a real number")  # noqa: TRY004 (the expression is at fault, not a type)
    return value


def _bounded(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ValueError("a number has too many digits")
    return value
