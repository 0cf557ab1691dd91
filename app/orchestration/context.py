"""What a strategy is given to work with: the run's models, and ways to ask them that book what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from app.core.chat import DEFAULT_GENERATION, CallContext, ChatRequest, Generation, ToolChoice, ToolDefinition
from app.core.clock import Clock
from app.core.embeddings import embedding_of
from app.core.errors import CapabilityMissing, ErrorReport, FailureClass
from app.core.lifecycle import Draining
from app.core.messages import Message, shown_to
from app.core.models import Model
from app.core.run_events import RunEvent
from app.core.run_fold import RunFold
from app.core.runs import CallRole, Candidate, OrchestrationOutput, Output, RunRequest
from app.core.standing import Standings
from app.core.step_records import StepStore
from app.core.tool_runs import ToolRun
from app.core.tools import EnclosingRun, Unheard
from app.orchestration.approving.asking import RunApprovals
from app.orchestration.calls import CandidateCall, Consultation
from app.orchestration.conversations.conversations import OpenConversation
from app.orchestration.learning.lessons import Lessons, Priors
from app.orchestration.learning.taught import Taught, category_of
from app.orchestration.model_call import ModelCall
from app.orchestration.prompt_fitting import FittedPrompt, fit_prompt
from app.orchestration.prompts import Prompts
from app.orchestration.quoting import question
from app.orchestration.recall import recalled
from app.orchestration.stopping import Stop
from app.orchestration.tasks import TaskProfile, profile_of
from app.reliability.forecast import PlannedCall, planned_call
from app.reliability.purse import RunPurse
from app.state.turns import TurnStore
from app.tools.toolbox import Toolbox

if TYPE_CHECKING:
    from app.orchestration.delegating import Delegates


@dataclass(slots=True, eq=False)
class RunContext:
    """One run's surroundings.

    `models` are the selected ones in their order, `lead` the one that leads where the strategy has one (and the request named
    one). `options` is an instance of the strategy's `Options`, and `named` holds the models that they name. `max_tokens` is the
    most that a call may ask for. `standings` knows how models have been doing. Where a budget applies, `purse` is what the
    calls draw on, `default_max_tokens` bounds those whose generation does not, and `needs_prices` says that dollars are
    counted, so that only models of known prices may be asked. `finished` are candidates of this run that had answered when it
    was `taken` over from another process, or paused: who is asked the same again says the same; and `returned` are the calls of
    tools that were over by then, by their ids. `before` is what had come of it when it was last paused; what it used until then
    is settled, and `settled_ids` are the candidates that are paid. `approvals` asks people; without it nobody can be asked.
    `writing` is told before a tool is run that writes. `steps` has what is recorded of the steps of this run, where another
    process may go on with it, and `stop` asks it to end itself; `withdrawn` is why nobody may have it run any more, so that it
    only takes back what it did. `draining` tells whether the process stops.
    `lessons` are what was learned of models and tasks; `taught` is what the strategy has to say so that one may learn from the
    run. `settled` is the strategy's own: what it has decided of this run already, which its plan and the run must agree on.
    `inside` is the run that this one is a part of, as a replicate of a bundle tool is: it draws on that one, and its
    answers are in the cache as those of replicates from `first_replicate` on. `toolbox` has the tools of the service, and
    `turns` keeps what was said with them between two requests of a conversation; there are none in a run from Python that was
    given none. `conversation` is the stored one in which the run takes its turn, where the request names one.
    `delegates` prepares other strategies for one that hands requests to them. `tool_call_ids` are the ids that calls of
    tools have, `candidate_ids` those of candidates of before the run was taken or paused. `unplanned` says that no call is
    part of what the run was admitted with.
    """

    run_id: str
    request: RunRequest
    models: tuple[Model, ...]
    lead: Model | None
    options: Any
    clock: Clock
    prompts: Prompts
    max_concurrent_calls: int = 16
    default_max_tokens: int | None = None
    needs_prices: bool = False
    purse: RunPurse | None = None
    named: Mapping[str, Model] = field(default_factory=dict[str, Model])
    max_tokens: int | None = None
    standings: Standings | None = None
    finished: list[Candidate] = field(default_factory=list[Candidate])
    draining: Draining = field(default_factory=Draining)
    lessons: Lessons = field(default_factory=Priors)
    taught: Taught | None = None
    _asked: list[Unheard] = field(default_factory=list[Unheard])
    _numbers: Any = field(default_factory=lambda: count(1))
    tool_call_ids: set[str] = field(default_factory=set[str])
    settled: Any = None
    toolbox: Toolbox | None = None
    turns: TurnStore | None = None
    conversation: OpenConversation | None = None
    taken: bool = False
    returned: Mapping[str, ToolRun] = field(default_factory=dict[str, ToolRun])
    writing: Callable[[], None] | None = None
    steps: StepStore | None = None
    stop: Stop | None = None
    withdrawn: ErrorReport | None = None
    inside: EnclosingRun | None = None
    first_replicate: int = 0
    delegates: Delegates | None = None
    unplanned: bool = False
    approvals: RunApprovals | None = None
    before: OrchestrationOutput | None = None
    settled_ids: frozenset[str] = frozenset()
    candidate_ids: set[str] = field(default_factory=set[str])
    _task: TaskProfile | None = None

    def within(self, outer: RunContext) -> None:
        """Be the surroundings of a part of the run of `outer`: its calls are that run's, and numbered with them."""
        self._asked, self._numbers, self._task = outer._asked, outer._numbers, outer._task
        self.candidate_ids = outer.candidate_ids
        self.tool_call_ids = outer.tool_call_ids

    def follow(self, outer: RunContext, *, unplanned: bool = False) -> None:
        """Take over what the engine has given the run of `outer` since its parts were prepared.

        Parameters:
            unplanned: whether this part was not reserved for before the run began.
        """
        self.purse, self.default_max_tokens = outer.purse, outer.default_max_tokens
        self.finished, self.taken, self.returned, self.writing = outer.finished, outer.taken, outer.returned, outer.writing
        self.unplanned, self.first_replicate = unplanned or outer.unplanned, outer.first_replicate
        self.conversation = outer.conversation
        self.settled_ids = outer.settled_ids
        if not unplanned:  # one who goes on finds its place again in the part that comes first, and in no other
            self.approvals, self.before = outer.approvals, outer.before

    @property
    def task(self) -> TaskProfile:
        """What the request asks for, told from its words when somebody first wants to know."""
        if self._task is None:
            run = self.request
            self._task = profile_of(run.messages, run.tools, run.generation, run.metadata)
        return self._task

    @property
    def acts(self) -> bool:
        """Whether members of a panel act with tools: only their first calls are planned then."""
        return self.options.offers_tools

    @property
    def judge(self) -> Model:
        """Who judges where one does: the lead that was named, else the first model."""
        return self.lead or self.models[0]

    @property
    def category(self) -> str:
        """The task's category: the one that the request's metadata names, else the one that its words tell."""
        return self.task.category

    @property
    def told_category(self) -> str | None:
        """The category that is kept with what is learned of this run: the task's where it was looked at, else the one that the
        request's metadata names. So runs that need none do not pay for it."""
        return category_of(self.request) if self._task is None else self._task.category

    def ask(
        self,
        model: Model,
        messages: tuple[Message, ...] | None = None,
        *,
        replicate: int = 0,
        layer: int = 1,
        generation: Generation | None = None,
        tools: tuple[ToolDefinition, ...] | None = None,
        tool_choice: ToolChoice | None = None,
        retries: Mapping[FailureClass, int] | None = None,
        output: bool = False,
        trims: bool = False,
        unplanned: bool = False,
        candidate_id: str | None = None,
    ) -> CandidateCall:
        """A candidate: the run's question put to `model` (or `messages` in its place), as the model can take it.

        With `output` what it says is the run's answer as well. `tools` and `tool_choice` stand in place of the run's own,
        `retries` in place of what is configured for their classes. A call that is `unplanned` is not part of what the run was
        admitted with: what it may use is reserved when it is made. With `trims` what does not fit the model's context window is
        left out, and a warning says so; without it its provider has the last word. Without a `candidate_id` it has a new one;
        one that has answered already has the one that it had.
        """
        deltas = self.request.deltas
        incremental = deltas == "all" or (output and deltas == "output")
        offered = self.request.tools if tools is None else tools
        fitted = self.fitted(model, messages, generation, offered, trims=trims)
        request = self._chat(
            model,
            fitted.messages,
            generation,
            incremental=incremental,
            tools=offered,
            tool_choice=tool_choice,
            retries=retries,
            replicate=replicate,
            unplanned=unplanned,
        )
        known = self._known(model, replicate, layer) if self.finished else None
        call = CandidateCall(
            known.id if known else candidate_id or self.next_id(),
            model,
            request,
            self.clock,
            replicate=replicate,
            layer=layer,
            watched=deltas == "all",
            output=output,
            call=recalled(model.profile, known, paid=known.id in self.settled_ids) if known else None,
        )
        call.notes = fitted.notes
        self._asked.append(call)
        return call

    def next_id(self) -> str:
        """A name for a candidate."""
        taken = self.candidate_ids.union(one.id for one in self.finished)
        return next(name for number in self._numbers if (name := f"c{number}") not in taken)

    def _known(self, model: Model, replicate: int, layer: int) -> Candidate | None:
        """Who has answered this already."""
        generation = self.request.generation
        if generation.n > 1:  # a candidate holds the first choice
            return None
        for number, candidate in enumerate(self.finished):
            if (candidate.model, candidate.replicate, candidate.layer) == (model.profile.name, replicate, layer):
                if generation.logprobs and not candidate.tool_calls:  # it holds the answer without them
                    return None
                self.candidate_ids.add(candidate.id)
                return self.finished.pop(number)
        return None

    def consult(
        self,
        role: CallRole,
        model: Model,
        messages: tuple[Message, ...],
        *,
        generation: Generation | None = None,
        output: bool = False,
    ) -> Consultation:
        """A call that makes no candidate: `model` helps the run in `role`. With `output` what it says is the run's answer."""
        incremental = output and self.request.deltas != "none"
        fitted = self.fitted(model, messages, generation, (), trims=True)
        request = self._chat(model, fitted.messages, generation, incremental=incremental, unplanned=self.acts)
        call = Consultation(role, model, request, self.clock, output=output)
        call.notes = fitted.notes
        self._asked.append(call)
        return call

    def embed(self, model: Model, texts: Sequence[str], dimensions: int | None = None) -> Consultation:
        """A call that makes vectors of `texts`; its `response` is an `EmbeddingResponse`.

        Raises:
            CapabilityMissing: the model's provider embeds nothing.
        """
        if model.embed is None:
            name, provider = model.profile.name, model.profile.provider
            raise CapabilityMissing(
                f"the model {name!r} makes no embeddings: its provider {provider!r} has none", param="model"
            )
        request = embedding_of(
            self._chat(model, (), DEFAULT_GENERATION, incremental=False, unplanned=self.acts), texts, dimensions
        )
        call = Consultation("embedding", model, request, self.clock, output=False, call=model.embed)
        self._asked.append(call)
        return call

    def beside(self, work: Unheard) -> None:
        """Have the calls of `work` booked with this run's own, also where it is cut."""
        self._asked.append(work)

    def unheard(self, fold: RunFold) -> Iterator[RunEvent]:
        """The ends of calls that `fold` has not heard of, once nothing of the run is under way any more.

        Who is cut in the middle cannot tell of it, and what he used is to be in the result all the same.
        """
        for call in self._asked:
            yield from call.unheard(fold)

    def speaker_of(self, output: Output) -> ModelCall | None:
        """The call whose answer `output` is; None where it is nobody's own."""
        for call in reversed(self._asked):
            if isinstance(call, ModelCall) and call.response is not None and call.profile_name == output.source_model:
                choice = call.choice
                if (choice.text, choice.tool_calls) == (output.text, output.tool_calls):
                    return call
        return None

    def planned(
        self,
        model: Model,
        role: str = "candidate",
        *,
        stage: int = 1,
        generation: Generation | None = None,
        quoting: int = 0,
        prompt: str = "",
        tools: tuple[ToolDefinition, ...] | None = None,
        results: int = 0,
    ) -> PlannedCall:
        """A call at its worst, for `worst_case`: the run's question put to `model`, in `role`.

        Parameters:
            stage: calls of one stage run at once.
            quoting: how many earlier answers it is shown, each as long as `max_tokens` lets it be.
            prompt: the text around them.
            tools: in place of the run's own.
            results: bytes of what tools will have returned, at most.
        """
        run = self.request
        most = self.default_max_tokens or run.generation.max_tokens or 0
        answer = run.generation.max_tokens or most
        return planned_call(
            model,
            self.fitted(model, None, generation, ()).messages,
            () if role != "candidate" else run.tools if tools is None else tools,
            run.generation if generation is None else generation,
            max_tokens=most,
            role=role,
            stage=stage,
            quoted_tokens=quoting * answer,
            prompt_bytes=results + len(prompt.encode()) + (len(question(run.messages).encode()) if prompt else 0),
        )

    def fitted(
        self,
        model: Model,
        messages: tuple[Message, ...] | None,
        generation: Generation | None,
        tools: tuple[ToolDefinition, ...],
        *,
        trims: bool = False,
    ) -> FittedPrompt:
        """The run's question, or `messages`, as `model` can take it."""
        run = self.request
        asked = run.messages if messages is None else messages
        settings = run.generation if generation is None else generation
        if run.conversation_id is not None:  # of which the caller cannot leave anything out
            asked, trims = shown_to(asked, (model.profile.provider, model.profile.family)), True
        return fit_prompt(model.profile, asked, settings, tools, self.prompts, trims=trims)

    def _chat(
        self,
        model: Model,
        messages: tuple[Message, ...],
        generation: Generation | None,
        *,
        incremental: bool,
        tools: tuple[ToolDefinition, ...] = (),
        tool_choice: ToolChoice | None = None,
        retries: Mapping[FailureClass, int] | None = None,
        replicate: int = 0,
        unplanned: bool = False,
    ) -> ChatRequest:
        run = self.request
        settings = run.generation if generation is None else generation
        if self.default_max_tokens is not None and settings.max_tokens is None:
            settings = replace(settings, max_tokens=self.default_max_tokens)
        return ChatRequest(
            model.profile.model,
            messages,
            settings,
            tools,
            (run.tool_choice if tool_choice is None else tool_choice) if tools else "auto",
            incremental,
            model.profile.extra_body,
            CallContext(
                self.run_id,
                run.request_id,
                run.tenant,
                run.traceparent,
                run.deadline,
                purse=self.purse,
                retries=retries,
                cache=run.cache or "off",
                replicate=self.first_replicate + replicate,
                unplanned=unplanned or self.unplanned or self.inside is not None,
            ),
        )

    def option(self, name: str) -> Any:
        """One option by name, for strategies that share code."""
        options: Mapping[str, Any] | Any = self.options
        return getattr(options, name)
