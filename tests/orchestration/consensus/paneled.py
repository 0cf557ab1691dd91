"""Runs of `consensus` over scripted models, through the engine, with the laws of every run checked."""

from __future__ import annotations

from typing import Any

from tests.orchestration.known import asked, engine
from tests.orchestration.scripted import Ran, Scripted, lawful


async def paneled(*models: Scripted, lead: str | None = None, request: dict[str, Any] | None = None, **options: Any) -> Ran:
    """A run of all `models` with these options."""
    more = {"deltas": "all", **(request or {})}
    names = more.pop("models", tuple(model.name for model in models if model.name != lead))
    run = engine(*models).begin(asked("consensus", names, lead, options=options, **more))
    return lawful([event async for event in run.events()], models, run.id)


def saying(*texts: str) -> list[Scripted]:
    """Models `a`, `b`, `c` ... that say these."""
    return [Scripted(chr(ord("a") + number), text) for number, text in enumerate(texts)]
