"""What a call passes on its way to a provider: the breaker, the bulkheads, the provider's pause. And what it leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from app.config.calls import CallConfig
from app.core.chat import ChatRequest
from app.core.clock import Clock
from app.core.errors import DeadlineExceeded, FailureClass, ProviderError, QuorumError
from app.core.models import ModelProfile
from app.observability.metrics import REFUSALS
from app.observability.model_counts import model_label
from app.reliability.breakers import Breaker
from app.reliability.bulkhead import Bulkhead, Full
from app.reliability.circuit import Tally, Verdict
from app.reliability.load import Load

FAILURES: Final = frozenset({"connection", "timeout", "overloaded", "server_error", "incomplete"})
"""The classes that count for the breaker (design, section 6). A rate limit starts a pause; the others say nothing of health."""
SPREAD: Final = 0.1
"""Calls that wait for the end of a pause go on within this share of it more, so that they do not all come at once."""

Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class Pass:
    """A call that was let through: in which epoch of the breaker, as a probe with which permit, through which bulkheads.

    `waited` says that it may not have been let through at once.
    """

    generation: int = 0
    probe: str | None = None
    places: list[Bulkhead] | None = None
    waited: bool = False


@dataclass(slots=True)
class Gate:
    """The gate of one model. `breaker` is None where neither breaker nor pace is wanted."""

    profile: ModelProfile
    config: CallConfig
    breaker: Breaker | None
    bulkheads: Sequence[Bulkhead]
    clock: Clock
    rng: Random
    sleep: Sleep = asyncio.sleep
    load: Load = field(default_factory=Load)
    _plain: bool = field(init=False)

    def __post_init__(self) -> None:
        self._plain = not self.bulkheads

    def calm(self) -> bool:
        """Whether nothing stands against a call: a call more would neither try a failing provider nor meet its pause."""
        circuit = self.breaker.circuit if self.breaker else None
        return circuit is None or (circuit.state == "closed" and not circuit.cool_until)

    async def enter(self, request: ChatRequest) -> Pass:
        """Let the call through, at once or after a short wait; `leave` must be told of its end.

        Raises:
            ProviderError: it may not be made, `breaker_open` or `pacing`, with the time after which it may.
        """
        breaker = self.breaker
        if breaker is None:
            if self._plain:
                self.load.under_way += 1
                return Pass()
            passed = Pass(waited=True)
        else:
            circuit = breaker.circuit
            if self._plain and circuit.state == "closed" and not circuit.cool_until:
                self.load.under_way += 1
                return Pass(circuit.generation)
            passed = Pass(circuit.generation, waited=True)
            if circuit.state != "closed" and self.config.breaker.enabled:
                await self._ask(breaker, passed)
        try:
            await self._wait(request, passed)
        except BaseException:
            self._give_back(passed, "void")
            raise
        self.load.under_way += 1
        return passed

    def first_token(self, passed: Pass, seconds: float) -> None:
        """The first token came after `seconds`. A probe has said enough with it."""
        if passed.probe is not None and self.breaker is not None:
            slow = seconds >= self.config.breaker.slow_first_token_s
            self.breaker.settle(passed.generation, passed.probe, "failed" if slow else "passed")

    def leave(
        self, passed: Pass, error: Exception | None, *, ok: bool, streamed: bool, taken_s: float, first_s: float | None
    ) -> None:
        """The call is over: `ok`, with `error`, or neither, where its caller left."""
        self.load.under_way -= 1
        breaker = self.breaker
        if breaker is None:
            self._give_back(passed, "void")
            return
        failure = error.failure if isinstance(error, ProviderError) else None
        if failure == "rate_limited" and self.config.pace.enabled and isinstance(error, ProviderError):
            pace = self.config.pace
            breaker.cool(min(pace.max_s, pace.default_s if error.retry_after is None else error.retry_after))
        tally = Tally()
        slow_s = self.config.breaker.slow_first_token_s
        if ok or failure in FAILURES:
            tally.calls, tally.failures = 1, int(not ok)
            if first_s is not None:
                tally.timed, tally.slow = 1, int(first_s >= slow_s)
        elif streamed and first_s is None and (error is None or isinstance(error, DeadlineExceeded)) and taken_s >= slow_s:
            tally.timed = tally.slow = 1  # nobody waited for the first token any longer
        if passed.probe is None and self.config.breaker.enabled and tally:
            breaker.record(passed.generation, tally)
        verdict: Verdict = "void"
        if tally:
            verdict = "failed" if tally.failures or tally.slow else "passed"
        self._give_back(passed, verdict)

    def _give_back(self, passed: Pass, verdict: Verdict) -> None:
        if passed.probe is not None and self.breaker is not None:
            self.breaker.settle(passed.generation, passed.probe, verdict)
        if passed.places:
            for bulkhead in passed.places:
                bulkhead.leave()

    async def _ask(self, breaker: Breaker, passed: Pass) -> None:
        grant, permit = await breaker.ask()
        if not grant.admitted:
            message = "is left alone for now: too many of its calls failed or were slow"
            raise self._refused("breaker_open", "breaker_open", message, grant.retry_ms / 1000)
        passed.generation = grant.generation
        passed.probe = permit if grant.probe else None

    async def _wait(self, request: ChatRequest, passed: Pass) -> None:
        deadline = request.context.deadline
        for bulkhead in self.bulkheads:
            left_s = float("inf") if deadline is None else deadline - self.clock.monotonic()
            try:
                await bulkhead.enter(left_s)
            except Full:
                message = f"has {bulkhead.most} calls under way for {bulkhead.what}, the most there may be"
                raise self._refused("pacing", "bulkhead", message, bulkhead.max_wait_s) from None
            passed.places = [*(passed.places or ()), bulkhead]
        if self.breaker is None or not self.breaker.circuit.cool_until or not self.config.pace.enabled:
            return
        wait_s = self.breaker.cooling_s()
        if not wait_s:
            self.breaker.circuit.cool_until = 0
            return
        left_s = float("inf") if deadline is None else deadline - self.clock.monotonic()
        if wait_s > self.config.pace.max_wait_s or wait_s >= left_s:
            raise self._refused("pacing", "pause", "asked for a pause, which is not over", wait_s)
        await self.sleep(min(wait_s * (1 + self.rng.uniform(0, SPREAD)), left_s))

    def _refused(self, failure: FailureClass, reason: str, what: str, retry_s: float) -> QuorumError:
        profile = self.profile
        REFUSALS.labels(profile.provider, model_label(profile.name), reason).inc()
        return ProviderError(
            f"provider {profile.provider!r} ({profile.model}) {what}; try again in {max(retry_s, 0.1):.1f} s",
            failure=failure,
            provider=profile.provider,
            model=profile.model,
            retry_after=retry_s,
        )
