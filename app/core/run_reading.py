"""Results read back from their JSON."""

from __future__ import annotations

from functools import cache

from pydantic import TypeAdapter

from app.core.runs import OrchestrationOutput


def read_result(content: bytes) -> OrchestrationOutput:
    """The result that this is the JSON of.

    Raises:
        ValueError: it is no result.
    """
    return _results().validate_json(content)


@cache
def _results() -> TypeAdapter[OrchestrationOutput]:
    """Made on first use: it takes a while."""
    return TypeAdapter(OrchestrationOutput)
