"""The options of `tools`, and those of panels whose members act with tools."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from app.orchestration.base import StrategyOptions

Approval = Literal["policy", "writes", "all"]
OnToolError = Literal["feed_back", "fail"]
MOST_STEPS: Final = 32
Name = Annotated[str, Field(pattern=r"^[A-Za-z*][A-Za-z0-9_*-]{0,63}(@([0-9]+(\.[0-9]+){0,2}|latest))?$")]


class LoopOptions(StrategyOptions):
    """How a model works with tools."""

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


class ToolOptions(LoopOptions):
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


class PanelOptions(LoopOptions):
    """How the members of a panel work with tools, if they are to."""

    tools: tuple[Name, ...] = Field(
        default=(),
        max_length=128,
        description=(
            "The tools of the service that every member is offered, as `clock`, `clock@1` or `files__*`; without any, members "
            "only answer. Tools that write are run for the winner alone, once."
        ),
        examples=[["calculator", "clock"]],
    )

    @model_validator(mode="after")
    def _acts(self) -> PanelOptions:
        idle = [name for name in LoopOptions.model_fields if name in self.model_fields_set and not self.tools]
        if idle:
            raise ValueError(f"{idle[0]} is for tools of the service; name those that are offered in `tools`")
        return self

    @property
    def offers_tools(self) -> bool:
        return bool(self.tools)
