"""What an answer is held against: the checks that are functions of its text. The judge, who must be asked, is in `judge`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from app.core import json_schemas, patterns
from app.core.run_fold import parse_json
from app.orchestration.fallback.options import CheckOptions


def _min_chars(text: str, least: int) -> str | None:
    return None if len(text.strip()) >= least else f"has {len(text.strip())} characters, and {least} are wanted"


def _max_chars(text: str, most: int) -> str | None:
    return None if len(text) <= most else f"has {len(text)} characters, and at most {most} are wanted"


def _pattern(text: str, source: str) -> str | None:
    return None if patterns.compiled(source).search(text) else f"holds nothing that matches {source!r}"


def _schema(text: str, schema: Mapping[str, Any]) -> str | None:
    value = parse_json(text)
    if value is None and text.strip() != "null":
        return "is no JSON"
    fault = json_schemas.compiled(schema).fault(value)
    return None if fault is None else f"does not follow the schema: {fault[:300]}"


CHECKS: Final[dict[str, Callable[[str, Any], str | None]]] = {
    "min_chars": _min_chars,
    "max_chars": _max_chars,
    "pattern": _pattern,
    "json_schema": _schema,
}
"""By option: what is wrong with a text, in words that follow "the answer"; None where it passes."""


def failed_check(text: str, wanted: CheckOptions) -> str | None:
    """The first thing that is wrong with `text`."""
    for name, check in CHECKS.items():
        value = getattr(wanted, name)
        reason = None if value is None else check(text, value)
        if reason is not None:
            return f"the answer {reason}"
    return None
