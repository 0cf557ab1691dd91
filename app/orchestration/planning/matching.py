"""Whether a rule of the planner fits a request. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, time
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

from app.config.planning import AttributeTest, Match, TimeWindow
from app.core.conditions import Unanswerable
from app.core.conditions import compiled as compiled_condition
from app.core.patterns import compiled as compiled_pattern
from app.core.planning import PLAN_VARIABLES, WEEKDAYS
from app.core.runs import PlanRequest

_SHOWN: Final = 60
_MISSING: Final = object()


class Asked:
    """A request, as rules look at it."""

    def __init__(self, request: PlanRequest) -> None:
        self.request = request
        self.text: str = request.facts["text"]
        self.tokens: int = request.facts["tokens"]

    @cached_property
    def folded(self) -> str:
        """The last user message, of which upper and lower case are one."""
        return self.text.casefold()

    def mismatch(self, match: Match) -> str | None:
        """Why `match` does not hold, in words; None where it does."""
        return next(self._mismatches(match), None)

    def _mismatches(self, match: Match) -> Iterator[str]:
        request = self.request
        if match.types is not None and not _any(match.types, request.type):
            yield f"the type {_told(request.type)} is none of its types"
        if match.tenants is not None and not _any(match.tenants, request.tenant):
            yield f"{request.tenant!r} is none of its tenants"
        if match.tokens is not None and not _within(self.tokens, match.tokens.min, match.tokens.max):
            yield f"the prompt has about {self.tokens:,} tokens, and it wants {_range(match.tokens.min, match.tokens.max)}"
        for path, test in (match.attributes or {}).items():
            fault = _untrue(test, _at(request.attributes, path))
            if fault is not None:
                yield f"the attribute {path!r} {fault}"
        if match.time is not None and not _is_now(match.time, request.now):
            yield "it is for other times"
        if match.keywords is not None and not any(self._says(word) for word in match.keywords):
            yield "none of its keywords is said"
        if match.matches is not None and compiled_pattern(match.matches).search(self.text) is None:
            yield "its pattern is not found in the last user message"
        yield from self._of_condition(match.when)
        yield from self._of_inner(match)

    def _of_condition(self, when: str | None) -> Iterator[str]:
        if when is None:
            return
        try:
            if not compiled_condition(when, PLAN_VARIABLES).decide(self.request.facts):
                yield "its condition does not hold"
        except Unanswerable as error:
            yield f"its condition cannot be decided: {error}"

    def _of_inner(self, match: Match) -> Iterator[str]:
        for inner in match.all or ():
            yield from self._mismatches(inner)
        if match.any is not None:
            reasons = [self.mismatch(inner) for inner in match.any]
            if None not in reasons:
                yield f"nothing under 'any' holds ({'; '.join(reason for reason in reasons if reason)})"
        if match.not_ is not None and self.mismatch(match.not_) is None:
            yield "what is under 'not' holds"

    def _says(self, word: str) -> bool:
        folded = word.casefold()
        return folded in self.folded and re.search(rf"(?<!\w){re.escape(folded)}(?!\w)", self.folded) is not None


def given(match: Match) -> str:
    """What a rule that fits went by, in words."""
    members = [
        type(match).model_fields[name].alias or name for name in type(match).model_fields if name in match.model_fields_set
    ]
    return f"it fits by {', '.join(members)}" if members else "it fits every request"


def _any(patterns: Sequence[str], text: str) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _at(attributes: Mapping[str, Any], path: str) -> Any:
    """The attribute at `path`: of members with dots in their names the longest that there is counts."""
    if path in attributes:
        return attributes[path]
    value: Any = attributes
    for step in path.split("."):
        if isinstance(value, Mapping) and step in value:
            value = cast("Mapping[str, Any]", value)[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(cast("list[Any]", value)):
            value = cast("list[Any]", value)[int(step)]
        else:
            return _MISSING
    return value


def _untrue(test: AttributeTest, value: Any) -> str | None:
    """Why `test` does not hold of `value`, in words that follow the attribute's name."""
    wanted = test.model_fields_set
    if value is _MISSING:
        return None if test.exists is False else "is not there"
    if test.exists is False:
        return "is there"
    if "equals" in wanted and not _same(value, test.equals):
        return f"is {_told(value)}, not {_told(test.equals)}"
    if test.in_ is not None and not any(_same(value, one) for one in test.in_):
        return f"is {_told(value)}, which is not listed"
    if "contains" in wanted and not _contains(value, test.contains):
        return f"has no {_told(test.contains)} in it"
    if test.matches is not None and not (isinstance(value, str) and compiled_pattern(test.matches).search(value)):
        return "is no text that its pattern is found in"
    if test.min is not None or test.max is not None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return f"is {_told(value)}, which is no number"
        if not _within(value, test.min, test.max):
            return f"is {_told(value)}, and it wants {_range(test.min, test.max)}"
    return None


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        own, others = cast("Sequence[Any]", one), cast("Sequence[Any]", other)
        return len(own) == len(others) and all(_same(a, b) for a, b in zip(own, others, strict=True))
    return bool(one == other)


def _contains(value: Any, wanted: Any) -> bool:
    if isinstance(value, str):
        return isinstance(wanted, str) and wanted in value
    return isinstance(value, list) and any(_same(item, wanted) for item in cast("list[Any]", value))


def _within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _range(least: float | None, most: float | None) -> str:
    if least is None:
        return f"at most {most:g}"
    return f"at least {least:g}" if most is None else f"{least:g} to {most:g}"


def _is_now(window: TimeWindow, now: float) -> bool:
    here = datetime.fromtimestamp(now, ZoneInfo(window.zone))
    if window.days and WEEKDAYS[here.weekday()] not in window.days:
        return False
    start, end, at = _clock(window.start), _clock(window.end), here.time()
    if start < end:
        return start <= at < end
    return start == end or at >= start or at < end


def _clock(text: str) -> time:
    hour, _, minute = text.partition(":")
    return time(int(hour), int(minute))


def _told(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
