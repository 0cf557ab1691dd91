"""What may stand in a record: a bound on each text, on how many there are, and on how deep they lie. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from app.tools.audit.chain import canonical

MOST_BYTES: Final = 2_000
"""Of a record's details as JSON."""
MOST_CHARACTERS: Final = 200
MOST_MEMBERS: Final = 32
MOST_DEPTH: Final = 3
_WHOLE: Final = 2**53
"""Up to here every reader of JSON knows whole numbers exactly (RFC 8259, section 6)."""


def bounded_details(details: Mapping[str, Any]) -> dict[str, Any]:
    """`details` within the bounds; members that go beyond all of them together are left out, and their number is told."""
    found: dict[str, Any] = {}
    left_out, size = 0, 2
    for name, value in details.items():
        kept = {bounded_text(name): _bounded(value, MOST_DEPTH)}
        size += len(canonical(kept))
        if size > MOST_BYTES or len(found) >= MOST_MEMBERS:
            left_out += 1
        else:
            found |= kept
    return {**found, "left_out": left_out} if left_out else found


def bounded_text(text: str) -> str:
    """`text`, cut, and without what is no Unicode."""
    clean = text[: MOST_CHARACTERS + 1].encode("utf-8", "replace").decode()
    return clean if len(clean) <= MOST_CHARACTERS else clean[: MOST_CHARACTERS - 1] + "…"


def _bounded(value: Any, depth: int) -> Any:
    match value:
        case None | bool():
            return value
        case int() if abs(value) < _WHOLE:
            return value
        case str():
            return bounded_text(value)
        case Mapping() if depth:
            items = list(cast("Mapping[Any, Any]", value).items())[:MOST_MEMBERS]
            return {bounded_text(str(name)): _bounded(held, depth - 1) for name, held in items}
        case Sequence() if depth and not isinstance(value, bytes):
            return [_bounded(held, depth - 1) for held in list(cast("Sequence[Any]", value))[:MOST_MEMBERS]]
        case _:  # fractions too: as texts they are the same for every reader
            return bounded_text(str(cast("object", value)))
