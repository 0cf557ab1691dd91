"""What a strategy is: one method that makes events of a request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict

from app.config.spec import LLMProvider
from app.core.chat import DEFAULT_GENERATION, Generation, JsonObject
from app.core.messages import Message, user
from app.core.principal import LOCAL
from app.core.run_events import RunEvent
from app.core.runs import OrchestrationConfig, OrchestrationOutput, PlanDecision, RunRequest
from app.orchestration.context import RunContext
from app.reliability.forecast import PlannedCall

if TYPE_CHECKING:
    from app.providers.base import Availability, Provider


class StrategyOptions(BaseModel):
    """The options of a strategy; unknown ones are refused, and the schema is published."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def offers_tools(self) -> bool:
        """Whether models of a strategy that also does without are offered tools of the service. They act step by step then, so
        that nobody knows before how many calls there will be."""
        return False


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model that a strategy's options name. `path` is where; `helps` says that it makes no candidate, as a judge."""

    name: str
    path: tuple[str | int, ...]
    helps: bool = False


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a run may call at most: models, tools for so many dollars. `unknown` names what cannot be foreseen."""

    calls: tuple[PlannedCall, ...]
    tools_usd: float = 0.0
    unknown: tuple[str, ...] = ()


class Runtime(Protocol):
    """What runs a strategy for Python callers: a registry of models and an engine."""

    def register_provider(self, name: str, provider: LLMProvider | Provider) -> None: ...

    async def check_models_availability(self) -> tuple[Availability, ...]: ...

    def events(self, strategy: BaseOrchestrator, request: RunRequest) -> AsyncGenerator[RunEvent]: ...

    async def result(self, strategy: BaseOrchestrator, request: RunRequest) -> OrchestrationOutput: ...

    async def aclose(self) -> None: ...


class BaseOrchestrator(ABC):
    """A strategy. Subclasses give a `name`, their `Options`, and `run`.

    The service makes one instance for all runs, so `run` keeps its state in local variables. From Python, an instance also
    runs itself: `register_provider`, then `process` or `stream`, then `aclose` (or `async with`).

    Parameters:
        runtime: what runs it from Python; without one it makes its own, with the mock provider until others are registered.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    Options: ClassVar[type[StrategyOptions]] = StrategyOptions
    models_needed: ClassVar[int | None] = None
    """How many models it takes of those selected by default; None for all that the limits allow, 0 where it asks none."""
    brings_tools: ClassVar[bool] = False
    """Whether its models are offered tools of the service beside those of the request."""
    loops: ClassVar[bool] = False
    """Whether nobody knows before how many calls it makes: then only those of the first stage of its worst case are reserved
    before anything is called, and each later one (`unplanned`) when it is made."""
    delegates: ClassVar[bool] = False
    """Whether it hands requests to other strategies (`context.delegates`), which have models of their own."""
    chooses: ClassVar[bool] = False
    """Whether it chooses among the models itself: then all that fit are its by default, not the first few."""

    ends_itself: ClassVar[bool] = False
    """Whether it keeps the deadline of its request itself, and may have something to put in order after it."""
    keeps_steps: ClassVar[bool] = False
    """Whether it records what is done (`context.hosting.steps`), so that another process that takes it over goes on from there,
    and takes it back where it is asked to end (`context.hosting.stop`)."""

    def __init__(self, runtime: Runtime | None = None) -> None:
        self._runtime = runtime
        self._owned: Runtime | None = None

    @abstractmethod
    def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        """Answer `request` with the models of `context`.

        Yields what happens and, last, one `RunFinished` that says where the answer came from. Whatever it raises ends the
        run as failed: `QuorumError`s with their own message, anything else as an internal error.
        """

    def models_of(self, options: StrategyOptions) -> Sequence[NamedModel]:
        """The models that `options` name, in order. Those that make candidates, if any, are then the run's models, and its only
        ones."""
        return ()

    def tools_of(self, options: StrategyOptions) -> Sequence[tuple[tuple[str | int, ...], str]]:
        """The tools of the service that `options` name, by references without patterns, each with the path of the member."""
        named: Sequence[str] = getattr(options, "tools", None) or ()
        return [(("tools", place), name) for place, name in enumerate(named) if "*" not in name]

    def check(self, request: RunRequest, context: RunContext) -> None:  # noqa: B027 - not every strategy refuses something
        """Refuse what this strategy cannot do, before anything is called.

        Raises:
            InvalidRequest: naming the member at fault.
        """

    def may_pause(self, context: RunContext) -> bool:
        """Whether a run may have to wait for a person, so that it is kept from its beginning on."""
        return False

    def signals(self, context: RunContext) -> Mapping[str, Sequence[JsonObject]]:
        """The signals that a run may wait for, by name, each with the JSON schemas that its payload must fit."""
        return {}

    def began_with(self, context: RunContext) -> JsonObject:
        """The options of a run that keeps its steps, as it is to find them whenever it goes on."""
        return context.options.model_dump(mode="json")

    def plan(self, request: RunRequest, context: RunContext) -> PlanDecision:
        """What would run and why, as estimates show it. Nothing is called."""
        names = tuple(model.profile.name for model in context.models)
        lead = context.lead.profile.name if context.lead else None
        return PlanDecision(self.name, names[: self.models_needed] if self.models_needed else names, lead)

    def worst_case(self, request: RunRequest, context: RunContext) -> Sequence[PlannedCall] | None:
        """Every call that a run may make, each at its worst (`context.planned`); retries are not counted.

        Budgets reserve the sum before anything is called. A strategy that does not say is taken to ask each model once, and its
        lead, or the first model, once more about all their answers; its calls must then fit into that one by one.
        """
        return None

    def at_most(self, request: RunRequest, context: RunContext) -> Foreseen | None:
        """All that a run may call, for estimates; None where that is its worst case. Nothing of it is reserved."""
        return None

    def loops_in(self, context: RunContext) -> bool:
        """Whether this run of it `loops`: always, or as its members act with tools."""
        return self.loops or context.acts

    @property
    def runtime(self) -> Runtime:
        """What runs this from Python."""
        if self._runtime is None:
            from app.orchestration.local import LocalRuntime  # above this module: it knows every strategy

            self._runtime = self._owned = LocalRuntime()
        return self._runtime

    def register_provider(self, name: str, provider: LLMProvider | Provider) -> None:
        """Add a provider, configured or ready-made; its models are then `name/model`."""
        self.runtime.register_provider(name, provider)

    async def check_models_availability(self) -> tuple[Availability, ...]:
        """Whether each provider can be reached and takes its credential."""
        return await self.runtime.check_models_availability()

    async def process(
        self,
        prompt: str | Sequence[Message],
        *,
        selected_models: Sequence[str] = (),
        lead_model: str | None = None,
        generation: Generation = DEFAULT_GENERATION,
        **options: Any,
    ) -> OrchestrationOutput:
        """The result of a run: the fold of `run`.

        Parameters:
            prompt: a user's text, or whole messages.
            selected_models: names of models; without them, all that fit.
            lead_model: the model that leads, where the strategy has one.
            options: the strategy's own.

        Raises:
            QuorumError: the request is impossible. A run that fails is a result with status `failed`.
        """
        request = self._request(prompt, selected_models, lead_model, generation, options)
        return await self.runtime.result(self, request)

    def stream(
        self,
        prompt: str | Sequence[Message],
        *,
        selected_models: Sequence[str] = (),
        lead_model: str | None = None,
        generation: Generation = DEFAULT_GENERATION,
        **options: Any,
    ) -> AsyncGenerator[RunEvent]:
        """The events of a run as they happen, every candidate's deltas included. Parameters as for `process`.

        Closing it (`contextlib.aclosing`) before its end cancels the run.
        """
        request = self._request(prompt, selected_models, lead_model, generation, options, watched=True)
        return self.runtime.events(self, request)

    def _request(
        self,
        prompt: str | Sequence[Message],
        selected_models: Sequence[str],
        lead_model: str | None,
        generation: Generation,
        options: dict[str, Any],
        *,
        watched: bool = False,
    ) -> RunRequest:
        messages = (user(prompt),) if isinstance(prompt, str) else tuple(prompt)
        config = OrchestrationConfig(self.name, tuple(selected_models), lead_model, options)
        deltas = "all" if watched else "none"
        return RunRequest(config, messages, generation, deltas=deltas, scopes=LOCAL.scopes)

    async def aclose(self) -> None:
        """Close the connections that this made; those of a runtime that was given to it belong to who gave it."""
        if self._owned is not None:
            await self._owned.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
