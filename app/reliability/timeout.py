"""The time a call may take: to its first token, between chunks, and as a whole."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from app.core.chat import ChatRequest
from app.core.errors import DeadlineExceeded, ProviderError
from app.core.model_events import ModelEvent
from app.core.models import Call, ModelProfile, Policy
from app.core.streams import with_deadline


def timeout(profile: ModelProfile, *, first_token_s: float, idle_s: float, total_s: float) -> Policy:
    """Bound a call. Connecting is bounded where connections are made, in `providers/http.py`.

    The bounded call raises `ProviderError` of class `timeout` when the provider is too slow, `DeadlineExceeded` when the
    run's own deadline comes first. A unary call has no first token: it may take `total_s`.
    """

    def policy(call: Call) -> Call:
        def bounded(request: ChatRequest) -> AsyncIterator[ModelEvent]:
            now = time.monotonic()
            deadline = request.context.deadline
            until = now + total_s
            of_run = deadline is not None and deadline < until
            if deadline is not None and of_run:
                until = deadline

            def expired(phase: str) -> Exception:
                if phase == "whole" and of_run:
                    return DeadlineExceeded(f"the run's deadline passed while {profile.name!r} was answering")
                seconds = {"first": first_token_s, "idle": idle_s}.get(phase, total_s)
                what = {"first": "no first token", "idle": "no further token"}.get(phase, "no whole answer")
                return ProviderError(
                    f"provider {profile.provider!r} ({profile.model}): {what} within {seconds:g} s",
                    failure="timeout",
                    provider=profile.provider,
                    model=profile.model,
                )

            first = first_token_s if request.incremental else None
            return with_deadline(call(request), expired=expired, first_s=first, idle_s=idle_s, until=until)

        return bounded

    return policy
