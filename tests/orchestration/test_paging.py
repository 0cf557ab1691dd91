"""Pages together are the whole list, whatever a filter leaves out and whatever has gone meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import given

from app.core.errors import InvalidRequest
from app.orchestration import paging
from app.orchestration.paging import Page, paged

Rows = list[tuple[tuple[int, str], int | None]]


async def even(row: int) -> int | None:
    return row if row % 2 == 0 else None


def rows(values: Sequence[int | None]) -> Rows:
    """The newest first; two came at each time."""
    return [((1_000 - place // 2, f"id_{999 - place}"), value) for place, value in enumerate(values)]


async def page(listed: Rows, cursor: str | None, limit: int) -> Page[int]:
    async def below(position: tuple[int, str] | None, most: int) -> Rows:
        return [row for row in listed if position is None or row[0] < position][:most]

    return await paged(cursor, limit, below, even)


@given(st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=60), st.integers(1, 12))
async def test_every_one_is_shown_once_in_its_order(values: list[int | None], limit: int) -> None:
    listed, found, cursor = rows(values), list[int](), None
    while True:
        one = await page(listed, cursor, limit)
        found += one.found
        cursor = one.next_cursor
        if cursor is None:
            break
    assert found == [value for value in values if value is not None and value % 2 == 0]


async def test_a_page_ends_where_it_has_looked_at_enough() -> None:
    one = await page(rows([1] * 3 * paging.MOST_LOOKED_AT), None, 100)
    assert one.found == []
    assert one.next_cursor is not None


@pytest.mark.parametrize("cursor", ["", "-", "12", "12-", "x-id", "1" * 18 + "-id", "\u0661-id", "5-id\nmore"])
async def test_a_cursor_that_is_none_of_ours_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="is no cursor"):
        await page([], cursor, 10)
