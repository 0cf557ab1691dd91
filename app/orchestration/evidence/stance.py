"""What a text states, as far as its words show it, and whether two texts state opposite things. Pure.

Words alone do not tell "it is safe" from "it is not safe". Here the few that turn a statement round decide: the answer that
is set off, yes or no at the head, a negation, other numbers, other names. Only what is stated shortly is compared so, a short
text, or the first and the last sentence of a longer one: what contradicts what within an explanation, words cannot tell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from app.orchestration.evidence.asked import SHORT, set_off
from app.orchestration.evidence.labels import normalised
from app.orchestration.evidence.numbers import numbers

_STATEMENT_CHARACTERS: Final = 200
"""Up to which a sentence is a statement that can be held against another."""
_READ_CHARACTERS: Final = 400
"""Of each end of a text are looked at for its first and its last sentence."""
_LABEL_WORDS: Final = 3
"""An answer of more words is a sentence."""
_UNSPACED_LABEL: Final = 6
"""Characters of one in a script without spaces."""
_MOSTLY: Final = 0.5
"""The share of words that two statements must have in common to be about one thing."""


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_YES: Final = _words("yes yeah yep true correct ja oui sí si да はい 是 是的 对")
_NO: Final = _words("no nope false incorrect nein non нет いいえ 不 不是 否")
_NEGATIONS: Final = _words(
    """not no never cannot cant dont doesnt didnt isnt arent wasnt werent wont wouldnt shouldnt couldnt hasnt havent hadnt
    neither nor none nothing nobody without hardly nicht kein keine keinen nie pas jamais ne не ни nunca"""
)
_OPPOSITES: Final = frozenset(
    map(
        frozenset,
        (
            pair.split("/")
            for pair in _words(
                """true/false yes/no more/less more/fewer higher/lower above/below before/after increase/decrease
                increases/decreases increased/decreased rise/fall rises/falls always/never all/none up/down left/right
                possible/impossible better/worse larger/smaller greater/smaller greater/less faster/slower older/younger
                first/last accept/reject allowed/forbidden odd/even positive/negative guilty/innocent win/lose won/lost"""
            )
        ),
    )
)
_TURNED: Final = ("un", "in", "im", "il", "ir", "non", "dis")
_FUNCTION: Final = _words(
    """a an and are as at be been but by for from he her his i if in is it its of on or she so than that the their then there
    these they this those to was we were what which who will with would you your can also my me our do does did has have had"""
)
_DIGIT = re.compile(r"\d")
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)?")
_HEAD = re.compile(r"[\W_]{0,6}([^\W\d_]{1,10})(?=[\s\W_]{0,3}(?:[,.:;!–—。、，]|$)|[*_]{1,3})")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
UNSPACED: Final = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]+")
"""Runs of scripts that put no spaces between words: kana, Han, Thai, Lao, Burmese, Khmer."""
_UNSPACED_NEGATION = re.compile(r"不|没|沒|ない|ません|なかった|ไม่")


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence.

    `words` are those that carry content, without negations and numbers; `names` those that begin with a capital; `numbers` are
    their labels in order; `negated` the words that follow a negation, of which there are `negations`; `unspaced` is what it
    says in scripts without spaces.
    """

    words: frozenset[str]
    names: frozenset[str]
    numbers: tuple[str, ...]
    negated: frozenset[str]
    negations: int
    unspaced: str


@dataclass(frozen=True, slots=True)
class Stance:
    """What a text states: the `label` that it sets off, yes or no at its head, its first and its last sentence where they are
    short. `short` where it is no more than one such statement."""

    label: str | None
    affirms: bool | None
    first: Statement
    last: Statement
    short: bool


def stance(text: str) -> Stance:
    """What `text`, in Unicode's form NFKC, states."""
    text = text.strip()
    stated = set_off(text)
    if stated is None and len(text) <= SHORT and "\n" not in text:
        stated = text
    head = _HEAD.match(text)
    said = head[1].casefold() if head else ""
    short = len(text) <= _STATEMENT_CHARACTERS
    first, last = (text, text) if short else _ends(text)
    opening = _statement(first)
    return Stance(
        _label(stated) if stated else None,
        True if said in _YES else False if said in _NO else None,
        opening,
        opening if short else _statement(last),
        short,
    )


def opposed(one: Stance, other: Stance) -> bool:
    """Whether the two state things of which only one can be so, as far as words show it."""
    if one.affirms is not None and other.affirms is not None and one.affirms != other.affirms:
        return True
    if one.label and other.label and _labels_differ(one.label, other.label):
        return True
    denied = (one.affirms is False) != (other.affirms is False) and None in (one.affirms, other.affirms)
    return _turned(one.first, other.first, denied=denied) or _turned(one.last, other.last)


def agreed(one: Stance, other: Stance) -> bool:
    """Whether two that are not `opposed` state one answer: both begin with yes, both set it off, one says it in a
    sentence, or both say it in the same words."""
    if one.affirms is not None and one.affirms == other.affirms:
        return True
    if one.label and one.label == other.label:
        return True
    if one.short and other.short and one.first.words and one.first.words == other.first.words:
        return True
    return any(label and said.short and _says(said.first, label) for label, said in ((one.label, other), (other.label, one)))


