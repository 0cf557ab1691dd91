"""A strategy of our own in one file: ask all models, return the longest answer. Needs no service and no key.

    python examples/custom_orchestrator.py "What speaks for rail travel?"

How a service finds a strategy in an installed package: custom-orchestrator/.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import ClassVar

from app.core.errors import OrchestratorError
from app.core.run_events import RunEvent
from app.core.run_fold import output_deltas
from app.core.runs import RunRequest
from app.core.streams import merge
from app.orchestration.base import BaseOrchestrator
from app.orchestration.context import RunContext


class LongestOrchestrator(BaseOrchestrator):
    """Asks every selected model and passes on the longest answer."""

    name: ClassVar[str] = "longest"

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        # 1. Ask all models side by side. Each tells what happens to it; one that fails tells that, and raises nothing.
        calls = [context.ask(model) for model in context.models]
        async with aclosing(merge([call.events() for call in calls], limit=context.max_concurrent_calls)) as events:
            async for event in events:
                yield event
        # 2. Choose.
        answered = [call for call in calls if call.response]
        if not answered:
            raise OrchestratorError("no model answered")
        longest = max(answered, key=lambda call: len(call.choice.text))
        # 3. Say what the answer is, and where it came from.
        for delta in output_deltas(longest.choice):
            yield delta
        yield longest.ending()


async def main(question: str) -> None:
    async with LongestOrchestrator() as longest:  # with the mock models, until a provider is registered
        result = await longest.process(question)
    for candidate in result.candidates:
        print(f"{candidate.model:14} {len(candidate.text):4} characters")
    print(f"\n{result.output.source_model}: {result.output.text}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "What speaks for rail travel?"))
