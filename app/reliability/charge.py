"""What a call uses is drawn from its run's purse, at its worst before it is made and as it was afterwards.

What answers without a provider, as a cache does, stands outside and draws nothing. What makes a second call beside the first,
as hedging does, stands inside and draws for that one itself, from the same `request.context.purse`. A call that is made again
is not drawn for again: an attempt that failed without a token costs nothing, and what `repair` asks again is in the bound.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from app.core.budgets import Purse
from app.core.chat import ChatRequest
from app.core.errors import QuorumError
from app.core.model_events import ModelEvent, ResponseBuilder, ResponseFinished, ResponseStarted
from app.core.models import Call, ModelProfile, Policy
from app.core.streams import close
from app.core.usage import NO_USAGE, Usage
from app.reliability.forecast import cut_off, used_by_failed


def charge(profile: ModelProfile) -> Policy:
    """Draw each call on its run's purse; one of a run without a purse goes through as it is.

    The charged call raises `BudgetExceeded`, and makes no call, where the purse does not hold it.
    """

    def policy(call: Call) -> Call:
        async def charged(request: ChatRequest, purse: Purse) -> AsyncIterator[ModelEvent]:
            draw = purse.draw(request, profile)
            used: Usage | None = None
            partial, begun = ResponseBuilder(), False
            source = call(request)
            try:
                async for event in source:
                    if isinstance(event, ResponseFinished):
                        used = event.response.usage
                    elif not isinstance(event, ResponseStarted):
                        begun = True
                        partial.add(event)
                    yield event
            except QuorumError as error:
                used = used_by_failed(error, request.messages, partial.choice(0) if begun else None)
                raise
            finally:
                if used is None:  # stopped by us: the prompt at least was sent
                    used = cut_off(request.messages, partial.choice(0))
                draw.book(used, profile.price.cost(used) if profile.price and used is not NO_USAGE else None)
                await close(source)

        def called(request: ChatRequest) -> AsyncIterator[ModelEvent]:
            purse = request.context.purse
            return call(request) if purse is None else charged(request, purse)

        return called

    return policy
