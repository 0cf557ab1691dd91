"""What every route that begins a run does alike: say who asks, and answer with events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TypedDict, TypeVar

from fastapi import Request

from app.api.access import still_allowed
from app.api.body import wanted
from app.api.deadline import DEADLINE, LONGEST_MS, deadline_ms
from app.api.idempotency.holding import Hold
from app.api.idempotency.request import KeyedRequest, own_request
from app.api.native_events import NativeFrames
from app.api.ratelimit import ratelimit_headers
from app.api.services import Services
from app.api.sse import Encoder, EventStream, StreamTimes
from app.core.budgets import NOTHING
from app.core.errors import (
    ConversationBusy,
    Forbidden,
    Gone,
    InvalidRequest,
    LimitExceeded,
    OrchestratorError,
    QuorumError,
    StateUnavailable,
    Unauthorized,
)
from app.core.lifecycle import AGAIN, BODY, LOGGED, PAUSED, TICKET, UNREPEATABLE, Pause, Ticket, stopping
from app.core.principal import Principal
from app.core.run_events import RunEvent, RunPaused
from app.core.run_fold import unfold
from app.core.run_json import LoggedEvent
from app.core.runs import OrchestrationOutput, RunRequest, cache_word
from app.orchestration.base import BaseOrchestrator
from app.orchestration.run import Run, new_run_id
from app.orchestration.runs.hosted import Handing, HostedRun
from app.orchestration.runs.run_log import OnDisconnect
from app.orchestration.runs.taking import Taken, check_same, go_on_from, left_of, withdrawing

T = TypeVar("T")


class Asked(TypedDict):
    """The members of a `RunRequest` that do not come from its body."""

    tenant: str
    key_id: str
    key_name: str
    request_id: str
    traceparent: str | None
    deadline: float | None
    scopes: frozenset[str]
    address: str | None


def asked(request: Request, principal: Principal) -> Asked:
    """Who asks, and until when.

    Raises:
        InvalidRequest: the deadline is none.
    """
    return {
        "tenant": principal.tenant,
        "key_id": principal.key_id,
        "key_name": principal.name,
        "request_id": request.scope["request_id"],
        "traceparent": request.scope["traceparent"],
        "deadline": _deadline(request.headers.get(DEADLINE)),
        "scopes": principal.scopes,
        "address": request.client.host if request.client else None,
    }


def _deadline(header: str | None) -> float | None:
    if header is None:
        return None
    after_ms = deadline_ms(header)
    if after_ms is None:
        message = f"X-Quorum-Deadline-Ms is {header[:20]!r}; it wants whole milliseconds from 1 to {LONGEST_MS}"
        raise InvalidRequest(message, param="X-Quorum-Deadline-Ms")
    return time.monotonic() + after_ms / 1000


def run_headers(run: Run, result: OrchestrationOutput | None = None) -> dict[str, str]:
    """What every answer says of its run: its id, how its caller's limits stand; of a `result`, how much came from the cache."""
    headers = {"x-quorum-run-id": run.id}
    if result is not None and run.request.cache in ("use", "refresh"):
        headers["x-quorum-cache"] = cache_word((*result.candidates, *result.calls))
    return headers if run.permit is None else headers | ratelimit_headers(run.permit.quotas)


async def begin(request: Request, services: Services, asking: RunRequest, strategy: BaseOrchestrator | None = None) -> Begun:
    """The run of `asking`, admitted; of a request that was taken over from another process, the continuation of its run.

    Parameters:
        strategy: in place of the one that `asking` names.

    Raises:
        QuorumError: it is refused.
    """
    ticket: Ticket | None = request.scope.get(TICKET)
    if ticket is not None and ticket.epoch > 1:
        return await _gone_on(request, services, asking, strategy, ticket)
    run_id = ticket.run_id if ticket else None
    if asking.conversation_id is None:
        return await _begun(request, services, _made(services, asking, strategy, run_id))
    run_id = run_id or new_run_id()
    async with services.conversations.joining(asking, run_id) as conversation:
        run = _made(services, conversation.request, strategy, run_id)
        run.context.conversation = conversation
        return await _begun(request, services, run)


def _made(
    services: Services,
    asking: RunRequest,
    strategy: BaseOrchestrator | None,
    run_id: str | None,
    before: OrchestrationOutput | None = None,
    *,
    taken: bool = False,
) -> Run:
    if strategy is None:
        return services.engine.begin(asking, run_id, before, taken=taken)
    return services.engine.begin_with(strategy, asking, run_id, before, taken=taken)


