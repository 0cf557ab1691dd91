"""What was learned, in memory: read when it changes, and for as long as somebody asks for it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import structlog

from app.config.spec import LearningConfig
from app.core.clock import Clock
from app.core.errors import StateUnavailable
from app.observability import counting, metrics
from app.orchestration.learning.hashing import TermHash
from app.orchestration.learning.history import CALIBRATION, Sums, calibration_error
from app.orchestration.learning.learned import Learned, LearnedLessons, read
from app.orchestration.learning.lessons import Priors
from app.orchestration.learning.statistics import Statistics
from app.state.flusher import Flusher
from app.state.keys import SHARED
from app.state.lessons import LessonStore

REFRESH_S: Final = 5.0
"""How old the records of how models do may be."""
WANTED_S: Final = 600.0
"""For so long after it was asked for the last time something is kept fresh."""
MOST_SCOPES: Final = 512
"""Tenants in memory; those not asked for the longest go first, and are read again when they are asked for."""
AT_START: Final = 64

_log = structlog.get_logger("quorum.learning")


class Memory:
    """The lessons of every tenant. While Redis is away they are those that were read last.

    A tenant that is asked for the first time has what all share, and its own within moments.
    """

    def __init__(
        self, store: LessonStore, statistics: Statistics, hashed: TermHash, clock: Clock, config: LearningConfig
    ) -> None:
        self._store = store
        self._statistics = statistics
        self._hashed = hashed
        self._clock = clock
        self._in_force: dict[str, str] = {}
        self._learned: dict[str, Learned] = {}
        self._records: dict[str, dict[str, Sums]] = {}
        self._wanted: OrderedDict[str, float] = OrderedDict()
        self._records_wanted: dict[str, float] = {}
        self._lessons: dict[str, LearnedLessons] = {}
        self._feed = store.feed(self._load)
        self._refresher = Flusher("lessons", self.refresh, every_s=REFRESH_S)
        self.configure(config)

    def configure(self, config: LearningConfig) -> None:
        self._priors = Priors(config.priors.quality, config.priors.family_correlation)
        self._lessons.clear()

    async def start(self) -> None:
        await self._feed.start()
        for scope in [SHARED, *list(self._in_force)[:AT_START]]:
            self._wanted.setdefault(scope, self._clock.monotonic())
            self._records_wanted.setdefault(scope, self._clock.monotonic())
        await self.refresh()
        self._refresher.start()

    async def close(self) -> None:
        await self._feed.close()
        await self._refresher.close()

    def of(self, tenant: str) -> LearnedLessons:
        """What is in force for `tenant`."""
        found = self._lessons.get(tenant)
        if found is None:
            if tenant not in self._wanted:
                self._refresher.hurry()
            self._wanted[tenant] = self._clock.monotonic()
            self._bound()
            found = self._lessons[tenant] = LearnedLessons(
                tuple(self._learned[scope] for scope in (tenant, SHARED) if scope in self._learned),
                self._records.get(tenant, {}),
                self._records.get(SHARED, {}),
                self._priors,
                self._hashed,
                lambda: self._want_records(tenant),
            )
        return found

    def learned(self, scope: str) -> Learned | None:
        """What is in force in a scope, if it is in memory."""
        return self._learned.get(scope)

    def versions(self, tenant: str) -> tuple[str, ...]:
        """What is in force for `tenant`, its own first: names that change with what was learned."""
        return tuple(version for scope in (tenant, SHARED) if (version := self._in_force.get(scope)))

    async def refresh(self) -> None:
        """Read what is wanted and not here, and how models have been doing since."""
        now = self._clock.monotonic()
        try:
            for scope in list(self._wanted):
                await self._read_lessons(scope)
            for scope, wanted in list(self._records_wanted.items()):
                if scope != SHARED and now - wanted > WANTED_S:
                    del self._records_wanted[scope]
                    continue
                records = await self._statistics.read(scope)
                if records or scope in self._records:
                    self._records[scope] = records
                    self._forget_lessons(scope)
                    self._tell_calibration(scope, records)
        except StateUnavailable:
            return

    async def _load(self) -> None:
        self._in_force = await self._store.in_force()
        for scope in list(self._wanted):
            await self._read_lessons(scope)

    async def _read_lessons(self, scope: str) -> None:
        version, held = self._in_force.get(scope), self._learned.get(scope)
        if version is None or (held is not None and held.version == version):
            return
        stored = await self._store.get(scope, version)
        found = read(stored) if stored else Learned(faults=(f"the version {version!r} is not kept",))
        for fault in found.faults:
            metrics.BAD_ARTEFACTS.inc()
            _log.warning("what was learned cannot be used, the priors hold instead", scope=scope, reason=fault)
        found = Learned(version) if not found.version else found
        self._learned[scope] = found
        self._forget_lessons(scope)
        counting.learned(scope, found.rows, found.versions)

    def _want_records(self, tenant: str) -> None:
        if tenant not in self._records_wanted:
            self._refresher.hurry()
        self._records_wanted[tenant] = self._clock.monotonic()

    def _forget_lessons(self, scope: str) -> None:
        """Have what is said of a scope made anew."""
        if scope == SHARED:
            self._lessons.clear()
        else:
            self._lessons.pop(scope, None)

    def _bound(self) -> None:
        while len(self._wanted) > MOST_SCOPES:
            scope = next(scope for scope in self._wanted if scope != SHARED)
            del self._wanted[scope]
            for held in (self._learned, self._records, self._records_wanted, self._lessons):
                held.pop(scope, None)

    def _tell_calibration(self, scope: str, records: dict[str, Sums]) -> None:
        kept = records.get(CALIBRATION)
        error = calibration_error(kept.amounts) if kept is not None else None
        if kept is not None and error is not None:
            counting.calibration(scope, error, kept.outcomes)
