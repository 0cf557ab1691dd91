"""Options that say what an answer says, and how it is read."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, field_validator

from app.core import json_schemas, patterns
from app.core.errors import InvalidRequest
from app.orchestration.base import StrategyOptions
from app.orchestration.evidence.extraction import Choices, JsonAnswer, NumberAnswer, TextAnswer
from app.orchestration.evidence.labels import normalised

MAX_CHOICES: Final = 100
FINDS: Final = "An RE2 pattern that finds it; its first group where it has one."


def _pattern(source: str) -> str:
    try:
        patterns.compiled(source)
    except InvalidRequest as error:
        raise ValueError(error.message) from None
    return source


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        json_schemas.compiled(schema)
    except InvalidRequest as error:
        raise ValueError(error.message) from None
    return schema


Pattern = Annotated[str, AfterValidator(_pattern)]
Schema = Annotated[dict[str, Any], AfterValidator(_schema)]
Choice = Annotated[str, Field(min_length=1, max_length=200)]


class ExtractChoice(StrategyOptions):
    """The answer is one of some choices."""

    type: Literal["choice"]
    choices: Annotated[tuple[Choice, ...], Field(min_length=2, max_length=MAX_CHOICES)] | dict[Choice, str] = Field(
        description='The labels, or labels with what they stand for: `{"A": "Paris"}`.'
    )
    pattern: Pattern | None = Field(default=None, description=FINDS)

    @field_validator("choices")
    @classmethod
    def _told_apart(cls, choices: tuple[str, ...] | dict[str, str]) -> tuple[str, ...] | dict[str, str]:
        read: dict[str, str] = {}
        for choice in choices:
            label = normalised(choice)
            if not label:
                raise ValueError(f"{choice!r} is marks only, which answers are read without; name it in letters or digits")
            if label in read:
                raise ValueError(
                    f"{read[label]!r} and {choice!r} cannot be told apart in an answer: both are read as {label!r}"
                )
            read[label] = choice
        return choices

    def kind(self) -> Choices:
        texts = self.choices if isinstance(self.choices, dict) else None
        return Choices(tuple(self.choices), texts, self.pattern)


class ExtractNumber(StrategyOptions):
    """The answer is a number."""

    type: Literal["number"]
    unit: str = Field(default="", max_length=40, description="The unit it is told in; known others are converted.")
    pattern: Pattern | None = Field(default=None, description=FINDS)

    def kind(self) -> NumberAnswer:
        return NumberAnswer(self.unit, self.pattern)


class ExtractJson(StrategyOptions):
    """The answer is JSON."""

    type: Literal["json"]
    json_schema: Schema | None = Field(default=None, alias="schema", description="What it must follow.")

    def kind(self) -> JsonAnswer:
        return JsonAnswer(self.json_schema)


class ExtractText(StrategyOptions):
    """The answer is text: all of it, or what a pattern finds."""

    type: Literal["text"]
    pattern: Pattern | None = Field(default=None, description=FINDS)

    def kind(self) -> TextAnswer:
        return TextAnswer(self.pattern)


Extract = Annotated[ExtractChoice | ExtractNumber | ExtractJson | ExtractText, Field(discriminator="type")]
