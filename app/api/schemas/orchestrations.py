"""The body of `POST /v1/orchestrations`."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from app.api.schemas.messages import Body, MessageBody, ResponseFormatBody, ToolBody, ToolChoiceBody, tool_choice
from app.core.chat import CacheMode, Generation, ReasoningEffort
from app.core.errors import InvalidRequest
from app.core.jobs import Priority
from app.core.messages import Message, user
from app.core.runs import Budget, Deltas, OnBudget, OrchestrationConfig, RunRequest

CONVERSATION_ID: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
"""No colon, which stands between a tenant and an id in the names of keys."""
ConversationId = Annotated[str, Field(pattern=CONVERSATION_ID)]
CONVERSATION: Any = Field(
    default=None,
    description=(
        "A conversation of the tenant, which begins with the first run that names it; `new` gives one an id of its own. What "
        "was said in it goes before the request's messages, and what is said now is added when the run has succeeded."
    ),
    examples=["support-4711"],
)
BACKGROUND: Any = Field(default=False, description="Answer 202 at once; the run goes on whoever leaves, see its `Location`.")
WEBHOOK: Any = Field(default=None, max_length=2_000, description="Where the end of a background run is told, signed.")
PRIORITY: Any = Field(default="normal", description="Before or after other background runs of the tenant.")


class BudgetBody(Body):
    """The most that a run may use."""

    tokens: int | None = Field(default=None, ge=1)
    cost_usd: float | None = Field(default=None, gt=0, le=1_000_000)
    seconds: float | None = Field(default=None, gt=0, le=3600)

    def to_core(self, on_budget: OnBudget = "fail") -> Budget:
        return Budget(self.tokens, self.cost_usd, self.seconds, on_budget)


class GenerationBody(Body):
    """Sampling and limits, for every model of the run."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    n: int = Field(default=1, ge=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    response_format: ResponseFormatBody | None = None
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    reasoning_effort: ReasoningEffort | None = None
    parallel_tool_calls: bool | None = None

    def to_core(self) -> Generation:
        values = {name: getattr(self, name) for name in type(self).model_fields if name not in ("stop", "response_format")}
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        form = self.response_format.to_core() if self.response_format else None
        return Generation(**values, stop=stop, response_format=form)


class OrchestrationBody(Body):
    """A prompt, and how to have it answered."""

    input: str | list[MessageBody] = Field(description="A text, or chat messages with text, image and document parts.")
    strategy: str | None = Field(default=None, description="A name of GET /v1/strategies; without it the default.")
    recipe: str | None = Field(default=None, description="A named orchestration of the configuration.")
    models: list[str] = Field(default_factory=list, description="Model names; without them the recipe's or the default.")
    lead_model: str | None = Field(default=None, description="The model that analyses and synthesises.")
    options: dict[str, Any] = Field(default_factory=dict, description="The strategy's own, see GET /v1/strategies.")
    generation: GenerationBody = Field(default_factory=GenerationBody)
    budget: BudgetBody = Field(default_factory=BudgetBody)
    tools: list[ToolBody] = Field(default_factory=list[ToolBody])
    tool_choice: ToolChoiceBody = "auto"
    stream: bool = Field(default=False, description="Answer as an event stream.")
    background: bool = BACKGROUND
    cache: CacheMode | None = Field(
        default=None, description="`use` answers that were given before, `refresh` them, or `off`; without it as configured."
    )
    on_disconnect: Literal["cancel", "continue"] | None = Field(
        default=None, description="A stream whose reader has left and not come back is cancelled, or goes on to its end."
    )
    on_budget: OnBudget = Field(
        default="fail", description="A plan that a budget does not hold is refused, or ends with the best it has."
    )
    conversation_id: ConversationId | None = CONVERSATION
    webhook: str | None = WEBHOOK
    priority: Priority = PRIORITY
    metadata: dict[str, Any] = Field(default_factory=dict, description="Comes back in the result.")

    def to_core(self, config: OrchestrationConfig, *, deltas: Deltas, **who: Any) -> RunRequest:
        """The run that this asks for, under `config`.

        Raises:
            InvalidRequest: members that do not fit together.
        """
        tools = tuple(tool.to_core() for tool in self.tools)
        return RunRequest(
            config,
            self._messages(),
            self.generation.to_core(),
            tools,
            tool_choice(self.tool_choice),
            self.budget.to_core(self.on_budget),
            self.cache,
            deltas=deltas,
            metadata=self.metadata,
            conversation_id=self.conversation_id,
            **who,
        )

    def _messages(self) -> tuple[Message, ...]:
        if isinstance(self.input, str):
            if not self.input.strip():
                raise InvalidRequest("input is empty; give a text or messages", param="input")
            return (user(self.input),)
        if not self.input:
            raise InvalidRequest("input is empty; give a text or messages", param="input")
        return tuple(message.to_core() for message in self.input)
