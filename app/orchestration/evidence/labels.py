"""One text for the many ways to write a label: case, quotes, brackets, emphasis, articles, yes and no. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from app.orchestration.evidence.numbers import number, plain

_SAME: Final = {
    "y": "yes", "yeah": "yes", "yep": "yes", "correct": "yes", "n": "no", "nope": "no", "incorrect": "no",
    "t": "true", "f": "false",
}  # fmt: skip
_PAIRS: Final = {"true": "yes", "false": "no", "yes": "true", "no": "false"}
_DECORATION: Final = " \t\r\n\"'`*_#.,;:!?()[]{}<>«»“”‘’$\\"
_ARTICLE = re.compile(r"^(?:the|a|an)\s+(?=\w{2})")
_SPACES = re.compile(r"\s+")
_NUMERIC = re.compile(r"[-−+]?[$€£¥]?\d[\d,.  ' /]*(?:\s?[×x*·]\s?10)?(?:\^[-−+]?\d{1,4})?(?:%|\s?[a-zA-Z]{0,3})?")
_LONG_WHOLE = re.compile(r"-?[1-9]\d{15,}")


def normalised(text: str) -> str:
    """`text` as a label: lower case, one space, without marks around it or an article before it; a number as its value."""
    text = unicodedata.normalize("NFKC", plain(text))
    bare = text.strip(_DECORATION)
    if _NUMERIC.fullmatch(bare) and not _LONG_WHOLE.fullmatch(bare):  # which no float holds to the last digit
        found = number(bare)
        if found is not None:
            return found.label + ("%" if found.unit == "%" else "")
    return _ARTICLE.sub("", _SPACES.sub(" ", bare.casefold()))


def among(text: str, choices: Sequence[str]) -> str | None:
    """The one of `choices` that `text` is, written as in `choices`; None where it is none of them.

    `B`, `(B)`, `B.` and `b) the second` are `B`; `Yes`, `y` and `true` are whichever of yes and true is a choice.
    """
    known = {normalised(choice): choice for choice in choices}
    label = normalised(text)
    for name in (label, _SAME.get(label, label)):
        for same in (name, _PAIRS.get(name, name)):
            if same in known:
                return known[same]
    head = re.match(r"\s{0,4}[(\[{*_\"']{0,4}(\w{1,40})[)\]}*_\"']{0,4}\s{0,2}[.):,\-–]", text)
    return known.get(normalised(head[1])) if head else None
