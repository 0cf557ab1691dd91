"""Runs of `fallback` over scripted models, through the engine, with the laws of every run checked."""

from __future__ import annotations

from typing import Any

from app.core.runs import PathLink
from tests.orchestration.known import asked, engine
from tests.orchestration.scripted import Ran, Scripted, lawful


async def chained(*models: Scripted, chain: list[Any] | None = None, dynamic: bool = False, **request: Any) -> Ran:
    """A run over `chain`, whose links are options or names of models; without it over all the models."""
    options: dict[str, Any] = {"dynamic": dynamic}
    if chain is not None:
        options["chain"] = [{"model": link} if isinstance(link, str) else link for link in chain]
    else:
        request.setdefault("models", tuple(model.name for model in models))
    request.setdefault("deltas", "all")
    return await again(engine(*models), models, options, **request)


async def again(on: Any, models: tuple[Scripted, ...], options: dict[str, Any], /, **request: Any) -> Ran:
    """A run on an engine that has run before."""
    run = on.begin(asked("fallback", options=options, **request))
    return lawful([event async for event in run.events()], models, run.id)


def told(link: PathLink) -> tuple[Any, ...]:
    """What a link became of, in short."""
    return (link.link, link.model, link.outcome, link.failure)
