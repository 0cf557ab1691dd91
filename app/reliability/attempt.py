"""Every call to a provider leaves an attempt behind: when, how long, and how it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from app.core.chat import Attempt, AttemptOutcome, ChatRequest
from app.core.clock import Clock
from app.core.errors import ErrorReport, ProviderError, QuorumError, report
from app.core.model_events import ModelEvent, ResponseFinished, ResponseStarted
from app.core.models import Call, Policy
from app.core.streams import close


class AttemptObserver(Protocol):
    """Who counts attempts."""

    def attempt(self, outcome: str, latency_s: float, ttft_s: float | None) -> None:
        """One attempt is over: `ok`, `cancelled` or a failure class; seconds in all, and to the first token if streamed."""
        ...


def attempt(observer: AttemptObserver, clock: Clock) -> Policy:
    """Note each call in its request's context and tell `observer`."""

    def policy(call: Call) -> Call:
        async def noted(request: ChatRequest) -> AsyncIterator[ModelEvent]:
            started_at, started = clock.now(), clock.monotonic()
            first: float | None = None
            over = False

            def note(outcome: AttemptOutcome, error: ErrorReport | None = None, word: str | None = None) -> None:
                nonlocal over
                over = True
                taken = clock.monotonic() - started
                request.context.attempts.append(Attempt(started_at, taken * 1000, outcome, error))
                observer.attempt(word or outcome, taken, first)

            source = call(request)
            try:
                async for event in source:
                    if type(event) is ResponseFinished:
                        note("ok")
                    elif first is None and type(event) is not ResponseStarted:
                        first = clock.monotonic() - started
                    yield event
            except ProviderError as error:
                note("error", report(error), error.failure)
                raise
            except QuorumError as error:
                note("error", report(error), error.code)
                raise
            finally:
                if not over:
                    note("cancelled")
                await close(source)

        return noted

    return policy
