"""What a run of `fallback` may cost at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from app.core.models import Model
from app.orchestration.analysis import own_generation
from app.orchestration.context import RunContext
from app.orchestration.fallback.links import Link
from app.orchestration.fallback.options import JudgeOptions, Replace
from app.orchestration.fallback.transforms import MAX_CHARACTERS, Asked
from app.orchestration.judging import judge_format, judge_prompt
from app.reliability.forecast import PlannedCall, planned_call

_TOKENS_GROWN: Final = MAX_CHARACTERS
"""Of an answer that a link's pattern may make longer before its judge reads it; what the judge can read bounds it too."""


def worst_calls(context: RunContext, links: Sequence[Link]) -> list[PlannedCall]:
    """Every link that its model can do, each with its judge, one after the other. Conditions are not decided: all may hold."""
    calls: list[PlannedCall] = []
    most = context.spending.default_max_tokens or context.request.generation.max_tokens or 0
    for link in links:
        if link.lack is not None:
            continue
        asked = link.asked
        calls.append(_asking(context, link.model, asked, most, stage=len(calls) + 1))
        agree = link.options.check.agree if link.options.check else None
        if agree is not None:
            calls.append(_asking(context, context.named[agree.model], asked, most, stage=calls[-1].stage))
        judge = link.options.check.judge if link.options.check else None
        if judge is not None:
            grows = any(isinstance(step, Replace) for step in link.options.response)
            answer = _TOKENS_GROWN if grows else asked.generation.max_tokens or most
            calls.append(_judging(context, judge, answer, most, stage=len(calls) + 1))
    return calls


def _asking(context: RunContext, model: Model, asked: Asked, most: int, *, stage: int) -> PlannedCall:
    messages = context.fitted(model, asked.messages, asked.generation, asked.tools).messages
    return planned_call(model, messages, asked.tools, asked.generation, max_tokens=most, stage=stage)


def _judging(context: RunContext, options: JudgeOptions, answer_tokens: int, most: int, *, stage: int) -> PlannedCall:
    model = context.named[options.model]
    return planned_call(
        model,
        context.request.messages,
        (),
        own_generation(context, model, judge_format(model)),
        max_tokens=most,
        role="judge",
        stage=stage,
        quoted_tokens=answer_tokens,
        prompt_bytes=len(judge_prompt(context, options.prompt, "").encode()),
    )
