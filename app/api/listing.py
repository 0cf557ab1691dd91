"""Lists that are read page by page: what is asked for them, and how a page is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar

import orjson
from fastapi import Depends, Query
from starlette.responses import Response

from app.orchestration.paging import Page

T = TypeVar("T")

Cursor = Annotated[
    str,
    Query(
        max_length=64,
        description="`next_cursor` of the page before.",
        openapi_examples={"first": {"summary": "The first page", "value": ""}},
    ),
]
Limit = Annotated[int, Query(ge=1, le=100, openapi_examples={"default": {"value": 20}})]


class Asked(NamedTuple):
    """Which page: the one that `cursor` names, else the first, with at most `limit` entries."""

    cursor: str | None
    limit: int


async def _asked(cursor: Cursor = "", limit: Limit = 20) -> Asked:
    return Asked(cursor or None, limit)


Paging = Annotated[Asked, Depends(_asked)]


def listed(page: Page[T], shown: Callable[[T], Any]) -> Response:
    """A page, each of it as it is `shown`."""
    body = {"object": "list", "data": [shown(one) for one in page.found], "next_cursor": page.next_cursor}
    return Response(orjson.dumps(body), media_type="application/json")
