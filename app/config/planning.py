"""The part of `quorum.yaml` about the planner: which tool or orchestration a request of `reliable` gets."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field

from app.config.shape import Name, Spec
from app.config.tools import Patterns, ToolName
from app.core.planning import Weekday

Words = tuple[Annotated[str, Field(min_length=1, max_length=128)], ...]


class AttributeTest(Spec):
    """What must hold of an attribute, or of a member of one; all that is given must. A plain value stands for `equals`, a list
    for `in`."""

    equals: Any = Field(default=None, description="It is this; numbers are compared as numbers.")
    in_: tuple[Any, ...] | None = Field(default=None, alias="in", max_length=1_000, description="It is one of these.")
    contains: Any = Field(default=None, description="A text that has this in it, or a list that has this item.")
    matches: str | None = Field(default=None, description="A text in which this pattern (RE2) is found.")
    min: float | None = Field(default=None, description="A number that is at least this.")
    max: float | None = Field(default=None, description="A number that is at most this.")
    exists: bool | None = Field(default=None, description="Whether there is one at all.")


def _as_test(value: Any) -> Any:
    if isinstance(value, dict | AttributeTest):
        return cast("Any", value)
    member = "in" if isinstance(value, list | tuple) else "equals"
    return {member: cast("Any", value)}


Test = Annotated[AttributeTest, BeforeValidator(_as_test, json_schema_input_type=Any)]


class TokenRange(Spec):
    """How many tokens a prompt has, about."""

    min: int | None = Field(default=None, ge=0)
    max: int | None = Field(default=None, ge=0)


class TimeWindow(Spec):
    """When it is now: from `start` until before `end`, over midnight where that is earlier."""

    start: str = Field(default="00:00", description="Hours and minutes, as 08:30.")
    end: str = Field(default="00:00", description="The same as `start`: the whole day.")
    days: tuple[Weekday, ...] = Field(default=(), description="Without any, all.")
    zone: str = Field(default="UTC", description="Of the IANA data base, as Europe/Berlin.")


class Match(Spec):
    """What must hold of a request: every member that is given. Without any it fits all."""

    all: tuple[Match, ...] | None = Field(default=None, max_length=32, description="Each of these holds.")
    any: tuple[Match, ...] | None = Field(default=None, min_length=1, max_length=32, description="One of these holds.")
    not_: Match | None = Field(default=None, alias="not", description="This does not hold.")
    types: Patterns | None = Field(default=None, description="Of the option `type`, else of the task's category.")
    keywords: Words | None = Field(default=None, description="Words of which one stands in the last user message.")
    matches: str | None = Field(default=None, description="A pattern (RE2) that is found in the last user message.")
    attributes: dict[str, Test] | None = Field(
        default=None, description="Tests of the option `attributes`, by dotted path: `customer.tier`."
    )
    tokens: TokenRange | None = None
    tenants: Patterns | None = None
    time: TimeWindow | None = None
    when: str | None = Field(default=None, description="A condition in CEL, without loops.")


class PlanTarget(Spec):
    """What is run: one of `tool`, `recipe` and `strategy`."""

    tool: ToolName | None = Field(default=None, description="A tool of the service, run directly.")
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="Of the tool, under `tool_options`; `{attributes.city}` stands for its value.",
    )
    recipe: Name | None = None
    strategy: str | None = None
    models: tuple[str, ...] = Field(default=(), description="Of the strategy; without them those of the request.")
    lead_model: str | None = None
    options: dict[str, Any] = Field(default_factory=dict, description="Of the strategy.")


class PlanRule(Spec):
    """What is run for requests that fit."""

    name: Name
    priority: int = Field(default=0, ge=-1_000_000, le=1_000_000, description="The highest first; of equals the earlier.")
    match: Match = Match()
    use: PlanTarget
    fallbacks: tuple[PlanTarget, ...] = Field(default=(), max_length=8, description="In its place where it fails, in turn.")


class PlannerConfig(Spec):
    """How the strategy `reliable` finds what to run."""

    kind: Literal["rules", "learned"] = Field(
        default="rules", description="`learned`: of the rules that fit, whose orchestration promises most."
    )
    policy: Literal["quality", "balanced", "cheap", "fast"] = Field(
        default="balanced", description="Of `learned`: what is wanted most."
    )
    rules: tuple[PlanRule, ...] = Field(default=(), max_length=256)
    otherwise: PlanTarget | None = Field(
        default=None, description="What is run where no rule fits; without it the default strategy."
    )
