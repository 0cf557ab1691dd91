"""Training of one scope: reads what was judged, learns, stores it and puts it in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.config.spec import LearningConfig, QuorumSpec
from app.core.chat import JsonObject
from app.core.clock import Clock, SystemClock
from app.core.errors import NotFound
from app.core.models import ModelProfile
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.judging import read_judgements
from app.orchestration.learning.learned import Learned, read, stored
from app.orchestration.learning.lessons import Priors
from app.orchestration.learning.taught import noted
from app.orchestration.learning.training import Before, Progress, Row, Trained, train
from app.providers.profiles import family_of
from app.state.client import StateClient
from app.state.keys import SHARED
from app.state.lessons import LessonStore
from app.state.observations import ObservationStore
from app.state.shared_clock import SharedClock


@dataclass(frozen=True, slots=True)
class Report:
    """What came of the training of a scope; `version` is what is in force now, None where that is what was before."""

    scope: str
    trained: Trained
    version: str | None = None

    def as_json(self) -> JsonObject:
        return {"scope": self.scope, "version": self.version, **self.trained.report()}


class Trainer:
    """Trains scopes. Every method raises `StateUnavailable` while Redis is away.

    Parameters:
        models: what the configuration says of models, for the priors of those that are not known yet.
        machine: the clock of this machine.
    """

    def __init__(
        self, state: StateClient, config: LearningConfig, models: Mapping[str, ModelProfile], machine: Clock | None = None
    ) -> None:
        self._clock = SharedClock(state, machine or SystemClock())
        self._observations = ObservationStore(state)
        self._lessons = LessonStore(state)
        self._config = config
        self._models = models

    async def tenants(self, *, least_new: int = 0) -> tuple[str, ...]:
        """Who has given feedback, with at least so many new judgements."""
        return tuple(sorted(tenant for tenant, count in (await self._observations.fresh()).items() if count >= least_new))

    async def train(self, scope: str, *, dry: bool = False, progress: Progress = lambda step: None) -> Report:
        """Learn from what was judged in a scope; in that of all, from what every tenant has judged. `dry` stores nothing."""
        fresh = await self._observations.fresh()
        tenants = sorted(fresh) if scope == SHARED else [scope]
        rows = [row for tenant in tenants for row in await self._rows(tenant)]
        before = await self._before(scope)
        await self._clock.look()
        found = train(rows, before, now=self._clock.now(), min_judged=self._config.train.min_judged, progress=progress)
        if dry:
            return Report(scope, found)
        version = None
        if found.learned is not None:
            version, content = stored(found.learned, found.report())
            await self._lessons.put(scope, version, content, keep=self._config.train.keep_versions)
        if scope != SHARED:
            await self._observations.learned_from(scope, fresh.get(scope, 0))
        return Report(scope, found, version)

    async def use(self, scope: str, version: str) -> None:
        """Put a version in force that was learned before.

        Raises:
            NotFound: it is not kept.
        """
        kept = [name for name, _ in await self._lessons.versions(scope)]
        if version not in kept:
            known = ", ".join(kept) or "none"
            raise NotFound(f"the version {version!r} of {scope!r} is not kept; kept are {known}", param="version")
        await self._lessons.use(scope, version)

    async def versions(self, scope: str) -> list[tuple[str, float, bool]]:
        """What is kept of a scope, the newest first: the version, when it was learned, whether it is in force."""
        in_force = (await self._lessons.in_force()).get(scope)
        return [(version, at, version == in_force) for version, at in await self._lessons.versions(scope)]

    async def _rows(self, tenant: str) -> list[Row]:
        rows: list[Row] = []
        async for run, judgements in self._observations.judged(tenant):
            try:
                rows.append(Row(noted(run), read_judgements(judgements)))
            except ValueError:  # of another format: it teaches nothing any more
                continue
        return rows

    async def _before(self, scope: str) -> Before:
        in_force = await self._lessons.in_force()
        nearest = [
            read(content)
            for place in dict.fromkeys((scope, SHARED))
            if (version := in_force.get(place)) and (content := await self._lessons.get(place, version))
        ]
        own = nearest[0] if nearest and scope in in_force else Learned()
        priors = Priors(self._config.priors.quality, self._config.priors.family_correlation)

        def weights(names: Sequence[str]) -> PanelWeights:
            prior = priors.weights([self._profile(name) for name in names])
            return next((found for learned in nearest if (found := learned.weights(names, prior))), prior)

        calibrators = next((one.calibrators for one in nearest if one.calibrators), None)
        predictor = next((one.predictor for one in nearest if one.predictor), None)
        return Before(weights, calibrators or priors.calibrators(), predictor, replace(own, version=""))

    def _profile(self, name: str) -> ModelProfile:
        return self._models.get(name) or ModelProfile(name, "", name)


def stated_profiles(spec: QuorumSpec) -> dict[str, ModelProfile]:
    """What the configuration says of models that priors are made of."""
    return {
        alias: ModelProfile(
            alias, config.provider, config.model, family=config.family or family_of(config.model), quality=config.quality
        )
        for alias, config in spec.models.items()
    }
