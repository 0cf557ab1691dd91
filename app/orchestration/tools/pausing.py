"""How a run with tools waits for a person, and how it finds its place again when it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2s
from typing import Final

from app.core.approvals import Approval
from app.core.models import Model
from app.core.run_events import RunPaused
from app.core.runs import Candidate
from app.orchestration.context import RunContext
from app.orchestration.tools.offering import Offer
from app.orchestration.tools.options import LoopOptions

UNSETTLED: Final = "not settled: "
"""What the reason of an approval begins with that is asked for since a panel has not settled whether the call is to be made."""


def may_wait(context: RunContext, offer: Offer | None, *, unsettled: bool = False) -> bool:
    """Whether a run that offers its models `offer` may have to wait for a person.

    Parameters:
        unsettled: whether a panel may leave it open if something is to be written.
    """
    options: LoopOptions = context.options
    box = context.toolbox
    if box is None or offer is None or not offer.served or context.inside is not None:
        return False
    if options.approval != "policy" or any(rule.effect == "approve" for rule in box.config.permissions):
        return True
    return unsettled and any(one.spec.side_effect == "write" for one in offer.served.values())


def paused_by(waits: Sequence[Approval]) -> RunPaused:
    """What pauses a run that waits for `waits`: until the last of them has expired."""
    tools = ", ".join(dict.fromkeys(f"{one.tool}@{one.version}" for one in waits))
    ids = tuple(one.id for one in waits)
    reason = f"a person must agree first: {tools} ({', '.join(ids)})"
    return RunPaused(reason, ids, max(one.expires_at for one in waits))


def going_on(models: Sequence[Model], finished: Sequence[Candidate], step: int, seat: str | None = None) -> list[Model]:
    """Who is asked in a step, the first first. Of a run that goes on it is who had answered: those before it had failed.

    Parameters:
        seat: of the member of a panel whose step it is.
    """
    answered = {one.model for one in finished if one.layer == step and (seat is None or is_of(one, seat))}
    place = next((number for number, model in enumerate(models) if model.profile.name in answered), 0)
    return list(models[place:])


def is_of(candidate: Candidate, seat: str) -> bool:
    """Whether `candidate` is of the member of a panel that sits on `seat`, or, where that has won, of who went on in its place:
    they have no seat, and no first step."""
    own = candidate.id.partition(".")[0]
    return own == seat or (own == candidate.id and candidate.layer > 1)


def own_ids(run_id: str, model: str, replicate: int) -> str:
    """What the ids of the calls of a member of a panel begin with: the same in every process that has the run, and nobody
    else's."""
    return f"call_{blake2s(f'{run_id} {model} {replicate}'.encode(), digest_size=6).hexdigest()}"
