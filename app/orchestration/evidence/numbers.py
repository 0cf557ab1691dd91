"""Numbers as people and models write them: thousands separators, fractions, LaTeX, percent, currencies, units. Pure."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

READ_CHARACTERS: Final = 20_000
"""How much of an answer is read, from its end: a result comes last, and what a model writes has no bound."""

_EXACT: Final = 2**53
"""Up to here a float holds every whole number."""
_MULTIPLES: Final = {"thousand": 1e3, "k": 1e3, "million": 1e6, "mn": 1e6, "billion": 1e9, "bn": 1e9, "trillion": 1e12}
_TO_TWELVE: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_WORDS: Final = {word: float(value) for value, word in enumerate(_TO_TWELVE)}
_UNITS: Final[dict[str, tuple[str, float]]] = {
    **{name: ("length", factor) for name, factor in (("mm", 1e-3), ("cm", 1e-2), ("m", 1.0), ("km", 1e3))},
    **{name: ("length", factor) for name, factor in (("inch", 0.0254), ("ft", 0.3048))},
    **{name: ("mass", factor) for name, factor in (("mg", 1e-6), ("g", 1e-3), ("kg", 1.0), ("t", 1e3))},
    **{name: ("time", factor) for name, factor in (("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0))},
    **{name: ("share", factor) for name, factor in (("%", 0.01), ("", 1.0))},
    **{name: ("money", factor) for name, factor in (("cent", 0.01), ("$", 1.0))},
}
"""Units that can be told in one another: what they measure, and how many of the base unit they are."""
_SAME_UNIT: Final = {
    "meter": "m", "metre": "m", "kilometer": "km", "kilometre": "km", "centimeter": "cm", "centimetre": "cm",
    "gram": "g", "kilogram": "kg", "second": "s", "sec": "s", "minute": "min", "hour": "h", "hr": "h", "day": "d",
    "foot": "ft", "feet": "ft", "percent": "%", "dollar": "$", "usd": "$",
}  # fmt: skip

_LONGEST_JOINT: Final = 16
"""Characters that may stand between the parts of one quantity."""

_LATEX_SPACE = re.compile(r"\\[,;:! ]|\\(?:left|right|quad|displaystyle)(?![a-zA-Z])|~")
_LATEX_TIMES = re.compile(r"\\(?:times|cdot)(?![a-zA-Z])")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|operatorname)\s{0,2}\{([^{}]{0,200})\}")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s{0,2}\{([^{}]{1,40})\}\s{0,2}\{([^{}]{1,40})\}")
_LATEX_COMMA = re.compile(r"\{,\}|(?<=\d)\\,(?=\d{3})")
_CALCULATION = re.compile(r"<<[^<>]{0,200}>>")
_POWER = re.compile(r"(?<=[\d)}])\^\s?\{\s?([-−+]?\d{1,15}(?:\.\d{1,15})?)\s?\}")
_STARRED_POWER = re.compile(r"(?<=\d)\*\*(?=[-−]?\d)")
_RAISED = re.compile(r"(?<=[\d)])[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,4}")
_RAISED_IN_LONG = re.compile(rf"(?!(?<![\d.].)²){_RAISED.pattern}")
_FROM_RAISED: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_FRACTION_SIGN = re.compile(r" ?([¼½¾⅐-⅞↉])")
_HOURS = re.compile(r"(\d)\s?h\s?(\d{1,2})\s?m(?:in)?(?![a-zA-Z])")
_PAIR = re.compile(r"[(\[{][^()\[\]{}]{0,80}[)\]}]")
_SQUARE = re.compile(r"(?<![\d.,^])\d\^2(?!\d)")
_LONG: Final = 200
"""Characters of a worked answer. Where the square of a digit comes last in one, the calculation was cut off and says no result:
then the last figure is as good as any (recorded answers on happy numbers were graded by it)."""
_NEXT_PART = re.compile(r"\s{0,3}(?:,|and\s)?\s{0,3}")
_OF = re.compile(r"\s{1,3}of\s{1,3}(?:the\s{1,3})?")
_COMMA_DECIMAL = r"(?:\d{1,15},\d{1,2}|0,\d{1,15})(?!\d|[,.]\d)"
_GROUPED = (
    r"\d{1,3}(?:,\d{3})+(?!\d|,\d)(?:\.\d+)?|\d{1,2}(?:,\d{2}){1,6},\d{3}(?!\d|,\d)(?:\.\d+)?"
    r"|\d{1,3}(?:[  ' ]\d{3})+(?![\d])(?:[.,]\d+)?|\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}(?!\d|[.,]\d)"
    rf"|(?<![(\[{{]){_COMMA_DECIMAL}|{_COMMA_DECIMAL}(?![)\]}}])"
)
_DIGITS = rf"(?:0x[0-9a-f]{{1,16}}(?!\w)|(?:{_GROUPED}|\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d{{1,3}}(?!\d))?)"
_NUMBER = re.compile(
    r"(?<![\w.,^])(?P<sign>[-−–+])?\s{0,1}(?P<currency>[$€£¥])?\s{0,1}(?P<sign2>[-−])?"
    rf"(?P<whole>(?>{_DIGITS}))"
    r"(?:\s{0,2}[×x*·⋅]\s{0,2}10\^(?P<ten>[-−+]?\d{1,4})(?!\d)|\^(?P<power>[-−+]?\d{1,4}(?:\.\d{1,15})?)(?!\d))?(?!\s?\^\s?\S)"
    r"(?:\s{0,2}/\s{0,2}(?P<under>\d{1,15})(?![\d/])|\s(?P<over>\d{1,6})/(?P<mixed>\d{1,6})(?![\d/]))?"
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
    if not float(value).is_integer():
        return f"{value:.9g}"
    return str(int(value)) if abs(value) <= _EXACT else f"{value:.15g}"


def plain(text: str) -> str:
    """`text` with fractions as `a/b` and powers as `a^b`, LaTeX's spacing and text commands undone, without calculations in
    `<<2*3=6>>`."""
    text = text[-READ_CHARACTERS:]
    if "<<" in text:
        text = _CALCULATION.sub("", text)
    if "\\" in text or "{,}" in text:
        text = _LATEX_COMMA.sub(",", text)
        text = _LATEX_TEXT.sub(r" \1 ", text)
        text = _LATEX_FRACTION.sub(r" \1/\2", text)
        text = text.replace("\\%", "%").replace("\\$", "$")
        text = _LATEX_TIMES.sub("×", text)
        text = _LATEX_SPACE.sub(" ", text)
    if not text.isascii():
        text = _FRACTION_SIGN.sub(lambda sign: f" {unicodedata.normalize('NFKC', sign[1])}", text).replace("⁄", "/")
        raised = _RAISED_IN_LONG if len(text) > _LONG else _RAISED
        text = raised.sub(lambda power: f"^{power[0].translate(_FROM_RAISED)}", text)
    if "^{" in text or "^ {" in text:
        text = _POWER.sub(r"^\1", text)
    if "**" in text:
        text = _STARRED_POWER.sub("^", text)
    return _HOURS.sub(r"\1 h \2 min", text)


def numbers(text: str) -> list[Number]:
    """The numbers written in `text`, in its order. `text` has gone through `plain`.

    What is one quantity is one number: `3 hours 20 minutes` in hours, and a share of a number (`25% of 80`) what it comes to.
    Three digits after a comma are thousands (`1,500`), but after `0,`; fewer are decimals (`1,5`), but in brackets (`(1,2)`).
    """
    found: list[Number] = []
    end = 0
    for match in _NUMBER.finditer(text):
        read = _read(match)
        if read is None:
            continue
        joined = (
            _joined(found[-1], text[end : match.start()], read) if found and match.start() - end <= _LONGEST_JOINT else None
        )
        if joined is not None:
            found.pop()
        found.append(joined or read)
        end = match.end()
    return found


def _joined(first: Number, between: str, second: Number) -> Number | None:
    """The two as one quantity, where they are written as one."""
    units = _UNITS.get(known_unit(first.unit)), _UNITS.get(known_unit(second.unit))
    if first.unit == "%" and _OF.fullmatch(between) and second.unit != "%":
        return Number(first.value * second.value / 100, second.unit)
    if not units[0] or not units[1] or not first.unit or not second.unit or first.value < 0 or second.value < 0:
        return None
    (kind, factor), (other_kind, part) = units[0], units[1]
    if kind != other_kind or part >= factor or not _NEXT_PART.fullmatch(between):
        return None
    return Number(first.value + second.value * part / factor, first.unit)


def number(text: str) -> Number | None:
    """The number that `text` states: its last one, a number word where it holds nothing else."""
    text = plain(text)
    bare = text.strip("*_`$()[]{} \n").rstrip(".")
    text = text if _PAIR.fullmatch(text.strip()) else bare
    if len(text) > _LONG:
        text = _SQUARE.sub(" ; 2 ", text)
    found = numbers(text)
    if found:
        return found[-1]
    words = [word for word in _WORD.findall(text[-200:].casefold()) if word in _WORDS]
    return Number(_WORDS[words[-1]]) if words else None


def _read(found: re.Match[str]) -> Number | None:
    value = _digits(found["whole"])
    try:
        if found["ten"]:
            value *= 10.0 ** _exponent(found["ten"])
        elif found["power"]:
            value **= _exponent(found["power"])
    except (OverflowError, ZeroDivisionError):
        return None
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


def _exponent(text: str) -> float:
    return float(text.replace("−", "-"))


def _digits(text: str) -> float:
    if text[:2] in ("0x", "0X"):
        return float(int(text, 16))
    mantissa, letter, exponent = text.replace("E", "e").partition("e")
    if re.fullmatch(r"\d{1,15},\d{1,2}|0,\d+", mantissa):
        mantissa = mantissa.replace(",", ".")
    elif re.fullmatch(r"\d{1,3}(?:\.\d{3}){2,}", mantissa):
        mantissa = mantissa.replace(".", "")
    elif re.fullmatch(r"\d{1,3}(?:\.\d{3})+,\d+", mantissa):
        mantissa = mantissa.replace(".", "").replace(",", ".")
    elif re.fullmatch(r"\d{1,3}(?:[  ' ]\d{3})+,\d+", mantissa):
        mantissa = mantissa.replace(",", ".")
    return float(re.sub(r"[,  ' ]", "", mantissa) + letter + exponent)
