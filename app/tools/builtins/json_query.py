"""Questions to JSON, in the one expression language of the service."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import orjson

from app.core.conditions import MAX_ITEMS, MAX_PATH_ITEMS, Unanswerable, compiled_expression
from app.core.errors import InvalidRequest
from app.tools.failures import BadArguments

_KNOWN: Final = frozenset({"data"})


async def json_query(data: Any, expression: str) -> Any:
    """Takes a part out of JSON, or asks something of it, with an expression in CEL over the variable `data`.

    Examples: data.items[0].name; size(data.rows); data.rows.filter(row, row.price < 10.0); data.rows.map(row, row.sku). Loops
    neither nest nor follow each other: ask twice.

    Parameters:
        data: any JSON, or a text that is JSON.
        expression: in CEL, such as data.rows.exists(row, row.sku == "A1").
    """
    if isinstance(data, str):
        with suppress(orjson.JSONDecodeError):  # a text is JSON too
            data = orjson.loads(data)
    try:
        return await compiled_expression(expression, _KNOWN).value({"data": data})
    except InvalidRequest as error:
        raise BadArguments(f"the expression {error.message}") from None
    except Unanswerable as error:
        more = (
            f"; with a loop at most {MAX_ITEMS} members are read, without one {MAX_PATH_ITEMS}"
            if "too large" in str(error)
            else ""
        )
        raise BadArguments(f"{expression[:200]!r}: {error}{more}") from None
