"""The sums that stand in a question, worked out."""

from __future__ import annotations

import ast
import re
from typing import cast

Number = int | float

_WORDS = (
    (re.compile(r"\bmultiplied by\b|\btimes\b|[×·]|(?<=[\d)])\s*x\s*(?=[\d(])", re.IGNORECASE), "*"),
    (re.compile(r"\bdivided by\b|[÷]", re.IGNORECASE), "/"),
    (re.compile(r"\bplus\b", re.IGNORECASE), "+"),
    (re.compile(r"\bminus\b|−", re.IGNORECASE), "-"),
    (re.compile(r"\bto the power of\b|\^", re.IGNORECASE), "**"),
    (re.compile(r"(\d+(?:\.\d+)?)\s*%\s*of\s+", re.IGNORECASE), r"\1/100*"),
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), ""),
)
_NUMBER = r"\d+(?:\.\d+)?"
_SUM = re.compile(rf"[-(\s]*{_NUMBER}[\s)]*(?:(?:\*\*|[-+*/])[-(\s]*{_NUMBER}[\s)]*)+")
_PRIME = re.compile(r"\bis\s+(\d{1,12})\s+(?:a\s+)?prime\b", re.IGNORECASE)
_ASKS = re.compile(r"\b(?:what|how much|how many|calculate|compute|evaluate|solve|work out|add|result)\b|=", re.IGNORECASE)
_DATE = re.compile(r"\b\d{4}(?:[-/]\d{1,2}[-/]\d{1,2}|[-/]\d{4})\b")
_MAX_READ, _MAX_LENGTH, _MAX_EXPONENT, _MAX_BASE = 2_000, 200, 20, 1_000_000


def expression(question: str) -> str | None:
    """The first sum in a question as an expression: `17 * 23` of "What is 17 times 23?"; None without one."""
    text = _DATE.sub("", question[:_MAX_READ])
    for pattern, symbol in _WORDS:
        text = pattern.sub(symbol if symbol[:1] == "\\" or not symbol else f" {symbol} ", text)
    found = _SUM.search(text)
    if found is None or len(found[0]) > _MAX_LENGTH or not (_ASKS.search(question) or len(found[0]) > len(text) - 4):
        return None
    return " ".join(_balanced(found[0]).split())


def _balanced(text: str) -> str:
    """Without the brackets that the sentence around the sum opened or closed."""
    while text.count(")") > text.count("("):
        text = text[: text.rindex(")")]
    while text.count("(") > text.count(")"):
        text = text.replace("(", "", 1)
    return text.strip()


def value(sum_: str) -> Number | None:
    """What an expression of numbers comes to; None where it has no value or too large a one."""
    try:
        result = _evaluate(ast.parse(sum_.strip(), mode="eval").body)
    except (SyntaxError, ZeroDivisionError, OverflowError, ValueError):
        return None
    return round(result, 6) if isinstance(result, float) else result


def _evaluate(node: ast.AST) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand)
        case ast.BinOp(left=left, op=op, right=right):
            return _apply(op, _evaluate(left), _evaluate(right))
        case _:
            raise ValueError("no sum")


def _apply(op: ast.operator, a: Number, b: Number) -> Number:
    match op:
        case ast.Add():
            return a + b
        case ast.Sub():
            return a - b
        case ast.Mult():
            return a * b
        case ast.Div():
            return a / b
        case ast.Pow():
            if abs(b) > _MAX_EXPONENT or not 0 < abs(a) < _MAX_BASE or (a < 0 and isinstance(b, float)):
                raise ValueError("too large, or no real number")
            return cast(Number, a**b)
        case _:
            raise ValueError("no sum")


def shown(number: Number) -> str:
    """A number as people write it: no `.0`."""
    return str(int(number)) if isinstance(number, float) and number.is_integer() and abs(number) < 1e15 else str(number)


def is_prime_question(question: str) -> bool | None:
    """Whether the number of "Is 17077 a prime number?" is one; None for another question."""
    found = _PRIME.search(question)
    if found is None:
        return None
    n = int(found[1])
    return n > 1 and all(n % k for k in range(2, int(n**0.5) + 1))