def elaborated(one: Stance, other: Stance) -> bool:
    """Whether one of two short texts has all words of the other."""
    mine, theirs = one.first.words, other.first.words
    return one.short and other.short and bool(mine and theirs) and (mine <= theirs or theirs <= mine)


def _label(stated: str) -> str | None:
    label = normalised(stated)
    unspaced = UNSPACED.search(label)
    return label if label and len(label.split()) <= _LABEL_WORDS and (not unspaced or len(label) <= _UNSPACED_LABEL) else None


def _says(statement: Statement, label: str) -> bool:
    if statement.negations or label in _YES | _NO:
        return False
    if UNSPACED.fullmatch(label):
        return label in statement.unspaced
    words = label.split()
    return set(words) <= statement.words or (len(words) == 1 and statement.numbers[-1:] == (label,))


def _ends(text: str) -> tuple[str, str]:
    first = _SENTENCE_END.split(text[:_READ_CHARACTERS], maxsplit=1)[0].strip()
    parts = [part.strip() for part in _SENTENCE_END.split(text[-_READ_CHARACTERS:]) if part.strip()]
    last = parts[-1] if parts else ""
    return _stating(first), _stating(last)


def _stating(sentence: str) -> str:
    """`sentence`, unless it is too long to be one statement, or only introduces what follows."""
    return "" if len(sentence) > _STATEMENT_CHARACTERS or sentence.endswith(":") else sentence


def _statement(text: str) -> Statement:
    said = _WORD.findall(text)
    folded = [word.casefold().replace("'", "").replace("’", "") for word in said]
    words: set[str] = set()
    names: set[str] = set()
    negated: set[str] = set()
    negations, pending = 0, False
    for place, word in enumerate(folded):
        if (place == 0 and len(folded) > 1 and word in _YES | _NO) or word in _FUNCTION or word[0].isdigit():
            continue
        if word in _NEGATIONS:
            negations, pending = negations + 1, True
            continue
        words.add(word)
        if said[place][0].isupper():
            names.add(word)
        if pending:
            negated.add(word)
        pending = False
    unspaced = "".join(UNSPACED.findall(text)) if not text.isascii() else ""
    negations += len(_UNSPACED_NEGATION.findall(unspaced))
    figures = tuple(one.label for one in numbers(text)) if _DIGIT.search(text) else ()
    return Statement(frozenset(words), frozenset(names), figures, frozenset(negated), negations, unspaced)


def _labels_differ(one: str, other: str) -> bool:
    if one == other:
        return False
    figures = [found[-1].label for found in (numbers(one), numbers(other)) if found]
    if len(figures) == 2:
        return figures[0] != figures[1]
    if UNSPACED.search(one) and (one in other or other in one):
        return False
    mine, theirs = set(one.split()), set(other.split())
    return not (mine <= theirs or theirs <= mine)


def _turned(one: Statement, other: Statement, *, denied: bool = False) -> bool:
    """Whether two statements about one thing differ in what turns it round: a negation, a number, a name, a word's opposite.

    `denied` says that one of them begins with a no, and the other with neither.
    """
    if one.unspaced and other.unspaced and _turned_unspaced(one, other):
        return True
    sizes = len(one.words), len(other.words)
    shared = one.words & other.words
    if not all(sizes) or len(shared) < _MOSTLY * min(sizes) - 1:
        return False
    if len(shared) >= _MOSTLY * min(sizes) and shared & (one.negated ^ other.negated):
        return True
    mine, theirs = one.words - shared, other.words - shared
    if any(
        _opposite(word, against) and (word in one.negated) == (against in other.negated) for word in mine for against in theirs
    ):
        return True
    if len(shared) < _MOSTLY * max(sizes) - 1:
        return False
    figures = set(one.numbers), set(other.numbers)
    return (
        bool(figures[0] - figures[1] and figures[1] - figures[0])
        or bool(mine & one.names and theirs & other.names)
        or (denied and not one.negations and not other.negations and len(shared) >= _MOSTLY * max(sizes))
    )


def _opposite(word: str, other: str) -> bool:
    if frozenset((word, other)) in _OPPOSITES:
        return True
    longer, shorter = (word, other) if len(word) > len(other) else (other, word)
    return len(shorter) > 2 and longer.endswith(shorter) and longer[: -len(shorter)] in _TURNED


def _turned_unspaced(one: Statement, other: Statement) -> bool:
    """As `_turned`, in scripts without spaces: two texts that are one but for one place, where each says something else."""
    mine, theirs = one.unspaced, other.unspaced
    least = min(len(mine), len(theirs))
    start = _common(mine, theirs)
    end = _common(mine[start:][::-1], theirs[start:][::-1])
    if start + end < _MOSTLY * least:
        return False
    return (start + end < least) or one.negations % 2 != other.negations % 2


def _common(one: str, other: str) -> int:
    """How many characters at their head two texts have in common."""
    return next(
        (place for place, (mine, theirs) in enumerate(zip(one, other, strict=False)) if mine != theirs),
        min(len(one), len(other)),
    )
