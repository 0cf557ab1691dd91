"""The options of `consensus`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from app.orchestration.evidence.extraction import AnswerKind
from app.orchestration.evidence.numeric import Estimator
from app.orchestration.extracting import Extract, ExtractText
from app.orchestration.tools.options import PanelOptions

MAX_CALLS = 64
"""Answers of one panel, replicates included."""


class ConsensusOptions(PanelOptions):
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
    estimator: Estimator | None = Field(
        default=None,
        description=(
            "What `numeric` makes of the numbers: `median` (the default), weighted, or `trimmed_mean`, for which each model "
            "counts once: the mean without the outliers and a fifth of the numbers at each end."
        ),
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
    panel: Literal["all", "auto"] | Annotated[int, Field(ge=1, le=64)] = Field(
        default="all",
        description=(
            "How many of the models are asked: those that weigh most, over many families. `auto`: 3, 5 or 7, by how complex "
            "the task is."
        ),
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
        if self.stop != "never" and self.method == "cluster":
            raise ValueError(
                "a further text may change which texts are alike, so nothing is decided before all are there; leave stop out, "
                "or say by extract what is read of the answers"
            )
        if self.estimator is not None and self.method != "numeric":
            raise ValueError(f"estimator is for the aggregator numeric, and this is {self.method}")
        if self.embeddings is not None and self.method not in ("cluster", "judge"):
            raise ValueError("embeddings are of whole texts: for cluster and judge")
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
