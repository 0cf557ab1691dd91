"""What a strategy is given to work with: the run's models, and ways to ask them that book what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from app.core.chat import DEFAULT_GENERATION, CallContext, ChatRequest, Generation, ToolChoice, ToolDefinition
from app.core.clock import Clock
from app.core.embeddings import embedding_of
from app.core.errors import CapabilityMissing, FailureClass
from app.core.messages import Message, shown_to
from app.core.models import Model
from app.core.runs import CallRole, Candidate, RunRequest
from app.core.standing import Standings
from app.core.tool_runs import ToolRun
from app.core.tools import EnclosingRun
from app.orchestration.approving.asking import RunApprovals
from app.orchestration.book import CallBook
from app.orchestration.calls import CandidateCall, Consultation
from app.orchestration.conversations.conversations import OpenConversation
from app.orchestration.hosting import Hosting
from app.orchestration.learning.lessons import Lessons, Priors
from app.orchestration.learning.taught import Taught, category_of
from app.orchestration.past import Past
from app.orchestration.prompt_fitting import FittedPrompt, fit_prompt
from app.orchestration.prompts import Prompts
from app.orchestration.quoting import question
from app.orchestration.recall import recalled
from app.orchestration.spending import Spending
from app.orchestration.tasks import TaskProfile, profile_of
from app.reliability.forecast import PlannedCall, planned_call
from app.state.turns import TurnStore
from app.tools.toolbox import Toolbox

if TYPE_CHECKING:
    from app.orchestration.delegating import Delegates


@dataclass(slots=True, eq=False)
class RunContext:
    """One run's surroundings.

    `models` are the selected ones in their order, `lead` the one that leads where the strategy has one (and the request named
    one). `options` is an instance of the strategy's `Options`, and `named` holds the models that they name. `max_tokens` is the
    most that a call may ask for.

    What is known and learned: `standings` knows how models have been doing, `lessons` are what was learned of models and tasks,
    and `taught` is what the strategy has to say so that one may learn from the run.

    What the run has to do with: `toolbox` has the tools of the service, and `turns` keeps what was said with them between two
    requests of a conversation; there are none in a run from Python that was given none. `conversation` is the stored one in
    which the run takes its turn, where the request names one. `approvals` asks people; without it nobody can be asked.
    `delegates` prepares other strategies for one that hands requests to them. `inside` is the run that this one is a part of,
    as a replicate of a bundle tool is: it draws on that one, and its answers are in the cache as those of replicates from
    `first_replicate` on.

    How it stands: `spending` is what its calls may take, `past` what had come of it before, `hosting` what there is between it
    and its process, and `book` who was asked. `settled` is the strategy's own: what it has decided of this run already, which
    its plan and the run must agree on.
    """

    run_id: str
    request: RunRequest
    models: tuple[Model, ...]
    lead: Model | None
    options: Any
    clock: Clock
    prompts: Prompts
    max_concurrent_calls: int = 16
    max_tokens: int | None = None
    named: Mapping[str, Model] = field(default_factory=dict[str, Model])
    standings: Standings | None = None
    lessons: Lessons = field(default_factory=Priors)
    taught: Taught | None = None
    toolbox: Toolbox | None = None
    turns: TurnStore | None = None
    conversation: OpenConversation | None = None
    approvals: RunApprovals | None = None
    delegates: Delegates | None = None
    inside: EnclosingRun | None = None
    first_replicate: int = 0
    spending: Spending = field(default_factory=Spending)
    past: Past = field(default_factory=Past)
    hosting: Hosting = field(default_factory=Hosting)
    book: CallBook = field(default_factory=CallBook)
    settled: Any = None
    _task: TaskProfile | None = None

    def within(self, outer: RunContext) -> None:
        """Be the surroundings of a part of the run of `outer`: its calls are that run's, and numbered with them."""
        self.book, self._task = outer.book, outer._task

    def follow(self, outer: RunContext, *, unplanned: bool = False) -> None:
        """Take over what the engine has given the run of `outer` since its parts were prepared.

        Parameters:
            unplanned: whether this part was not reserved for before the run began.
        """
        self.spending = replace(outer.spending, unplanned=unplanned or outer.spending.unplanned)
        self.first_replicate, self.conversation = outer.first_replicate, outer.conversation
        self.hosting.writing = outer.hosting.writing
        if unplanned:
            self.past = replace(outer.past, before=None)
        else:  # one who goes on finds its place again in the part that comes first, and in no other
            self.past, self.approvals = outer.past, outer.approvals

    def recall(self, finished: list[Candidate], returned: Mapping[str, ToolRun]) -> None:
        """Have what the run's log shows finished: candidates that have answered, and the calls of tools that are over."""
        self.past.finished, self.past.returned = finished, returned
        self.book.reserve([one.id for one in finished])

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
        past = self.past
        known = past.answered(model.profile, replicate, layer, self.request.generation) if past.finished else None
        call = CandidateCall(
            known.id if known else candidate_id or self.book.next_id(),
            model,
            request,
            self.clock,
            replicate=replicate,
            layer=layer,
            watched=deltas == "all",
            output=output,
            call=recalled(model.profile, known, paid=known.id in past.settled_ids) if known else None,
        )
        call.notes = fitted.notes
        self.book.add(call)
        return call

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
        self.book.add(call)
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
        self.book.add(call)
        return call

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
        most = self.spending.default_max_tokens or run.generation.max_tokens or 0
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
        spending = self.spending
        if spending.default_max_tokens is not None and settings.max_tokens is None:
            settings = replace(settings, max_tokens=spending.default_max_tokens)
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
                purse=spending.purse,
                retries=retries,
                cache=run.cache or "off",
                replicate=self.first_replicate + replicate,
                unplanned=unplanned or spending.unplanned or self.inside is not None,
            ),
        )
