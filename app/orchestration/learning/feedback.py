"""Feedback on runs: checked, stored in place of an earlier one, and told to those who keep statistics."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final, Protocol

from app.core.clock import Clock
from app.core.errors import ConflictError, InvalidRequest, NotFound
from app.observability import metrics
from app.orchestration.learning.judging import (
    RUN,
    Judgement,
    Judgements,
    Source,
    label_of,
    outcome,
    read_judgements,
)
from app.orchestration.learning.observer import Observations
from app.orchestration.learning.taught import Noted, noted
from app.state.flusher import FLUSH_S
from app.state.observations import ObservationStore

LATEST: Final = "latest"
_LOOK_AGAIN_S: Final = FLUSH_S + 0.1
"""A run that has just ended on another replica is known after its next flush."""
_KEPT: Final = {
    "panels": "kept are, for a while, runs whose answers are held against each other: those of 'consensus' and 'parallel' "
    "(with `learning.observe: all` every run that answered)",
    "all": "kept are, for a while, runs that answered",
    "off": "none are, since `learning.observe` is 'off'",
}


@dataclass(frozen=True, slots=True)
class Given:
    """Feedback as somebody gives it: exactly one of `score`, `label` and `preferred`."""

    run_id: str
    candidate_id: str | None = None
    score: float | None = None
    label: str | None = None
    preferred: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """Feedback as it is kept. `right` tells whether the run's own answer was, as far as is known now; `replaced`, whether there
    was other feedback on the same before."""

    run: Noted
    judgement: Judgement
    right: bool | None
    replaced: bool


class Learner(Protocol):
    """Who learns at once from a judgement."""

    def judged(self, tenant: str, run: Noted, before: Judgements, after: Judgements) -> None:
        """What is said of `run` has changed. Does not wait."""
        ...


class Feedback:
    """Takes feedback. Raises `StateUnavailable` while Redis is away."""

    def __init__(self, store: ObservationStore, observations: Observations, learner: Learner, clock: Clock) -> None:
        self._store = store
        self._observations = observations
        self._learner = learner
        self._clock = clock

    async def give(self, tenant: str, given: Given, *, by: str, source: Source = "feedback") -> Stored:
        """Store `given`.

        Parameters:
            by: the name of who gives it.

        Raises:
            NotFound: the run is not kept for `tenant`.
            InvalidRequest: it names a candidate that the run does not have, or states an answer that cannot be read.
            ConflictError: a review has decided the same, and stands.
        """
        run_id = given.run_id if given.run_id != LATEST else await self._latest(tenant)
        run = await self._find(tenant, run_id)
        one = self._judgement(given, run, by, source)
        written, held = await self._store.judge(
            tenant, run_id, one.target, one.as_json(), source=source, keep_s=self._observations.config.keep_s
        )
        if written == "missing":
            raise self._unknown(run_id)
        before = read_judgements(held)
        if written == "stands":
            message = f"a review by {before[one.target].by!r} has decided what is right of {run_id!r}, and stands over feedback"
            raise ConflictError(message, param="run_id")
        after = {**before, one.target: one}
        self._learner.judged(tenant, run, before, after)
        await self._store.count_judgement(tenant)
        metrics.FEEDBACK.labels(source, _kind(given)).inc()
        return Stored(run, one, outcome(run, after), one.target in before)

    async def forget(self, tenant: str, run_id: str) -> bool:
        """Remove what is kept of a run. Whether anything was."""
        await self._observations.flush()
        return await self._store.forget(tenant, run_id)

    async def _latest(self, tenant: str) -> str:
        await self._observations.flush()
        found = await self._store.latest(tenant)
        if found is None:
            raise self._unknown(LATEST)
        return found

    async def _find(self, tenant: str, run_id: str) -> Noted:
        found = await self._store.find(tenant, run_id)
        if found is None:
            await self._observations.flush()
            found = await self._store.find(tenant, run_id)
        if found is None:
            await asyncio.sleep(_LOOK_AGAIN_S)
            found = await self._store.find(tenant, run_id)
        if found is None:
            raise self._unknown(run_id)
        return noted(found)

    def _judgement(self, given: Given, run: Noted, by: str, source: Source) -> Judgement:
        known = [said.candidate for said in run.taught.said]
        for param, named in (("candidate_id", given.candidate_id), ("preferred", given.preferred)):
            if named is not None and named not in known:
                message = f"{run.run_id} has no candidate {named[:50]!r} that answered; it has {', '.join(known)}"
                raise InvalidRequest(message, param=param)
        one = Judgement(
            self._clock.now(), given.candidate_id or RUN, given.score, None, given.preferred, given.comment, by, source
        )
        return one if given.label is None else replace(one, label=label_of(given.label, run))

    def _unknown(self, run_id: str) -> NotFound:
        observed = _KEPT[self._observations.config.observe]
        return NotFound(f"no run {run_id[:50]!r} is kept to learn from; {observed}", param="run_id")


def _kind(given: Given) -> str:
    return "label" if given.label is not None else "preferred" if given.preferred is not None else "score"
