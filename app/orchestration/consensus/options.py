"""The options of `consensus`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from app.core import json_schemas, patterns
from app.core.errors import InvalidRequest
from app.orchestration.base import StrategyOptions
from app.orchestration.evidence.extraction import AnswerKind, Choices, JsonAnswer, NumberAnswer, TextAnswer

MAX_CALLS = 64
"""Answers of one panel, replicates included."""
MAX_CHOICES = 100
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


class ConsensusOptions(StrategyOptions):
    """How `consensus` asks, reads, counts and stops."""

    aggregator: str | None = Field(
        default=None,
        description=(
            "`vote` over labels, `numeric` (median), `cluster` (similar texts), `fields` (JSON by member), `judge` (the "
            "lead model chooses), or a registered one. Without it: by what is extracted."
        ),
        examples=["vote", "numeric", "cluster", "fields", "judge"],
    )
    extract: Extract = Field(default=ExtractText(type="text"), description="What an answer says, and how it is read.")
    instruct: bool = Field(default=True, description="Whether the models are told how to end, so that the answer can be read.")
    k: int = Field(default=1, ge=1, le=16, description="How often each model is asked.")
    temperatures: tuple[Annotated[float, Field(ge=0, le=2)], ...] = Field(
        default=(), max_length=16, description="Of the replicates, in turn; without them the request's."
    )
    seeds: tuple[int, ...] = Field(default=(), max_length=16, description="Of the replicates, in turn.")
    stop: Literal["never", "decided", "confident"] = Field(
        default="never",
        description=(
            "When no more are asked: `decided`, when nothing can change the outcome; `confident`, also when it hardly can."
        ),
    )
    epsilon: float | None = Field(
        default=None, gt=0, le=1, description="`numeric` stops when the interval is within this share of the value."
    )
    weights: Literal["learned", "uniform"] | Mapping[str, Annotated[float, Field(ge=0, le=100)]] = Field(
        default="learned", description="What each model's word weighs."
    )
    stated_confidence: bool = Field(default=False, description="Whether answers say how sure they are, and count by it.")
    embeddings: str | None = Field(
        default=None,
        max_length=200,
        description="A model that embeds: its vectors, in place of words, say which texts are alike.",
    )
    panel: Literal["all"] | Annotated[int, Field(ge=1, le=64)] = Field(
        default="all",
        description="How many of the models are asked: those that weigh most, over many families.",
    )
    review_below: float | None = Field(default=None, ge=0, le=1, description="With less confidence the run is `needs_review`.")
    min_responses: int = Field(default=1, ge=1, description="How many models must answer. With fewer the run fails.")

    @model_validator(mode="after")
    def _fits(self) -> ConsensusOptions:
        if self.epsilon is not None and self.method != "numeric":
            raise ValueError(f"epsilon is for the aggregator numeric, and this is {self.method}")
        if self.stop != "never" and self.method == "numeric" and self.epsilon is None:
            raise ValueError("numeric stops by its interval; give epsilon, or leave stop out")
        if self.stop != "never" and self.method == "judge":
            raise ValueError("a judge is shown all answers; leave stop out")
        if self.embeddings is not None and (self.method not in ("cluster", "judge") or self.stop != "never"):
            raise ValueError("embeddings are of whole texts, once all have answered: for cluster and judge, without stop")
        if self.method == "numeric" and self.extract.type != "number":
            raise ValueError('numeric counts numbers; it wants extract {"type": "number"}')
        if self.method == "fields" and self.extract.type != "json":
            raise ValueError('fields are of JSON; it wants extract {"type": "json"}')
        return self

    @property
    def method(self) -> str:
        """The aggregator's name."""
        if self.aggregator is not None:
            return self.aggregator
        return "vote" if isinstance(self.extract, ExtractText) and self.extract.pattern else _USUAL[self.extract.type]

    @property
    def kind(self) -> AnswerKind:
        return self.extract.kind()


_USUAL: Final = {"choice": "vote", "number": "vote", "json": "fields", "text": "cluster"}
