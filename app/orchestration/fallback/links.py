"""The chain of a run: each link with its model, with what that is asked, and with why it cannot be asked where it cannot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from app.core import conditions
from app.core.errors import CapabilityMissing
from app.core.models import Model
from app.orchestration.context import RunContext
from app.orchestration.fallback.agreement import instructed
from app.orchestration.fallback.facts import KNOWN, facts
from app.orchestration.fallback.options import FallbackOptions, LinkOptions
from app.orchestration.fallback.order import by_standing
from app.orchestration.fallback.transforms import Asked, asked
from app.providers.fitting import missing

_PLAIN: Final = LinkOptions(model="a selected one")
"""What a selected model does in a chain that nobody wrote down."""


@dataclass(frozen=True, slots=True)
class Link:
    """`number` is its place in the chain as configured, from 1; `lack` what its model cannot do of what it would be asked."""

    number: int
    model: Model
    options: LinkOptions
    asked: Asked
    lack: CapabilityMissing | None

    @property
    def name(self) -> str:
        return self.model.profile.name


def chain_of(context: RunContext) -> tuple[Link, ...]:
    """The links as configured: those of the options, else one for each selected model."""
    given: FallbackOptions = context.options
    links = given.chain or (_PLAIN,) * len(context.models)
    found: list[Link] = []
    for number, (model, options) in enumerate(zip(context.models, links, strict=True), 1):
        wanted = asked(context.request, options.request)
        agree = options.check.agree if options.check else None
        if agree is not None:
            wanted = replace(wanted, messages=instructed(wanted.messages, context.request, agree))
        lack = missing(model.profile, wanted.messages, wanted.generation, wanted.tools)
        found.append(Link(number, model, options, wanted, lack))
    return tuple(found)


def ordered(links: tuple[Link, ...], context: RunContext) -> tuple[Link, ...]:
    """The links in the order in which they are asked."""
    given: FallbackOptions = context.options
    if not given.dynamic or context.standings is None:
        return links
    return by_standing([(link, context.standings.of(link.model.profile)) for link in links])


class Conditions:
    """Says of links whether they are skipped. What conditions ask of the request is worked out once, if at all."""

    def __init__(self, context: RunContext) -> None:
        self._request = context.request
        self._facts: dict[str, object] | None = None

    async def skips(self, link: Link) -> str | None:
        """Why `link` is not asked."""
        if link.lack is not None:
            return link.lack.message
        source = link.options.when
        if source is None:
            return None
        if self._facts is None:
            self._facts = facts(self._request)
        try:
            held = await conditions.compiled(source, KNOWN).holds(self._facts)
        except conditions.Unanswerable as error:
            return f"its condition cannot be decided: {error}"
        return None if held else "its condition is false"
