"""The cache around a call, and the one flight for all who ask the same at once, over all replicas.

A flight belongs to the process: who began it may leave, and the others still get its answer; the last one to leave ends it. It
has no deadline but the call's own time limits: those who read it have theirs. Who began it pays for it, and where he leaves,
the next one who stays and can: so all that it uses is booked once, to a run that is not settled yet.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from app.config.spec import CacheConfig
from app.core.chat import CallContext, ChatRequest, ChatResponse
from app.core.errors import BudgetExceeded, StateUnavailable
from app.core.model_events import ModelEvent, ResponseFinished, ResponseStarted
from app.core.models import Call, ModelProfile, Policy
from app.core.streams import Abandoned, Shared, close, share
from app.core.usage import NO_USAGE
from app.observability.metrics import CACHED
from app.reliability.bill import Bill
from app.reliability.cached import deltas_of, digest, keepable, packed, told_again, unpacked
from app.state.answers import LEASE_S, AnswerStore, Question
from app.state.flusher import Flusher

_FIRST_WAIT_S: Final = 0.02
_LONGEST_WAIT_S: Final = 0.25
"""Between two looks at what another replica asks for: doubled from the first to the longest."""


@dataclass(slots=True, eq=False)
class _Flight:
    """One answer that is being asked for, or looked up.

    `hit` says that it came from the cache. `waiting` are those who wait for it, in the order in which they came; `bill` says
    who of them pays. `context` is that of the call itself.
    """

    question: Question
    context: CallContext
    bill: Bill
    shared: Shared[ModelEvent] = field(init=False)
    hit: bool = False
    waiting: list[CallContext] = field(default_factory=list[CallContext])

    async def left_by(self, asker: CallContext) -> None:
        """`asker` has heard enough, or leaves. Where he was to pay, another one is from now on.

        Where none of the others can, the call ends here, and they may ask by themselves.
        """
        self.waiting.remove(asker)
        if self.bill.payer is not asker or not self.waiting or self.shared.over or self.hit or not self.bill.open:
            return
        if not any(self.bill.pass_to(other) for other in self.waiting):
            who_left = "who began the call has left, and nobody else who waits for it has the budget for it"
            await self.shared.end(BudgetExceeded(who_left))

    def charge(self, asker: CallContext) -> None:
        """Tell `asker`, who has left, of what the call has used as far as he is to pay for it."""
        if self.bill.payer is asker:
            asker.attempts.extend(self.context.attempts)
            asker.wasted += self.context.wasted
            asker.used = NO_USAGE if self.hit else self.context.used
        else:
            asker.used = NO_USAGE
        asker.cached = self.hit or self.bill.payer is not asker


class Answers:
    """The cached answers as one process uses them.

    Parameters:
        store: where they are kept; without one only what is asked at the same time here is shared.
    """

    def __init__(
        self, store: AnswerStore | None, config: CacheConfig, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.config = config
        self._store = store
        self._sleep = sleep
        self._flights: dict[tuple[Question, bool], _Flight] = {}
        """By question, and whether it is asked anew: who wants that cannot share a look at what is kept."""
        self._leads: dict[str, Question] = {}
        self._given_up: list[tuple[Question, str]] = []
        self._flusher = Flusher("answers", self._tell, every_s=LEASE_S / 3)

    def start(self) -> None:
        self._flusher.start()

    async def close(self) -> None:
        await self._flusher.close()

    def policy(self, profile: ModelProfile) -> Policy:
        """Answer from the cache where the request wants that, else ask once for all who ask the same."""

        def policy(call: Call) -> Call:
            def answered(request: ChatRequest) -> AsyncIterator[ModelEvent]:
                return call(request) if request.context.cache == "off" else self._answered(call, request, profile)

            return answered

        return policy

    async def _answered(self, call: Call, request: ChatRequest, profile: ModelProfile) -> AsyncIterator[ModelEvent]:
        question = Question(request.context.tenant, digest(profile, request))
        asker = request.context
        while True:
            refresh = asker.cache == "refresh"
            flight = self._flights.get((question, refresh)) or (None if refresh else self._flights.get((question, True)))
            if flight is None:
                flight = self._flights[question, refresh] = _begun(question, asker)
                flight.shared = share(self._fly(call, request, flight))
            flight.waiting.append(asker)
            reader = self._read(flight, request)
            begun = False
            try:
                async for event in reader:
                    begun = True
                    yield event
            except (Abandoned, BudgetExceeded):  # who was to pay has left, or may not ask: that is his affair
                if begun or flight.bill.payer is asker:
                    raise
            else:
                return
            finally:
                try:
                    await flight.left_by(asker)
                finally:
                    await close(reader)
                    flight.charge(asker)

    async def _read(self, flight: _Flight, request: ChatRequest) -> AsyncIterator[ModelEvent]:
        """The flight as this request is to see it: in pieces or as a whole, and for nothing where somebody else pays."""
        said = False
        source = flight.shared.reader()
        try:
            async for event in source:
                if not isinstance(event, ResponseFinished):
                    said = said or not isinstance(event, ResponseStarted)
                    if request.incremental:
                        yield event
                    continue
                own = flight.bill.payer is request.context
                free = flight.hit or not own
                request.context.cached = free
                CACHED.labels("hit" if flight.hit else "miss" if own else "shared").inc()
                if request.incremental and not said:
                    for piece in deltas_of(event.response):
                        yield piece
                for last in told_again(event.response, incremental=False) if free else (event,):
                    yield last
        finally:
            await close(source)

    async def _fly(self, call: Call, request: ChatRequest, flight: _Flight) -> AsyncIterator[ModelEvent]:
        """The answer: kept, awaited from another replica, or asked for; and then kept."""
        who, key = secrets.token_hex(8), (flight.question, request.context.cache == "refresh")
        response: ChatResponse | None = None
        try:
            stored = await self._found(flight.question, who, refresh=request.context.cache == "refresh")
            if stored is not None:
                flight.hit = True
                yield ResponseFinished(stored)
                return
            source = call(replace(request, context=flight.context))
            try:
                async for event in source:
                    if isinstance(event, ResponseFinished):
                        response = event.response
                        self._flights.pop(key, None)  # who asks from now on finds it in the cache
                    yield event
            finally:
                await close(source)
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            if who in self._leads:
                del self._leads[who]
                if response is None:
                    self._given_up.append((flight.question, who))
                    self._flusher.hurry()
            if response is not None:
                await self._keep(flight.question, who, response)

    async def _found(self, question: Question, who: str, *, refresh: bool) -> ChatResponse | None:
        """The kept answer; None where this process is to ask, as it always is while Redis is away."""
        wait_s, leader = _FIRST_WAIT_S, ""
        while self._store is not None:
            try:
                look = await self._store.look(question, who, refresh=refresh, of=leader)
            except StateUnavailable:
                return None
            if look.answer is not None:
                return unpacked(look.answer)
            if look.lead:
                self._leads[who] = question
                return None
            await self._sleep(wait_s)
            wait_s = min(_LONGEST_WAIT_S, wait_s * 2)
            leader = look.leader  # what another replica gets from now on is fresh
        return None

    async def _keep(self, question: Question, who: str, response: ChatResponse) -> None:
        if self._store is None:
            return
        answer = packed(response) if keepable(response) else b""
        if len(answer) > self.config.max_answer_bytes:
            answer = b""
        try:
            await self._store.end(question, who, answer, self.config.ttl_s)
        except StateUnavailable:
            return

    async def _tell(self) -> None:
        """Renew the leases of those who ask, and give up those of who has failed."""
        if self._store is None:
            return
        given_up, self._given_up = self._given_up, []
        try:
            for question, who in given_up:
                await self._store.end(question, who, b"", 0)
            await self._store.renew([(question, who) for who, question in self._leads.items()])
        except StateUnavailable:
            return


def _begun(question: Question, asker: CallContext) -> _Flight:
    """A flight that `asker` begins and pays for."""
    bill = Bill(asker)
    context = CallContext(
        asker.run_id,
        asker.request_id,
        asker.tenant,
        asker.traceparent,
        purse=bill,
        retries=asker.retries,
        replicate=asker.replicate,
        unplanned=asker.unplanned,
    )
    return _Flight(question, context, bill)
