"""The options of `tools`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from app.orchestration.base import StrategyOptions

Approval = Literal["policy", "writes", "all"]
OnToolError = Literal["feed_back", "fail"]
MOST_STEPS: Final = 32
Name = Annotated[str, Field(pattern=r"^[A-Za-z*][A-Za-z0-9_*-]{0,63}(@[0-9]+(\.[0-9]+){0,2})?$")]


class ToolOptions(StrategyOptions):
    """How `tools` works with tools."""

    tools: tuple[Name, ...] | None = Field(
        default=None,
        max_length=128,
        description=(
            "The tools of the service that are offered, as `clock`, `clock@1` or `files__*`; without it all that the key may "
            "have run. Those of the request's `tools` are offered besides, and their calls handed to the client."
        ),
        examples=[["calculator", "clock"]],
    )
    max_steps: int = Field(
        default=8, ge=2, le=MOST_STEPS, description="How often a model is asked; the last time it must answer without tools."
    )
    approval: Approval = Field(
        default="policy",
        description=(
            "Which calls a person must agree to: those for which a permission says so, `writes`, or `all`. Without an approval "
            "they are not made, and the model is told."
        ),
    )
    on_tool_error: OnToolError = Field(
        default="feed_back",
        description="Where a tool fails, or is refused: the model is told (`feed_back`), or the run fails with it (`fail`).",
    )
