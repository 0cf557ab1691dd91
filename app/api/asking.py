"""What every route that begins a run does alike: say who asks, and answer with events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import TypedDict, TypeVar

from fastapi import Request

from app.api.body import wanted
from app.api.deadline import DEADLINE, LONGEST_MS, deadline_ms
from app.api.native_events import NativeFrames
from app.api.ratelimit import ratelimit_headers
from app.api.services import Services
from app.api.sse import Encoder, EventStream, StreamTimes
from app.core.errors import InvalidRequest
from app.core.lifecycle import TICKET, UNREPEATABLE, Ticket
from app.core.principal import Principal
from app.core.run_events import RunEvent
from app.core.run_fold import unfold
from app.core.run_json import LoggedEvent
from app.core.runs import OrchestrationOutput, RunRequest, cache_word
from app.orchestration.base import BaseOrchestrator
from app.orchestration.engine import Run, new_run_id
from app.orchestration.runs.hosted import HostedRun
from app.orchestration.runs.run_log import OnDisconnect
from app.orchestration.runs.taking import Taken

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
    run_id = ticket.run_id if ticket else None
    ended = await services.runs.ended(asking.tenant, ticket.run_id) if ticket and ticket.epoch > 1 else None
    if asking.conversation_id is None or ended:
        return await _begun(request, services, _prepared(services, asking, strategy, run_id), ended)
    run_id = run_id or new_run_id()
    async with services.conversations.joining(asking, run_id) as conversation:
        run = _prepared(services, conversation.request, strategy, run_id)
        run.context.conversation = conversation
        return await _begun(request, services, run, None)


def _prepared(services: Services, asking: RunRequest, strategy: BaseOrchestrator | None, run_id: str | None) -> Run:
    return services.engine.begin_with(strategy, asking, run_id) if strategy else services.engine.begin(asking, run_id)


async def _begun(request: Request, services: Services, run: Run, ended: OrchestrationOutput | None) -> Begun:
    ticket: Ticket | None = request.scope.get(TICKET)
    if ticket is None:
        return Begun(await services.engine.admit(run))
    run.context.taken = ticket.epoch > 1
    run.context.writing = partial(request.scope.__setitem__, UNREPEATABLE, True)
    if ended:
        return Begun(run, ticket.digest, ended=ended)
    taken = await services.host.take(run) if ticket.epoch > 1 else None
    await services.engine.admit(run)
    return Begun(run, ticket.digest, taken=taken)


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that may go. One that is `keyed` (the digest of its request) goes on whoever leaves, also in another process
    (`taken`), which may have come to its end already (`ended`): it is only to be answered."""

    run: Run
    keyed: str = ""
    taken: Taken | None = None
    ended: OrchestrationOutput | None = None

    @property
    def logged(self) -> bool:
        """Whether it is kept in the log although nobody asked for that: so that no answer of several has to be paid twice."""
        return bool(self.keyed) and self.run.strategy.models_needed != 1

    async def host(self, services: Services, on_disconnect: OnDisconnect) -> HostedRun:
        """Have the process run it."""
        if self.keyed:
            on_disconnect = "continue"
        return await services.host.begin(self.run, on_disconnect=on_disconnect, resumable=self.keyed, taken=self.taken)


async def result_of(request: Request, services: Services, begun: Begun) -> OrchestrationOutput:
    """What comes of a run, for as long as somebody waits for it.

    Raises:
        Abandoned: nobody does any more.
        OrchestratorError: another process has it.
    """
    if begun.ended:
        return begun.ended
    if begun.logged:
        return await (await begun.host(services, "continue")).ended()
    return await wanted(request, begun.run.result())


async def streamed(request: Request, services: Services, begun: Begun, encoder: Encoder[RunEvent]) -> EventStream[RunEvent]:
    """The run's events as they happen. It ends when its reader leaves."""
    if begun.ended:
        events = _told_again(begun.ended)
    else:
        events = (await begun.host(services, "continue")).happening() if begun.logged else begun.run.events()
    return _stream(request, services, begun.run, events, encoder)


async def hosted(request: Request, services: Services, begun: Begun, on_disconnect: OnDisconnect) -> EventStream[LoggedEvent]:
    """The events of a run that goes on for a while, or to its end, when its reader leaves."""
    run = None if begun.ended else await begun.host(services, on_disconnect)
    events = services.runs.events(begun.run.request.tenant, begun.run.id, 0, run)
    return _stream(request, services, begun.run, events, NativeFrames())


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
