"""The models of a run as `adaptive` sees them: what each promises for this request, or why it is set aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.core.errors import QuorumError
from app.core.models import Model
from app.core.usage import Usage
from app.orchestration.adaptive.options import AdaptiveOptions
from app.orchestration.context import RunContext
from app.orchestration.learning.hashing import asked_text
from app.orchestration.outlook import Outlook, outlook
from app.providers.fitting import missing
from app.reliability.forecast import EXPECTED_OUTPUT_TOKENS

CROWD: Final = 32
"""Calls under way to a model of this process, with which one more is expected to take twice as long."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """A model, and what a call of it promises. Dollars and seconds are None where they are not known."""

    model: Model
    outlook: Outlook
    cost_usd: float | None
    seconds: float | None

    @property
    def name(self) -> str:
        return self.model.profile.name

    @property
    def family(self) -> str:
        return self.model.profile.family or self.model.profile.name

    @property
    def provider(self) -> str:
        return self.model.profile.provider

    @property
    def good(self) -> float:
        """How likely it gives a good answer."""
        return self.outlook.success * self.outlook.quality


@dataclass(frozen=True, slots=True)
class Field:
    """Who may be asked, and by name why others may not. `lack` is the first thing that a model cannot do."""

    prospects: tuple[Prospect, ...]
    set_aside: dict[str, str]
    lack: QuorumError | None = None


def field_of(context: RunContext) -> Field:
    """The models of `context`, sorted out. One that its breaker refuses or whose places are taken is set aside as long as there
    are others."""
    options: AdaptiveOptions = context.options
    request, task = context.request, context.task
    wanted = min(request.generation.max_tokens or EXPECTED_OUTPUT_TOKENS, EXPECTED_OUTPUT_TOKENS)
    usage = Usage(task.tokens, wanted)
    asked = asked_text(request.messages)
    learned = context.lessons.success(asked, (context.category,))
    set_aside: dict[str, str] = {}
    fit: list[Prospect] = []
    busy: list[tuple[Prospect, str]] = []
    lacking: QuorumError | None = None
    for model in context.models:
        profile = model.profile
        if profile.name in options.exclude or (options.pin and profile.name not in options.pin):
            set_aside[profile.name] = "it is excluded" if profile.name in options.exclude else "another one is pinned"
            continue
        lack = missing(profile, request.messages, request.generation, request.tools)
        if lack is not None:
            lacking = lacking or lack
            set_aside[profile.name] = lack.message.partition(";")[0]
            continue
        size = task.tokens + (request.generation.max_tokens or 0)
        if profile.context_window is not None and size > profile.context_window:
            set_aside[profile.name] = f"about {size:,} tokens do not fit its context window of {profile.context_window:,}"
            continue
        known = outlook(context, profile, learned)
        cost = profile.price.cost(usage) if profile.price else None
        reason, crowd = _standing(context, model)
        seconds = None if known.latency_s is None else known.latency_s * (1 + crowd / CROWD)
        prospect = Prospect(model, known, cost, seconds)
        if reason is None:
            fit.append(prospect)
        else:
            busy.append((prospect, reason))
    if fit:
        set_aside.update({prospect.name: reason for prospect, reason in busy})
    else:
        fit = [prospect for prospect, _ in busy]
    return Field(tuple(fit), set_aside, lacking)


def _standing(context: RunContext, model: Model) -> tuple[str | None, int]:
    """Why a call would not be made at once, and how many are under way."""
    if context.standings is None:
        return None, 0
    standing = context.standings.of(model.profile)
    if standing.open_s > 0:
        return f"its circuit breaker is open for {standing.open_s:.1f} s more", standing.under_way
    if standing.full:
        return f"{standing.under_way} calls to it are under way, the most there may be", standing.under_way
    return None, standing.under_way
