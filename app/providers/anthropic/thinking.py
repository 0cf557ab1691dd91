"""Reasoning effort in Anthropic's two ways of asking for it."""

from __future__ import annotations

import re
from typing import Any

from app.core.chat import Generation, NamedTool, ReasoningEffort, ToolChoice
from app.core.errors import CapabilityMissing

MIN_BUDGET_TOKENS = 1024
"""The least thinking budget; it must also be under max_tokens (doc page "Extended thinking")."""

_SHARE_OF_MAX_TOKENS: dict[ReasoningEffort, float] = {"minimal": 0.1, "low": 0.2, "medium": 0.5, "high": 0.8, "xhigh": 0.95}
"""How much of max_tokens each effort may think, as OpenRouter translates it (doc page "Reasoning Tokens")."""

_MIN_TOP_P = 0.95
"""With thinking, top_p may be 0.95 to 1 (doc page "Extended thinking", feature compatibility)."""

_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2}))?(?!\d)")
_ADAPTIVE_SINCE = (4, 6)
_XHIGH_SINCE = (4, 7)
_ON_BY_DEFAULT_SINCE = (5, 0)
"""Claude 4.6 and later think adaptively, steered by an effort; 4.7 knows xhigh and refuses token budgets; from 5 on thinking is
on unless switched off. Earlier models know token budgets alone (doc pages "Adaptive thinking", "Effort")."""


def thinking(model: str, generation: Generation, tool_choice: ToolChoice, max_tokens: int) -> dict[str, Any]:
    """The body's members that ask `model` for the wanted reasoning effort; empty where none is wanted.

    Raises:
        CapabilityMissing: the request asks for something that does not go with thinking.
    """
    effort = generation.reasoning_effort
    version = _version(model)
    if effort is None:
        return {}
    if effort == "none":
        return {"thinking": {"type": "disabled"}} if version >= _ON_BY_DEFAULT_SINCE else {}
    _check(generation, tool_choice)
    if version >= _ADAPTIVE_SINCE:
        return {
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": _effort(effort, version)},
        }
    if max_tokens <= MIN_BUDGET_TOKENS:
        raise CapabilityMissing(
            f"reasoning on {model!r} needs max_tokens over {MIN_BUDGET_TOKENS}, not {max_tokens}", param="max_tokens"
        )
    budget = max(MIN_BUDGET_TOKENS, int(max_tokens * _SHARE_OF_MAX_TOKENS[effort]))
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _version(model: str) -> tuple[int, int]:
    if "mythos" in model:
        return _ON_BY_DEFAULT_SINCE
    found = _VERSION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def _effort(effort: ReasoningEffort, version: tuple[int, int]) -> str:
    if effort == "minimal":
        return "low"
    return "high" if effort == "xhigh" and version < _XHIGH_SINCE else effort


def _check(generation: Generation, tool_choice: ToolChoice) -> None:
    """What Anthropic refuses with thinking (doc page "Extended thinking", feature compatibility)."""
    if generation.temperature is not None and generation.temperature != 1:
        raise CapabilityMissing("Anthropic allows no temperature but 1 together with reasoning_effort", param="temperature")
    if generation.top_p is not None and generation.top_p < _MIN_TOP_P:
        raise CapabilityMissing(f"Anthropic allows no top_p under {_MIN_TOP_P} with reasoning_effort", param="top_p")
    if tool_choice == "required" or isinstance(tool_choice, NamedTool):
        raise CapabilityMissing(
            "Anthropic cannot force a tool call together with reasoning_effort; use tool_choice auto", param="tool_choice"
        )
