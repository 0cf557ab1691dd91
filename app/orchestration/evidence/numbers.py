"""Numbers as people and models write them: thousands separators, fractions, LaTeX, percent, currencies, units. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

READ_CHARACTERS: Final = 20_000
"""How much of an answer is read, from its end: a result comes last, and what a model writes has no bound."""

_MULTIPLES: Final = {"thousand": 1e3, "k": 1e3, "million": 1e6, "mn": 1e6, "billion": 1e9, "bn": 1e9, "trillion": 1e12}
_TO_TWELVE: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_WORDS: Final = {word: float(value) for value, word in enumerate(_TO_TWELVE)}
_UNITS: Final[dict[str, tuple[str, float]]] = {
    **{name: ("length", factor) for name, factor in (("mm", 1e-3), ("cm", 1e-2), ("m", 1.0), ("km", 1e3))},
    **{name: ("mass", factor) for name, factor in (("mg", 1e-6), ("g", 1e-3), ("kg", 1.0), ("t", 1e3))},
    **{name: ("time", factor) for name, factor in (("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0))},
    **{name: ("share", factor) for name, factor in (("%", 0.01), ("", 1.0))},
    **{name: ("money", factor) for name, factor in (("cent", 0.01), ("$", 1.0))},
}
"""Units that can be told in one another: what they measure, and how many of the base unit they are."""
_SAME_UNIT: Final = {
    "meter": "m", "metre": "m", "kilometer": "km", "kilometre": "km", "centimeter": "cm", "centimetre": "cm",
    "gram": "g", "kilogram": "kg", "second": "s", "sec": "s", "minute": "min", "hour": "h", "hr": "h", "day": "d",
    "percent": "%", "dollar": "$", "usd": "$",
}  # fmt: skip

_LATEX_SPACE = re.compile(r"\\[,;:! ]|\\(?:left|right|quad|displaystyle)(?![a-zA-Z])|~")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|operatorname)\s{0,2}\{([^{}]{0,200})\}")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s{0,2}\{([^{}]{1,40})\}\s{0,2}\{([^{}]{1,40})\}")
_LATEX_COMMA = re.compile(r"\{,\}|(?<=\d)\\,(?=\d{3})")
_CALCULATION = re.compile(r"<<[^<>]{0,200}>>")
_GROUPED = r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d{1,3}(?:[  ' ]\d{3})+(?![\d])(?:[.,]\d+)?|\d{1,3}(?:\.\d{3})+,\d+"
_DIGITS = rf"(?:{_GROUPED}|\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{{1,3}}(?!\d))?"
_NUMBER = re.compile(
    r"(?<![\w.,])(?P<sign>[-−–+])?\s{0,1}(?P<currency>[$€£¥])?\s{0,1}(?P<sign2>[-−])?"
    rf"(?P<whole>{_DIGITS})"
    rf"(?:\s{{0,2}}/\s{{0,2}}(?P<under>\d{{1,15}})(?![\d/])|\s(?P<over>\d{{1,6}})/(?P<mixed>\d{{1,6}})(?![\d/]))?"
    r"(?:\s{0,2}(?P<multiple>thousand|million|billion|trillion|mn|bn|k)(?![a-zA-Z]))?"
    r"(?:\s{0,2}(?P<unit>%|°[CF]?|[$€£¥]|[a-zA-Zµ]{1,20}(?![a-zA-Z])))?",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-zA-Z]+")


@dataclass(frozen=True, slots=True)
class Number:
    """A number that was read, and the word or sign that followed it as its unit ("" for none)."""

    value: float
    unit: str = ""

    @property
    def label(self) -> str:
        return number_label(self.value)

    def told_in(self, unit: str) -> Number:
        """The same quantity in `unit`, where both units are known and measure the same; else itself."""
        wanted, given = known_unit(unit), known_unit(self.unit)
        if not unit or not self.unit or wanted == given or wanted not in _UNITS or given not in _UNITS:
            return self
        (kind, factor), (given_kind, given_factor) = _UNITS[wanted], _UNITS[given]
        return Number(self.value * given_factor / factor, unit) if kind == given_kind else self


def known_unit(unit: str) -> str:
    """One name for the ways to write a unit: `Meters`, `metre` and `m` are `m`."""
    word = unit.strip().casefold()
    for name in (word, word.removesuffix("s"), word.removesuffix("es")):
        if name in _UNITS or name in _SAME_UNIT:
            return _SAME_UNIT.get(name, name)
    return word


def number_label(value: float) -> str:
    """One text for one value: whole numbers without a point, others to nine digits, so that 1/3 and 0.333333333 are one."""
    if value == 0:
        return "0"
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.9g}"


def plain(text: str) -> str:
    """`text` with LaTeX fractions as `a/b`, its spacing and text commands undone, without calculations in `<<2*3=6>>`."""
    text = text[-READ_CHARACTERS:]
    if "<<" in text:
        text = _CALCULATION.sub("", text)
    if "\\" in text or "{,}" in text:
        text = _LATEX_COMMA.sub(",", text)
        text = _LATEX_TEXT.sub(r" \1 ", text)
        text = _LATEX_FRACTION.sub(r" \1/\2", text)
        text = text.replace("\\%", "%").replace("\\$", "$")
        text = _LATEX_SPACE.sub(" ", text)
    return text


def numbers(text: str) -> list[Number]:
    """The numbers written in `text`, in its order. `text` has gone through `plain`."""
    return [number for found in _NUMBER.finditer(text) if (number := _read(found)) is not None]


def number(text: str) -> Number | None:
    """The number that `text` states: its last one, a decimal comma or a number word where it holds nothing else."""
    text = plain(text).strip("*_`$()[]{} \n").rstrip(".")
    if re.fullmatch(r"[-−]?\d{1,15},\d{1,2}", text):
        return Number(float(text.replace(",", ".").replace("−", "-")))
    found = numbers(text)
    if found:
        return found[-1]
    words = [word for word in _WORD.findall(text[-200:].casefold()) if word in _WORDS]
    return Number(_WORDS[words[-1]]) if words else None


def _read(found: re.Match[str]) -> Number | None:
    value = _digits(found["whole"])
    if found["under"]:
        if int(found["under"]) == 0:
            return None
        value /= int(found["under"])
    elif found["mixed"] and int(found["mixed"]):
        value += int(found["over"]) / int(found["mixed"])
    if found["multiple"]:
        value *= _MULTIPLES[found["multiple"].casefold()]
    if found["sign2"] or found["sign"] in {"-", "−"}:
        value = -value
    return Number(value, found["unit"] or found["currency"] or "") if math.isfinite(value) else None


def _digits(text: str) -> float:
    mantissa, letter, exponent = text.replace("E", "e").partition("e")
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+,\d+", mantissa):
        mantissa = mantissa.replace(".", "").replace(",", ".")
    elif re.fullmatch(r"\d{1,3}(?:[  ' ]\d{3})+,\d+", mantissa):
        mantissa = mantissa.replace(",", ".")
    return float(re.sub(r"[,  ' ]", "", mantissa) + letter + exponent)
