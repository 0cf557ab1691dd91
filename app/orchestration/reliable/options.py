"""The options of `reliable`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from app.orchestration.base import StrategyOptions

ToolReference = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}(@[0-9]+(\.[0-9]+){0,2})?$")]


class ReliableOptions(StrategyOptions):
    """What the rules of the planner may look at, or the tool that is run."""

    type: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="What kind of request it is, in the words of the rules; without it the task's category.",
    )
    attributes: dict[str, Any] = Field(
        default_factory=dict, max_length=100, description="More about it, for the rules: any JSON members."
    )
    tool_name: ToolReference | None = Field(
        default=None, description="A tool of the service that is run directly, as `clock` or `clock@1`."
    )
    tool_options: dict[str, Any] = Field(
        default_factory=dict, description="The arguments of that tool; of a tool that a rule names, over those of the rule."
    )
    allow_fallback: bool = Field(default=True, description="Whether the fallbacks of the rule go in the place of what fails.")
