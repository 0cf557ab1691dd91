"""All parts of learning in a process that serves, connected."""

from __future__ import annotations

import secrets

from app.config.spec import LearningConfig
from app.core.clock import Clock
from app.orchestration.learning.feedback import Feedback
from app.orchestration.learning.hashing import TermHash
from app.orchestration.learning.learned import LearnedLessons
from app.orchestration.learning.memory import Memory
from app.orchestration.learning.observer import Observations
from app.orchestration.learning.statistics import Statistics
from app.state.client import StateClient
from app.state.history import HistoryStore
from app.state.lessons import LessonStore
from app.state.observations import ObservationStore


class Learning:
    """`observers` are told of runs; `feedback` takes judgements; `lessons` says what was learned.

    Parameters:
        key: for the hashes of prompts' terms.
    """

    def __init__(self, state: StateClient, clock: Clock, key: bytes, config: LearningConfig) -> None:
        hashed = TermHash(key)
        store = ObservationStore(state)
        self.observations = Observations(store, hashed, clock, config)
        self.statistics = Statistics(HistoryStore(state, secrets.token_hex(8)), config)
        self.memory = Memory(LessonStore(state), self.statistics, hashed, clock, config)
        self.feedback = Feedback(store, self.observations, self.statistics, clock)
        self.observers = (self.observations, self.statistics)

    def lessons(self, tenant: str) -> LearnedLessons:
        """What is in force for `tenant`."""
        return self.memory.of(tenant)

    def configure(self, config: LearningConfig) -> None:
        """Take a new configuration."""
        self.observations.config = config
        self.statistics.config = config
        self.memory.configure(config)

    async def start(self) -> None:
        self.observations.start()
        self.statistics.start()
        await self.memory.start()

    async def close(self) -> None:
        await self.memory.close()
        await self.observations.close()
        await self.statistics.close()
