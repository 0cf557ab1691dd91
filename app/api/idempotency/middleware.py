"""What a POST with an idempotency key goes through before the routes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.access import identify
from app.api.body import check_depth, read_body
from app.api.errors import answer_error
from app.api.idempotency.execution import Execution, Lost, unpacked_head
from app.api.idempotency.executions import Executions
from app.api.idempotency.replay import Replay
from app.api.idempotency.request import KeyedRequest, keyed_request, read_key, wait_of
from app.api.native_events import NativeFrames
from app.api.services import Services, services_of
from app.api.sse import WATCH_AFTER_S, EventStream, StreamTimes, break_off, client_gone
from app.core.errors import ErrorReport, Forbidden, Gone, InProgress, InvalidRequest, OrchestratorError, QuorumError, report
from app.core.lifecycle import INTERRUPT, REQUIRED
from app.core.streams import Abandoned, supervise
from app.observability.metrics import CONFLICTS, REPLAYS
from app.state.idempotency import Answered, Begun, Paused

T = TypeVar("T")
Interrupt = Callable[[ErrorReport], bytes]
PREFIX: Final = "/v1/"
NATIVE: Final = "/v1/orchestrations"
"""Where streams are those of a run's log."""
AGAIN_S: Final = 1.0
"""After which a client may ask again for an answer that is under way."""
_APPLIED: Final = (b"preference-applied", b"wait")
_REPLAYED: Final = (b"idempotent-replayed", b"true")


class Idempotency:
    """Runs each keyed request once, and answers those that come again with what the first one got.

    Parameters:
        app: the routes.
        root: the application they belong to.
        executions: gives those of the process.
    """

    def __init__(self, app: ASGIApp, root: object, executions: Executions) -> None:
        self._app = app
        self._root = root
        self._executions = executions
        executions.serve(app, root)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        scope["app"] = self._root
        request = Request(scope, receive)
        services = services_of(request)
        try:
            principal = identify(request, services)
        except QuorumError:
            await self._app(scope, receive, send)  # the route says so, or that there is none
            return
        try:
            key = read_key(scope["headers"])
            limits = services.engine.spec.limits
            body = await read_body(request, limits.max_body_bytes, services.settings.body_s)
            check_depth(body, limits.max_json_depth)
            keyed = keyed_request(scope, key or "", body, principal, services.clock.now())
            await self._answer(keyed, Reader(scope, receive, send, services.settings.stalled_s), services)
        except QuorumError as error:
            await (await answer_error(request, error))(scope, receive, send)

    async def _answer(self, keyed: KeyedRequest, reader: Reader, services: Services) -> None:
        loop, executions = asyncio.get_running_loop(), self._executions
        wait_s = wait_of(reader.scope["headers"], services.engine.spec.idempotency.max_wait_s)
        until = loop.time() + (wait_s or 0.0)
        while True:
            outcome = await executions.begin(keyed)
            if isinstance(outcome, Begun):
                execution = executions.run(keyed, outcome)
                await self._relayed(keyed, execution, reader, services)
                return
            if isinstance(outcome, Answered):
                replay = Replay(executions.records, keyed.id, partial(_check, keyed), reader.stalled_s)
                if await reader.watched(replay.answered(reader.take, outcome.head, outcome.scope)):
                    REPLAYS.inc()
                    return
                continue
            if isinstance(outcome, Paused):
                if await self._shown(keyed, outcome, reader, services):
                    REPLAYS.inc()
                    return
                continue
            if outcome == "deleted":
                raise Gone("the run of this Idempotency-Key was deleted; use a new key for each request")
            if outcome == "other":
                CONFLICTS.labels("mismatch").inc()
                message = "this Idempotency-Key was used for another request; use a new key for each request"
                raise InvalidRequest(message, code="idempotency_mismatch", param="Idempotency-Key")
            if loop.time() >= until:
                CONFLICTS.labels("in_progress").inc()
                raise InProgress(AGAIN_S)
            if await self._joined(keyed, until, reader, services):
                REPLAYS.inc()
                return

    async def _relayed(
        self, keyed: KeyedRequest, execution: Execution, reader: Reader, services: Services, *more: tuple[bytes, bytes]
    ) -> None:
        """The answer of `execution`, and where its run pauses while it is streamed, what comes when that goes on."""
        await reader.relayed(execution, *more)
        pause = execution.paused
        if pause is not None and pause.native:
            await reader.following(services, keyed.id.tenant, pause.run_id, pause.after)

    async def _shown(self, keyed: KeyedRequest, paused: Paused, reader: Reader, services: Services) -> bool:
        """That the run waits for somebody; its events from the first on, where they are asked for. False where it goes on."""
        _check(keyed, paused.scope)
        head = unpacked_head(paused.head)
        native = keyed.path == NATIVE and any(value.startswith("text/event-stream") for _, value in head.headers)
        if not native:
            replay = Replay(self._executions.records, keyed.id, partial(_check, keyed), reader.stalled_s)
            return await reader.watched(replay.answered(reader.take, paused.head, paused.scope))
        await reader.take(dict(head.message(_REPLAYED)))
        await reader.following(services, keyed.id.tenant, paused.run_id, 0)
        return True

    async def _joined(self, keyed: KeyedRequest, until: float, reader: Reader, services: Services) -> bool:
        """Whether the answer that is under way was given; False where it was not there in time, or was not to be kept."""
        execution = self._executions.find(keyed.id)
        if execution is None:
            replay = Replay(self._executions.records, keyed.id, partial(_check, keyed), reader.stalled_s, _APPLIED)
            return await reader.watched(replay.follow(reader.take, until))
        if not await reader.watched(execution.begins(until)):
            return False
        _check(keyed, execution.scope.get(REQUIRED, ""))
        await self._relayed(keyed, execution, reader, services, _REPLAYED, _APPLIED)
        return True


