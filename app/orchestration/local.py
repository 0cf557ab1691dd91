"""Running strategies from Python, without the service: a registry and an engine of their own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Self

from app.config.spec import LLMProvider, QuorumSpec
from app.core.clock import SystemClock
from app.core.run_events import RunEvent
from app.core.runs import OrchestrationOutput, RunRequest
from app.observability import logs
from app.orchestration.base import BaseOrchestrator
from app.orchestration.bundles.tools import Bundles
from app.orchestration.engine import Engine
from app.orchestration.strategies import Strategies
from app.providers.base import Availability, Provider
from app.providers.registry import ModelRegistry
from app.reliability.policies import local_policies
from app.reliability.standings import LocalStandings
from app.tools.toolbox import Toolbox


class LocalRuntime:
    """What `BaseOrchestrator.process` runs on. One may serve several strategies; `async with` closes it.

    Parameters:
        spec: providers, models, recipes and limits; without it the mock provider, until another is registered.
        strategies: those that requests may name; without them the built-in ones and what packages bring.
        tools: those of the service; without them those of `spec`, but for MCP servers, which only the service starts.
    """

    def __init__(
        self, spec: QuorumSpec | None = None, strategies: Strategies | None = None, tools: Toolbox | None = None
    ) -> None:
        logs.configure_embedded()
        self._clock = SystemClock()
        self._spec = spec or QuorumSpec(providers={"mock": LLMProvider(kind="mock")})
        self._only_mock = spec is None
        policies = local_policies(self._clock, self._spec.reliability.retry_budget)
        self.registry = ModelRegistry(self._spec, wrap=policies)
        standings = LocalStandings(self._clock, policies.breakers, policies.loads)
        bundles = Bundles(self._spec, self._clock)
        config = self._spec.tools.model_copy(update={"mcp": {}})
        self._tools = tools or Toolbox(config, self._clock, Path(), more=bundles.tools)
        self.engine = Engine(
            self.registry, strategies or Strategies(), self._spec, self._clock, standings=standings, toolbox=self._tools
        )
        bundles.engine = self.engine

    def register_provider(self, name: str, provider: LLMProvider | Provider) -> None:
        """Add a provider. The first one takes the place of the mock provider that was there for want of any."""
        if self._only_mock:
            self.registry.remove("mock")
            self._only_mock = False
        self.registry.add(name, provider)

    async def check_models_availability(self) -> tuple[Availability, ...]:
        return await self.registry.check_all()

    def events(self, strategy: BaseOrchestrator, request: RunRequest) -> AsyncGenerator[RunEvent]:
        return self.engine.begin_with(strategy, request).events()

    async def result(self, strategy: BaseOrchestrator, request: RunRequest) -> OrchestrationOutput:
        return await self.engine.begin_with(strategy, request).result()

    async def aclose(self) -> None:
        await self._tools.close()
        await self.registry.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
