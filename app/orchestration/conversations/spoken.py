"""What a run's answer is in its conversation."""

from __future__ import annotations

from dataclasses import replace

from app.core.messages import Message, unsealed
from app.core.runs import Output
from app.orchestration.context import RunContext
from app.orchestration.tools.turns import said, speaker_of


def spoken(output: Output, context: RunContext) -> tuple[Message, ...]:
    """The message that `output` is, with the reasoning and the seals of the model that gave it; none where it is empty."""
    call = context.book.speaker_of(output)
    text = output.text or output.refusal
    if call is None:
        message = unsealed(said(text, (), output.tool_calls))
    else:
        message = said(text, call.choice.reasoning_parts, output.tool_calls)
        message = replace(message, speaker=speaker_of(call.model.profile))
    return (message,) if message.parts else ()
