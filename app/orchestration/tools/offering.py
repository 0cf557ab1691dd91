"""Which tools a run offers its models: those of the service that its options name and its caller may have, and the client's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from app.core.chat import NamedTool, ToolDefinition
from app.core.errors import InvalidRequest, NotFound
from app.core.models import ModelProfile
from app.core.run_events import RunEvent
from app.core.runs import RunRequest
from app.core.tools import EnclosingRun, ToolCaller
from app.orchestration.context import RunContext
from app.tools.describing import definition
from app.tools.registry import Registered
from app.tools.toolbox import Toolbox

MOST_TOOLS: Final = 128
"""OpenAI's bound on the functions of a call ("Chat completions": tools), the least of the vendors'."""

DEEPEST: Final = 3
"""Bundle tools inside of one another: each multiplies the calls."""


@dataclass(frozen=True, slots=True)
class Offer:
    """`served` are the tools that are run here, by name; `client` those whose calls are handed to the client. `notes` say what
    is not offered though it was asked for; `named` are those that were asked for by name."""

    served: Mapping[str, Registered]
    client: tuple[ToolDefinition, ...] = ()
    notes: tuple[str, ...] = ()
    named: frozenset[str] = frozenset()

    def definitions(self, context: RunContext, profile: ModelProfile) -> tuple[ToolDefinition, ...]:
        """All of them, as a model of this family is told of them."""
        toolbox = context.toolbox
        tuning = toolbox.config.families.get(profile.family) if toolbox is not None else None
        return (*(definition(one.spec, tuning) for one in self.served.values()), *self.client)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.served, *(tool.name for tool in self.client))


def wanted(
    toolbox: Toolbox | None,
    names: Sequence[str] | None,
    client: tuple[ToolDefinition, ...],
    inside: EnclosingRun | None = None,
) -> Offer:
    """What may be offered at most, before anybody's permissions are asked.

    Of tools with one name the client's is offered: it hides the service's from the model, and runs nothing here.

    Parameters:
        names: of tools of the service, with `*` for any characters; None for the newest version of each.
        inside: the run that this one is a part of. It is one of several that do the same, so nothing is offered that writes;
            nor the tools that it is inside of.

    Raises:
        InvalidRequest: there is no tool of a name, or there are more than a model may be offered.
    """
    found = {one.spec.name: one for one in _named(toolbox, names) if _may_be_inside(one, inside)}
    own = {tool.name for tool in client}
    notes = tuple(f"the tool {name!r} of the request hides that of the service" for name in found if name in own)
    served = {name: one for name, one in found.items() if name not in own}
    many = len(served) + len(client)
    if many > MOST_TOOLS:
        message = f"{many} tools would be offered, and {MOST_TOOLS} may be; name those that are needed in options.tools"
        raise InvalidRequest(message, param="options.tools")
    if names is None or toolbox is None:
        return Offer(served, client)
    named = frozenset(name.partition("@")[0] for name in names)
    return Offer(served, client, (*notes, *_fitting_nothing(toolbox, names)), named)


def _fitting_nothing(toolbox: Toolbox, names: Sequence[str]) -> Iterator[str]:
    there = {one.spec.name for one in toolbox.all()}
    for name in names:
        if "*" in name and not any(fnmatchcase(one, name) for one in there):
            yield f"{name!r} in options.tools fits no tool" + (f": {why}" if (why := toolbox.not_yet(name)) else "")


def _may_be_inside(one: Registered, inside: EnclosingRun | None) -> bool:
    if inside is None:
        return True
    if one.spec.source == "orchestration" and (len(inside.within) >= DEEPEST or one.spec.name in inside.within):
        return False
    return one.spec.side_effect != "write"


def _named(toolbox: Toolbox | None, names: Sequence[str] | None) -> list[Registered]:
    if toolbox is None:
        if names:
            raise InvalidRequest("this runtime has no tools of its own", param="options.tools")
        return []
    newest = dict.fromkeys(one.spec.name for one in toolbox.all())
    if names is None:
        return [toolbox.find(name) for name in newest]
    named: dict[str, tuple[str, Registered]] = {}
    for place, name in enumerate(names):
        if "*" in name:
            continue
        try:
            one = toolbox.find(name)
        except NotFound as error:
            raise InvalidRequest(error.message, param=f"options.tools.{place}") from None
        other, before = named.setdefault(one.spec.name, (name, one))
        if before.spec.version != one.spec.version:
            message = f"{other!r} and {name!r} are two versions of one tool, which models call by one name; name one of them"
            raise InvalidRequest(message, param=f"options.tools.{place}")
    fitting = {one: toolbox.find(one) for one in newest if any("*" in name and fnmatchcase(one, name) for name in names)}
    return list((fitting | {name: one for name, (_, one) in named.items()}).values())


async def permitted(offer: Offer, toolbox: Toolbox | None, caller: ToolCaller) -> Offer:
    """`offer` without the tools of the service that `caller` may not have run, whatever the arguments. Of those that were asked
    for by name the notes say why."""
    if toolbox is None or not offer.served:
        return offer
    served: dict[str, Registered] = {}
    notes = list(offer.notes)
    for name, one in offer.served.items():
        decision = await toolbox.decide(one, caller)
        if decision.effect != "deny" or decision.depends:
            served[name] = one
        elif name in offer.named:
            notes.append(f"the tool {name!r} is not offered: {decision.reason}")
    return replace(offer, served=served, notes=tuple(notes))


def check_choice(request: RunRequest) -> None:
    """Whether there is what `tool_choice` asks for among the tools of the client, where no others are offered.

    Raises:
        InvalidRequest: there is not.
    """
    choice = request.tool_choice
    if choice == "required" and not request.tools:
        raise InvalidRequest("tool_choice 'required' needs tools", param="tool_choice")
    if isinstance(choice, NamedTool) and all(tool.name != choice.name for tool in request.tools):
        raise InvalidRequest(f"tool_choice names {choice.name!r}, which is not among the tools", param="tool_choice")


def caller_of(context: RunContext) -> ToolCaller:
    """On whose behalf the tools of a run are called."""
    run = context.request
    return ToolCaller(
        tenant=run.tenant,
        scopes=run.scopes,
        key_id=run.key_id,
        key_name=run.key_name,
        address=run.address,
        recipe=run.config.recipe,
        request_id=run.request_id,
        run_id=context.run_id,
        traceparent=run.traceparent,
        deadline=run.deadline,
    )


def enclosing(context: RunContext, tell: Callable[[RunEvent], None]) -> EnclosingRun:
    """A run as the tools see it that ask models themselves."""
    return EnclosingRun(
        tell,
        context.book.add,
        context.spending.purse,
        context.spending.needs_prices,
        () if context.inside is None else context.inside.within,
        context.request.deltas == "all",
        context.max_concurrent_calls,
    )
