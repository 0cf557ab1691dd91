"""Lists of what is kept, page by page: from the newest on, where a filter leaves few of them as well."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from app.core.errors import InvalidRequest
from app.state.run_records import Position

MOST_LOOKED_AT: Final = 2_000
"""What one page of a filtered list looks at."""
_CURSOR = re.compile(r"([0-9]{1,17})-(\w.{0,99})")

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """What was found, the newest first, and where the next page begins; None where there is none."""

    found: list[T]
    next_cursor: str | None


async def paged(
    cursor: str | None,
    limit: int,
    rows_below: Callable[[Position | None, int], Awaitable[Sequence[tuple[Position, R | None]]]],
    shown: Callable[[R], Awaitable[T | None]],
) -> Page[T]:
    """Up to `limit` of what `rows_below` a position there is. With a filter a page may hold fewer although another one follows.

    Parameters:
        shown: what is shown of a row; None where the filter leaves it out.

    Raises:
        InvalidRequest: the cursor is none of ours.
    """
    below, found, looked_at = _position(cursor), list[T](), 0
    while True:
        rows = await rows_below(below, limit)
        for below, row in rows:
            one = None if row is None else await shown(row)
            if one is None:
                continue
            found.append(one)
            if len(found) == limit:
                return Page(found, f"{below[0]}-{below[1]}")
        looked_at += len(rows)
        if len(rows) < limit:
            return Page(found, None)
        if looked_at >= MOST_LOOKED_AT and below:
            return Page(found, f"{below[0]}-{below[1]}")


def _position(cursor: str | None) -> Position | None:
    if cursor is None:
        return None
    found = _CURSOR.fullmatch(cursor)
    if not found:
        raise InvalidRequest(f"{cursor[:50]!r} is no cursor; use the `next_cursor` of the page before", param="cursor")
    return int(found[1]), found[2]
