"""When an HTTP tool's service says that it is too busy and how long to wait, it is waited for and asked again."""

from __future__ import annotations

from random import Random
from typing import Final

from app.core.tools import ToolSpec
from app.providers.failures import retry_after
from app.tools.outbound import Answer

TOO_BUSY: Final = frozenset({429, 503})
"""Statuses that come with `Retry-After` (RFC 6585, section 4; RFC 9110, section 15.6.4)."""
MOST_RETRIES: Final = 2
MOST_WAIT_S: Final = 20.0
"""As of models, where the configuration says nothing else: who wants a longer wait is down for a person who waits."""
JITTER: Final = 0.1
"""Up to this share of the wait is added, so that those told the same do not come back at once."""


def asked_wait(answer: Answer) -> float | None:
    """Seconds that the service asks to wait; None where it is not too busy, or does not say."""
    return retry_after(answer.headers) if answer.status in TOO_BUSY else None


def wait_before_next(spec: ToolSpec, answer: Answer, *, retries: int, left_s: float, rng: Random) -> float | None:
    """Seconds until the service is asked again after `retries` of it and this `answer`; None where it is not.

    A tool that writes is not: that its service says it was too busy does not say that nothing was done.
    """
    hint = asked_wait(answer)
    if hint is None or spec.side_effect == "write" or retries >= MOST_RETRIES or hint > MOST_WAIT_S:
        return None
    wait_s = hint + rng.uniform(0, JITTER * hint)
    return wait_s if wait_s < left_s else None
