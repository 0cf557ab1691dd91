"""A strategy as a part of another one's run: its events, and whether somebody else may go on where it fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from app.core.errors import AllCandidatesFailed, ErrorReport, ProviderError, QuorumError, report
from app.core.run_events import LinkPassed, OutputDelta, OutputReset, PlanMade, RunEvent, ToolReturned
from app.core.runs import RunRequest
from app.core.streams import close
from app.orchestration.base import BaseOrchestrator
from app.orchestration.context import RunContext
from app.orchestration.fallback.options import DEFAULT_ON


class Leg:
    """One strategy within a run. `failure` is there where it gave no answer; `said` tells whether something was shown all the
    same, `links` how many links of a chain it told of, `wrote` whether a tool was run that writes, or may have been."""

    def __init__(self, strategy: BaseOrchestrator, request: RunRequest, context: RunContext, *, after_links: int = 0) -> None:
        self._strategy = strategy
        self._request = request
        self.context = context
        self._after_links = after_links
        self.failure: QuorumError | None = None
        self.said = False
        self.wrote = False
        self.links = 0

    async def events(self) -> AsyncGenerator[RunEvent]:
        source = self._strategy.run(self._request, self.context)
        try:
            async for event in source:
                match event:
                    case PlanMade():  # the plan of this run is made by who runs this
                        continue
                    case LinkPassed():
                        self.links += 1
                        event = LinkPassed(replace(event.link, link=event.link.link + self._after_links))
                    case OutputDelta():
                        self.said = True
                    case OutputReset():
                        self.said = False
                    case ToolReturned():
                        self.wrote = self.wrote or event.call.may_have_written
                    case _:
                        pass
                yield event
        except QuorumError as error:
            self.failure = error
        finally:
            await close(source)


def reports(error: QuorumError) -> tuple[ErrorReport, ...]:
    """The failures that `error` is made of."""
    return error.reports if isinstance(error, AllCandidatesFailed) else (report(error),)


def others_may(error: QuorumError) -> bool:
    """Whether models that were not asked may answer what those could not."""
    model_failed = isinstance(error, (ProviderError, AllCandidatesFailed))
    return model_failed and any(one.failure in DEFAULT_ON for one in reports(error))
