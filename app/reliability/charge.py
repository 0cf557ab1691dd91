"""What a call uses is drawn from its run's purse, at its worst before it is made and as it was afterwards.

What answers without a provider, as a cache does, stands outside and draws nothing. What makes a second call beside the first,
as hedging does, stands inside and draws for that one itself, from the same `request.context.purse`. A call that is made again
is not drawn for again: an attempt that failed without a token costs nothing, and what `repair` asks again is in the bound.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from app.core.budgets import Draw, Purse
from app.core.chat import ChatRequest
from app.core.errors import BudgetExceeded, QuorumError
from app.core.model_events import ModelEvent, ResponseBuilder, ResponseFinished, ResponseStarted
from app.core.models import Call, ModelProfile, Policy
from app.core.streams import close
from app.core.usage import NO_USAGE, Usage
from app.reliability.forecast import used_unanswered


def charge(profile: ModelProfile) -> Policy:
    """Draw each call on its run's purse; one of a run without a purse goes through as it is.

    The charged call raises `BudgetExceeded`, and makes no call, where the purse does not hold it.
    """

    def policy(call: Call) -> Call:
        async def drawn(request: ChatRequest, purse: Purse) -> Draw:
            if not request.context.unplanned:
                return purse.draw(request, profile)
            draw = await purse.draw_unplanned(request, profile)
            if draw is None:
                raise BudgetExceeded(f"{profile.name!r} is not asked: what a further call may use is over the run's budget")
            return draw

        async def charged(request: ChatRequest, purse: Purse) -> AsyncIterator[ModelEvent]:
            draw, context = await drawn(request, purse), request.context
            partial, begun = ResponseBuilder(), False
            failure: QuorumError | None = None

            def book(used: Usage) -> None:
                draw.book(used, profile.price.cost(used) if profile.price and used is not NO_USAGE else None)

            source = call(request)
            try:
                async for event in source:
                    if isinstance(event, ResponseFinished):
                        context.used = event.response.usage
                        book(context.used)  # before anybody has the answer, and may settle the run
                    elif not isinstance(event, ResponseStarted):
                        begun = True
                        partial.add(event)
                    yield event
            except QuorumError as error:
                failure = error
                raise
            finally:
                try:
                    await close(source)
                finally:
                    if context.used is None:
                        context.used = used_unanswered(request, failure, partial.choice(0) if begun else None)
                    book(context.used)

        def called(request: ChatRequest) -> AsyncIterator[ModelEvent]:
            purse = request.context.purse
            return call(request) if purse is None else charged(request, purse)

        return called

    return policy
