"""What the candidates of a run have answered, sorted: what can be worked with, what is set aside, what speaks for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.chat import ChatResponse, Choice
from app.core.errors import AllCandidatesFailed, QuorumError, report
from app.orchestration.calls import Member


@dataclass(frozen=True, slots=True)
class Sorting:
    """`usable` answers can be analysed, synthesised, and shown to a further layer. `single` is the answer to pass on as it
    is, where there is no more than one; it may be one that cannot be worked with. `notes` say what was set aside, `unwanted`
    why what writes is not to be run where the single one wants that."""

    usable: tuple[Member, ...]
    single: Member | None = None
    notes: tuple[str, ...] = ()
    unwanted: str | None = None


def fault(response: ChatResponse | None, error: QuorumError | None) -> str | None:
    """Why a call gave no text to work with, in words that follow a model's name; None where it gave some."""
    if response is None:
        return error.message if error else "ended without an answer"
    choice = response.choices[0]
    if choice.refusal:
        return "refused to answer"
    if choice.finish_reason == "content_filter":
        return "was stopped by a content filter"
    if not choice.text.strip():
        return "gave an empty answer"
    return None


def too_few(calls: Sequence[Member], wanted: int) -> Exception:
    """What a run ends with in which fewer than `wanted` models answered: of a single call its own failure."""
    failed = [call for call in calls if call.response is None]
    if len(calls) == 1 and failed and failed[0].error:
        return failed[0].error
    reasons = "; ".join(f"{call.profile_name!r}: {fault(None, call.error)}" for call in failed)
    asked = {call.profile_name for call in calls}
    answered = {call.profile_name for call in calls if call.response is not None}
    message = f"{len(answered)} of {len(asked)} models answered and min_responses is {wanted}. {reasons}"
    return AllCandidatesFailed(message, reports=tuple(report(call.error) for call in failed if call.error))


def is_empty(call: Member) -> bool:
    """Whether it has answered, and said nothing: no text, no refusal and no call of a tool."""
    return call.response is not None and _substance(call.choice) == 0


def nothing_said(calls: Sequence[Member]) -> AllCandidatesFailed | None:
    """What a run ends with whose models have answered and said nothing, all of them; None where one has said something."""
    if not all(call.response is None or is_empty(call) for call in calls):
        return None
    reasons = "; ".join(f"{call.profile_name!r}: {fault(call.response, call.error)}" for call in calls)
    reports = tuple(report(call.error) for call in calls if call.error)
    return AllCandidatesFailed(f"none of the {len(calls)} answers says anything. {reasons}", reports=reports)


def sort(answers: Sequence[Member], lead: str | None) -> Sorting:
    """Sort the answers of one layer.

    Tool calls cannot be merged: the lead's are passed on, or the first ones where most of the answers that say anything ask
    for tools. Calls that wait to be chosen are, where more than half of those answers want the same. Refused, filtered and
    empty answers are set aside while there are others.

    Parameters:
        answers: calls that succeeded, at least one, in the order of the run's models.
        lead: the name of the model that leads; None for the first that answered.
    """
    asking = _agreeing(answers, lead) or _asking_for_tools(answers, lead)
    if asking is not None:
        others = [call for call in answers if call is not asking and not _alike(call, asking)]
        note = f"{asking.profile_name!r} asks for tools, as it may; the answers of {_names(others)} are left out"
        return Sorting((), asking, (note,) if others else ())
    usable = tuple(call for call in answers if fault(call.response, call.error) is None and call.wants is None)
    if not usable:
        single = max(answers, key=lambda call: _substance(call.choice))  # the first of equals
        if single.wants is not None:
            return Sorting((), single, unwanted="the models do not agree on it")
        note = f"none of the {len(answers)} answers can be worked with; that of {single.profile_name!r} is passed on as it is"
        return Sorting((), single, (note,) if len(answers) > 1 else ())
    notes = [
        f"the answer of {call.profile_name!r} is left out: it {_set_aside(call)}" for call in answers if call not in usable
    ]
    return Sorting(usable, usable[0] if len(usable) == 1 else None, tuple(notes))


def _asking_for_tools(answers: Sequence[Member], lead: str | None) -> Member | None:
    asking = [call for call in answers if call.choice.tool_calls and call.wants is None]
    if not asking:
        return None
    leading = next((call for call in answers if lead in (None, call.profile_name)), None)
    if leading in asking:
        return leading
    saying = sum(1 for call in answers if _substance(call.choice))
    return asking[0] if 2 * len(asking) > saying else None


def _agreeing(answers: Sequence[Member], lead: str | None) -> Member | None:
    """Who wants the calls that most of those who say anything want: the lead where it does, else the first."""
    wanting = [call for call in answers if call.wants is not None]
    saying = sum(1 for call in answers if _substance(call.choice))
    most = [call for call in wanting if 2 * sum(_alike(call, other) for other in wanting) > saying]
    return next((call for call in most if call.profile_name == lead), most[0] if most else None)


def _alike(one: Member, other: Member) -> bool:
    return one.wants is not None and other.wants is not None and one.wants.label == other.wants.label


def _substance(choice: Choice) -> int:
    """How much there is in an answer to pass on: text or tool calls, a refusal, nothing."""
    if choice.text.strip() or choice.tool_calls:
        return 2
    return 1 if choice.refusal else 0


def _set_aside(call: Member) -> str:
    return "asks for tools only" if call.choice.tool_calls else fault(call.response, call.error) or "is unusable"


def _names(calls: Sequence[Member]) -> str:
    return ", ".join(repr(call.profile_name) for call in calls)