class Reader:
    """The connection that a request came on, and whether an answer has begun on it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, stalled_s: float) -> None:
        self.scope = scope
        self.stalled_s = stalled_s
        self._receive = receive
        self._send = send
        self._begun = False

    async def take(self, message: Message) -> None:
        self._begun = True
        await self._send(message)

    async def relayed(self, execution: Execution, *more: tuple[bytes, bytes]) -> None:
        """Read the answer of `execution` from its beginning on."""
        try:
            await self.watched(execution.relay(self.take, self.stalled_s, *more), execution)
        finally:
            self.scope["route"] = execution.scope.get("route")

    async def following(self, services: Services, tenant: str, run_id: str, after: int) -> None:
        """What follows number `after` of the events of a run, on an answer that has begun."""
        settings = services.settings
        stream = EventStream(
            services.runs.events(tenant, run_id, after),
            NativeFrames(at_once=True),
            request_id=self.scope["request_id"],
            times=StreamTimes(settings.keep_alive_s, settings.stalled_s, hold_headers_s=0),
            draining=services.draining,
        )

        async def go_on(message: Message) -> None:
            if message["type"] != "http.response.start":
                await self.take(message)

        await stream(self.scope, self._receive, go_on)

    async def watched(self, work: Coroutine[Any, Any, T], execution: Execution | None = None) -> T:
        """Await `work`, which reads the answer (of `execution`, where that is here), for as long as the reader is there.

        An answer that breaks off after it has begun says so, if its dialect has a frame for that; else the connection
        breaks, so that nobody takes a part of it for the whole.

        Raises:
            Abandoned: the reader has left, or was cut.
            OrchestratorError: there will be no answer here.
        """
        try:
            return await supervise(work, lambda: client_gone(self._receive), after_s=WATCH_AFTER_S)
        except (Lost, TimeoutError) as error:
            lost = _gone(released=execution is not None and execution.released)
            if not self._begun:
                raise lost from error
            interrupt: Interrupt | None = execution.scope.get(INTERRUPT) if execution else None
            if interrupt is None or isinstance(error, TimeoutError):
                if break_off(self.scope):
                    await client_gone(self._receive)  # a server takes an answer for forgotten that ends before its connection
            else:
                await self.take({"type": "http.response.body", "body": interrupt(report(lost)), "more_body": False})
            raise Abandoned from error


def _gone(*, released: bool) -> OrchestratorError:
    if released:
        message = "the service is stopping; ask again with the same key, and another process goes on with it"
        return OrchestratorError(message, code="draining")
    return OrchestratorError("the request has gone to another process; ask again with the same key", code="owner_lost")


def _check(keyed: KeyedRequest, required: str) -> None:
    """Raises Forbidden: an answer is given to those only who might have asked for it."""
    who = keyed.principal
    if required and not who.allows(required):
        raise Forbidden(f"the key {who.name!r} lacks the scope {required!r}; it has {', '.join(sorted(who.scopes))}")
