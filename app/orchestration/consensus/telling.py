"""The evidence as it grows: what a run of `consensus` tells of it while answers come, and at its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from app.core.models import Model
from app.core.run_events import EvidenceUpdated
from app.core.runs import BundleMetadata, EvidenceBundle
from app.orchestration.consensus.aggregator import Aggregator, Found, Heard
from app.orchestration.consensus.counting import Counting, worth_telling
from app.orchestration.consensus.options import ConsensusOptions
from app.orchestration.context import RunContext
from app.orchestration.evidence.bundle import evidence_bundle
from app.orchestration.evidence.diversity import panel_diversity


class Telling:
    """Makes the updates. Partial summaries are told to those only who watch: a panel's JSON has the last one."""

    def __init__(self, context: RunContext, members: Sequence[Model], aggregator: Aggregator) -> None:
        self._options: ConsensusOptions = context.options
        self._watched = context.request.deltas == "all"
        self._aggregator = aggregator
        self._meta = BundleMetadata(
            context.category,
            self._options.k,
            tuple(member.profile.name for member in members),
            self._options.seeds,
        )
        self._diversity = panel_diversity(
            [member.profile.family or member.profile.name for member in members],
            [member.profile.provider for member in members],
        )

    def begun(self) -> EvidenceUpdated:
        return EvidenceUpdated("bundle_started", EvidenceBundle(self._meta))

    async def heard(self, heard: Sequence[Heard], counting: Counting) -> AsyncGenerator[EvidenceUpdated]:
        """After an answer: that it is there, and what all say together so far, see `worth_telling`."""
        if not self._watched:
            return
        yield EvidenceUpdated("replicate_done", self._answers(heard))
        if worth_telling(len(heard)) and any(one.read.label is not None for one in heard):
            yield await counting.of(self._partial, heard)

    def _partial(self, heard: Sequence[Heard]) -> EvidenceUpdated:
        found = self._aggregator.found(heard)
        return EvidenceUpdated("partial_summary", self._bundle(heard, found, early=False), found.consensus)

    def ready(self, heard: Sequence[Heard], found: Found, *, early: bool) -> EvidenceUpdated:
        return EvidenceUpdated("bundle_ready", self._bundle(heard, found, early=early), found.consensus)

    def unread(self, heard: Sequence[Heard]) -> EvidenceUpdated:
        """The end where there is nothing to count."""
        return EvidenceUpdated("bundle_ready", self._answers(heard))

    def _answers(self, heard: Sequence[Heard]) -> EvidenceBundle:
        return EvidenceBundle(self._meta, tuple(one.replicate().as_json() for one in heard))

    def _bundle(self, heard: Sequence[Heard], found: Found, *, early: bool) -> EvidenceBundle:
        meta = self._meta
        return evidence_bundle(
            BundleMetadata(meta.task, meta.k, meta.models, meta.seeds, early),
            [one.replicate() for one in heard],
            consensus=found.value,
            disagreements=found.disagreements,
            distances=found.distances,
            confidence=found.confidence,
            interval=found.interval,
            coverage=found.coverage,
            diversity=self._diversity,
        )
