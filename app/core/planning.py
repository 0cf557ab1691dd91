"""What a planner's rules may ask of a request: the names that the configuration checks and a run fills in."""

from __future__ import annotations

from typing import Final, Literal, get_args

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: Final[tuple[Weekday, ...]] = get_args(Weekday)

PLAN_VARIABLES: Final = frozenset(
    {"tokens", "messages", "text", "images", "documents", "tools", "json", "max_tokens", "metadata", "tags", "task"}
    | {"tenant", "stream", "recipe", "type", "attributes", "category", "complexity", "language", "hour", "weekday"}
)
"""The variables of a rule's `when`; those of a link of `fallback` and what only a planner looks at."""
ARGUMENT_VARIABLES: Final = frozenset({"text", "attributes", "metadata", "tenant", "type"})
"""What the arguments of a rule's tool may be made of."""
