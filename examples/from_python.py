"""Quorum as a library: register providers, look whether they can be reached, run every built-in strategy.

    python examples/from_python.py "Is 97 a prime number?"

The mock models answer; with OPENAI_API_KEY set, an OpenAI model as well.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import aclosing

from pydantic import SecretStr

from app.config.spec import LLMProvider
from app.core.run_events import CandidateDelta, CandidateFinished, OutputDelta
from app.core.runs import OrchestrationOutput
from app.orchestration.base import BaseOrchestrator
from app.orchestration.local import LocalRuntime
from app.orchestration.strategies import BUILT_IN

OPENAI_MODEL = "openai/gpt-4o-mini"  # a provider's name and its own name for the model


async def main(question: str) -> None:
    async with LocalRuntime() as runtime:  # one registry of models and one pool of connections for all strategies
        models = register(runtime)
        for provider in await runtime.check_models_availability():
            print(f"provider {provider.provider}: {'available' if provider.available else provider.error}")
        for strategy in (kind(runtime) for kind in BUILT_IN):
            selected = models[: strategy.models_needed]
            print(f"\n== {strategy.name}: {strategy.summary}")
            show(await strategy.process(question, selected_models=selected))
            await watch(strategy, question, selected)


def register(runtime: LocalRuntime) -> list[str]:
    """Providers with their keys; the models of theirs to ask."""
    models = ["mock/mock-swift", "mock/mock-careful"]
    runtime.register_provider("mock", LLMProvider(kind="mock"))
    if key := os.environ.get("OPENAI_API_KEY"):
        runtime.register_provider("openai", LLMProvider(kind="openai", api_key=SecretStr(key)))
        models.append(OPENAI_MODEL)
    return models


def show(result: OrchestrationOutput) -> None:
    """What `process` gives back: the answer, who said what, what it cost."""
    print(f"{result.status}: {result.error.message if result.error else result.output.text}")
    for candidate in result.candidates:
        print(f"  {candidate.model}: {candidate.status}, {candidate.latency_ms:.0f} ms, {dollars(candidate.cost_usd)}")
    print(f"  in all: {result.usage.total_tokens} tokens, {result.timing.total_ms:.0f} ms, {dollars(result.cost_usd)}")


async def watch(strategy: BaseOrchestrator, question: str, models: list[str]) -> None:
    """What `stream` tells: the same run as it happens."""
    pieces = dict.fromkeys(models, 0)
    print("streamed: ", end="")
    async with aclosing(strategy.stream(question, selected_models=models)) as events:
        async for event in events:
            match event:
                case CandidateDelta():
                    pieces[event.model] += 1
                case CandidateFinished():
                    print(f"[{event.candidate.model} is done after {pieces[event.candidate.model]} pieces] ", end="")
                case OutputDelta():
                    print(event.text, end="", flush=True)
                case _:
                    pass
    print()


def dollars(cost: float | None) -> str:
    return "cost unknown" if cost is None else f"${cost:.6f}"


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "Is 97 a prime number?"))
