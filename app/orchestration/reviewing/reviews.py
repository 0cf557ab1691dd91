"""The review queue: runs that end as `needs_review` enter it, people decide them, and what they decide teaches."""

from __future__ import annotations

import re
import secrets
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from app.config.learning import ReviewsConfig
from app.core.clock import Clock
from app.core.errors import ConflictError, InvalidRequest, NotFound, StateUnavailable
from app.core.principal import Principal
from app.core.runs import OrchestrationOutput, RunRequest
from app.observability import metrics
from app.orchestration.learning.feedback import Feedback, Given
from app.orchestration.learning.taught import Taught
from app.orchestration.paging import Page, paged
from app.orchestration.reviewing.entries import (
    Decision,
    DecisionKind,
    Entry,
    Filter,
    Review,
    answer_of,
    entry_of,
    read_review,
    review_id,
)
from app.state.flusher import Flusher
from app.state.reviews import Queue, ReviewStore, StoredReview

LATEST: Final = "latest"
MOST_WAITING: Final = 1_000
"""Runs that wait for Redis; of those beyond it the oldest are not reviewed."""
MEASURE_S: Final = 5.0
_ID = re.compile(r"rev_[0-9a-z]{24}")

_log = structlog.get_logger("quorum.reviews")


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision as somebody takes it. `operation` is the same when it is only told again."""

    decision: DecisionKind
    candidate_id: str | None = None
    text: str | None = None
    comment: str | None = None
    reviewer: str | None = None
    request_id: str = ""
    operation: str = ""


class Reviews:
    """The queue of all tenants. Its methods raise `StateUnavailable` while Redis is away; runs that end then wait for it.

    Parameters:
        feedback: who is told what decisions say of answers.
        config: in force now; may be replaced.
    """

    def __init__(self, store: ReviewStore, feedback: Feedback, clock: Clock, config: ReviewsConfig) -> None:
        self.config = config
        self._store = store
        self._feedback = feedback
        self._clock = clock
        self._waiting: deque[tuple[str, Entry]] = deque()
        self._flusher = Flusher("reviews", self.flush)
        self._measurer = Flusher("review depth", self.measure, every_s=MEASURE_S)

    def start(self) -> None:
        self._flusher.start()
        self._measurer.start()

    async def close(self) -> None:
        await self._flusher.close()
        await self._measurer.close()

    def ended(self, request: RunRequest, result: OrchestrationOutput, taught: Taught | None, category: str | None) -> None:
        """Queue a run that is to be reviewed (an `Observer`)."""
        if result.status != "needs_review" or not self.config.enabled:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            metrics.REVIEWS_QUEUED.labels("dropped").inc()
        entry = entry_of(request, result, category, at=self._clock.now(), max_text=self.config.max_text)
        self._waiting.append((request.tenant, entry))
        self._flusher.hurry()

    async def flush(self) -> None:
        """Tell Redis of what waits; what it does not take waits on."""
        while self._waiting:
            tenant, entry = self._waiting[0]
            try:
                row = (entry.id, int(entry.created_at * 1_000_000), entry.as_json())
                await self._store.put(tenant, [row], max_kept=self.config.max_kept, keep_s=self.config.keep_s)
            except StateUnavailable:
                return
            if self._waiting and self._waiting[0][1] is entry:
                self._waiting.popleft()
                metrics.REVIEWS_QUEUED.labels("queued").inc()

    async def measure(self) -> None:
        """Tell how long the queue is, and how old."""
        try:
            depth = await self._store.depth()
        except StateUnavailable:
            return
        metrics.REVIEWS_PENDING.set(depth.pending)
        metrics.REVIEW_OLDEST.set(max(0.0, self._clock.now() - depth.oldest) if depth.oldest else 0.0)

    async def read(self, tenant: str, name: str) -> Review:
        """A review by its id; `latest` is the newest that is pending, else the newest.

        Raises:
            NotFound: there is none of `tenant`.
        """
        if name == LATEST:
            return await self._latest(tenant)
        stored = await self._store.get(tenant, _checked(name))
        if stored is None:
            raise _unknown(name)
        return read_review(stored.entry, stored.decision)

    async def page(self, tenant: str, wanted: Filter, *, cursor: str | None, limit: int) -> Page[Review]:
        """Up to `limit` reviews, the newest first. With a filter a page may hold fewer although another one follows.

        Raises:
            InvalidRequest: the cursor is none of ours.
        """
        queues: tuple[Queue, ...] = (wanted.status,) if wanted.status else ("pending", "decided")

        async def shown(stored: StoredReview) -> Review | None:
            review = read_review(stored.entry, stored.decision)
            return review if review and wanted.takes(review) else None

        return await paged(cursor, limit, partial(self._store.page, tenant, queues), shown)

    async def decide(self, who: Principal, name: str, decided: Decided) -> Review:
        """Decide a review, once.

        Raises:
            NotFound: there is none of the caller's tenant.
            ConflictError: it was decided before.
            InvalidRequest: the candidate is none of its own.
        """
        entry = (await self.read(who.tenant, name)).entry
        decision = Decision(
            decided.decision,
            self._clock.now(),
            who.name,
            who.key_id,
            decided.candidate_id,
            answer_of(entry, decided.decision, decided.candidate_id, decided.text),
            decided.comment,
            decided.reviewer,
            decided.request_id,
            decided.operation or secrets.token_hex(8),
        )
        outcome, stored = await self._store.decide(who.tenant, entry.id, decision.as_json(), decision.operation)
        if stored is None:
            raise _unknown(name)
        review = read_review(stored.entry, stored.decision)
        if outcome == "decided" and review.decision:
            before = review.decision
            message = f"{entry.id} was decided already: {before.decision!r} by {before.reviewer or before.by!r}"
            raise ConflictError(message, param="id")
        if review.decision and review.decision.at == decision.at:
            metrics.REVIEWS_DECIDED.labels(decided.decision).inc()
        await self._teach(who, entry, decided)
        return review

    async def forget(self, tenant: str, run_id: str) -> bool:
        """Remove the review of a run. Whether there was one."""
        await self.flush()
        return await self._store.forget(tenant, review_id(run_id))

    async def _latest(self, tenant: str) -> Review:
        await self.flush()
        for queue in ("pending", "decided"):
            page = await self.page(tenant, Filter(status=queue), cursor=None, limit=1)
            if page.found:
                return page.found[0]
        raise NotFound("no run needs a review: those do whose confidence is under their `review_below`", param="id")

    async def _teach(self, who: Principal, entry: Entry, decided: Decided) -> None:
        """What the decision says of the answers is feedback on the run, where that is kept to learn from."""
        by = decided.reviewer or who.name
        for given in _judgements(entry.run_id, decided):
            try:
                await self._feedback.give(who.tenant, given, by=by, source="review")
            except InvalidRequest as error:  # nothing is kept of the run, or the edited text has no label
                if isinstance(error, NotFound):
                    _log.warning("a decision is stored and teaches nothing", review_id=entry.id, reason=error.message)
                    return
            except StateUnavailable as error:
                _log.warning("a decision is stored and teaches nothing", review_id=entry.id, reason=error.message)
                return
            else:
                return


def _judgements(run_id: str, decided: Decided) -> tuple[Given, ...]:
    """What `decided` says, the most telling first: the others where that cannot be said of this run."""
    comment = decided.comment
    wrong = Given(run_id, score=0.0, comment=comment)
    match decided.decision:
        case "accept":
            return (Given(run_id, score=1.0, comment=comment),)
        case "choose":
            return (Given(run_id, preferred=decided.candidate_id, comment=comment),)
        case "edit":
            return (Given(run_id, label=decided.text, comment=comment), wrong)
        case "reject":
            return (wrong,)


def _checked(name: str) -> str:
    if not _ID.fullmatch(name):
        raise NotFound(f"{name[:50]!r} is no review's id: those are `rev_` and 24 characters", param="id")
    return name


def _unknown(name: str) -> NotFound:
    return NotFound(f"no review {name[:50]!r} is kept; GET /v1/reviews lists those that are", param="id")