async def _begun(request: Request, services: Services, run: Run) -> Begun:
    ticket: Ticket | None = request.scope.get(TICKET)
    may_pause, own = run.strategy.may_pause(run.context), None
    if ticket is not None:
        run.context.hosting.writing = partial(request.scope.__setitem__, UNREPEATABLE, True)
    elif may_pause or run.strategy.keeps_steps:
        now = services.clock.now()
        own = own_request(request.scope, run.id, request.scope[BODY], _asker(run.request), now)
    if may_pause:
        digest = ticket.digest if ticket else own.id.digest if own else ""
        run.context.approvals = services.approvals.of_run(digest)
    if own is None or not run.strategy.keeps_steps:
        return Begun(await services.engine.admit(run), request, ticket, own)
    hold = await services.holds.begin(own, run.id)
    try:
        return Begun(await services.engine.admit(run), request, own=own, hold=hold)
    except QuorumError:
        hold.leave()
        raise


async def _gone_on(
    request: Request, services: Services, asking: RunRequest, strategy: BaseOrchestrator | None, ticket: Ticket
) -> Begun:
    """The continuation of a run that another process has begun.

    It is left as it is, and tried again, while the store is away; one that is paused also where it cannot go on now, as while
    its tenant's limits are reached. Where it never can, it fails.
    """
    scope = request.scope
    try:
        return await _continued(request, services, asking, strategy, ticket)
    except StateUnavailable:
        scope[AGAIN] = True  # nobody knows whether it is paused
        raise
    except (ConversationBusy, LimitExceeded):
        raise
    except QuorumError:
        scope[AGAIN] = False
        raise


async def _continued(
    request: Request, services: Services, asking: RunRequest, strategy: BaseOrchestrator | None, ticket: Ticket
) -> Begun:
    tenant, run_id, scope = asking.tenant, ticket.run_id, request.scope
    ended = await services.runs.ended(tenant, run_id)
    if ended:
        return Begun(_made(services, asking, strategy, run_id, taken=True), request, ticket, ended=ended)
    kept, before = await services.runs.paused(tenant, run_id)
    withdrawn: QuorumError | None = None
    if ticket.own and not kept:
        raise Gone(f"{run_id} was deleted")
    if before is not None:
        scope[AGAIN] = True
        scope[UNREPEATABLE] = True  # a person has decided on it
        asking = replace(asking, budget=left_of(asking.budget, before))
        try:
            asking = replace(asking, scopes=still_allowed(request, services, _asker(asking)))
        except (Unauthorized, Forbidden) as error:
            withdrawn = error
    if asking.conversation_id is None:
        run = withdrawing(_made(services, asking, strategy, run_id, before, taken=True), withdrawn)
        return await _taken(request, services, run, ticket, kept, before)
    seen = None if before is None else await services.runs.turns_seen(tenant, run_id)
    async with services.conversations.joining(asking, run_id, seen) as conversation:
        run = withdrawing(_made(services, conversation.request, strategy, run_id, before, taken=True), withdrawn)
        run.context.conversation = conversation
        return await _taken(request, services, run, ticket, kept, before)


async def _taken(
    request: Request, services: Services, run: Run, ticket: Ticket, kept: bool, before: OrchestrationOutput | None
) -> Begun:
    """`run`, taken over, of which something was `kept` a moment ago. `before` is what had come of it when it was last paused,
    which is settled.

    Raises:
        ConflictError: what had come of it is another strategy's.
        Gone: it was deleted just now.
    """
    if before is not None:
        check_same(run.strategy.name, before)
    await services.engine.admit(run, begun=kept)
    context, scope = run.context, request.scope
    context.hosting.writing = partial(scope.__setitem__, UNREPEATABLE, True)
    if before is not None or run.strategy.may_pause(context):
        context.approvals = services.approvals.of_run(ticket.digest, before)
    if before is not None:
        go_on_from(context, before)
    taken = await services.host.take(run, ticket.digest)
    ended = await _over(request, services, run) if taken is None and kept else None
    scope[AGAIN] = False
    if ended:
        return Begun(run, request, ticket, ended=ended)
    context.past.taken = taken is None or not taken.paused
    return Begun(run, request, ticket, taken=taken)


async def _over(request: Request, services: Services, run: Run) -> OrchestrationOutput:
    """What came of a run that was there a moment ago, and that nobody can go on with any more.

    Raises:
        Gone: it was deleted.
    """
    if run.permit is not None:
        await run.permit.settle(NOTHING)
    ended = await services.runs.ended(run.request.tenant, run.id)
    if ended is None:
        request.scope[UNREPEATABLE] = False  # nothing of it is kept, nor is that it was there
        raise Gone(f"{run.id} was deleted")
    if run.context.conversation is not None:
        await run.context.conversation.release()
    return ended


