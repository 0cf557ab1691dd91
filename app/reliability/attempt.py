"""Every call to a provider passes the gate, and leaves an attempt behind: when, how long, and how it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from app.core.chat import Attempt, AttemptOutcome, ChatRequest
from app.core.clock import Clock
from app.core.errors import DeadlineExceeded, ErrorReport, ProviderError, QuorumError, report
from app.core.model_events import ModelEvent, ResponseFinished, ResponseStarted
from app.core.models import Call, Policy
from app.core.streams import close
from app.reliability.gate import Gate, Pass


class AttemptObserver(Protocol):
    """Who counts attempts."""

    def attempt(self, outcome: str, latency_s: float, ttft_s: float | None) -> None:
        """One attempt is over: `ok`, `cancelled` or a failure class; seconds in all, and to the first token if streamed."""
        ...


def attempt(observer: AttemptObserver, clock: Clock, gate: Gate | None = None) -> Policy:
    """Let each call through `gate`, note it in its request's context, and tell `observer`.

    What the gate refuses is noted too, though no call was made of it. Nothing starts after the request's deadline.
    """

    def policy(call: Call) -> Call:
        async def noted(request: ChatRequest) -> AsyncIterator[ModelEvent]:
            started_at, started = clock.now(), clock.monotonic()
            first: float | None = None
            over = ok = False
            failed: Exception | None = None

            def note(outcome: AttemptOutcome, error: ErrorReport | None = None, word: str | None = None) -> None:
                nonlocal over
                over = True
                taken = clock.monotonic() - started
                request.context.attempts.append(Attempt(started_at, taken * 1000, outcome, error))
                observer.attempt(word or outcome, taken, first)

            def in_time() -> None:
                deadline = request.context.deadline
                if deadline is not None and clock.monotonic() >= deadline:
                    raise DeadlineExceeded(f"the run's deadline had passed before {request.model!r} was asked")

            in_time()
            passed: Pass | None = None
            if gate is not None:
                try:
                    passed = await gate.enter(request)
                except ProviderError as refusal:
                    taken_ms = (clock.monotonic() - started) * 1000
                    request.context.attempts.append(Attempt(started_at, taken_ms, "error", report(refusal)))
                    raise
                if passed.waited:
                    started_at, started = clock.now(), clock.monotonic()
            source: AsyncIterator[ModelEvent] | None = None
            try:
                if passed is not None and passed.waited:
                    in_time()
                source = call(request)
                async for event in source:
                    if type(event) is ResponseFinished:
                        ok = True
                        note("ok")
                    elif first is None and type(event) is not ResponseStarted:
                        first = clock.monotonic() - started
                        if passed is not None and gate is not None:
                            gate.first_token(passed, first)
                    yield event
            except ProviderError as error:
                failed = error
                note("error", report(error), error.failure)
                raise
            except QuorumError as error:
                failed = error
                if source is not None:
                    note("error", report(error), error.code)
                raise
            finally:
                if not over and source is not None:
                    note("cancelled")
                if passed is not None and gate is not None:
                    taken = clock.monotonic() - started
                    gate.leave(passed, failed, ok=ok, streamed=request.incremental, taken_s=taken, first_s=first)
                if source is not None:
                    await close(source)

        return noted

    return policy
