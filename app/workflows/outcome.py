"""What a step comes to while it is done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.core.chat import JsonObject
from app.core.run_events import HelperFinished, RunEvent, ToolReturned
from app.core.run_fold import total_cost, total_usage
from app.core.run_json import json_bytes
from app.core.runs import HelperCall
from app.core.tool_runs import ToolRun


@dataclass(slots=True, eq=False)
class Tally:
    """What calls have taken."""

    calls: list[HelperCall] = field(default_factory=list[HelperCall])
    tools: list[ToolRun] = field(default_factory=list[ToolRun])

    def add(self, event: RunEvent) -> None:
        match event:
            case HelperFinished():
                self.calls.append(event.call)
            case ToolReturned():
                self.tools.append(event.call)
            case _:
                pass

    @property
    def size(self) -> tuple[int, int]:
        """How many calls of models and of tools there are."""
        return len(self.calls), len(self.tools)

    def since(self, size: tuple[int, int]) -> Tally:
        """The calls beyond the first ones."""
        return Tally(self.calls[size[0] :], self.tools[size[1] :])

    def settle(self, size: tuple[int, int], calls: Iterable[HelperCall]) -> None:
        """Have `calls` in the place of those of models beyond the first ones."""
        self.calls[size[0] :] = calls

    @property
    def tokens(self) -> int:
        return total_usage(self.calls).total_tokens

    @property
    def cost_usd(self) -> float | None:
        """Dollars; None where a price is not known."""
        cost = total_cost(self.calls)
        return None if cost is None else cost + sum(tool.cost_usd for tool in self.tools)

    def recorded(self) -> tuple[list[Any], list[Any]]:
        """The calls of models and of tools, as JSON."""
        return [orjson.loads(json_bytes(call)) for call in self.calls], [orjson.loads(json_bytes(tool)) for tool in self.tools]


@dataclass(slots=True, eq=False)
class Outcome:
    """What one try of an action has come to. `own` is what is recorded with it; what steps inside of it took is with those."""

    output: Any = None
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    took: Tally = field(default_factory=Tally)
    own: Tally = field(default_factory=Tally)

    def result(self, status: str, latency_ms: float, tries: int) -> JsonObject:
        """It as `${steps.name}` and `step.finished` show it."""
        return {
            "status": status,
            "output": self.output,
            **self.facts,
            "cost_usd": self.took.cost_usd,
            "tokens": self.took.tokens,
            "latency_ms": round(latency_ms, 3),
            "tries": tries,
        }

    def recorded(self) -> tuple[list[Any], list[Any]]:
        """The calls of models and of tools, as JSON."""
        return self.own.recorded()
