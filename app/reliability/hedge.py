"""A second call where the first one takes unusually long; who speaks first is heard, the other is closed and booked.

Jeffrey Dean and Luiz André Barroso, "The Tail at Scale", CACM 56(2), 2013: a hedge after the 95th percentile of the usual time
costs a few per cent more calls and cuts most of the tail.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from app.config.spec import HedgeConfig
from app.core.chat import ChatRequest, Choice
from app.core.model_events import ModelEvent
from app.core.models import Call, ModelProfile, Policy
from app.core.streams import close, race
from app.core.usage import NO_USAGE
from app.observability.metrics import HEDGES
from app.observability.model_counts import model_label
from app.reliability.attempt import AttemptObserver
from app.reliability.forecast import cut_off
from app.reliability.quantiles import Quantiles

_NOTHING = Choice()
_SAVED = 5.0
"""Hedges that may be saved up while all is well."""


class Usual:
    """How long a model usually takes to its first token, or, where nobody watches, to its answer; and the hedges it may make.

    An `AttemptObserver` that tells `observer` too.
    """

    def __init__(self, observer: AttemptObserver, config: HedgeConfig) -> None:
        self.streamed, self.whole = Quantiles(), Quantiles()
        self._observer = observer
        self._config = config
        self._allowed = 0.0

    def attempt(self, outcome: str, latency_s: float, ttft_s: float | None) -> None:
        self._observer.attempt(outcome, latency_s, ttft_s)
        if outcome == "ok":
            if ttft_s is None:
                self.whole.add(latency_s)
            else:
                self.streamed.add(ttft_s)

    def delay_s(self, request: ChatRequest) -> float | None:
        """After how long a call is hedged, None while too little is known. Counts the call."""
        self._allowed = min(_SAVED, self._allowed + self._config.max_share)
        times = self.streamed if request.incremental else self.whole
        return times.at(self._config.quantile) if times.count >= self._config.min_calls else None

    def may_hedge(self) -> bool:
        """Whether there is a hedge to take."""
        return self._allowed >= 1

    def take(self) -> bool:
        """Take a hedge out, if there is one."""
        if not self.may_hedge():
            return False
        self._allowed -= 1
        return True


def hedge(profile: ModelProfile, usual: Usual, closed: Callable[[], bool]) -> Policy:
    """Hedge calls without tools, while the model's breaker is closed and the run's purse has something for a second one.

    A hedge that is not made, for want of money or since the first call has spoken meanwhile, leaves those of others untouched.
    """

    def counted(outcome: str) -> None:
        HEDGES.labels(profile.provider, model_label(profile.name), outcome).inc()

    def policy(call: Call) -> Call:
        def hedged(request: ChatRequest) -> AsyncIterator[ModelEvent]:
            delay_s = None if request.tools else usual.delay_s(request)
            return call(request) if delay_s is None else _raced(call, request, delay_s)

        return hedged

    async def _raced(call: Call, request: ChatRequest, delay_s: float) -> AsyncIterator[ModelEvent]:
        over = asyncio.Event()
        begun = heard = False

        async def first() -> AsyncIterator[ModelEvent]:
            source = call(request)
            try:
                async for event in source:
                    over.set()
                    yield event
            finally:
                over.set()
                await close(source)

        async def second() -> AsyncIterator[ModelEvent]:
            nonlocal begun, heard
            if await _set_within(over, delay_s) or not closed() or not usual.may_hedge():
                return
            purse = request.context.purse
            draw = await purse.draw_unplanned(request, profile) if purse else None
            if purse and draw is None:
                return
            if over.is_set() or not usual.take():
                if draw:
                    draw.book(NO_USAGE, None)
                return
            begun = True
            source = call(replace(request))
            try:
                async for event in source:
                    heard = True
                    yield event
            finally:
                # Whichever of the two was not heard had its prompt read: what the other has used is in its own answer.
                lost = cut_off(request.messages, _NOTHING)
                request.context.wasted += lost
                price = profile.price
                if draw:
                    draw.book(lost, price.cost(lost) if price else None)
                await close(source)

        source = race([first(), second()])
        try:
            async for event in source:
                yield event
        finally:
            await close(source)
            if begun:
                counted("won" if heard else "lost")

    return policy


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