def _asker(asking: RunRequest) -> Principal:
    return Principal(asking.tenant, asking.key_id, asking.key_name, asking.scopes)


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that may go. One with a `ticket` goes on whoever leaves, also in another process (`taken`), which may have come to
    its end already (`ended`): it is only to be answered. `own` is the request as somebody can go on with it who has no ticket
    for it, where the run may be paused; with a `hold` somebody does where this process dies, too."""

    run: Run
    request: Request
    ticket: Ticket | None = None
    own: KeyedRequest | None = None
    taken: Taken | None = None
    ended: OrchestrationOutput | None = None
    hold: Hold | None = None

    @property
    def logged(self) -> bool:
        """Whether it is kept in the log although nobody asked for that: so that no answer of several has to be paid twice, and
        that it may be paused."""
        several = self.ticket is not None and self.run.strategy.models_needed != 1
        return several or self.hold is not None or self.run.context.approvals is not None

    async def host(self, services: Services, on_disconnect: OnDisconnect, *, native: bool = False) -> HostedRun:
        """Have the process run it. `native` says whether its reader waits for what follows a pause."""
        digest = self.ticket.digest if self.ticket else self.own.id.digest if self.own and self.hold else ""
        hosted = await services.host.begin(
            self.run,
            on_disconnect="continue" if self.ticket else on_disconnect,
            resumable=digest,
            taken=self.taken,
            pausing=partial(self._paused, services, native),
        )
        if self.hold is not None:
            self.hold.until(lambda: hosted.kept)
        self.request.scope[LOGGED] = partial(services.host.told, hosted)
        return hosted

    async def _paused(self, services: Services, native: bool, event: RunPaused, number: int) -> Handing:
        pause = Pause(self.run.id, event.expires_at, number, native)
        if self.hold is not None:
            return await self.hold.pausing(pause)
        if self.ticket is None and self.own is not None:
            return await services.holds.hold(self.own, pause)

        async def noted() -> None:
            self.request.scope[PAUSED] = pause

        return noted


async def result_of(request: Request, services: Services, begun: Begun) -> OrchestrationOutput:
    """What comes of a run, for as long as somebody waits for it.

    One that is held and goes on in another process is `running`.

    Raises:
        Abandoned: nobody does any more.
        OrchestratorError: another process has it.
    """
    if begun.ended:
        return begun.ended
    if not begun.logged:
        return await wanted(request, begun.run.result())
    run = await begun.host(services, "continue")
    if begun.ticket:
        return await run.ended()
    try:
        return await wanted(request, run.ended())
    except OrchestratorError:
        if begun.hold is None or not run.lost:
            raise
        return run.result()
    finally:
        run.cancel("request")  # who waited has left, if it goes on


async def streamed(request: Request, services: Services, begun: Begun, encoder: Encoder[RunEvent]) -> EventStream[RunEvent]:
    """The run's events as they happen. It ends when its reader leaves."""
    if begun.ended:
        events = _told_again(begun.ended)
    elif begun.logged:
        run = await begun.host(services, "continue")
        events = run.happening() if begun.ticket else _as_read(run)
    else:
        events = begun.run.events()
    return _stream(request, services, begun.run, events, encoder)


async def hosted(request: Request, services: Services, begun: Begun, on_disconnect: OnDisconnect) -> EventStream[LoggedEvent]:
    """The events of a run that goes on for a while, or to its end, when its reader leaves."""
    run = None if begun.ended else await begun.host(services, on_disconnect, native=True)
    events = services.runs.events(begun.run.request.tenant, begun.run.id, 0, run, while_hosted=begun.ticket is not None)
    return _stream(request, services, begun.run, events, NativeFrames())


def location_of(run_id: str) -> dict[str, str]:
    """Where a run that goes on is found."""
    return {"location": f"/v1/orchestrations/{run_id}"}


async def _as_read(run: HostedRun) -> AsyncGenerator[RunEvent]:
    """The events of a run that ends when its reader leaves."""
    try:
        async with aclosing(run.happening()) as events:
            async for event in events:
                yield event
        if run.lost:
            raise stopping()
    finally:
        run.cancel("request")


async def _told_again(result: OrchestrationOutput) -> AsyncGenerator[RunEvent]:
    for event in unfold(result):
        yield event


def _stream(request: Request, services: Services, run: Run, events: AsyncIterator[T], encoder: Encoder[T]) -> EventStream[T]:
    settings = services.settings
    return EventStream(
        events,
        encoder,
        request_id=request.scope["request_id"],
        times=StreamTimes(settings.keep_alive_s, settings.stalled_s),
        headers=run_headers(run),
        draining=services.draining,
    )
