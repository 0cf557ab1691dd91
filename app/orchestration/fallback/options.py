"""The options of `fallback`: a chain of links, each with what it does before, during and after its model is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, Field, model_validator

from app.config.spec import GenerationConfig
from app.core import conditions, json_schemas, patterns
from app.core.errors import Failed, FailureClass, InvalidRequest
from app.orchestration.base import StrategyOptions
from app.orchestration.extracting import Extract as Extracted
from app.orchestration.fallback.facts import KNOWN

HandOver = Literal[Failed, "refusal", "low_quality"]
"""Why a link may hand over: the failure classes but `cancelled`, a model's refusal, and a check that was not passed."""
ON_REQUEST: frozenset[str] = frozenset({"invalid_request", "content_filtered", "refusal"})
"""Handed over only where a link says so: the next model would most likely answer the same (design, section 6)."""
DEFAULT_ON: frozenset[str] = frozenset(get_args(HandOver)) - ON_REQUEST

Retried = Literal["connection", "timeout", "rate_limited", "overloaded", "server_error", "incomplete"]
RETRIED: tuple[Retried, ...] = get_args(Retried)
Retries = Annotated[int, Field(ge=0, le=10)]
MAX_LINKS = 16

T = TypeVar("T")


def _compiles(compiler: Callable[[T], object]) -> AfterValidator:
    """Refuses a value that `compiler` does not take, with its reason."""

    def validated(value: T) -> T:
        try:
            compiler(value)
        except InvalidRequest as error:
            raise ValueError(error.message) from None
        return value

    return AfterValidator(validated)


def _condition(source: str) -> conditions.Condition:
    return conditions.compiled(source, KNOWN)


Pattern = Annotated[str, _compiles(patterns.compiled)]
JsonSchema = Annotated[dict[str, Any], _compiles(json_schemas.compiled)]
When = Annotated[str, _compiles(_condition)]


class RequestTransform(StrategyOptions):
    """What is changed of the request for this link."""

    generation: GenerationConfig = Field(default=GenerationConfig(), description="Settings in place of the request's.")
    prepend_system: str | None = Field(default=None, max_length=20_000, description="Put before the system message.")
    append_system: str | None = Field(default=None, max_length=20_000, description="Put after the system message.")
    drop: tuple[
        Literal[
            "tools",
            "images",
            "documents",
            "response_format",
            "stop",
            "seed",
            "logprobs",
            "reasoning_effort",
            "temperature",
            "top_p",
        ],
        ...,
    ] = Field(default=(), description="Parts of the request that are left out.")


class Strip(StrategyOptions):
    """Takes white space off both ends, and a code fence around the whole."""

    do: Literal["strip"]


class Extract(StrategyOptions):
    """Keeps the first match of an RE2 pattern: its first group, or all of it where it has none."""

    do: Literal["extract"]
    pattern: Pattern


class Replace(StrategyOptions):
    r"""Replaces every match of an RE2 pattern; `\1` in `text` stands for the first group."""

    do: Literal["replace"]
    pattern: Pattern
    text: str = Field(default="", max_length=2_000)

    @model_validator(mode="after")
    def _its_groups(self) -> Replace:
        fault = patterns.compiled(self.pattern).template_fault(self.text)
        if fault:
            raise ValueError(f"text {fault}")
        return self


class Pointer(StrategyOptions):
    """Keeps what a JSON pointer (RFC 6901) points at in an answer that is JSON."""

    do: Literal["pointer"]
    pointer: str = Field(pattern=r"^(/.*)?$", max_length=500)


ResponseStep = Annotated[Strip | Extract | Replace | Pointer, Field(discriminator="do")]


class JudgeOptions(StrategyOptions):
    """A model that scores the answer from 0 to 1."""

    model: str
    threshold: float = Field(default=0.7, ge=0, le=1, description="A lower score does not pass.")
    prompt: str | None = Field(default=None, min_length=1, max_length=8_000, description="What the judge is to look for.")


class AgreeOptions(StrategyOptions):
    """Another model, asked the same at the same time, that must say the same."""

    model: str = Field(min_length=1, max_length=200)
    extract: Extracted = Field(description="What an answer says, and how it is read.")
    instruct: bool = Field(default=True, description="Whether both are told how to end, so that their answers can be read.")


class CheckOptions(StrategyOptions):
    """What an answer must pass, cheapest first; the judge is asked last. Answers that ask for tools are not checked."""

    min_chars: int | None = Field(default=None, ge=1)
    max_chars: int | None = Field(default=None, ge=1)
    pattern: Pattern | None = Field(default=None, description="An RE2 pattern that must be found in it.")
    json_schema: JsonSchema | None = Field(
        default=None, alias="schema", description="It must be JSON that is valid against this schema."
    )
    agree: AgreeOptions | None = None
    judge: JudgeOptions | None = None

    @model_validator(mode="after")
    def _something(self) -> CheckOptions:
        if not self.model_fields_set:
            raise ValueError("is empty; it wants min_chars, max_chars, pattern, schema, agree or judge")
        if self.min_chars and self.max_chars and self.min_chars > self.max_chars:
            raise ValueError(f"min_chars is {self.min_chars} and max_chars {self.max_chars}: no answer has both")
        return self


class LinkOptions(StrategyOptions):
    """One link: a model, when it is asked, how, and when it hands over to the next one."""

    model: str = Field(min_length=1, max_length=200)
    on: tuple[HandOver, ...] | None = Field(
        default=None,
        description="Why it hands over. Without it: all but invalid_request, content_filtered and refusal.",
    )
    retry: Retries | dict[Retried, Retries] | None = Field(
        default=None, description="How often it is called again, as a number or by failure class; else as configured."
    )
    when: When | None = Field(
        default=None, description="A CEL condition on the request; the link is skipped where it is false."
    )
    request: RequestTransform = RequestTransform()
    response: tuple[ResponseStep, ...] = Field(default=(), max_length=8, description="What is done with the answer, in order.")
    check: CheckOptions | None = None

    @model_validator(mode="after")
    def _asks_another(self) -> LinkOptions:
        if self.check and self.check.agree and self.check.agree.model == self.model:
            raise ValueError(f"agree asks {self.model!r}, which is the link's own model: it wants another one")
        return self

    @property
    def live(self) -> bool:
        """Whether its answer may be shown as it comes."""
        return self.check is None and not self.response

    @property
    def retries(self) -> Mapping[FailureClass, int] | None:
        """Its own limits on retries, by class."""
        own = self.retry
        if own is None:
            return None
        if isinstance(own, int):
            return dict.fromkeys(RETRIED, own)
        return {name: own[name] for name in RETRIED if name in own}

    def hands_over(self, word: str) -> bool:
        return word in (DEFAULT_ON if self.on is None else self.on)


class FallbackOptions(StrategyOptions):
    """A chain of models, of which the next is asked where one fails."""

    chain: tuple[LinkOptions, ...] = Field(
        default=(), max_length=MAX_LINKS, description="The links in order; without them the selected models, in their order."
    )
    dynamic: bool = Field(
        default=False,
        description="Ask first who has been answering reliably; models whose circuit breaker is open come last.",
    )
