"""The policies that stand around every call, in the order that `compose` documents."""

from __future__ import annotations

from collections.abc import Callable

from app.config.spec import RequestConfig
from app.core.clock import Clock
from app.core.models import Call, ModelProfile
from app.observability.metrics import AttemptMetrics
from app.reliability.attempt import attempt
from app.reliability.compose import compose
from app.reliability.timeout import timeout

Wrap = Callable[[ModelProfile, RequestConfig, Call], Call]
"""What the registry does to a model's bare call."""


def standard_policies(clock: Clock) -> Wrap:
    """Timeouts around the adapter, and an attempt around each."""

    def wrap(profile: ModelProfile, times: RequestConfig, call: Call) -> Call:
        return compose(
            call,
            (
                attempt(AttemptMetrics(profile.provider, profile.name), clock),
                timeout(profile, first_token_s=times.first_token_s, idle_s=times.idle_s, total_s=times.total_s),
            ),
        )

    return wrap
