"""Which of the faults that pydantic finds in what somebody sent is the one to tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_WORDS = {"extra_forbidden": "is not a member of this request", "missing": "is missing"}

_PLAIN = dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "must be an object") | dict.fromkeys(
    ("list_type", "tuple_type", "set_type", "frozen_set_type"), "must be a list"
)
"""Where pydantic names the types of Python that members are read into, which are nobody's concern."""


@dataclass(frozen=True, slots=True)
class Told:
    """`member` is the path of what is wrong, empty for the whole; `what` is wrong with it, and with `others` besides."""

    member: str
    what: str
    others: int


def deepest(faults: Iterable[Mapping[str, Any]], value: Any, *, words: Mapping[str, str] = _WORDS) -> Told:
    """The fault to tell of `value`.

    A union's member that fits none of its kinds has a fault for each kind; the deepest is of the kind that was meant.

    Parameters:
        faults: as `ValidationError.errors` gives them.
        words: what to say in place of pydantic's own words, by its types.
    """
    found: dict[str, list[str]] = {}
    for fault in faults:
        what = words.get(fault["type"]) or _PLAIN.get(fault["type"]) or str(fault["msg"]).removeprefix("Value error, ")
        found.setdefault(_member(fault["loc"], value, missing=fault["type"] == "missing"), []).append(what)
    member = max(found, key=lambda path: path.count("."))
    others = sum(not member.startswith(path) for path in found)
    return Told(member, " or ".join(dict.fromkeys(found[member])), others)


def _member(path: Sequence[str | int], value: Any, *, missing: bool) -> str:
    """The steps of `path` that lead into `value`; the others name kinds of a union."""
    steps: list[str] = []
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            continue
        steps.append(str(step))
    if missing:
        steps.append(str(path[-1]))
    return ".".join(steps)
