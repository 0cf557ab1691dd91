"""Calling again what failed, where that may help: before the first token, by failure class, within a budget and the deadline.

| failure class                                                    | called again                          |
|------------------------------------------------------------------|---------------------------------------|
| connection, timeout, rate_limited, overloaded, server_error,     | unless the provider says not to, or   |
| incomplete                                                       | asks for too long a wait              |
| invalid_request                                                  | if the provider says so               |
| all others, and what we refused ourselves                        | never                                 |

Only this policy calls again: adapters and the HTTP client never do. How often is configured; a call may carry its own limits by
class (`CallContext.retries`), which go before that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from random import Random
from typing import Final

from app.config.spec import RetryBudgetConfig, RetryConfig
from app.core.chat import CallContext, ChatRequest
from app.core.clock import Clock
from app.core.errors import FailureClass, ProviderError
from app.core.model_events import ModelEvent, ResponseStarted
from app.core.models import Call, ModelProfile, Policy
from app.core.streams import close
from app.observability.metrics import RETRIES, RETRIES_REFUSED
from app.observability.model_counts import model_label

RETRIED: Final = frozenset({"connection", "timeout", "rate_limited", "overloaded", "server_error", "incomplete"})
ON_REQUEST: Final = frozenset({"invalid_request"})
"""Retried where the provider says `x-should-retry: true`, as with 409: OpenAI's and Anthropic's SDKs do so too."""
HINT_JITTER: Final = 0.1
"""A provider's own wait is kept, and up to this share of it added, so that those told the same do not come back at once."""

Sleep = Callable[[float], Awaitable[None]]


def may_retry(error: ProviderError, config: RetryConfig, retries: int, own: Mapping[FailureClass, int] | None = None) -> bool:
    """Whether another call may help after `retries` of them; `own` are the call's own limits, by class."""
    most = config.max_retries if config.enabled else 0
    if own is not None:
        most = own.get(error.failure, most)
    if retries >= most or error.should_retry is False:
        return False
    return error.failure in RETRIED or (error.failure in ON_REQUEST and error.should_retry is True)


def wait_before(error: ProviderError, config: RetryConfig, retries: int, rng: Random) -> float | None:
    """Seconds to wait before retry number `retries` (from 0), None where the provider asks for too many.

    Full jitter (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog): U(0, min(max_delay, base * 2^n)).
    """
    hint = error.retry_after
    if hint is None:
        return rng.uniform(0, min(config.max_delay_s, config.base_s * 2.0**retries))
    if hint > config.max_hint_s:
        return None
    return hint + rng.uniform(0, HINT_JITTER * hint)


class RetryBudget:
    """The retries that a worker may make: a share of its calls, and some a second besides.

    A second's worth is there at the start and can be saved up, no more.
    """

    def __init__(self, config: RetryBudgetConfig, clock: Clock) -> None:
        self._clock = clock
        self._filled_at = clock.monotonic()
        self.configure(config)
        self._tokens = self._most

    def configure(self, config: RetryBudgetConfig) -> None:
        self._share, self._per_second = config.share, config.per_second
        self._most = max(1.0, config.per_second) if config.share or config.per_second else 0.0

    def called(self) -> None:
        """A call is made for the first time."""
        self._tokens = min(self._most, self._tokens + self._share)

    def take(self) -> bool:
        """Take a retry out, if there is one."""
        now = self._clock.monotonic()
        self._tokens = min(self._most, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def retry(
    profile: ModelProfile,
    config: RetryConfig,
    budget: RetryBudget,
    clock: Clock,
    rng: Random,
    sleep: Sleep = asyncio.sleep,
) -> Policy:
    """Call again after failures, so that the caller sees one call. `ResponseStarted` is held back until more has come."""

    def refused(reason: str) -> None:
        RETRIES_REFUSED.labels(profile.provider, model_label(profile.name), reason).inc()

    def wait_after(error: ProviderError, retries: int, context: CallContext) -> float | None:
        """Seconds until the next call; None where there is to be none."""
        if not may_retry(error, config, retries, context.retries):
            return None
        deadline = context.deadline
        wait_s = wait_before(error, config, retries, rng)
        if wait_s is None or (deadline is not None and clock.monotonic() + wait_s >= deadline):
            refused("wait")
            return None
        if not budget.take():
            refused("budget")
            return None
        RETRIES.labels(profile.provider, model_label(profile.name), error.failure).inc()
        return wait_s

    def policy(call: Call) -> Call:
        async def retried(request: ChatRequest) -> AsyncIterator[ModelEvent]:
            budget.called()
            retries = 0
            while True:
                held: ResponseStarted | None = None
                begun = False
                source = call(request)
                try:
                    async for event in source:
                        if not begun:
                            if type(event) is ResponseStarted:
                                held = event
                                continue
                            begun = True
                            if held is not None:
                                yield held
                        yield event
                except ProviderError as error:
                    wait_s = None if begun else wait_after(error, retries, request.context)
                    if wait_s is None:
                        raise
                else:
                    return
                finally:
                    await close(source)
                retries += 1
                await sleep(wait_s)

        if config.enabled and config.max_retries:
            return retried

        def only_if_asked(request: ChatRequest) -> AsyncIterator[ModelEvent]:
            return call(request) if request.context.retries is None else retried(request)

        return only_if_asked

    return policy
